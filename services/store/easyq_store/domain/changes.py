"""What of a write can be seen from outside: the changes that watchers are told."""

from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from easyq_store.domain.records import Agent, Execution, Failure, Job
from easyq_store.domain.states import Trigger

# Characters of a failure's message that are told: so that a number of changes bounds their bytes as well.
MOST_MESSAGE = 1024
# Bytes that a change without a failure takes at most, roughly.
_BASE_SIZE = 700

Record: TypeAlias = Job | Execution | Agent
# A record before and after a write; None where there was or is none.
Note: TypeAlias = tuple[Record | None, Record | None]


class Kind(IntEnum):
    """What changed. Numbers of `easyq.v1.EventKind.Name`."""

    JOB = 1
    EXECUTION = 2
    AGENT = 3
    # Nobody knows what: an outcome was not learnt.
    GAP = 4


class How(IntEnum):
    """How it changed. Numbers of `easyq.v1.EventChange.Kind`."""

    CREATED = 1
    CHANGED = 2
    DELETED = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """One visible change, without anything large or secret. Fields as in `easyq.v1.Event`."""

    kind: Kind
    how: How
    at: int
    state: str = ""
    ended: bool = False
    task_id: str = ""
    job_id: str = ""
    execution_id: str = ""
    agent_id: str = ""
    attempt: int = 0
    exit_code: int | None = None
    failure: Failure | None = None
    trigger: Trigger | None = None
    next_run_at: int | None = None
    stop_requested_at: int | None = None
    revision: int = 0

    @property
    def size(self) -> int:
        """Bytes that it takes in memory, roughly."""
        return _BASE_SIZE + (len(self.failure.message) if self.failure is not None else 0)


def gap(*, at: int) -> Change:
    """Stands for changes of which nobody knows whether they happened."""
    return Change(kind=Kind.GAP, how=How.CHANGED, at=at)


def change_of(before: Record | None, after: Record | None, *, at: int) -> Change | None:
    """The change from one record to the other, None where nothing of it can be seen."""
    record = before if after is None else after
    if record is None or (before is not None and after is not None and _visible(before) == _visible(after)):
        return None
    how = How.DELETED if after is None else How.CHANGED if before is not None else How.CREATED
    if isinstance(record, Job):
        return _of_job(record, how, at)
    if isinstance(record, Execution):
        return _of_execution(record, how, at)
    return Change(kind=Kind.AGENT, how=how, at=at, agent_id=record.agent_id, state=record.state.name)


def _of_job(job: Job, how: How, at: int) -> Change:
    return Change(
        kind=Kind.JOB,
        how=how,
        at=at,
        task_id=job.task_id,
        job_id=job.job_id,
        state=job.state.name,
        ended=job.ended,
        attempt=job.attempts,
        failure=_short(job.failure),
        next_run_at=job.next_run_at,
        stop_requested_at=job.stop_requested_at,
        revision=job.revision,
    )


def _of_execution(execution: Execution, how: How, at: int) -> Change:
    return Change(
        kind=Kind.EXECUTION,
        how=how,
        at=at,
        task_id=execution.task_id,
        job_id=execution.job_id,
        execution_id=execution.execution_id,
        agent_id=execution.agent_id,
        state=execution.state.name,
        ended=execution.ended,
        attempt=execution.attempt,
        exit_code=execution.exit_code,
        failure=_short(execution.failure),
        trigger=execution.trigger,
        next_run_at=execution.due_at if execution.waiting else None,
        stop_requested_at=execution.stop_requested_at,
        revision=execution.spec_revision,
    )


def _short(failure: Failure | None) -> Failure | None:
    if failure is None or len(failure.message) <= MOST_MESSAGE:
        return failure
    return Failure(reason=failure.reason, message=failure.message[: MOST_MESSAGE - 1] + "…")


def _visible(record: Record) -> tuple[object, ...]:
    """What of a record somebody who looks at it would see change."""
    if isinstance(record, Job):
        return _visible_job(record)
    return _visible_execution(record) if isinstance(record, Execution) else _visible_agent(record)


def _visible_job(job: Job) -> tuple[object, ...]:
    fires = job.schedule
    return (
        job.state,
        job.revision,
        job.next_run_at,
        job.stop_requested_at,
        job.delete_requested,
        job.attempts,
        job.failure,
        fires and (fires.next_fire, fires.runs, fires.skipped, fires.waiting),
    )


def _visible_execution(execution: Execution) -> tuple[object, ...]:
    return (
        execution.state,
        execution.stop_requested_at,
        execution.started_at,
        execution.exit_code,
        execution.failure,
        execution.agent_id,
        execution.due_at,
        execution.priority,
        execution.spec_revision,
        execution.logs_complete,
        execution.logs_removed_at,
    )


def _visible_agent(agent: Agent) -> tuple[object, ...]:
    return (
        agent.state,
        agent.session,
        agent.hostname,
        agent.pools,
        agent.slots,
        agent.labels,
        agent.version,
        agent.healthy,
        agent.message,
        agent.unhealthy_since,
        agent.lost_after_ms,
        agent.lease_ms,
        agent.cordoned_at,
        agent.drained_at,
        agent.drain_deadline,
        agent.declared_dead,
        agent.offer_cpu_millis,
        agent.offer_memory,
        agent.offer_gpus,
    )
