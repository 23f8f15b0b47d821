"""Recurring jobs: changes that depend on what is open of the job, and all that has to follow a change.

Their executions are numbered by the job's record, under its compare-and-set. So who has read the record, then looked at
the executions, and then writes the record as it was read, knows that none came in between.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial

from easyq_chassis.errors import Unavailable
from easyq_store.domain.planning import make
from easyq_store.domain.records import Execution, Job, Planned, evolve
from easyq_store.domain.recurring import advance, numbered, unsettled
from easyq_store.ports import Steps
from easyq_store.usecases.context import Context
from easyq_store.usecases.insert import catch_up, insert_planned

# Changes by others that one change outlives, and executions that one settling makes one after the other.
_MOST_TRIES = 100
# Executions that are made before the record is rid of them, where a plan's steps are stored one by one.
_FEW = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class JobChanged:
    """A job after an attempt to change it. `done`: by this call; `settled`: nothing was missing before that."""

    job: Job | None
    done: bool
    settled: bool = False


async def change_by_open(
    steps: Steps, job_id: str, decide: Callable[[Job, bool], Job], *, inserted: Collection[str] = ()
) -> JobChanged:
    """Changes a job by what is open of it: `decide(job, busy)` may be called more than once.

    `inserted` are pending executions that are known to be inserted: they are open only as long as they are.
    """
    for _ in range(_MOST_TRIES):
        seen = await steps.get_job(job_id)
        if seen is None:
            return JobChanged(job=None, done=False)
        wanted = decide(seen, await _is_busy(steps, seen, inserted))
        if wanted is seen:
            return JobChanged(job=seen, done=False)
        changed = await _change_as_seen(steps, seen, wanted)
        if changed is not None:
            return JobChanged(job=changed, done=True, settled=seen.unsettled_since is None)
    raise Unavailable(f"too many others change job {job_id} at once", retry_after=1.0)


async def number(steps: Steps, job_id: str, planned: Planned, *, now: int) -> None:
    """Has the job give a number to an execution that was decided on, and makes it pending; a repeat is harmless."""
    for _ in range(_MOST_TRIES):
        seen = await steps.get_job(job_id)
        if seen is None or await steps.get_execution(planned.execution_id) is not None:
            return
        wanted = numbered(seen, [planned])
        if wanted is seen or await _change_as_seen(steps, seen, unsettled(wanted, now=now)) is not None:
            return
    raise Unavailable(f"too many others change job {job_id} at once", retry_after=1.0)


async def settle_at_once(steps: Steps, ctx: Context, changed: JobChanged, *, now: int) -> list[Execution] | None:
    """Inserts what a change asks for, where it asks for nothing else: most fires come to no more than that.

    Returns the executions; None where all is left to `settle_recurring`, as it is where the job isn't as it was written
    any more: as long as it is, no stop and no newer spec came before its executions, and who brings one later finds
    them. Saves most of a fire's statements and round trips.
    """
    job = changed.job
    if job is None or job.schedule is None or job.schedule.waiting or job.fire_at is None or not changed.settled:
        return None
    made = []
    for planned in job.pending:
        seq = await steps.next_seq() if planned.due_at <= now else 0
        made.append(ctx.traces.made(make(planned, job.job_id, job.task_id, now=now, seq=seq)))
        if not await steps.insert_execution(made[-1]):
            return None
    if job.schedule.unkept:
        await steps.keep_skips(job.job_id, job.schedule.unkept)
    settled = evolve(_without(job, job), unsettled_since=None)
    return None if await _change_as_seen(steps, job, settled) is None else made


async def settle_recurring(steps: Steps, ctx: Context, job: Job, *, now: int) -> tuple[Job, list[Execution]]:
    """Does all that a recurring job's record, and the ends of its executions, ask for.

    Returns the job, and its executions that have not ended.
    """
    for _ in range(_MOST_TRIES):
        wish = await _number_successors(steps, job, now=now)
        wish = await _shorten(steps, ctx, wish, now=now)
        for planned in wish.pending:
            await insert_planned(steps, ctx, planned, job.job_id, job.task_id, now=now)
        if wish.schedule is not None and wish.schedule.unkept:
            await steps.keep_skips(job.job_id, wish.schedule.unkept)
        wish = await _bring_wish(steps, ctx, wish, now=now)
        settled = await _settled(steps, ctx, wish, now=now)
        if settled is None:
            return job, []
        if not settled.pending:
            return settled, await steps.open_executions(job.job_id)
        job = settled
    raise Unavailable(f"job {job.job_id} goes on changing", retry_after=1.0)


async def _shorten(steps: Steps, ctx: Context, job: Job, *, now: int) -> Job:
    """Inserts what is pending, all but the last few; the job as it is then.

    A few at a time leave the record as soon as they are there. So who is cut off, by a crash or because the database is
    slow, has less before him the next time: else a job that fires meanwhile would never come to an end.
    """
    while not steps.atomic and len(job.pending) > _FEW:
        done = replace(job, pending=job.pending[:_FEW], schedule=None)
        for planned in done.pending:
            await insert_planned(steps, ctx, planned, job.job_id, job.task_id, now=now)
        shorter = await steps.change_job(job.job_id, partial(_without, done=done))
        if shorter is None:
            break
        job = shorter
    return job


async def _change_as_seen(steps: Steps, seen: Job, wanted: Job) -> Job | None:
    """Writes the job if it is as it was seen; None if it isn't."""
    done = False

    def as_seen(old: Job) -> Job:
        nonlocal done
        done = old.write_no == seen.write_no
        return wanted if done else old

    changed = await steps.change_job(seen.job_id, as_seen)
    return changed if done else None


