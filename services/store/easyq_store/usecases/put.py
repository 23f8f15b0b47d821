"""Put: creates a job under an id of the user's, or replaces its whole spec."""

from dataclasses import dataclass, replace

from easyq_chassis.errors import Aborted, FailedPrecondition, NotFound
from easyq_store.domain.deletion import require_kept
from easyq_store.domain.moves import head
from easyq_store.domain.planning import first_plan
from easyq_store.domain.records import Execution, Head, Job, Planned
from easyq_store.domain.recurring import begin, rescheduled
from easyq_store.domain.requests import was_made_by, with_request
from easyq_store.domain.states import JobState
from easyq_store.ports import Inserted, Steps
from easyq_store.usecases.context import Context
from easyq_store.usecases.follow import settle_job
from easyq_store.usecases.submit import NewJob, learn_asked, new_job, new_recurring, planned_first, unplanned


@dataclass(frozen=True, kw_only=True, slots=True)
class Put:
    """What became of a PUT. `created`: the job is new; `unplanned` as in `Accepted`."""

    created: bool
    ready: Head | None = None
    unplanned: Job | None = None


async def put_job(ctx: Context, new: NewJob, revision: int, *, only_same: bool = False) -> Put:
    """Stores the job. The same spec again changes nothing: as it was asked for, or as it was stored with its defaults.

    A new spec reaches an execution that waits; one that is held keeps its own; a job that had ended runs again.
    `revision` is the one that the caller knows, 0 for any; a repeat (by its execution id) is answered as the first call
    would be now, whatever revision that made. With `only_same` nothing is changed where the same was not
    asked for (NOT_FOUND). Errors: FAILED_PRECONDITION (JOB_EXISTS: the id is of
    another task; ILLEGAL_STATE: it is stopping, or is to recur from now on, or no more, and has not ended), ABORTED
    (REVISION_MISMATCH).
    """
    put = await ctx.store.run(lambda steps: _put(steps, ctx, new, revision, only_same=only_same))
    ctx.news.tell(new.job_id)
    return put


async def _put(steps: Steps, ctx: Context, new: NewJob, revision: int, *, only_same: bool) -> Put:
    now = ctx.clock.now()
    job = await steps.get_job(new.job_id)
    if only_same and (job is None or job.task_id != new.task_id or not _same(ctx, job, new)):
        raise NotFound(f"there is no job {new.job_id} of this spec")
    if job is None:
        if revision:
            raise Aborted(f"there is no job {new.job_id} yet", reason="REVISION_MISMATCH")
        created = await _create(steps, ctx, new, now=now)
        if created is not None:
            return created
        job = await steps.get_job(new.job_id)
    if job is None or job.task_id != new.task_id:
        raise FailedPrecondition(f"job {new.job_id} belongs to another task", reason="JOB_EXISTS")
    require_kept(job)
    if was_made_by(job, new.execution_id):
        return await _repeated(steps, ctx, new, job, now=now)
    if revision and revision != job.revision:
        message = f"job {new.job_id} has revision {job.revision}, not {revision}"
        raise Aborted(message, reason="REVISION_MISMATCH")
    same = only_same or _same(ctx, job, new)
    if not only_same:
        # Of another spec there is nothing to learn.
        job = await learn_asked(steps, job, new)
    if same and job.unsettled_since is None:
        return Put(created=False, unplanned=unplanned(job))
    if not same:
        job = await _replace(steps, ctx, new, job, now=now)
    job, still_open = await settle_job(steps, ctx, job, now=now)
    return Put(created=False, ready=_ready(still_open), unplanned=unplanned(job))


async def _repeated(steps: Steps, ctx: Context, new: NewJob, job: Job, *, now: int) -> Put:
    """The answer of a PUT that took effect; nobody may have been told of its execution."""
    created = job.first_execution_id == new.execution_id
    if job.unsettled_since is not None:
        job, still_open = await settle_job(steps, ctx, job, now=now)
    else:
        still_open = await steps.open_executions(job.job_id)
    return Put(created=created, ready=_ready(still_open), unplanned=unplanned(job))


