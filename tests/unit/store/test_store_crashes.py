"""The process dies between any two steps of any plan, on a database without transactions.

Afterwards the sweep, and the same call again, must come to the very state that an undisturbed call comes to.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from easyq.v1.spec_pb2 import Backoff
from easyq_chassis.errors import EasyQError
from easyq_store.domain.planning import first_plan
from easyq_store.domain.states import AgentState, ExecutionState, Outcome
from easyq_store.domain.timing import Timing
from easyq_store.usecases import retry, stop, time
from easyq_store.usecases.insert import insert_planned
from easyq_store.usecases.report import GivenBack, Started
from easyq_store.usecases.sweep import sweep
from tests.fakes.store import FakePersistence, FakeSteps
from tests.support.store_records import T0
from tests.support.store_world import Crash, World, ended, exited

NO_WAIT = Backoff(min=Duration())
SECOND = "00000000-0000-4000-8000-000000000002"


@dataclass(frozen=True, kw_only=True)
class Flow:
    """What is there before, and the call that is cut short."""

    name: str
    prepare: Callable[[World], Awaitable[Any]]
    act: Callable[[World], Awaitable[Any]]


def first(world: World) -> str:
    return world.attempts()[0].execution_id


async def nothing(world: World) -> None:
    return None


async def waiting(world: World) -> None:
    await world.hello()
    await world.submit(retries=1, backoff=NO_WAIT)


async def scheduled(world: World) -> None:
    await world.submit(start_in=Duration(seconds=1), expiration=Timestamp(seconds=T0 // 1000 + 60))
    world.machine.pass_(2)


async def late(world: World) -> None:
    await scheduled(world)
    world.machine.pass_(60)


async def assigned(world: World) -> None:
    await waiting(world)
    await world.assign(first(world))


async def running(world: World) -> None:
    await waiting(world)
    await world.run(first(world))


async def succeeded(world: World) -> None:
    await running(world)
    await world.say(first(world), exited(0))


async def stopping(world: World) -> None:
    await running(world)
    await stop.stop_job(world.ctx, "", "job")


async def dead(world: World) -> None:
    await running(world)
    agents = world.store.tables.agents
    agents["host-a"] = replace(agents["host-a"], state=AgentState.DEAD)


async def fire(world: World) -> None:
    await time.fire_all(world.ctx, [(first(world), 0)])


async def expire(world: World) -> None:
    await time.expire_waiting(world.ctx, 10)


async def lose(world: World) -> None:
    # A store that has just started gives everyone the full time.
    await world.lost.run_once()
    world.machine.pass_(126)
    await world.lost.run_once()


FLOWS = [
    Flow(name="submit", prepare=nothing, act=lambda w: w.submit()),
    Flow(name="submit by key", prepare=nothing, act=lambda w: w.submit(key="k", labels={"a": "1"})),
    Flow(name="submit later", prepare=nothing, act=lambda w: w.submit(start_in=Duration(seconds=60))),
    Flow(name="put new", prepare=nothing, act=lambda w: w.put()),
    Flow(name="put waiting", prepare=waiting, act=lambda w: w.put(command=["x"], priority=3)),
    Flow(name="put running", prepare=running, act=lambda w: w.put(command=["x"])),
    Flow(name="put ended", prepare=succeeded, act=lambda w: w.put(command=["x"], execution_id=SECOND)),
    Flow(name="retry", prepare=succeeded, act=lambda w: retry.retry_job(w.ctx, "", "job", SECOND)),
    Flow(name="stop waiting", prepare=waiting, act=lambda w: stop.stop_job(w.ctx, "", "job")),
    Flow(name="stop running", prepare=running, act=lambda w: stop.stop_job(w.ctx, "", "job")),
    Flow(name="assign", prepare=waiting, act=lambda w: w.assign(first(w), epoch=0)),
    Flow(name="start", prepare=assigned, act=lambda w: w.say(first(w), Started(container_id="c"))),
    Flow(name="give back", prepare=assigned, act=lambda w: w.say(first(w), GivenBack(), epoch=1)),
    Flow(
        name="succeed",
        prepare=running,
        act=lambda w: w.say(first(w), exited(0, b"hi\n", execution_id=first(w))),
    ),
    Flow(name="fail and retry", prepare=running, act=lambda w: w.say(first(w), exited(1))),
    Flow(name="fail while stopping", prepare=stopping, act=lambda w: w.say(first(w), exited(1))),
    Flow(name="lose by report", prepare=running, act=lambda w: w.say(first(w), ended(Outcome.LOST))),
    Flow(name="fire", prepare=scheduled, act=fire),
    Flow(name="fire late", prepare=late, act=fire),
    Flow(name="expire", prepare=late, act=expire),
    Flow(name="lose", prepare=running, act=lose),
    Flow(name="say hello", prepare=running, act=lambda w: w.hello("host-a", (first(w), 1))),
    Flow(name="say hello after death", prepare=dead, act=lambda w: w.hello("host-a", (first(w), 1))),
]


def image(world: World) -> object:
    """All that matters of the database, without when it was written and how often."""
    tables = world.store.tables
    return (
        sorted(
            (j.job_id, j.state, j.revision, j.attempts, j.next_run_at is not None, j.stop_requested_at is not None)
            for j in tables.jobs.values()
        ),
        sorted(
            (e.job_id, e.attempt, e.execution_id, e.state, e.epoch, e.priority, e.spec_revision, e.agent_id)
            for e in tables.executions.values()
        ),
        sorted((a.agent_id, a.state) for a in tables.agents.values()),
        {key: b"".join(c.data for c in chunks) for key, chunks in tables.chunks.items()},
    )


async def settled(world: World) -> None:
    """The sweep has come by, as it does every few seconds; nothing is left for it."""
    world.machine.pass_(6)
    for _ in range(5):
        if not await sweep(world.ctx):
            break
    tables = world.store.tables
    assert [job for job in tables.jobs.values() if job.unsettled_since] == []
    assert [made for made in tables.executions.values() if made.unsettled_since] == []
    assert [job for job in tables.jobs.values() if job.pending != ()] == []


async def prepared(flow: Flow) -> World:
    world = World(store=FakePersistence(atomic=False))
    await flow.prepare(world)
    return world


async def writes(flow: Flow) -> int:
    """How many writes the call makes."""
    world, count = await prepared(flow), 0

    async def between(_: str) -> None:
        nonlocal count
        count += 1

    world.store.between = between
    await flow.act(world)
    return count


async def again(flow: Flow, world: World) -> None:
    """The caller, who got no answer, calls once more; it may learn that it is done."""
    try:
        await flow.act(world)
    except EasyQError as error:
        assert error.code.name in {"FAILED_PRECONDITION", "ABORTED"}, error  # noqa: PT017 - some calls are no repeats


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: str(flow.name))
async def test_a_crash_between_any_two_steps_is_healed(flow: Flow) -> None:
    undisturbed = await prepared(flow)
    before = image(undisturbed)
    await flow.act(undisturbed)
    await settled(undisturbed)
    after = image(undisturbed)
    total = await writes(flow)
    assert total >= 2
    for number in range(total):
        world = await prepared(flow)
        world.crash_at(number)
        with pytest.raises(Crash):
            await flow.act(world)
        world.recover()
        await settled(world)
        assert number or image(world) == before
        await again(flow, world)
        await settled(world)
        assert image(world) == after, f"after a crash before write {number} of {total}"


@pytest.mark.parametrize("flow", [f for f in FLOWS if "retry" in f.name or "lose" in f.name], ids=lambda f: f.name)
async def test_the_sweep_alone_completes_what_an_end_decided(flow: Flow) -> None:
    """Nobody calls again: once the end itself is written, everything that follows comes by itself."""
    undisturbed = await prepared(flow)
    await flow.act(undisturbed)
    await settled(undisturbed)
    for number in range(await writes(flow)):
        world = await prepared(flow)
        before = image(world)
        world.crash_at(number)
        with pytest.raises(Crash):
            await flow.act(world)
        world.recover()
        await world.lost.run_once()
        await settled(world)
        assert image(world) in (before, image(undisturbed)) or "lose" in flow.name


async def test_what_cannot_be_settled_does_not_hold_up_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    world = await prepared(Flow(name="", prepare=nothing, act=nothing))
    await world.submit("other", execution_id=SECOND)
    for name, execution_id in (("stuck", SECOND), ("good", "")):
        world.crash_at(1)
        with pytest.raises(Crash):
            await world.submit(name, execution_id=execution_id)
        world.recover()
    world.machine.pass_(6)
    assert await sweep(world.ctx) == 2
    assert world.states("good") == "QUEUED QUEUED"
    assert world.states("stuck") == "QUEUED"


async def test_the_sweep_leaves_plans_that_are_under_way_alone() -> None:
    world = await prepared(Flow(name="", prepare=nothing, act=nothing))
    world.crash_at(1)
    with pytest.raises(Crash):
        await world.submit()
    world.recover()
    assert await sweep(world.ctx) == 0
    world.machine.pass_(6)
    assert await sweep(world.ctx) == 1


async def test_an_execution_that_is_inserted_after_the_stop_is_stopped_at_once() -> None:
    world = await prepared(Flow(name="", prepare=running, act=nothing))
    made = world.attempts()[0]
    await stop.stop_job(world.ctx, "", "job")
    planned = replace(first_plan(SECOND, Timing(), 0, now=T0), attempt=2)
    inserted = await insert_planned(FakeSteps.of(world.store), world.ctx, planned, "job", "mail", now=T0)
    assert inserted.state is ExecutionState.STOPPED
    assert made.attempt == 1


async def test_an_execution_that_is_inserted_after_a_put_has_the_newer_spec() -> None:
    world = await prepared(Flow(name="", prepare=running, act=nothing))
    await world.put(command=["x"], priority=7)
    planned = replace(first_plan(SECOND, Timing(), 0, now=T0), attempt=2)
    inserted = await insert_planned(FakeSteps.of(world.store), world.ctx, planned, "job", "mail", now=T0)
    assert (inserted.spec_revision, inserted.priority) == (2, 7)


async def test_a_stop_finds_the_successor_that_is_decided_on_while_it_looks() -> None:
    """An end that was decided before the stop is written between the stop's looks, and its successor only later."""
    world = await prepared(Flow(name="", prepare=running, act=nothing))
    decided, marked, written, answered = (asyncio.Event() for _ in range(4))

    async def end_between(name: str) -> None:
        if name == "change_execution":
            decided.set()
            await marked.wait()
        if name == "insert_execution":
            written.set()
            await answered.wait()

    async def stop_between(name: str) -> None:
        if name == "change_execution" and not marked.is_set():
            marked.set()
            await written.wait()

    world.store.between = end_between
    ending = asyncio.ensure_future(world.say(first(world), exited(1)))
    await asyncio.wait_for(decided.wait(), 5)
    world.store.between = stop_between
    stopped = await asyncio.wait_for(stop.stop_job(world.ctx, "", "job"), 5)
    assert stopped.held == ()
    assert world.states() == "STOPPED FAILED STOPPED"
    answered.set()
    await asyncio.wait_for(ending, 5)
    assert world.states() == "STOPPED FAILED STOPPED"
