"""Calls for many: stop, retry, delete all jobs that a selection means, page by page.

A call looks at each job once, newest first, by the place in its cursor; the cursor also holds when the call began, so
that jobs that come, or end, while it goes on are none of its business.
"""

import asyncio
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from time import monotonic

from easyq_chassis.errors import EasyQError
from easyq_store.domain import selection as which
from easyq_store.domain import tokens
from easyq_store.domain.records import Execution, Head, Job
from easyq_store.domain.selection import Selection
from easyq_store.domain.states import JobState
from easyq_store.ports import JobFilter, Place
from easyq_store.usecases import delete, retry, stop
from easyq_store.usecases.context import Context

# Plans that go together, so that others come in between.
_AT_ONCE = 20
# Seconds of a walk over jobs after which others come in between: one match may take a millisecond, or a thousandth.
_TURN = 0.003
# Names the executions of retries, so that a page that is asked for again makes no second ones.
_RETRIES = uuid.UUID("0f0d0d52-5a5c-4b5e-8a35-90f30c1c2d11")


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """One page of a call."""

    selection: Selection
    cursor: str = ""
    limit: int = 1_000
    dry_run: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """What became of a page. `done`: final; `held`: what must be told to those who hold it; no cursor: the last one."""

    matched: int = 0
    done: int = 0
    stopping: int = 0
    held: tuple[Execution, ...] = ()
    ready: tuple[Head, ...] = ()
    cursor: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Page:
    jobs: Sequence[Job]
    began: int
    cursor: str


async def stop_many(ctx: Context, asked: Asked) -> Done:
    """Stops those that have not ended. Errors: INVALID_ARGUMENT (the cursor, the pattern)."""
    page = await _page(ctx, "stop", asked, which.NOT_ENDED, lambda job, _: which.may_stop(job))
    told = Done(matched=len(page.jobs), cursor=page.cursor)
    if asked.dry_run:
        return told
    stopped: list[stop.Stopped] = []
    for some in _parts(page.jobs):
        results = await ctx.store.run_all([stop.stopping(ctx, job.task_id, job.job_id) for job in some])
        # An error: it ended at the same moment, or it is gone.
        stopped += [result for result in results if isinstance(result, stop.Stopped)]
    ctx.news.tell(*(each.job.job_id for each in stopped), *(e.execution_id for each in stopped for e in each.held))
    return replace(
        told,
        done=sum(not each.held for each in stopped),
        stopping=sum(bool(each.held) for each in stopped),
        held=tuple(execution for each in stopped for execution in each.held),
    )


async def retry_many(ctx: Context, asked: Asked) -> Done:
    """Retries those that had given up when the call began, or, with states given, had ended so. Errors: as above."""

    def may(job: Job, began: int) -> bool:
        return which.had_ended(job, began) and job.schedule is None

    if _counted(asked):
        return Done(matched=await _count(ctx, asked.selection))
    page = await _page(ctx, "retry", asked, which.GAVE_UP, may)
    told = Done(matched=len(page.jobs), cursor=page.cursor)
    if asked.dry_run:
        return told
    retried: list[retry.Retried] = []
    for some in _parts(page.jobs):
        plans = [retry.retrying(ctx, job.task_id, job.job_id, _retry_id(job, page.began)) for job in some]
        results = await ctx.store.run_all(plans)
        retried += [result for result in results if isinstance(result, retry.Retried)]
    ctx.news.tell(*(each.job.job_id for each in retried))
    return replace(told, done=len(retried), ready=tuple(each.ready for each in retried if each.ready is not None))


async def delete_many(ctx: Context, asked: Asked) -> Done:
    """Deletes those that had given up when the call began, or, with states given, had ended so. Errors: as above."""
    if _counted(asked):
        return Done(matched=await _count(ctx, asked.selection))
    page = await _page(ctx, "delete", asked, which.GAVE_UP, which.had_ended)
    told = Done(matched=len(page.jobs), cursor=page.cursor)
    if asked.dry_run:
        return told
    plans = [delete.deleting(ctx, job.job_id, force=False, ended_before=page.began + 1) for job in page.jobs]
    results: list[delete.Deleted | EasyQError] = await delete.delete_all(ctx, plans)
    return replace(told, done=sum(delete.is_gone(result) for result in results))


def _counted(asked: Asked) -> bool:
    """Whether the backend can count them: what gave up, none of which recurs, by what it knows of conditions itself."""
    selection = asked.selection
    plain = not selection.task_pattern and not asked.cursor
    return asked.dry_run and plain and set(selection.states) <= set(which.GAVE_UP)


async def _count(ctx: Context, selection: Selection) -> int:
    return await ctx.store.reads.count_listed(_filter(selection, which.GAVE_UP, ctx.clock.now()))


def _filter(selection: Selection, usual: tuple[JobState, ...], began: int) -> JobFilter:
    return JobFilter(
        task_id=selection.task_id,
        states=selection.states or usual,
        labels=selection.labels,
        reasons=selection.reasons,
        created_from=selection.created_from,
        created_before=which.bound(selection, began),
        kept_only=True,
    )


async def _page(
    ctx: Context, kind: str, asked: Asked, usual: tuple[JobState, ...], may: Callable[[Job, int], bool]
) -> _Page:
    selection = asked.selection
    filters = (kind, selection)
    place = tokens.decode(asked.cursor, filters, (int, int, str))
    began = int(place[0]) if place else ctx.clock.now()
    after = Place(created_at=int(place[1]), id=str(place[2])) if place else None
    matches = cache(which.task_test(selection.task_pattern))
    where = _filter(selection, usual, began)
    found = await ctx.store.reads.list_jobs(where, after, asked.limit + 1)
    looked_at = found[: asked.limit]
    meant: list[Job] = []
    turn_ends = monotonic() + _TURN
    for job in looked_at:
        if may(job, began) and matches(job.task_id):
            meant.append(job)
        if monotonic() >= turn_ends:
            await asyncio.sleep(0)
            turn_ends = monotonic() + _TURN
    cursor = ""
    if len(found) > asked.limit:
        cursor = tokens.encode(filters, [began, looked_at[-1].created_at, looked_at[-1].job_id])
    return _Page(jobs=meant, began=began, cursor=cursor)


def _parts(jobs: Sequence[Job]) -> list[Sequence[Job]]:
    return [jobs[first : first + _AT_ONCE] for first in range(0, len(jobs), _AT_ONCE)]


def _retry_id(job: Job, began: int) -> str:
    return str(uuid.uuid5(_RETRIES, f"{job.job_id}:{job.attempts}:{began}"))
