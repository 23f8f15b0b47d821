"""Cordon and drain; agents that an operator declares dead."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from easyq.v1.spec_pb2 import OnLost
from easyq_chassis.errors import NotFound
from easyq_store.domain.lost import declare_gone
from easyq_store.domain.moves import Refusal
from easyq_store.domain.sessions import Hello, Upkeep, next_session, set_upkeep, upkeep_of
from easyq_store.domain.states import AgentState, ExecutionState, FailureReason
from easyq_store.usecases import assign, look, sessions
from easyq_store.usecases.sweep import sweep
from tests.fakes.store import FakePersistence
from tests.support.store_records import T0, agent
from tests.support.store_world import Crash, World, exited

CORDON = Upkeep(cordoned=True)


async def cordon(world: World, wish: Upkeep = CORDON) -> None:
    await sessions.set_upkeep(world.ctx, "host-a", wish)


# ------------------------------------------------------------------------------------------------------------- records
def test_since_when_a_wish_holds() -> None:
    cordoned = set_upkeep(agent(), CORDON, now=T0 + 1)
    assert cordoned == agent(cordoned_at=T0 + 1)
    assert set_upkeep(cordoned, CORDON, now=T0 + 5) is cordoned
    drain = Upkeep(cordoned=True, draining=True, deadline_in_ms=60_000)
    draining = set_upkeep(cordoned, drain, now=T0 + 5)
    assert draining == agent(cordoned_at=T0 + 1, drained_at=T0 + 5, drain_deadline=T0 + 60_005)
    assert set_upkeep(draining, replace(drain, deadline_in_ms=None), now=T0 + 9) == replace(
        draining, drain_deadline=None
    )
    assert set_upkeep(draining, Upkeep(), now=T0 + 9) == agent()
    # A deadline without a drain means nothing.
    assert set_upkeep(agent(), Upkeep(deadline_in_ms=5), now=T0) == agent()


def test_what_an_agent_says_of_a_wish_goes_with_it() -> None:
    drains = agent(drained_at=T0, healthy=False, message="draining")
    assert set_upkeep(drains, Upkeep(), now=T0) == agent()
    assert set_upkeep(drains, CORDON, now=T0).message == "draining"
    cordoned = agent(cordoned_at=T0, message="cordoned")
    assert set_upkeep(cordoned, Upkeep(), now=T0) == agent()
    broken = agent(cordoned_at=T0, healthy=False, message="Docker Engine does not answer")
    assert set_upkeep(broken, Upkeep(), now=T0) == replace(broken, cordoned_at=None)
    dead = agent(drained_at=T0, state=AgentState.DEAD, healthy=False, message="silent for too long")
    assert set_upkeep(dead, Upkeep(), now=T0) == replace(dead, drained_at=None)


def test_the_time_that_is_left() -> None:
    draining = agent(drained_at=T0, drain_deadline=T0 + 100)
    assert upkeep_of(draining, now=T0 + 40) == Upkeep(draining=True, deadline_in_ms=60, version=1)
    assert upkeep_of(draining, now=T0 + 400) == Upkeep(draining=True, deadline_in_ms=0, version=1)
    assert upkeep_of(agent(write_no=7), now=T0) == Upkeep(version=7)


def test_a_wish_outlives_sessions_and_an_offer_does_not() -> None:
    before = agent(cordoned_at=T0, drained_at=T0, drain_deadline=T0 + 9, declared_dead=True, offer_gpus=3)
    hello = Hello(agent_id="host-a", daemon_id="daemon-of-host-a", offer_cpu_millis=4000, offer_memory=1 << 30)
    after = next_session(before, hello, now=T0 + 1)
    assert (after.cordoned_at, after.drained_at, after.drain_deadline) == (T0, T0, T0 + 9)
    assert (after.offer_cpu_millis, after.offer_memory, after.offer_gpus) == (4000, 1 << 30, 0)
    assert not after.declared_dead


@pytest.mark.parametrize("state", list(AgentState))
def test_an_agent_is_declared_gone_whatever_it_was(state: AgentState) -> None:
    gone = declare_gone(agent(state=state))
    assert (gone.state, gone.declared_dead, gone.healthy) == (AgentState.DEAD, True, False)
    assert declare_gone(gone) is gone


# -------------------------------------------------------------------------------------------------------------- cordon
async def test_drain_takes_one_more_job(world: World) -> None:
    """It does not: no assignment after the answer, and none told in an answer to a hello or a beat."""
    await world.hello()
    ids = [await world.submit(f"job-{n}") for n in range(2)]
    epoch = await world.run(ids[0])
    await cordon(world, Upkeep(cordoned=True, draining=True, deadline_in_ms=5_000))
    refused = await world.assign(ids[1])
    assert isinstance(refused, assign.Refused)
    assert refused.refusal is Refusal.CORDONED
    assert world.execution(ids[1]).state is ExecutionState.QUEUED
    assert await world.beat("host-a", (ids[0], epoch)) == []
    assert await world.hello("host-a", (ids[0], epoch)) == [("ADOPT", ids[0], epoch)]
    assert isinstance(await world.assign(ids[1]), assign.Refused)
    await world.say(ids[0], exited(0))
    await cordon(world, Upkeep())
    assert isinstance(await world.assign(ids[1]), assign.Assignment)


@pytest.mark.parametrize("moment", range(4))
async def test_a_cordon_beside_an_assignment(moment: int) -> None:
    """The wish is answered before one of the assignment's writes: the job was given before it, or not at all."""
    world = World(store=FakePersistence(atomic=False))
    await world.hello()
    execution_id = await world.submit()

    async def wish() -> None:
        await cordon(world)
        # What the agent is told now must not be a new job either.
        assert await world.beat() == []

    beside(world, moment, wish)
    answer = await world.assign(execution_id)
    world.store.between = nothing
    if moment == 3:  # there are three writes
        assert isinstance(answer, assign.Assignment)
        assert world.states() == "RUNNING ASSIGNED"
        return
    assert isinstance(answer, assign.Refused)
    assert answer.refusal is (Refusal.CORDONED)
    await sweep(world.ctx, grace_ms=-1)
    assert world.states() == "QUEUED QUEUED"
    assert world.execution(execution_id).unsettled_since is None
    await cordon(world, Upkeep())
    assert isinstance(await world.assign(execution_id), assign.Assignment)


