"""A job's state as its newest execution tells it."""

from easyq_store.domain.records import Execution, Failure, Job, evolve
from easyq_store.domain.states import ExecutionState, JobState, Trigger
from easyq_store.domain.transitions import may_follow

_AGAIN = frozenset({Trigger.RETRY, Trigger.INFRA_RETRY})

_STATES = {
    ExecutionState.SCHEDULED: JobState.SCHEDULED,
    ExecutionState.QUEUED: JobState.QUEUED,
    ExecutionState.ASSIGNED: JobState.RUNNING,
    ExecutionState.RUNNING: JobState.RUNNING,
    ExecutionState.SUCCEEDED: JobState.SUCCEEDED,
    ExecutionState.FAILED: JobState.FAILED,
    ExecutionState.TIMED_OUT: JobState.TIMED_OUT,
    ExecutionState.STOPPED: JobState.STOPPED,
    ExecutionState.LOST: JobState.FAILED,
    ExecutionState.EXPIRED: JobState.EXPIRED,
}


def project(job: Job, execution: Execution, *, now: int) -> Job:
    """The job as this execution tells it; the same job where it tells nothing new.

    A recurring job tells its own state: only the failure of its newest ended attempt is taken from executions.
    Steps may be told out of order and more than once: an attempt, or a write of it, that is older than the one the
    job's state was taken from is left aside.
    """
    if job.schedule is not None:
        return _of_recurring(job, execution)
    if (execution.attempt, execution.write_no) < (job.projected_attempt, job.projected_write):
        return job
    state = state_of(execution, stop_requested=job.stop_requested_at is not None)
    if not may_follow(job.state, state, further_attempt=execution.attempt > job.projected_attempt):
        return job
    told = evolve(
        job,
        state=state,
        next_run_at=_next_run_at(execution),
        attempts=max(job.attempts, execution.attempt),
        projected_attempt=execution.attempt,
        projected_write=execution.write_no,
        failure=_failure(job, execution),
        last_end=execution.state if execution.ended else job.last_end,
    )
    if told == job:
        return job
    return told if told.state is job.state else evolve(told, last_modified_at=now)


def state_of(execution: Execution, *, stop_requested: bool) -> JobState:
    """The state of a job whose newest execution this is. One that was asked to stop and did not succeed is STOPPED."""
    if execution.next is not None:
        return JobState.RETRYING
    if execution.state is ExecutionState.SCHEDULED and execution.trigger in _AGAIN:
        return JobState.RETRYING
    if execution.ended and stop_requested and execution.state is not ExecutionState.SUCCEEDED:
        return JobState.STOPPED
    return _STATES[execution.state]


def _of_recurring(job: Job, execution: Execution) -> Job:
    """Its state and numbers are its own; only why its newest ended attempt failed comes from there."""
    known = (job.projected_attempt, job.projected_write)
    if not execution.ended or (execution.attempt, execution.write_no) <= known:
        return job
    return evolve(
        job,
        failure=_failure(job, execution),
        last_end=execution.state,
        projected_attempt=execution.attempt,
        projected_write=execution.write_no,
    )


def _failure(job: Job, execution: Execution) -> Failure | None:
    """Of the newest attempt that has ended: kept while the next one waits or runs."""
    return execution.failure if execution.ended else job.failure


def _next_run_at(execution: Execution) -> int | None:
    if execution.next is not None:
        return execution.next.due_at
    return execution.due_at if execution.waiting else None
