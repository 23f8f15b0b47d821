"""Assignments, reports, sessions, silence."""

from dataclasses import replace
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from easyq.v1.spec_pb2 import Backoff, OnLost
from easyq_chassis.errors import FailedPrecondition
from easyq_store.domain.logs import Piece
from easyq_store.domain.lost import Silent
from easyq_store.domain.moves import Claim, Refusal
from easyq_store.domain.records import Head, HeldHead
from easyq_store.domain.sessions import Hello
from easyq_store.domain.states import AgentState, ExecutionState, FailureReason, Outcome, Stream, Trigger
from easyq_store.usecases import assign, look, sessions, stop
from easyq_store.usecases.append import append
from easyq_store.usecases.report import GivenBack, Started, Verdict
from tests.fakes.store import FakePersistence
from tests.support.store_records import T0
from tests.support.store_world import World, ended, exited


async def test_an_assignment_carries_all_that_is_needed(world: World) -> None:
    await world.hello()
    execution_id = await world.submit(command=["x"], start_deadline=Duration(seconds=30))
    world.machine.pass_(10)
    assigned = await world.assign(execution_id)
    assert isinstance(assigned, assign.Assignment)
    assert (assigned.execution.epoch, assigned.execution.agent_id, assigned.execution.session) == (1, "host-a", 1)
    assert assigned.spec == world.job().spec
    assert (assigned.start_within_ms, assigned.stdout_offset) == (20_000, 0)
    assert world.states() == "RUNNING ASSIGNED"
    assert world.execution(execution_id).unsettled_since is None


async def refusal(world: World, execution_id: str, **changes: Any) -> assign.Refused:
    claim = Claim(
        execution_id=execution_id,
        epoch=0,
        generation=0,
        agent_id="host-a",
        session=world.sessions.get("host-a", 0),
        pool="default",
    )
    (result,) = await assign.assign_all(world.ctx, [replace(claim, **changes)])
    assert isinstance(result, assign.Refused), result
    return result


async def test_assignments_are_refused(world: World) -> None:
    await world.hello()
    execution_id = await world.submit()
    later = await world.submit("later", start_in=Duration(seconds=60))
    assert (await refusal(world, "unknown")).refusal is Refusal.NOT_QUEUED
    assert (await refusal(world, later)).refusal is Refusal.NOT_QUEUED
    assert (await refusal(world, execution_id, generation=1)).refusal is Refusal.STALE_GENERATION
    assert (await refusal(world, execution_id, session=2)).refusal is Refusal.STALE_SESSION
    assert (await refusal(world, execution_id, agent_id="nobody")).refusal is Refusal.STALE_SESSION
    stale = await refusal(world, execution_id, epoch=1)
    assert stale.refusal is Refusal.STALE_EPOCH
    assert stale.ready is not None
    assert stale.ready.epoch == 0
    await sessions.park_session(world.ctx, "host-a", 1)
    assert (await refusal(world, execution_id)).refusal is Refusal.STALE_SESSION
    assert world.states() == "QUEUED QUEUED"


