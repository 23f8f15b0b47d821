"""Which writes can be seen from outside, and as what."""

from dataclasses import replace

import pytest

from easyq_store.domain.changes import MOST_MESSAGE, Change, How, Kind, Record, change_of
from easyq_store.domain.records import Failure, Schedule
from easyq_store.domain.states import AgentState, ExecutionState, FailureReason, JobState, Trigger
from tests.support.store_records import T0, agent, execution, job

FAILED = Failure(reason=FailureReason.NONZERO_EXIT, message="exit code 3")


def changed(before: Record | None, after: Record | None) -> Change | None:
    return change_of(before, after, at=T0)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (job(), job(write_no=2, unsettled_since=T0, projected_write=4, last_modified_at=T0 + 5)),
        (execution(), execution(write_no=2, epoch=4, unsettled_since=T0, session=3)),
        (agent(), agent(write_no=9, beats=8, last_beat_at=T0 + 5)),
        (None, None),
    ],
)
def test_what_cannot_be_seen(before: Record | None, after: Record | None) -> None:
    assert changed(before, after) is None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (job(), job(state=JobState.RUNNING)),
        (job(), job(next_run_at=T0)),
        (job(), job(stop_requested_at=T0)),
        (job(), job(revision=2)),
        (job(), job(attempts=2)),
        (job(), job(failure=FAILED)),
        (job(), job(delete_requested=True)),
        (job(schedule=Schedule(anchor=T0)), job(schedule=Schedule(anchor=T0, skipped=1))),
        (execution(), execution(state=ExecutionState.ASSIGNED)),
        (execution(), execution(stop_requested_at=T0)),
        (execution(), execution(logs_complete=True)),
        (agent(), agent(cordoned_at=T0)),
        (agent(), agent(healthy=False, message="no disk")),
        (agent(), agent(session=2)),
    ],
)
def test_what_can_be_seen(before: Record, after: Record) -> None:
    told = changed(before, after)
    assert told is not None
    assert told.how is How.CHANGED
    assert (change_of(None, after, at=T0) or told).how is How.CREATED
    assert (change_of(after, None, at=T0) or told).how is How.DELETED


def test_what_is_told_of_a_job() -> None:
    ended = job(state=JobState.FAILED, attempts=3, failure=FAILED, revision=2, stop_requested_at=T0 + 1)
    assert changed(job(), ended) == Change(
        kind=Kind.JOB,
        how=How.CHANGED,
        at=T0,
        task_id="mail",
        job_id="job-1",
        state="FAILED",
        ended=True,
        attempt=3,
        failure=FAILED,
        stop_requested_at=T0 + 1,
        revision=2,
    )


def test_what_is_told_of_an_execution() -> None:
    ended = execution(state=ExecutionState.FAILED, exit_code=3, failure=FAILED, agent_id="host-a")
    waiting = Change(
        kind=Kind.EXECUTION,
        how=How.CREATED,
        at=T0,
        task_id="mail",
        job_id="job-1",
        execution_id="job-1-1",
        state="QUEUED",
        attempt=1,
        trigger=Trigger.ENQUEUE,
        next_run_at=T0,
        revision=1,
    )
    assert changed(None, execution()) == waiting
    assert changed(execution(), ended) == replace(
        waiting,
        how=How.CHANGED,
        agent_id="host-a",
        state="FAILED",
        ended=True,
        exit_code=3,
        failure=FAILED,
        next_run_at=None,
    )


def test_what_is_told_of_an_agent() -> None:
    told = changed(agent(), agent(state=AgentState.DEAD))
    assert told == Change(kind=Kind.AGENT, how=How.CHANGED, at=T0, agent_id="host-a", state="DEAD")


def test_a_long_message_is_cut() -> None:
    long = Failure(reason=FailureReason.PULL_FAILED, message="x" * 10_000)
    told = changed(None, job(failure=long))
    assert told is not None
    assert told.failure is not None
    assert told.failure.reason is FailureReason.PULL_FAILED
    assert len(told.failure.message) == MOST_MESSAGE
    assert MOST_MESSAGE < told.size < 4 * MOST_MESSAGE
