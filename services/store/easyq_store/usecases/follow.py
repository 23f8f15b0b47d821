"""What has to follow a change: the successor, the job's state, the mark that all is settled.

Every plan that changes an execution ends with `follow_up`; every plan that changes a job, with `settle_job`. Both may
be repeated by anyone at any time, which is how the sweep completes what a crash left.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from easyq_store.domain.projection import project
from easyq_store.domain.records import Execution, Job
from easyq_store.ports import Steps
from easyq_store.usecases.context import Context
from easyq_store.usecases.insert import catch_up, insert_planned
from easyq_store.usecases.notify import note_end
from easyq_store.usecases.purge import IN_PASSING, purge, purge_execution
from easyq_store.usecases.series import number, settle_recurring
from easyq_store.usecases.settle import settle_execution

# Of so many executions of a recurring job, one has retention look at it.
_NOW_AND_THEN = 16


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
    if execution.next is not None and execution.next.attempt:
        successor = await insert_planned(steps, ctx, execution.next, execution.job_id, execution.task_id, now=now)

    def told(old: Job) -> Job:
        # Also the end, since it says why it failed.
        ended = project(old, execution, now=now)
        return ended if successor is None else project(ended, successor, now=now)

    job = await steps.change_job(execution.job_id, told)
    if job is not None:
        await note_end(steps, ctx, job, execution, now=now)
    if job is not None and job.schedule is not None and execution.ended:
        job, successor = await _go_on(steps, ctx, job, execution, now=now)
    await settle_execution(steps, execution)
    if execution.ended:
        await _clear_away(steps, ctx, job, execution, now=now)
    return job, successor


async def _clear_away(steps: Steps, ctx: Context, job: Job | None, ended: Execution, *, now: int) -> None:
    """Deletes what has waited for this end to be deleted; what is too much for one plan is left to the sweep."""
    if job is not None:
        if job.schedule is not None and ended.attempt % _NOW_AND_THEN == 0:
            ctx.overdue.add(job.job_id)
        await purge(steps, job, now=now, limit=IN_PASSING)
        return
    # Somebody inserted it when its job was gone.
    stored = await steps.get_execution(ended.execution_id)
    if stored is not None:
        await purge_execution(steps, stored)


async def _go_on(steps: Steps, ctx: Context, job: Job, ended: Execution, *, now: int) -> tuple[Job, Execution | None]:
    """What follows the end of an execution of a recurring job: its successor, or a fire that waits for it."""
    if ended.next is not None:
        await number(steps, job.job_id, ended.next, now=now)
    job, _ = await settle_recurring(steps, ctx, job, now=now)
    return job, await steps.get_execution(ended.next.execution_id) if ended.next is not None else None


async def settle_job(steps: Steps, ctx: Context, job: Job, *, now: int) -> tuple[Job, list[Execution]]:
    """Does all that a job's record asks for; returns the job, and its executions that have not ended."""
    if job.schedule is not None:
        return await settle_recurring(steps, ctx, job, now=now)
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
