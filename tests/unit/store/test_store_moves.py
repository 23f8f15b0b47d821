"""What may happen to an execution."""

from dataclasses import replace
from typing import Any

import pytest

from easyq_chassis.errors import FailedPrecondition
from easyq_store.domain import moves, planning
from easyq_store.domain.decide import Decision, End
from easyq_store.domain.moves import Claim, LogSizes, Refusal
from easyq_store.domain.policy import Policy
from easyq_store.domain.records import Execution, Failure
from easyq_store.domain.states import (
    ENDED,
    AgentState,
    ExecutionState,
    FailureReason,
    Outcome,
    Trigger,
)
from easyq_store.domain.timing import Timing
from tests.support.store_records import T0, agent, execution

NOW = T0 + 60_000
CLAIM = Claim(execution_id="job-1-1", epoch=0, generation=1, agent_id="host-a", session=3, pool="p")
SCHEDULED = execution(state=ExecutionState.SCHEDULED, queue_seq=0, queued_at=None, due_at=T0 + 100)
QUEUED = execution()
ASSIGNED = execution(state=ExecutionState.ASSIGNED, epoch=1, agent_id="host-a", session=3, pool="p", assigned_at=T0 + 5)
RUNNING = replace(ASSIGNED, state=ExecutionState.RUNNING, started_at=T0 + 9)
ALL = [execution(state=state) for state in ExecutionState]


def unchanged(made: Execution, changed: Execution) -> bool:
    return changed is made


def test_a_first_plan_is_due_by_its_spec() -> None:
    timing = Timing(start_in=5_000, start_deadline=1_000)
    planned = planning.first_plan("e", timing, 7, now=NOW)
    assert (planned.due_at, planned.series_due_at, planned.latest_start) == (
        NOW + 5_000,
        NOW + 5_000,
        NOW + 6_000,
    )
    assert (planned.attempt, planned.fence, planned.priority, planned.trigger) == (1, 1, 7, Trigger.ENQUEUE)


def test_a_plan_becomes_an_execution() -> None:
    now_due = planning.first_plan("e", Timing(), 7, now=NOW, revision=2, attempt=3, fence=4)
    made = planning.make(now_due, "j", "t", now=NOW, seq=11)
    assert (made.state, made.queue_seq, made.queued_at, made.due_at) == (ExecutionState.QUEUED, 11, NOW, NOW)
    assert (made.attempt, made.fence, made.spec_revision, made.priority, made.epoch) == (3, 4, 2, 7, 0)
    later = planning.make(planning.first_plan("e", Timing(start_in=1), 0, now=NOW), "j", "t", now=NOW, seq=11)
    assert (later.state, later.queue_seq, later.queued_at) == (ExecutionState.SCHEDULED, 0, None)


def test_a_retry_by_hand_begins_a_new_series() -> None:
    newest = execution(attempt=4, fence=6, retries_used=3, infra_used=2, state=ExecutionState.FAILED)
    planned = planning.manual_plan("e", newest, Policy(priority=2), now=NOW, revision=5)
    assert (planned.attempt, planned.fence, planned.trigger) == (5, 7, Trigger.MANUAL)
    assert (planned.retries_used, planned.infra_used, planned.series_due_at) == (0, 0, NOW)
    assert (planned.due_at, planned.priority, planned.spec_revision) == (NOW, 2, 5)


def test_firing() -> None:
    fired = moves.fire(SCHEDULED, epoch=0, now=NOW, seq=12)
    assert (fired.state, fired.queue_seq, fired.queued_at) == (ExecutionState.QUEUED, 12, NOW)
    assert unchanged(SCHEDULED, moves.fire(SCHEDULED, epoch=1, now=NOW, seq=12))
    assert unchanged(SCHEDULED, moves.fire(SCHEDULED, epoch=0, now=T0 + 99, seq=12))
    assert unchanged(QUEUED, moves.fire(QUEUED, epoch=0, now=NOW, seq=12))
    late = replace(SCHEDULED, latest_start=NOW - 1)
    assert moves.fire(late, epoch=0, now=NOW, seq=12).state is ExecutionState.EXPIRED


@pytest.mark.parametrize("made", ALL, ids=lambda made: str(made.state.name))
def test_only_what_waits_expires(made: Execution) -> None:
    bounded = replace(made, latest_start=NOW)
    assert unchanged(bounded, moves.expire(bounded, now=NOW))
    assert unchanged(made, moves.expire(made, now=NOW + 1))
    expired = moves.expire(bounded, now=NOW + 1)
    if made.waiting:
        assert (expired.state, expired.finished_at) == (ExecutionState.EXPIRED, NOW + 1)
        assert expired.failure is not None
        assert expired.failure.reason is FailureReason.START_DEADLINE
    else:
        assert unchanged(bounded, expired)


