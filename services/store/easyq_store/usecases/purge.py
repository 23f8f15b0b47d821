"""Deletes what belongs to jobs that may go, a bounded number of records at a time.

In this order: chunks, their executions, then the job with what stands beside it. So whatever a crash leaves is found
by the job's mark, and by its executions.
"""

import asyncio
from enum import Enum

from easyq_store.domain.deletion import may_go
from easyq_store.domain.moves import request_stop
from easyq_store.domain.records import Execution, Job
from easyq_store.ports import Plan, Steps
from easyq_store.usecases.context import Context

# Records of one plan: a chunk may have 256 KiB.
AT_ONCE = 64
# Of one plan among many that go together, or one that has other work.
IN_PASSING = 8


class Purged(Enum):
    """How far a job is deleted."""

    DONE = "done"
    # Some records went; there are others.
    MORE = "more"
    # It is not to be deleted, or something of it is open.
    WAITS = "waits"


async def purge(steps: Steps, job: Job, *, now: int, limit: int = AT_ONCE) -> Purged:
    """Deletes up to `limit` records of a job, as it was read; the job itself comes last."""
    if not may_go(job):
        return Purged.WAITS
    left = limit
    for found in await steps.first_executions(job.job_id, limit):
        execution: Execution | None = found
        if not found.ended:
            # None of its own: somebody inserted it late.
            execution = await steps.change_execution(found.execution_id, lambda old: request_stop(old, now=now))
        if execution is not None and not execution.ended:
            return Purged.WAITS
        if execution is not None:
            left -= await purge_execution(steps, execution, limit=left)
        if left <= 0:
            return Purged.MORE
    if await steps.first_executions(job.job_id, 1):
        return Purged.MORE
    return Purged.DONE if await steps.delete_job(job) else Purged.MORE


async def purge_execution(steps: Steps, execution: Execution, *, limit: int = AT_ONCE) -> int:
    """Deletes an ended execution with its chunks; returns how many records went, `limit` if there may be more."""
    chunks = await steps.delete_chunks(execution.execution_id, limit)
    if chunks >= limit:
        return limit
    gone = await steps.delete_execution(execution)
    if gone and not steps.atomic:
        # Late ones, of who had read the execution before it went.
        await steps.delete_chunks(execution.execution_id, limit)
    return chunks + 1


async def purge_whole(ctx: Context, job_id: str, *, pause: float = 0.0) -> Purged:
    """Deletes a job that may go, however much it has, in many small plans with `pause` seconds between them."""
    while True:
        purged = await ctx.store.run(_purging(ctx, job_id))
        if purged is not Purged.MORE:
            ctx.news.tell(job_id)
            return purged
        await asyncio.sleep(pause)


def _purging(ctx: Context, job_id: str) -> Plan[Purged]:
    async def plan(steps: Steps) -> Purged:
        job = await steps.get_job(job_id)
        return Purged.DONE if job is None else await purge(steps, job, now=ctx.clock.now())

    return plan


async def finish_deletions(ctx: Context, *, pause: float = 0.0) -> int:
    """Completes deletions that were begun and whose jobs have ended since; returns how many jobs went."""
    gone, after = 0, ""
    while found := await ctx.store.reads.doomed_jobs(after, AT_ONCE):
        for job_id in found:
            gone += await purge_whole(ctx, job_id, pause=pause) is Purged.DONE
            await asyncio.sleep(pause)
        after = found[-1]
    return gone
