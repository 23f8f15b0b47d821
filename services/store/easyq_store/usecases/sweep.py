"""The sweep: completes what a crash left between the steps of a plan."""

from easyq_chassis.errors import EasyQError
from easyq_chassis.logs import get_logger
from easyq_store.ports import Plan, Steps
from easyq_store.usecases.assign import take_back_from_cordoned
from easyq_store.usecases.context import Context
from easyq_store.usecases.follow import follow_up, settle_job

# A plan that is under way settles its own records within this time.
GRACE_MS = 5_000
_AT_ONCE = 500


async def sweep(ctx: Context, *, grace_ms: int = GRACE_MS) -> int:
    """Settles records that have been unsettled for longer than the grace; returns how many it took up.

    One that can't be settled is logged, and tried again by the next sweep.
    """
    before = ctx.clock.now() - grace_ms
    executions = await ctx.store.reads.unsettled_executions(before, _AT_ONCE)
    jobs = await ctx.store.reads.unsettled_jobs(before, _AT_ONCE)
    plans = [_execution(ctx, id_) for id_ in executions] + [_job(ctx, id_) for id_ in jobs]
    ids = executions + jobs
    for id_, result in zip(ids, await ctx.store.run_all(plans), strict=True):
        if isinstance(result, EasyQError):
            get_logger().warning("sweep_failed", id=id_, error=result.message)
    ctx.news.tell(*ids)
    return len(ids)


def _execution(ctx: Context, execution_id: str) -> Plan[None]:
    async def plan(steps: Steps) -> None:
        execution = await steps.get_execution(execution_id)
        now = ctx.clock.now()
        if execution is not None and not await take_back_from_cordoned(steps, ctx, execution, now=now):
            await follow_up(steps, ctx, execution, now=now)

    return plan


def _job(ctx: Context, job_id: str) -> Plan[None]:
    async def plan(steps: Steps) -> None:
        job = await steps.get_job(job_id)
        if job is not None:
            await settle_job(steps, ctx, job, now=ctx.clock.now())

    return plan