def beside(world: World, moment: int, call: Callable[[], Awaitable[None]]) -> None:
    """Has `call` happen right before the write number `moment` of the next plan."""
    left = moment

    async def between(_: str) -> None:
        nonlocal left
        left -= 1
        if left == -1:
            world.store.between = nothing
            await call()

    world.store.between = between


async def nothing(_: str) -> None:
    return None


async def test_what_a_crash_left_assigned_to_a_cordoned_agent_goes_back() -> None:
    world = World(store=FakePersistence(atomic=False))
    await world.hello()
    execution_id = await world.submit()
    world.crash_at(1)
    with pytest.raises(Crash):
        await world.assign(execution_id)
    world.recover()
    assert assign.is_unconfirmed(world.execution(execution_id))
    # Another process had cordoned it, and died before it looked for such ones.
    world.crash_at(1)
    with pytest.raises(Crash):
        await cordon(world)
    world.recover()
    assert await world.beat() == []
    assert await world.hello() == []
    await sweep(world.ctx, grace_ms=-1)
    assert world.states() == "QUEUED QUEUED"


async def test_what_a_crash_left_assigned_is_told_once_it_is_confirmed() -> None:
    world = World(store=FakePersistence(atomic=False))
    await world.hello()
    execution_id = await world.submit()
    world.crash_at(1)
    with pytest.raises(Crash):
        await world.assign(execution_id)
    world.recover()
    assert await world.beat() == [("RUN", execution_id, 1)]
    assert not assign.is_unconfirmed(world.execution(execution_id))
    # It was told: now it stays.
    await cordon(world)
    await sweep(world.ctx, grace_ms=-1)
    assert world.states() == "RUNNING ASSIGNED"
    assert await world.beat() == [("RUN", execution_id, 1)]


async def test_an_assignment_that_the_next_hello_tells_of_is_not_taken_back() -> None:
    """The agent says hello while it is assigned to the session before: it is told to run it, so it keeps it."""
    world = World(store=FakePersistence(atomic=False))
    await world.hello()
    execution_id = await world.submit()
    told: list[tuple[str, str, int]] = []

    async def hello() -> None:
        told.extend(await world.hello())

    beside(world, 1, hello)
    await world.assign(execution_id)
    assert told == [("RUN", execution_id, 1)]
    assert world.states() == "RUNNING ASSIGNED"
    assert world.execution(execution_id).session == 2


async def test_upkeep_is_told_with_hello_and_beat(world: World) -> None:
    await world.hello()
    await cordon(world, Upkeep(draining=True, deadline_in_ms=9_000))
    world.machine.pass_(2)
    hello = Hello(agent_id="host-a", daemon_id="daemon-of-host-a", offer_memory=5)
    opened = await sessions.open_session(world.ctx, hello, [])
    assert replace(opened.upkeep, version=0) == Upkeep(draining=True, deadline_in_ms=7_000)
    ((found, running, used),) = await look.list_agents(world.ctx)
    assert (found.drained_at, found.drain_deadline, running, used) == (T0, T0 + 9_000, 0, look.NOTHING)


