"""Schedules: which jobs recur, and when they fire next, on one line of time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from easyq.v1 import job_pb2, job_service_pb2
from easyq_gateway.convert import ms_of
from easyq_gateway.domain import human, plots
from easyq_gateway.domain.plots import Box
from easyq_gateway.pages.figures import DAY, HOUR
from easyq_gateway.pages.sources import Sources, if_there
from easyq_gateway.pages.views import filters
from easyq_gateway.pages.views.page import Page, Query

_JOB = job_pb2.Job
_PAGE = 20
_FIRES = 25
WINDOWS = {"hour": ("next hour", HOUR), "day": ("next 24 hours", DAY), "week": ("next 7 days", 7 * DAY)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Fire:
    """One coming fire on the line."""

    box: Box
    title: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One recurring job. `more`: it fires on beyond those that are drawn, within the window."""

    job: _JOB
    fires: Sequence[Fire]
    next_ms: int | None
    more: bool
    known: bool


async def schedules(sources: Sources, query: Query) -> Page:
    """`/admin/schedules`."""
    name = query.get("window", "")
    name = name if name in WINDOWS else "day"
    words, length = WINDOWS[name]
    request = job_service_pb2.ListJobsRequest(
        state=filters.states_of(query, "state", _JOB.State) or [_JOB.ACTIVE, _JOB.PAUSED],
        task_id=query.get("taskId", ""),
        page_size=_PAGE,
        page_token=query.get("pageToken", ""),
    )
    page = await sources.reading.list_jobs(request)
    now = sources.clock.now_ms()
    rows = await asyncio.gather(*(_row(sources, job, now, length) for job in page.items))
    return Page(
        template="schedules",
        context={
            "rows": sorted(rows, key=lambda row: (row.next_ms is None, row.next_ms or 0)),
            "next": page.next_page_token,
            "token": request.page_token,
            "query_task": request.task_id,
            "query_state": query.get("state", ""),
            "window": name,
            "windows": WINDOWS,
            "words": words,
            "marks": [human.clock(at, length) for at in (now, now + length // 2, now + length)],
            "filtered": bool(query.get("taskId") or query.get("state")),
        },
        live=None if request.page_token else {"every": "20"},
    )


async def _row(sources: Sources, job: job_pb2.Job, now: int, length: int) -> Row:
    told = None
    if job.state in {_JOB.ACTIVE, _JOB.PAUSED}:
        wanted = job_service_pb2.GetScheduleRequest(job_id=job.job_id, next=_FIRES)
        told = await if_there(sources.recurring.get_schedule(wanted))
    times = [one.ToMilliseconds() for one in told.next_fires] if told is not None else []
    paused = job.state == _JOB.PAUSED
    shown = [at for at in times if now <= at <= now + length]
    fires = [
        Fire(box=box, title=human.exact(at))
        for at in shown
        if (box := plots.span(at, at, now, now + length)) is not None
    ]
    next_ms = None if paused else times[0] if times else ms_of(job, "next_run_at")
    more = len(times) == _FIRES and times[-1] < now + length
    return Row(job=job, fires=fires, next_ms=next_ms, more=more, known=told is not None)
