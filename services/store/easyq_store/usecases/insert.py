"""Inserts executions that were decided on, and brings them what their job wishes."""

from dataclasses import replace

from easyq_chassis.errors import AlreadyExists
from easyq_store.domain.moves import request_stop, retime
from easyq_store.domain.planning import make
from easyq_store.domain.records import Execution, Job, Planned
from easyq_store.domain.recurring import replaces
from easyq_store.ports import Steps
from easyq_store.usecases.context import Context
from easyq_store.usecases.notify import note_end, targets_at_end
from easyq_store.usecases.settle import settle_execution


async def insert_planned(
    steps: Steps, ctx: Context, planned: Planned, job_id: str, task_id: str, *, now: int
) -> Execution:
    """Inserts a planned execution if it is absent, then re-reads the job: a stop or a newer spec may have come first.

    Raises AlreadyExists if its id belongs to another job.
    """
    seq = await steps.next_seq() if planned.due_at <= now else 0
    made = ctx.traces.made(make(planned, job_id, task_id, now=now, seq=seq))
    await steps.insert_execution(made)
    job = await steps.get_job(job_id)
    if job is None:
        # Deleted meanwhile, with all that was inserted before.
        await steps.delete_execution(made)
    execution = await catch_up(steps, ctx, job, made, now=now) if job else None
    if execution is None or execution.job_id != job_id:
        raise AlreadyExists(f"execution {planned.execution_id} can't be made for job {job_id}")
    return execution


async def catch_up(steps: Steps, ctx: Context, job: Job, seen: Execution, *, now: int) -> Execution | None:
    """Brings a job's stop, or else its newest spec, to one of its executions. Returns it as it stands then.

    The job was read after the execution was there: if a fire waits to take its place, it is one of those that end.
    """
    if job.stop_requested_at is not None or _ends_for_another(ctx, job, seen):
        return await _stop(steps, ctx, job, seen, now=now)
    if seen.spec_revision >= job.revision:
        return await steps.get_execution(seen.execution_id)
    policy = ctx.policy_of(job.spec)
    seq = await steps.next_seq()
    return await steps.change_execution(
        seen.execution_id, lambda old: retime(old, policy, revision=job.revision, now=now, seq=seq)
    )


async def _stop(steps: Steps, ctx: Context, job: Job, seen: Execution, *, now: int) -> Execution | None:
    """Stops one of a job's executions, and tells whom it may concern, if that ends it."""
    if not await targets_at_end(steps, ctx, job, seen):
        return await steps.change_execution(seen.execution_id, lambda old: request_stop(old, now=now))

    ended = False

    def stopped(old: Execution) -> Execution:
        nonlocal ended
        new = request_stop(old, now=now)
        ended = new is not old and new.ended
        # The sweep of the job would not look at one that has ended.
        return replace(new, unsettled_since=now) if ended and not steps.atomic else new

    execution = await steps.change_execution(seen.execution_id, stopped)
    if execution is None or not ended:
        return execution
    await note_end(steps, ctx, job, execution, now=now)
    return await settle_execution(steps, execution)


def _ends_for_another(ctx: Context, job: Job, seen: Execution) -> bool:
    return job.schedule is not None and replaces(job, ctx.policy_of(job.spec), seen.execution_id)