async def _is_busy(steps: Steps, job: Job, inserted: Collection[str]) -> bool:
    if any(planned.execution_id not in inserted for planned in job.pending):
        return True
    for execution in await steps.open_series(job.job_id):
        if not execution.ended:
            return True
        # Its successor is open, or has ended and is looked at itself; or it is not inserted yet, and will be.
        if execution.next is not None and await steps.get_execution(execution.next.execution_id) is None:
            return True
    return False


async def _number_successors(steps: Steps, job: Job, *, now: int) -> Job:
    """Makes successors pending that ended executions have decided on and nobody has inserted; the job as it is then."""
    for execution in await steps.open_series(job.job_id):
        if execution.ended and execution.next is not None:
            await number(steps, job.job_id, execution.next, now=now)
    return await steps.get_job(job.job_id) or job


async def _bring_wish(steps: Steps, ctx: Context, wish: Job, *, now: int) -> Job:
    """Brings the job's wish to what is open of it. Returns the wish: what it says is done then."""
    still_open = await steps.open_executions(wish.job_id)
    # Read after those were there (see `catch_up`). Whatever else it says by now, somebody else brings.
    job = await steps.get_job(wish.job_id) or wish
    for execution in still_open:
        await catch_up(steps, ctx, job, execution, now=now)
    return wish


async def _settled(steps: Steps, ctx: Context, wish: Job, *, now: int) -> Job | None:
    """Takes off the job's record what is done, and does what it does by itself; with more pending, it isn't settled."""
    inserted = {planned.execution_id for planned in wish.pending}

    def decide(seen: Job, busy: bool) -> Job:
        rest = _without(seen, wish)
        moved = advance(rest, ctx.policy_of(rest.spec), busy=busy, now=now)
        if not moved.pending and moved.unsettled_since is not None and _same_wish(seen, wish):
            moved = replace(moved, unsettled_since=None)
        return seen if moved == seen else moved

    return (await change_by_open(steps, wish.job_id, decide, inserted=inserted)).job


def _without(seen: Job, done: Job) -> Job:
    """The job without what was pending, or not kept, and is."""
    inserted = {planned.execution_id for planned in done.pending}
    pending = tuple(planned for planned in seen.pending if planned.execution_id not in inserted)
    schedule = seen.schedule
    if schedule is not None and done.schedule is not None and schedule.unkept:
        kept = set(done.schedule.unkept)
        schedule = replace(schedule, unkept=tuple(skip for skip in schedule.unkept if skip not in kept))
    return replace(seen, pending=pending, schedule=schedule)


def _same_wish(seen: Job, done: Job) -> bool:
    """Whether all that is asked for by now was asked for then."""
    rest = _without(seen, done)
    if rest.pending or (rest.schedule is not None and rest.schedule.unkept):
        return False
    return _wish(seen) == _wish(done)


def _wish(job: Job) -> tuple[object, ...]:
    return job.revision, job.stop_requested_at, job.schedule.waiting if job.schedule is not None else None