def test_assigning() -> None:
    assigned = moves.assign(QUEUED, CLAIM, now=NOW)
    assert assigned == replace(
        QUEUED,
        state=ExecutionState.ASSIGNED,
        epoch=1,
        assigned_at=NOW,
        agent_id="host-a",
        session=3,
        pool="p",
    )
    assert moves.assign(SCHEDULED, CLAIM, now=NOW) is Refusal.NOT_QUEUED
    assert moves.assign(ASSIGNED, CLAIM, now=NOW) is Refusal.NOT_QUEUED
    assert moves.assign(replace(QUEUED, epoch=1), CLAIM, now=NOW) is Refusal.STALE_EPOCH
    assert moves.assign(replace(QUEUED, latest_start=NOW - 1), CLAIM, now=NOW) is Refusal.EXPIRED


def test_only_a_live_newest_session_may_take() -> None:
    assert moves.may_take(agent(session=3), CLAIM)
    assert not moves.may_take(None, CLAIM)
    assert not moves.may_take(agent(session=4), CLAIM)
    assert not moves.may_take(agent(session=3, state=AgentState.PARKED), CLAIM)
    assert not moves.may_take(agent(session=3, state=AgentState.DEAD), CLAIM)


def test_fencing() -> None:
    assert moves.fence(QUEUED) == replace(QUEUED, epoch=1)
    assert unchanged(ASSIGNED, moves.fence(ASSIGNED))


def test_who_holds_it() -> None:
    for held in (ASSIGNED, RUNNING):
        assert moves.holds(held, "host-a", 1)
        assert not moves.holds(held, "host-b", 1)
        assert not moves.holds(held, "host-a", 2)
    assert not moves.holds(replace(ASSIGNED, state=ExecutionState.LOST), "host-a", 1)


def test_starting() -> None:
    started = moves.start(ASSIGNED, now=NOW, container_id="c", image_digest="d")
    assert started == replace(
        ASSIGNED, state=ExecutionState.RUNNING, started_at=NOW, container_id="c", image_digest="d"
    )
    assert unchanged(RUNNING, moves.start(RUNNING, now=NOW, container_id="x", image_digest="y"))
    with pytest.raises(FailedPrecondition):
        moves.start(QUEUED, now=NOW, container_id="c", image_digest="d")


def finished(made: Execution, **fields: Any) -> Execution:
    end = End(outcome=Outcome.EXITED, exit_code=0)
    sizes = LogSizes(stdout=3, stderr=4, stderr_truncated=True)
    return moves.finish(made, end, Decision(state=ExecutionState.SUCCEEDED), now=NOW, sizes=sizes, **fields)


def test_finishing() -> None:
    done = finished(RUNNING, container_id="c", image_digest="d", ran_ms=1_000, logs_complete=True)
    assert (done.state, done.outcome, done.exit_code) == (ExecutionState.SUCCEEDED, Outcome.EXITED, 0)
    assert (done.started_at, done.finished_at, done.ran_ms) == (T0 + 9, NOW, 1_000)
    assert (done.stdout_size, done.stderr_size, done.stdout_truncated, done.stderr_truncated) == (3, 4, False, True)
    assert (done.container_id, done.image_digest, done.logs_complete) == ("c", "d", True)
    kept = finished(replace(RUNNING, container_id="c", image_digest="d"))
    assert (kept.container_id, kept.image_digest) == ("c", "d")


def test_a_start_that_came_with_the_end_is_reckoned_back() -> None:
    assert finished(ASSIGNED, ran_ms=1_000).started_at == NOW - 1_000
    assert finished(ASSIGNED, ran_ms=10**9).started_at == ASSIGNED.assigned_at
    assert finished(replace(ASSIGNED, assigned_at=None), ran_ms=5).started_at == NOW
    assert finished(ASSIGNED).started_at is None


def test_what_counts_as_the_same_finish_again() -> None:
    end = End(outcome=Outcome.EXITED, exit_code=0)
    done = finished(RUNNING)
    assert moves.is_repeat(done, "host-a", 1, end)
    assert not moves.is_repeat(done, "host-b", 1, end)
    assert not moves.is_repeat(done, "host-a", 2, end)
    assert not moves.is_repeat(done, "host-a", 1, End(outcome=Outcome.EXITED, exit_code=1))
    assert not moves.is_repeat(done, "host-a", 1, End(outcome=Outcome.STOPPED))
    assert not moves.is_repeat(RUNNING, "host-a", 1, end)


