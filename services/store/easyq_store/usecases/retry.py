"""Retry: the next attempt of a job that has ended, asked for by hand."""

from dataclasses import dataclass

from easyq_chassis.errors import FailedPrecondition
from easyq_store.domain.deletion import require_kept
from easyq_store.domain.moves import head
from easyq_store.domain.planning import manual_plan
from easyq_store.domain.records import Head, Job
from easyq_store.domain.timing import has_expired
from easyq_store.ports import Plan, Steps
from easyq_store.usecases.context import Context
from easyq_store.usecases.find import job_of
from easyq_store.usecases.follow import settle_job
from easyq_store.usecases.put import ended_attempt, revive


@dataclass(frozen=True, kw_only=True, slots=True)
class Retried:
    """The job, and the head of its new execution if it is ready now."""

    job: Job
    ready: Head | None


async def retry_job(ctx: Context, task_id: str, job_id: str, execution_id: str) -> Retried:
    """Plans the next attempt under this execution id; a repeat with the same id is harmless.

    Errors: NOT_FOUND, FAILED_PRECONDITION (it has not ended, or recurs, or its spec's expiration has passed).
    """
    retried = await ctx.store.run(retrying(ctx, task_id, job_id, execution_id))
    ctx.news.tell(job_id)
    return retried


def retrying(ctx: Context, task_id: str, job_id: str, execution_id: str) -> Plan[Retried]:
    """The plan of `retry_job`."""

    async def plan(steps: Steps) -> Retried:
        return await _retry(steps, ctx, task_id, job_id, execution_id)

    return plan


async def _retry(steps: Steps, ctx: Context, task_id: str, job_id: str, execution_id: str) -> Retried:
    now = ctx.clock.now()
    job = await job_of(steps, task_id, job_id)
    known = await steps.get_execution(execution_id)
    if known is not None and known.job_id == job_id:
        return Retried(job=job, ready=head(known))
    if job.schedule is not None:
        raise FailedPrecondition(f"job {job_id} recurs: it is triggered, or replaced, rather than retried")
    newest = await steps.newest_execution(job_id)

    def decide(old: Job) -> Job:
        if any(planned.execution_id == execution_id for planned in old.pending):
            return old
        require_kept(old)
        if not old.ended:
            raise FailedPrecondition(f"job {job_id} is {old.state.name}: only one that has ended can be retried")
        policy = ctx.policy_of(old.spec)
        last = ended_attempt(old, newest)
        planned = manual_plan(execution_id, last, policy, now=now, revision=old.revision)
        if has_expired(planned.latest_start, now):
            raise FailedPrecondition(f"job {job_id} may not start any more: its expiration has passed")
        return revive(old, planned, now=now)

    revived = await steps.change_job(job_id, decide)
    settled, _ = await settle_job(steps, ctx, revived or job, now=now)
    execution = await steps.get_execution(execution_id)
    return Retried(job=settled, ready=head(execution) if execution else None)
