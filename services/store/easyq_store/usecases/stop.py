"""Stop: marks the job, then its executions; nothing of it that was not assigned starts afterwards."""

from dataclasses import dataclass, replace

from easyq_chassis.errors import FailedPrecondition
from easyq_store.domain import recurring
from easyq_store.domain.moves import request_stop
from easyq_store.domain.records import Execution, Job
from easyq_store.domain.states import ExecutionState, JobState
from easyq_store.ports import Plan, Steps
from easyq_store.usecases.context import Context
from easyq_store.usecases.find import execution_of, job_of
from easyq_store.usecases.follow import change_execution, follow_up, settle_job


@dataclass(frozen=True, kw_only=True, slots=True)
class Stopped:
    """How far a stop is: final, unless some executions are `held`; those who hold them must be told."""

    job: Job
    held: tuple[Execution, ...] = ()


async def stop_job(ctx: Context, task_id: str, job_id: str, execution_id: str = "") -> Stopped:
    """Stops a job; repeats are harmless. With `execution_id`, that must be one of its executions.

    Of a job that recurs only that execution is stopped, with its retries: the schedule goes on.

    Errors: NOT_FOUND, FAILED_PRECONDITION (it has ended otherwise).
    """
    stopped = await ctx.store.run(stopping(ctx, task_id, job_id, execution_id))
    ctx.news.tell(job_id, *(e.execution_id for e in stopped.held))
    return stopped


def stopping(ctx: Context, task_id: str, job_id: str, execution_id: str = "") -> Plan[Stopped]:
    """The plan of `stop_job`."""

    async def plan(steps: Steps) -> Stopped:
        return await _stop(steps, ctx, task_id, job_id, execution_id)

    return plan


async def _stop(steps: Steps, ctx: Context, task_id: str, job_id: str, execution_id: str) -> Stopped:
    now = ctx.clock.now()
    job = await job_of(steps, task_id, job_id)
    if execution_id:
        execution = await execution_of(steps, task_id, job_id, execution_id)
        if job.schedule is not None:
            return await _stop_one(steps, ctx, job, execution, now=now)

    def decide(old: Job) -> Job:
        if old.ended or old.stop_requested_at is not None:
            return old
        stopping = replace(old, stop_requested_at=now, last_modified_at=now, unsettled_since=now)
        return recurring.stop(stopping)

    job = await steps.change_job(job_id, decide) or job
    if not job.ended:
        job, still_open = await settle_job(steps, ctx, job, now=now)
        if still_open:
            return Stopped(job=job, held=tuple(still_open))
    if job.state is not JobState.STOPPED:
        raise FailedPrecondition(f"job {job_id} has ended already: {job.state.name}")
    return Stopped(job=job)


async def _stop_one(steps: Steps, ctx: Context, job: Job, seen: Execution, *, now: int) -> Stopped:
    """Stops one execution of a recurring job."""
    changed = await change_execution(steps, seen.execution_id, lambda old: request_stop(old, now=now), now=now)
    execution = changed.execution or seen
    if changed.done:
        told, _ = await follow_up(steps, ctx, execution, now=now)
        job = told or job
    if execution.held:
        return Stopped(job=job, held=(execution,))
    if execution.state is not ExecutionState.STOPPED:
        raise FailedPrecondition(f"execution {execution.execution_id} has ended already: {execution.state.name}")
    return Stopped(job=job)
