"""Delete: jobs and tasks with all that belongs to them. What runs is stopped first, and goes once it has ended."""

from collections.abc import Sequence
from dataclasses import dataclass

from easyq_chassis.errors import EasyQError, FailedPrecondition, NotFound
from easyq_store.domain.deletion import doom
from easyq_store.domain.records import Execution, Job
from easyq_store.ports import JobFilter, Plan, Steps
from easyq_store.usecases.context import Context
from easyq_store.usecases.find import job_of
from easyq_store.usecases.follow import settle_job
from easyq_store.usecases.purge import IN_PASSING, Purged, purge, purge_whole

# Jobs whose plans go together, so that others come in between.
_AT_ONCE = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Deleted:
    """How far a deletion is: the job is gone, unless some executions are `held`; those who hold them must be told."""

    job_id: str
    held: tuple[Execution, ...] = ()
    purged: Purged = Purged.DONE


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskDeleted:
    """What became of one page of a task's jobs. `more`: there are others."""

    deleted: int
    stopping: int
    held: tuple[Execution, ...] = ()
    more: bool = False


async def delete_job(ctx: Context, task_id: str, job_id: str, *, force: bool) -> Deleted:
    """Deletes a job with its executions and logs; with `force` also one that has not ended, which is stopped first.

    Repeats are harmless until it is gone. Errors: NOT_FOUND, FAILED_PRECONDITION (NEEDS_FORCE).
    """
    (result,) = await delete_all(ctx, [deleting(ctx, job_id, task_id=task_id, force=force)])
    if isinstance(result, EasyQError):
        raise result
    return result


async def delete_all(ctx: Context, plans: Sequence[Plan[Deleted]]) -> list[Deleted | EasyQError]:
    """Runs deletions, a few at a time, each to its end."""
    done: list[Deleted | EasyQError] = []
    for first in range(0, len(plans), _AT_ONCE):
        results = await ctx.store.run_all(plans[first : first + _AT_ONCE])
        for result in results:
            if isinstance(result, Deleted):
                if result.purged is Purged.MORE:
                    await purge_whole(ctx, result.job_id)
                ctx.news.tell(result.job_id, *(e.execution_id for e in result.held))
        done += results
    return done


def deleting(
    ctx: Context, job_id: str, *, task_id: str = "", force: bool, ended_before: int | None = None
) -> Plan[Deleted]:
    """Marks the job, stops what waits, and deletes as much as one plan may.

    `ended_before`: only if it has ended before that, and was not touched since, and all of its notifications have been
    taken or given up; it is left alone otherwise, and told as WAITS.
    """

    async def plan(steps: Steps) -> Deleted:
        now = ctx.clock.now()
        job = await job_of(steps, task_id, job_id)
        if ended_before is not None and await steps.has_unsent(job_id):
            return Deleted(job_id=job_id, purged=Purged.WAITS)

        def decide(old: Job) -> Job:
            if ended_before is not None and not (old.ended and old.last_modified_at < ended_before):
                return old
            return doom(old, force=force, now=now)

        # Whoever deletes it at the same time may be quicker.
        job = await steps.change_job(job_id, decide) or job
        held: list[Execution] = []
        if job.delete_requested and not job.ended:
            job, held = await settle_job(steps, ctx, job, now=now)
        purged = await purge(steps, job, now=now, limit=IN_PASSING)
        return Deleted(job_id=job_id, held=tuple(held), purged=purged)

    return plan


async def delete_task(ctx: Context, task_id: str, *, force: bool, limit: int) -> TaskDeleted:
    """Deletes up to `limit` of a task's jobs, and with the last of them the task itself.

    Without `force`, only a task that has no jobs. Errors: NOT_FOUND, FAILED_PRECONDITION (NEEDS_FORCE).
    """
    task = await ctx.store.reads.get_task(task_id)
    if task is None:
        raise NotFound(f"there is no task {task_id}", reason="TASK_NOT_FOUND")
    if task.job_count and not force:
        raise FailedPrecondition(
            f"task {task_id} has {task.job_count} jobs: with force they are deleted with it", reason="NEEDS_FORCE"
        )
    found = await ctx.store.reads.list_jobs(JobFilter(task_id=task_id, kept_only=True), None, limit + 1)
    results = await delete_all(ctx, [deleting(ctx, job.job_id, force=True) for job in found[:limit]])
    if len(found) <= limit:
        await ctx.store.run(lambda steps: steps.delete_task(task_id))
    return TaskDeleted(
        deleted=sum(is_gone(result) for result in results),
        stopping=sum(is_stopping(result) for result in results),
        held=held_of(results),
        more=len(found) > limit,
    )


def is_gone(result: Deleted | EasyQError) -> bool:
    """Whether the job is gone, by this call or another's."""
    if isinstance(result, Deleted):
        return result.purged is not Purged.WAITS
    return isinstance(result, NotFound)


def is_stopping(result: Deleted | EasyQError) -> bool:
    """Whether it goes once it has ended."""
    return isinstance(result, Deleted) and bool(result.held)


def held_of(results: Sequence[Deleted | EasyQError]) -> tuple[Execution, ...]:
    """What must be told to those who hold it."""
    return tuple(execution for result in results if isinstance(result, Deleted) for execution in result.held)