async def test_an_agent_that_nobody_knows(world: World) -> None:
    for call in (cordon(world), sessions.declare_dead(world.ctx, "host-a")):
        with pytest.raises(NotFound) as caught:
            await call
        assert caught.value.reason == "AGENT_NOT_FOUND"


# ------------------------------------------------------------------------------------------------------- declared dead
async def silence(world: World) -> None:
    await world.lost.run_once()
    world.machine.pass_(200)
    await world.lost.run_once()


async def test_a_job_that_waits_for_its_host_is_neither_killed_nor_rerun_until_it_returns(world: World) -> None:
    await world.hello()
    execution_id = await world.submit(on_lost=OnLost.WAIT)
    epoch = await world.run(execution_id)
    await silence(world)
    await world.lost.run_once()
    assert world.states() == "RUNNING RUNNING"
    assert await world.hello("host-a", (execution_id, epoch)) == [("ADOPT", execution_id, epoch)]
    await world.say(execution_id, exited(0))
    assert world.states() == "SUCCEEDED SUCCEEDED"


@pytest.mark.parametrize("silent_before", [False, True])
async def test_nothing_waits_for_an_agent_that_was_declared_dead(world: World, silent_before: bool) -> None:
    await world.hello()
    waiting = await world.submit("waits", on_lost=OnLost.WAIT)
    other = await world.submit("other")
    failing = await world.submit("fails", on_lost=OnLost.FAIL)
    for execution_id in (waiting, other, failing):
        await world.run(execution_id)
    if silent_before:
        await silence(world)
        assert world.states("waits") == "RUNNING RUNNING"
    gone = await sessions.declare_dead(world.ctx, "host-a")
    assert gone.agent.state is AgentState.DEAD
    assert len(gone.lost) == (1 if silent_before else 3)
    assert waiting in {each.execution.execution_id for each in gone.lost}
    # The wait is random, and none here: the successors are ready.
    assert {each.ready.task_id for each in gone.lost if each.ready} == {"mail"}
    assert world.states("waits") == "QUEUED LOST QUEUED"
    assert world.states("other") == "QUEUED LOST QUEUED"
    assert world.states("fails") == "FAILED LOST"
    lost = world.execution(waiting)
    assert lost.failure is not None
    assert lost.failure.reason is FailureReason.HOST_LOST
    again = await sessions.declare_dead(world.ctx, "host-a")
    assert again == sessions.Gone(agent=gone.agent)
    assert await world.beat() is None
    # What comes back is killed, and its words are stale.
    assert (await world.say(waiting, exited(0), epoch=1)).verdict.name == "STALE"
    assert await world.hello("host-a", (waiting, 1), (other, 1)) == [("KILL", waiting, 1), ("KILL", other, 1)]


async def test_a_crash_amid_a_declaration_is_completed() -> None:
    for number in range(12):
        world = World(store=FakePersistence(atomic=False))
        await world.hello()
        execution_id = await world.submit(on_lost=OnLost.WAIT)
        await world.run(execution_id)
        world.crash_at(number)
        with contextlib.suppress(Crash):
            await sessions.declare_dead(world.ctx, "host-a")
        world.recover()
        if not world.store.tables.agents["host-a"].declared_dead:
            assert number == 0
            continue
        await world.lost.run_once()
        await sweep(world.ctx, grace_ms=-1)
        assert world.states() == "QUEUED LOST QUEUED", number


@pytest.mark.parametrize("seed", range(40))
async def test_a_cordon_and_assignments_on_all_sides(seed: int) -> None:
    """Whatever the order of steps: once the wish was answered, nothing more becomes the agent's."""
    world = World(store=FakePersistence(atomic=False))
    await world.hello()
    ids = [await world.submit(f"job-{n}") for n in range(3)]
    order = random.Random(seed)
    told: set[str] = set()
    given: set[str] = set()
    given_then: set[str] | None = None

    async def between(_: str) -> None:
        for _turn in range(order.randrange(6)):
            await asyncio.sleep(0)

    async def give(execution_id: str) -> None:
        await between("")
        if isinstance(await world.assign(execution_id), assign.Assignment):
            given.add(execution_id)

    async def wish() -> None:
        nonlocal given_then
        await between("")
        await cordon(world)
        executions = world.store.tables.executions.values()
        given_then = {e.execution_id for e in executions if e.held and not assign.is_unconfirmed(e)}

    async def beats() -> None:
        for _ in range(4):
            await between("")
            told.update(id_ for _, id_, _ in await world.beat() or [])

    world.store.between = between
    await asyncio.gather(*(give(id_) for id_ in ids), wish(), beats())
    world.store.between = nothing
    assert given_then is not None
    assert given | told <= given_then
    await sweep(world.ctx, grace_ms=-1)
    assert {e.execution_id for e in world.store.tables.executions.values() if e.held} == given_then
