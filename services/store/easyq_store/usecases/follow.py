"""What has to follow a change: the successor, the job's state, the mark that all is settled.

Every plan that changes an execution ends with `follow_up`; every plan that changes a job, with `settle_job`. Both may
be repeated by anyone at any time, which is how the sweep completes what a crash left.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from easyq_chassis.errors import AlreadyExists
from easyq_store.domain.moves import request_stop, retime
from easyq_store.domain.planning import make
from easyq_store.domain.projection import project
from easyq_store.domain.records import Execution, Job, Planned
from easyq_store.ports import Steps
from easyq_store.usecases.context import Context


@dataclass(frozen=True, kw_only=True, slots=True)
class Changed:
    """An execution after an attempt to change it. `done`: it was changed by this call."""

    execution: Execution | None
    done: bool


async def change_execution(
    steps: Steps, execution_id: str, decide: Callable[[Execution], Execution], *, now: int
) -> Changed:
    """Changes an execution and, where a crash could come before what follows, marks it as not settled."""
    done = False

    def marked(old: Execution) -> Execution:
        nonlocal done
        new = decide(old)
        done = new is not old
        return replace(new, unsettled_since=now) if done and not steps.atomic else new

    execution = await steps.change_execution(execution_id, marked)
    return Changed(execution=execution, done=done)


async def follow_up(
    steps: Steps, ctx: Context, execution: Execution, *, now: int
) -> tuple[Job | None, Execution | None]:
    """Inserts the successor that was decided on and tells the job; returns both as they stand then."""
    successor = None
    if execution.next is not None:
        successor = await insert_planned(steps, ctx, execution.next, execution.job_id, execution.task_id, now=now)
    newest = successor or execution
    job = await steps.change_job(execution.job_id, lambda old: project(old, newest, now=now))
    if execution.unsettled_since is not None:
        await steps.change_execution(execution.execution_id, lambda old: _settled(old, execution))
    return job, successor


def _settled(old: Execution, seen: Execution) -> Execution:
    # Whoever changed it since has marked it anew, and has what follows still before them.
    return replace(old, unsettled_since=None) if old.write_no == seen.write_no else old


async def insert_planned(
    steps: Steps, ctx: Context, planned: Planned, job_id: str, task_id: str, *, now: int
) -> Execution:
    """Inserts a planned execution if it is absent, then re-reads the job: a stop or a newer spec may have come first.

    Raises AlreadyExists if its id belongs to another job.
    """
    seq = await steps.next_seq() if planned.due_at <= now else 0
    made = make(planned, job_id, task_id, now=now, seq=seq)
    await steps.insert_execution(made)
    job = await steps.get_job(job_id)
    execution = await catch_up(steps, ctx, job, made, now=now) if job else None
    if execution is None or execution.job_id != job_id:
        raise AlreadyExists(f"execution {planned.execution_id} can't be made for job {job_id}")
    return execution


async def catch_up(steps: Steps, ctx: Context, job: Job, seen: Execution, *, now: int) -> Execution | None:
    """Brings a job's stop, or else its newest spec, to one of its executions. Returns it as it stands then."""
    if job.stop_requested_at is not None:
        return await steps.change_execution(seen.execution_id, lambda old: request_stop(old, now=now))
    if seen.spec_revision >= job.revision:
        return await steps.get_execution(seen.execution_id)
    policy = ctx.policy_of(job.spec)
    seq = await steps.next_seq()
    return await steps.change_execution(
        seen.execution_id, lambda old: retime(old, policy, revision=job.revision, now=now, seq=seq)
    )


async def settle_job(steps: Steps, ctx: Context, job: Job, *, now: int) -> tuple[Job, list[Execution]]:
    """Does all that a job's record asks for; returns the job, and its executions that have not ended."""
    for planned in job.pending:
        await insert_planned(steps, ctx, planned, job.job_id, job.task_id, now=now)
    newest, still_open = await _settle_executions(steps, ctx, job, now=now)

    def decide(old: Job) -> Job:
        told = project(old, newest, now=now) if newest is not None else old
        if (old.pending, old.unsettled_since) == ((), None) or not _same_wish(old, job):
            return told
        return replace(told, pending=(), unsettled_since=None)

    return await steps.change_job(job.job_id, decide) or job, still_open


async def _settle_executions(
    steps: Steps, ctx: Context, job: Job, *, now: int
) -> tuple[Execution | None, list[Execution]]:
    """Brings the job's wish to all of its executions; returns the newest one, and those that have not ended.

    One may end meanwhile and decide on a successor, which nobody has inserted yet: so it looks until there is none.
    """
    while True:
        newest = await steps.newest_execution(job.job_id)
        if newest is not None and newest.next is not None:
            await insert_planned(steps, ctx, newest.next, job.job_id, job.task_id, now=now)
            continue
        for execution in await steps.open_executions(job.job_id):
            await catch_up(steps, ctx, job, execution, now=now)
        still_open = await steps.open_executions(job.job_id)
        confirmed = await steps.newest_execution(job.job_id)
        if confirmed is None or confirmed.next is None:
            return confirmed, still_open


def _same_wish(one: Job, other: Job) -> bool:
    return (one.unsettled_since, one.pending, one.revision, one.stop_requested_at) == (
        other.unsettled_since,
        other.pending,
        other.revision,
        other.stop_requested_at,
    )