async def test_what_expired_is_not_assigned(world: World) -> None:
    await world.hello()
    execution_id = await world.submit(expiration=Timestamp(seconds=T0 // 1000 + 5))
    world.machine.pass_(6)
    assert (await refusal(world, execution_id)).refusal is Refusal.EXPIRED
    assert world.states() == "EXPIRED EXPIRED"


async def test_the_generation_is_raised_once(world: World) -> None:
    assert await sessions.raise_generation(world.ctx, 0) == (1, True)
    assert await sessions.raise_generation(world.ctx, 0) == (1, False)


async def test_a_fence_makes_the_assignment_under_way_fail(world: World) -> None:
    await world.hello()
    queued, held = await world.submit("q"), await world.submit("h")
    await world.run(held)
    fenced = await assign.fence_all(world.ctx, [queued, held, "unknown"])
    assert isinstance(fenced[0], Head)
    assert isinstance(fenced[1], HeldHead)
    assert (fenced[0].epoch, fenced[1].epoch, fenced[2]) == (1, 1, None)
    assert (await refusal(world, queued)).refusal is Refusal.STALE_EPOCH


async def test_a_generation_that_moves_under_an_assignment_takes_it_back() -> None:
    """Only where a database has no transactions can anything come in between."""
    world = World(store=FakePersistence(atomic=False))
    await world.hello()
    execution_id = await world.submit()

    async def between(name: str) -> None:
        if name == "change_execution":
            world.store.tables.generation = 1

    world.store.between = between
    assert (await refusal(world, execution_id)).refusal is Refusal.STALE_GENERATION
    made = world.execution(execution_id)
    assert (made.state, made.epoch, made.agent_id) == (ExecutionState.QUEUED, 1, "")
    assert made.unsettled_since is None
    assert world.states() == "QUEUED QUEUED"


async def test_a_stop_that_comes_under_an_assignment_takes_it_back() -> None:
    world = World(store=FakePersistence(atomic=False))
    await world.hello()
    execution_id = await world.submit()

    async def between(name: str) -> None:
        if name == "change_execution":
            world.store.tables.jobs["job"] = replace(world.job(), stop_requested_at=T0)

    world.store.between = between
    assert (await refusal(world, execution_id)).refusal is Refusal.NOT_QUEUED
    assert world.states() == "STOPPED STOPPED"


async def test_an_assignment_that_a_hello_tells_its_agent_of_before_it_is_confirmed_is_no_refusal() -> None:
    """The dispatcher would give its places to others, while the agent runs it."""
    world = World(store=FakePersistence(atomic=False))
    await world.hello()
    execution_id = await world.submit()
    orders: list[tuple[str, str, int]] = []

    async def between(name: str) -> None:
        if name == "change_job" and not orders:
            orders.append(("", "", 0))
            orders.extend(await world.hello())

    world.store.between = between
    assigned = await world.assign(execution_id)
    assert orders[1:] == [("RUN", execution_id, 1)]
    assert isinstance(assigned, assign.Assignment), assigned
    made = world.execution(execution_id)
    assert (made.state, made.epoch, made.session) == (ExecutionState.ASSIGNED, 1, 2)
    assert assigned.execution == made


async def test_a_run_from_start_to_end(world: World) -> None:
    await world.hello()
    execution_id = await world.submit()
    await world.assign(execution_id)
    world.machine.pass_(1)
    taken = await world.say(execution_id, Started(container_id="c", image_digest="d"))
    assert (taken.verdict, taken.released) == (Verdict.OK, False)
    assert world.execution(execution_id).started_at == T0 + 1000
    world.machine.pass_(1)
    said = exited(0, b"hi\n", execution_id=execution_id)
    taken = await world.say(execution_id, said)
    assert (taken.verdict, taken.released, taken.ready, taken.logs_complete) == (Verdict.OK, True, None, True)
    done = world.execution(execution_id)
    assert (done.state, done.exit_code, done.container_id) == (ExecutionState.SUCCEEDED, 0, "c")
    assert world.states() == "SUCCEEDED SUCCEEDED"
    again = await world.say(execution_id, said)
    assert again == taken
    late = await world.say(execution_id, Started())
    assert (late.verdict, late.released) == (Verdict.OK, True)
    assert world.execution(execution_id).finished_at == T0 + 2000


async def test_a_finish_without_a_start_is_enough(world: World) -> None:
    await world.hello()
    execution_id = await world.submit()
    await world.assign(execution_id)
    world.machine.pass_(1)
    await world.say(execution_id, exited(0))
    assert world.execution(execution_id).started_at == T0 + 995
    assert world.states() == "SUCCEEDED SUCCEEDED"


async def test_words_of_those_who_do_not_hold_it_are_stale(world: World) -> None:
    await world.hello()
    await world.hello("host-b")
    execution_id = await world.submit()
    await world.run(execution_id)
    for said in (Started(), exited(0), GivenBack()):
        for agent_id, epoch in (("host-b", 1), ("host-a", 0), ("host-a", 2)):
            taken = await world.say(execution_id, said, agent_id, epoch=epoch)
            assert (taken.verdict, taken.released) == (Verdict.STALE, False), (said, agent_id, epoch)
    assert world.states() == "RUNNING RUNNING"
    await world.say(execution_id, exited(0))
    other = await world.say(execution_id, exited(1))
    assert (other.verdict, other.released) == (Verdict.STALE, True)
    assert (await world.say(execution_id, GivenBack())).verdict is Verdict.STALE


@pytest.mark.parametrize("said", [Started(), exited(0), GivenBack()])
async def test_words_on_what_nobody_knows_are_stale(world: World, said: Any) -> None:
    taken = await world.say("unknown", said, epoch=1)
    assert (taken.verdict, taken.released) == (Verdict.STALE, True)


async def test_what_the_table_does_not_have_is_refused_for_good(world: World) -> None:
    await world.hello()
    execution_id = await world.submit()
    await world.run(execution_id)
    assert (await world.say(execution_id, ended(Outcome.EXPIRED))).verdict is Verdict.STALE
    assert (await world.say(execution_id, GivenBack())).verdict is Verdict.STALE
    assert world.states() == "RUNNING RUNNING"


async def test_while_the_database_is_away_words_are_to_be_sent_again(world: World) -> None:
    await world.hello()
    execution_id = await world.submit()
    await world.assign(execution_id)
    world.store.away = True
    assert (await world.say(execution_id, exited(0))).verdict is Verdict.RETRY


async def test_a_failure_is_retried_after_its_wait(world: World) -> None:
    await world.hello()
    execution_id = await world.submit(retries=1, backoff=Backoff(min=Duration(seconds=10)))
    await world.run(execution_id)
    taken = await world.say(execution_id, exited(3))
    assert (taken.released, taken.ready) == (True, None)
    first, second = world.attempts()
    assert first.next is not None
    assert (second.execution_id, second.attempt, second.trigger) == (first.next.execution_id, 2, Trigger.RETRY)
    assert (second.due_at, second.state, second.fence) == (T0 + 10_000, ExecutionState.SCHEDULED, 2)
    assert world.states() == "RETRYING FAILED SCHEDULED"
    assert world.job().next_run_at == T0 + 10_000


async def test_a_retry_without_a_wait_is_ready_at_once(world: World) -> None:
    await world.hello()
    execution_id = await world.submit(retries=1, backoff=Backoff(min=Duration()))
    await world.run(execution_id)
    taken = await world.say(execution_id, exited(3))
    assert taken.ready is not None
    assert taken.ready.execution_id == world.attempts()[1].execution_id
    assert world.states() == "QUEUED FAILED QUEUED"


async def test_the_wait_is_decided_once(world: World) -> None:
    await world.hello()
    execution_id = await world.submit(retries=1, backoff=Backoff(min=Duration(seconds=10), jitter=1))
    await world.run(execution_id)
    shares = iter([0.5, 0.1, 0.9])
    world.share = lambda: next(shares)
    await world.say(execution_id, exited(3))
    await world.say(execution_id, exited(3))
    assert [e.due_at for e in world.attempts()[1:]] == [T0 + 5_000]


async def test_a_give_back_keeps_its_place(world: World) -> None:
    await world.hello()
    execution_id = await world.submit()
    place = world.execution(execution_id).queue_seq
    await world.assign(execution_id)
    for _ in range(2):
        taken = await world.say(execution_id, GivenBack(), epoch=1)
        assert (taken.verdict, taken.released) == (Verdict.OK, True)
        assert taken.ready is not None
        assert (taken.ready.queue_seq, taken.ready.epoch) == (place, 1)
    assert world.states() == "QUEUED QUEUED"
    await world.assign(execution_id)
    assert (await world.say(execution_id, GivenBack(), epoch=1)).verdict is Verdict.STALE


async def test_a_stop_meets_a_give_back(world: World) -> None:
    await world.hello()
    execution_id = await world.submit()
    await world.assign(execution_id)
    await stop.stop_job(world.ctx, "", "job")
    taken = await world.say(execution_id, GivenBack())
    assert (taken.verdict, taken.released, taken.ready) == (Verdict.OK, True, None)
    assert world.states() == "STOPPED STOPPED"


async def test_an_agent_that_comes_back_goes_on(world: World) -> None:
    await world.hello()
    assigned, running, queued = [await world.submit(name) for name in ("a", "r", "q")]
    await world.assign(assigned)
    await world.run(running)
    orders = await world.hello("host-a", (running, 1), ("stranger", 4), (queued, 1))
    assert sorted(orders) == sorted(
        [("RUN", assigned, 1), ("ADOPT", running, 1), ("KILL", "stranger", 4), ("KILL", queued, 1)]
    )
    assert world.sessions["host-a"] == 2
    assert (world.execution(running).session, world.execution(running).epoch) == (2, 1)
    taken = await world.say(running, exited(0))
    assert taken.verdict is Verdict.OK


async def test_a_beat_repeats_what_differs(world: World) -> None:
    await world.hello()
    execution_id = await world.submit()
    await world.assign(execution_id)
    assert await world.beat() == [("RUN", execution_id, 1)]
    assert await world.beat("host-a", (execution_id, 1)) == []
    await world.say(execution_id, Started())
    assert await world.beat() == [("ADOPT", execution_id, 1)]
    await world.say(execution_id, exited(0))
    assert await world.beat("host-a", (execution_id, 1)) == [("KILL", execution_id, 1)]


async def test_an_older_session_is_fenced(world: World) -> None:
    await world.hello()
    await world.hello()
    world.sessions["host-a"] = 1
    assert await world.beat() is None
    world.sessions["host-a"] = 2
    assert await world.beat() == []
    await sessions.park_session(world.ctx, "host-a", 2)
    assert await world.beat() is None
    world.sessions["unknown"] = 1
    assert await world.beat("unknown") is None


async def test_what_was_assigned_under_an_older_session_comes_under_the_newer_with_a_beat(world: World) -> None:
    await world.hello()
    execution_id = await world.submit()
    await world.assign(execution_id)
    await world.hello()
    executions = world.store.tables.executions
    executions[execution_id] = replace(executions[execution_id], session=1)
    await world.beat()
    assert world.execution(execution_id).session == 2


async def test_an_agents_name_belongs_to_one_daemon(world: World) -> None:
    await world.hello()
    said = Hello(agent_id="host-a", daemon_id="another")
    with pytest.raises(FailedPrecondition, match="bound"):
        await sessions.open_session(world.ctx, said, [])


async def silence(world: World, seconds: float) -> None:
    await world.lost.run_once()
    world.machine.pass_(seconds)
    await world.lost.run_once()


async def test_a_silent_agents_executions_are_lost_and_run_again(world: World) -> None:
    await world.hello()
    execution_id = await world.submit()
    await world.run(execution_id)
    await silence(world, 124)
    assert world.states() == "RUNNING RUNNING"
    await silence(world, 126)
    assert world.states() == "QUEUED LOST QUEUED"
    lost, again = world.attempts()
    assert lost.failure is not None
    assert (lost.failure.reason, lost.epoch) == (FailureReason.HOST_LOST, 2)
    assert (again.trigger, again.infra_used, again.retries_used) == (Trigger.INFRA_RETRY, 1, 0)
    assert (await world.say(execution_id, exited(0), epoch=1)).verdict is Verdict.STALE
    assert await world.beat() is None
    assert await world.hello("host-a", (execution_id, 1)) == [("KILL", execution_id, 1)]


async def test_an_agent_that_beats_is_not_lost(world: World) -> None:
    await world.hello()
    await world.run(await world.submit())
    for _ in range(5):
        await silence(world, 100)
        await world.beat()
    assert world.states() == "RUNNING RUNNING"


async def test_a_store_that_was_away_gives_agents_their_full_time(world: World) -> None:
    await world.hello()
    await world.run(await world.submit())
    await silence(world, 124)
    world.restart()
    await silence(world, 124)
    assert world.states() == "RUNNING RUNNING"


async def test_a_parked_agent_is_never_lost(world: World) -> None:
    await world.hello()
    await world.run(await world.submit())
    await sessions.park_session(world.ctx, "host-a", 1)
    await silence(world, 10_000)
    assert world.states() == "RUNNING RUNNING"
    assert world.store.tables.agents["host-a"].state is AgentState.PARKED


async def test_jobs_that_fail_with_their_host_and_jobs_that_wait_for_it(world: World) -> None:
    await world.hello()
    fails = await world.submit("fails", on_lost=OnLost.FAIL, retries=5)
    waits = await world.submit("waits", on_lost=OnLost.WAIT)
    await world.run(fails)
    await world.run(waits)
    await silence(world, 126)
    await silence(world, 126)
    assert world.states("fails") == "FAILED LOST"
    assert world.states("waits") == "RUNNING RUNNING"
    assert (await world.say(waits, Started())).verdict is Verdict.OK
    orders = await world.hello("host-a", (waits, 1), (fails, 1))
    assert sorted(orders) == sorted([("ADOPT", waits, 1), ("KILL", fails, 1)])
    await world.say(waits, exited(0))
    assert world.states("waits") == "SUCCEEDED SUCCEEDED"


async def test_infrastructure_failures_have_an_end(world: World) -> None:
    await world.hello()
    execution_id = await world.submit(infra_retries=2)
    for attempt in range(3):
        await world.run(world.attempts()[attempt].execution_id)
        await world.say(world.attempts()[attempt].execution_id, ended(Outcome.LOST))
    assert world.states() == "FAILED LOST LOST LOST"
    assert world.execution(execution_id).retries_used == 0


async def test_a_stopped_job_is_not_run_again_when_its_host_is_lost(world: World) -> None:
    await world.hello()
    await world.run(await world.submit())
    await stop.stop_job(world.ctx, "", "job")
    await silence(world, 126)
    assert world.states() == "STOPPED LOST"


async def test_an_agent_that_was_declared_dead_loses_before_it_comes_back(world: World) -> None:
    await world.hello()
    execution_id = await world.submit()
    await world.run(execution_id)
    silent = Silent(agent_id="host-a", session=1, beats=0)
    assert await sessions.bury(world.ctx, silent)
    assert await world.hello("host-a", (execution_id, 1)) == [("KILL", execution_id, 1)]
    assert world.states() == "QUEUED LOST QUEUED"
    assert not await sessions.bury(world.ctx, silent)
    assert await sessions.lose_all(world.ctx, "host-a") == []
    assert await sessions.lose_all(world.ctx, "unknown") == []


async def test_agents_with_what_they_hold(world: World) -> None:
    await world.hello("host-b")
    await world.hello()
    await world.run(await world.submit())
    found = await look.list_agents(world.ctx)
    assert [(agent.agent_id, running) for agent, running, _ in found] == [("host-a", 1), ("host-b", 0)]


async def test_an_adopted_one_is_told_where_its_logs_go_on(world: World) -> None:
    await world.hello()
    execution_id = await world.submit()
    await world.run(execution_id)
    sent = Piece(execution_id=execution_id, epoch=1, stream=Stream.STDERR, offset=0, data=b"12345")
    await append(world.ctx, [sent])
    said = Hello(agent_id="host-a", daemon_id="daemon-of-host-a")
    opened = await sessions.open_session(world.ctx, said, [])
    (order,) = opened.orders
    assert order.assignment is not None
    assert (order.assignment.stdout_offset, order.assignment.stderr_offset) == (0, 5)
