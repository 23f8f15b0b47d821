"""A job's state as its newest execution tells it."""

from dataclasses import replace

import pytest

from easyq_store.domain.projection import project, state_of
from easyq_store.domain.records import Planned
from easyq_store.domain.states import ExecutionState, JobState, Trigger
from tests.support.store_records import T0, execution, job

NEXT = Planned(execution_id="n", attempt=2, fence=2, trigger=Trigger.RETRY, due_at=T0 + 9, series_due_at=T0)


@pytest.mark.parametrize(
    ("state", "job_state", "stopping"),
    [
        (ExecutionState.SCHEDULED, JobState.SCHEDULED, JobState.SCHEDULED),
        (ExecutionState.QUEUED, JobState.QUEUED, JobState.QUEUED),
        (ExecutionState.ASSIGNED, JobState.RUNNING, JobState.RUNNING),
        (ExecutionState.RUNNING, JobState.RUNNING, JobState.RUNNING),
        (ExecutionState.SUCCEEDED, JobState.SUCCEEDED, JobState.SUCCEEDED),
        (ExecutionState.FAILED, JobState.FAILED, JobState.STOPPED),
        (ExecutionState.TIMED_OUT, JobState.TIMED_OUT, JobState.STOPPED),
        (ExecutionState.STOPPED, JobState.STOPPED, JobState.STOPPED),
        (ExecutionState.LOST, JobState.FAILED, JobState.STOPPED),
        (ExecutionState.EXPIRED, JobState.EXPIRED, JobState.STOPPED),
    ],
)
def test_every_state(state: ExecutionState, job_state: JobState, stopping: JobState) -> None:
    assert state_of(execution(state=state), stop_requested=False) is job_state
    assert state_of(execution(state=state), stop_requested=True) is stopping


@pytest.mark.parametrize("trigger", Trigger)
def test_a_planned_attempt_after_a_failure_is_retrying(trigger: Trigger) -> None:
    again = trigger in {Trigger.RETRY, Trigger.INFRA_RETRY}
    waiting = execution(state=ExecutionState.SCHEDULED, trigger=trigger)
    expected = JobState.RETRYING if again else JobState.SCHEDULED
    assert state_of(waiting, stop_requested=False) is expected
    assert state_of(execution(trigger=trigger), stop_requested=False) is JobState.QUEUED


def test_what_a_job_is_told() -> None:
    made = job(projected_attempt=1, projected_write=1)
    running = execution(state=ExecutionState.RUNNING, write_no=3)
    told = project(made, running, now=T0 + 5)
    assert told == replace(made, state=JobState.RUNNING, projected_write=3, last_modified_at=T0 + 5)
    failed = replace(running, state=ExecutionState.FAILED, write_no=4, next=NEXT)
    retrying = project(told, failed, now=T0 + 6)
    assert (retrying.state, retrying.next_run_at) == (JobState.RETRYING, T0 + 9)
    second = execution("job-1-2", attempt=2, state=ExecutionState.SCHEDULED, trigger=Trigger.RETRY, due_at=T0 + 9)
    waiting = project(retrying, second, now=T0 + 7)
    assert (waiting.attempts, waiting.next_run_at, waiting.last_modified_at) == (2, T0 + 9, T0 + 6)


def test_what_is_told_late_is_left_aside() -> None:
    made = job(state=JobState.RETRYING, attempts=2, projected_attempt=2, projected_write=1)
    assert project(made, execution(state=ExecutionState.FAILED, write_no=9), now=T0) is made
    newer = job(state=JobState.RUNNING, projected_attempt=1, projected_write=3)
    assert project(newer, execution(state=ExecutionState.ASSIGNED, write_no=2), now=T0) is newer


def test_telling_it_again_changes_nothing() -> None:
    running = execution(state=ExecutionState.RUNNING, write_no=3)
    told = project(job(), running, now=T0)
    assert project(told, running, now=T0 + 9) is told


def test_an_ended_job_comes_back_with_a_further_attempt_only() -> None:
    ended = job(state=JobState.STOPPED, projected_attempt=1, projected_write=3, stop_requested_at=T0)
    assert project(ended, execution(state=ExecutionState.SUCCEEDED, write_no=4), now=T0) is ended
    again = project(ended, execution("job-1-2", attempt=2), now=T0)
    assert again.state is JobState.QUEUED