def _same(ctx: Context, job: Job, new: NewJob) -> bool:
    """The same request again, or what is shown of it: a job doesn't change, or run again, because defaults did."""
    if job.spec == new.spec or new.asked is None:
        return job.spec == new.spec
    return new.asked in {job.asked, job.spec} or ctx.same_request((new.asked, new.spec), (job.asked, job.spec))


async def _create(steps: Steps, ctx: Context, new: NewJob, *, now: int) -> Put | None:
    if new.recurs:
        job = new_recurring(new, now=now)
        return Put(created=True, unplanned=job) if await steps.insert_job(job) is Inserted.DONE else None
    planned = planned_first(new, now=now)
    job = new_job(new, planned, now=now, atomic=False)
    if await steps.insert_job(job) is not Inserted.DONE:
        return None
    _, still_open = await settle_job(steps, ctx, job, now=now)
    return Put(created=True, ready=_ready(still_open))


async def _replace(steps: Steps, ctx: Context, new: NewJob, seen: Job, *, now: int) -> Job:
    """Replaces the spec if the job still has the revision that was seen."""
    await steps.keep_spec(seen.job_id, seen.revision, seen.spec, seen.asked)
    newest = await steps.newest_execution(seen.job_id)

    def decide(old: Job) -> Job:
        if was_made_by(old, new.execution_id):
            # An attempt before this one came through meanwhile.
            return old
        if old.revision != seen.revision:
            raise Aborted(f"job {old.job_id} was replaced by somebody else", reason="REVISION_MISMATCH")
        require_kept(old)
        if old.stop_requested_at is not None and not old.ended:
            raise FailedPrecondition(f"job {old.job_id} is stopping")
        if new.recurs is (old.schedule is None) and not old.ended:
            change = "recurs" if old.schedule is not None else "does not recur"
            raise FailedPrecondition(f"job {old.job_id} {change}, which can't be changed before it has ended")
        changed = replace(
            with_request(old, new.execution_id),
            revision=old.revision + 1,
            spec=new.spec,
            asked=new.asked,
            image=new.image,
            labels=new.labels,
            metadata=new.metadata,
            last_modified_at=now,
            unsettled_since=now,
        )
        if new.recurs:
            return _recurring(ctx, old, changed, now=now)
        return _again(changed, new, ended_attempt(old, newest), now=now) if old.ended else changed

    changed = await steps.change_job(seen.job_id, decide)
    if changed is None:
        raise FailedPrecondition(f"job {seen.job_id} is gone")
    return changed


def _recurring(ctx: Context, old: Job, changed: Job, *, now: int) -> Job:
    """A recurring job with a newer spec: its times are counted anew where they are others."""
    if old.ended:
        return begin(changed, now=now)
    times, newer = ctx.policy_of(old.spec).times, ctx.policy_of(changed.spec).times
    return changed if times == newer else rescheduled(changed, now=now)


def ended_attempt(job: Job, newest: Execution | None) -> Execution:
    """The last attempt of a job that has ended. Raises Aborted if it is not the one that was seen."""
    if newest is None or newest.attempt != job.attempts:
        raise Aborted(f"job {job.job_id} was changed by somebody else")
    return newest


def _again(job: Job, new: NewJob, newest: Execution, *, now: int) -> Job:
    """A job that had ended, with the further attempt that the new spec asks for."""
    planned = first_plan(
        new.execution_id,
        new.timing,
        new.priority,
        now=now,
        revision=job.revision,
        attempt=newest.attempt + 1,
        fence=newest.fence + 1,
        needs=new.needs,
        image=new.image,
    )
    return revive(job, planned, now=now)


def revive(job: Job, planned: Planned, *, now: int) -> Job:
    """A job that had ended, with a further attempt planned: it has not ended any more."""
    return replace(
        job,
        state=JobState.QUEUED if planned.due_at <= now else JobState.SCHEDULED,
        next_run_at=planned.due_at,
        last_modified_at=now,
        stop_requested_at=None,
        attempts=planned.attempt,
        projected_attempt=planned.attempt,
        projected_write=1,
        pending=(planned,),
        failure=None,
        last_end=None,
        schedule=None,
        fire_at=None,
        unsettled_since=now,
    )


def _ready(still_open: list[Execution]) -> Head | None:
    return next((h for h in map(head, still_open) if h is not None), None)
