"""Executions that are planned, and how a planned one becomes a record."""

from easyq_store.domain.policy import Policy
from easyq_store.domain.records import Execution, Needs, Planned, evolve
from easyq_store.domain.states import ExecutionState, Trigger
from easyq_store.domain.timing import Timing


def first_plan(
    execution_id: str,
    timing: Timing,
    priority: int,
    *,
    now: int,
    revision: int = 1,
    attempt: int = 1,
    fence: int = 1,
    needs: Needs | None = None,
    image: str = "",
    trace: str = "",
) -> Planned:
    """An execution that begins a series by its spec's start time: at an enqueue, or when PUT makes a job run again."""
    due_at = timing.due_at(now)
    return Planned(
        execution_id=execution_id,
        attempt=attempt,
        fence=fence,
        trigger=Trigger.ENQUEUE,
        due_at=due_at,
        latest_start=timing.latest_start(due_at),
        priority=priority,
        spec_revision=revision,
        series_due_at=due_at,
        needs=needs,
        image=image,
        trace=trace,
    )


def manual_plan(execution_id: str, newest: Execution, policy: Policy, *, now: int, revision: int) -> Planned:
    """The next attempt of a job that had ended, asked for by hand: due now, with fresh counters."""
    return Planned(
        execution_id=execution_id,
        attempt=newest.attempt + 1,
        fence=newest.fence + 1,
        trigger=Trigger.MANUAL,
        due_at=now,
        latest_start=policy.timing.latest_start(now),
        priority=policy.priority,
        spec_revision=revision,
        series_due_at=now,
        needs=policy.needs,
        image=policy.image,
        trace=newest.trace,
    )


# What all executions begin with.
_BLANK = Execution(
    execution_id="",
    job_id="",
    task_id="",
    attempt=0,
    fence=0,
    trigger=Trigger.ENQUEUE,
    state=ExecutionState.SCHEDULED,
    created_at=0,
    due_at=0,
    series_due_at=0,
)


def make(planned: Planned, job_id: str, task_id: str, *, now: int, seq: int) -> Execution:
    """A planned execution as it is inserted: QUEUED with place `seq` if it is due, else SCHEDULED (`seq` unused)."""
    due = planned.due_at <= now
    return evolve(
        _BLANK,
        execution_id=planned.execution_id,
        job_id=job_id,
        task_id=task_id,
        attempt=planned.attempt,
        fence=planned.fence,
        trigger=planned.trigger,
        state=ExecutionState.QUEUED if due else ExecutionState.SCHEDULED,
        priority=planned.priority,
        queue_seq=seq if due else 0,
        spec_revision=planned.spec_revision,
        created_at=now,
        due_at=planned.due_at,
        latest_start=planned.latest_start,
        retries_used=planned.retries_used,
        infra_used=planned.infra_used,
        series_due_at=planned.series_due_at,
        queued_at=now if due else None,
        fire_at=planned.fire_at,
        needs=planned.needs,
        image=planned.image,
        trace=planned.trace,
    )