def test_losing_raises_the_epoch() -> None:
    failure = Failure(reason=FailureReason.HOST_LOST)
    lost = moves.lose(RUNNING, Decision(state=ExecutionState.LOST, failure=failure), now=NOW)
    assert (lost.state, lost.epoch, lost.finished_at, lost.failure) == (ExecutionState.LOST, 2, NOW, failure)


def test_a_give_back_keeps_its_place() -> None:
    again = moves.give_back(ASSIGNED, now=NOW)
    assert again == replace(QUEUED, epoch=1)
    stopped = moves.give_back(replace(ASSIGNED, stop_requested_at=T0 + 7), now=NOW)
    assert (stopped.state, stopped.stop_requested_at) == (ExecutionState.STOPPED, T0 + 7)
    with pytest.raises(FailedPrecondition):
        moves.give_back(RUNNING, now=NOW)


@pytest.mark.parametrize("made", ALL, ids=lambda made: str(made.state.name))
def test_stopping(made: Execution) -> None:
    stopped = moves.request_stop(made, now=NOW)
    if made.waiting:
        assert (stopped.state, stopped.finished_at, stopped.stop_requested_at) == (
            ExecutionState.STOPPED,
            NOW,
            NOW,
        )
        assert (stopped.stdout_size, stopped.stderr_size, stopped.logs_complete) == (0, 0, True)
    elif made.held:
        assert stopped == replace(made, stop_requested_at=NOW)
        assert unchanged(stopped, moves.request_stop(stopped, now=NOW + 1))
    else:
        assert unchanged(made, stopped)


NEWER = Policy(priority=5, timing=Timing(start_in=1_000, start_deadline=500))


def test_a_newer_spec_moves_a_first_attempt() -> None:
    moved = moves.retime(QUEUED, NEWER, revision=2, now=NOW, seq=9)
    assert moved == replace(
        QUEUED,
        state=ExecutionState.SCHEDULED,
        epoch=1,
        spec_revision=2,
        priority=5,
        due_at=NOW + 1_000,
        series_due_at=NOW + 1_000,
        latest_start=NOW + 1_500,
        queue_seq=0,
        queued_at=None,
    )
    back = moves.retime(moved, Policy(), revision=3, now=NOW, seq=9)
    assert (back.state, back.queue_seq, back.queued_at, back.due_at) == (ExecutionState.QUEUED, 9, NOW, NOW)
    assert (back.epoch, back.latest_start) == (2, None)


def test_a_newer_spec_for_now_keeps_the_place_in_line() -> None:
    changed = moves.retime(QUEUED, Policy(priority=3), revision=2, now=NOW, seq=9)
    assert (changed.state, changed.queue_seq, changed.priority) == (ExecutionState.QUEUED, 1, 3)
    later = moves.retime(SCHEDULED, NEWER, revision=2, now=NOW, seq=9)
    assert (later.state, later.due_at) == (ExecutionState.SCHEDULED, NOW + 1_000)


def test_a_newer_spec_leaves_the_time_of_a_retry() -> None:
    waiting = replace(SCHEDULED, trigger=Trigger.RETRY, due_at=NOW + 7, series_due_at=T0)
    changed = moves.retime(waiting, NEWER, revision=2, now=NOW, seq=9)
    assert (changed.due_at, changed.series_due_at, changed.latest_start) == (NOW + 7, T0, NOW + 507)


def test_a_newer_spec_leaves_others_alone() -> None:
    for made in (RUNNING, ASSIGNED, *(execution(state=state) for state in ENDED)):
        assert unchanged(made, moves.retime(made, NEWER, revision=2, now=NOW, seq=9))
    assert unchanged(QUEUED, moves.retime(QUEUED, NEWER, revision=1, now=NOW, seq=9))


def test_rebinding() -> None:
    assert moves.rebind(RUNNING, "host-a", 4) == replace(RUNNING, session=4)
    assert unchanged(RUNNING, moves.rebind(RUNNING, "host-a", 3))
    assert unchanged(RUNNING, moves.rebind(RUNNING, "host-b", 4))
    assert unchanged(QUEUED, moves.rebind(QUEUED, "", 4))


@pytest.mark.parametrize("made", ALL, ids=lambda made: str(made.state.name))
def test_heads(made: Execution) -> None:
    ready, held = moves.head(made), moves.held_head(made)
    assert (ready is not None) is (made.state is ExecutionState.QUEUED)
    assert (held is not None) is made.held
    assert ready is None or ready.execution_id == made.execution_id
    assert held is None or held.execution_id == made.execution_id
