"""Jobs: all of them, and one with its executions and its output."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from easyq.v1 import execution_service_pb2, job_pb2, job_service_pb2, notification_service_pb2, spec_pb2
from easyq_chassis.errors import NotFound
from easyq_gateway.convert import is_recurring, ms_of
from easyq_gateway.domain import human, plots
from easyq_gateway.domain.plots import Box
from easyq_gateway.pages.sources import Sources, if_there
from easyq_gateway.pages.views import filters
from easyq_gateway.pages.views.overview import EVERY
from easyq_gateway.pages.views.page import Page, Query
from easyq_gateway.usecases.excerpts import Excerpt
from easyq_gateway.usecases.watching import ENDED

_JOB = job_pb2.Job
_EXECUTION = job_pb2.Execution
_PAGE = 50
# Lines of output that a page comes with; scripts then follow what is written.
LINES = 1_000
_FIRES = 5
_DELIVERIES = 10
GROUPS = {
    "open": (_JOB.SCHEDULED, _JOB.QUEUED, _JOB.RUNNING, _JOB.RETRYING, _JOB.ACTIVE, _JOB.PAUSED),
    "waiting": (_JOB.SCHEDULED, _JOB.QUEUED, _JOB.RETRYING),
    "ended": tuple(sorted(ENDED)),
}
#: How a newest attempt may have ended, for the filter.
OUTCOMES = ("SUCCEEDED", "FAILED", "TIMED_OUT", "STOPPED", "LOST", "EXPIRED")
_FILTERS = ("taskId", "state", "outcome", "image", "label", "metadata", "createdAfter", "createdBefore")
_FIRING = (_JOB.ACTIVE, _JOB.PAUSED)


async def jobs(sources: Sources, query: Query) -> Page:
    """`/admin/jobs`."""
    oldest = query.get("order") == "oldest"
    request = job_service_pb2.ListJobsRequest(
        task_id=query.get("taskId", ""),
        state=filters.states_of(query, "state", _JOB.State, GROUPS),
        outcome=filters.states_of(query, "outcome", _EXECUTION.State),
        image=query.get("image", ""),
        label=filters.labels_of(query),
        metadata=filters.labels_of(query, "metadata"),
        order=job_pb2.ListOrder.OLDEST if oldest else job_pb2.ListOrder.NEWEST,
        page_size=_PAGE,
        page_token=query.get("pageToken", ""),
    )
    filters.set_time(request, "created_after", query, "createdAfter")
    filters.set_time(request, "created_before", query, "createdBefore")
    page = await sources.reading.list_jobs(request)
    return Page(
        template="jobs",
        context={
            "jobs": page.items,
            "next": page.next_page_token,
            "asked": query,
            "groups": GROUPS,
            "outcomes": OUTCOMES,
            "states": [name for name in _JOB.State.keys() if name != "UNSPECIFIED"],  # noqa: SIM118 - no mapping
            "filtered": any(query.get(name) for name in _FILTERS),
            "kept": urlencode([(name, query[name]) for name in (*_FILTERS, "order") if query.get(name)]),
        },
        live=None if request.page_token else {"taskId": request.task_id} if request.task_id else {},
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """An execution on the strip: how long it waited, and how long it ran."""

    execution: job_pb2.Execution
    waited: Box | None
    ran: Box | None
    waited_ms: int | None
    ran_ms: int | None
    title: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Strip:
    """Executions one below the other, the oldest first, on one axis of time."""

    bars: Sequence[Bar]
    marks: Sequence[str]
    length: str


async def job(sources: Sources, query: Query, job_id: str) -> Page:
    """`/admin/jobs/{jobId}`: `?execution=` chooses whose output is shown, `?find=` searches it."""
    found = await sources.reading.get_job(job_service_pb2.GetJobRequest(job_id=job_id))
    chosen = await _chosen(sources, found, query.get("execution", ""))
    wanted = query.get("find", "").strip()[:200]
    told = notification_service_pb2.ListDeliveriesRequest(
        job_id=job_id, page_size=_DELIVERIES, page_token=query.get("deliveries", "")
    )
    explained, fires, excerpt, deliveries = await asyncio.gather(
        if_there(_explained(sources, found)),
        if_there(_fires(sources, found)),
        _excerpt(sources, chosen, wanted),
        if_there(sources.notifications.list_deliveries(told)),
    )
    now = sources.clock.now_ms()
    return Page(
        template="job",
        context={
            "job": found,
            "recurs": is_recurring(found.spec),
            "ended": found.state in ENDED,
            "can": _allowed(found),
            "strip": strip(found.executions, now),
            "chosen": chosen,
            "by_hand": bool(query.get("execution")),
            "newest": found.executions[-1] if found.executions else None,
            "reasons": _reasons(found, explained),
            "live_too": "#facts",
            "fires": fires or (),
            "excerpt": excerpt,
            "deliveries": deliveries,
            "older": told.page_token,
            "tells": tells(found.spec),
            "find": wanted,
            "lines": LINES,
        },
        live={"jobId": job_id, **({"every": EVERY} if _on_its_way(deliveries) else {})},
    )


def tells(spec: spec_pb2.JobSpec) -> bool:
    """Whether somebody is told of the job's end."""
    return any(one.ListFields() for one in (spec.webhooks, spec.notify))


def _on_its_way(deliveries: notification_service_pb2.ListDeliveriesResponse | None) -> bool:
    """Whether one is to be sent still: no feed tells of them."""
    items = deliveries.items if deliveries is not None else ()
    return any(one.state == notification_service_pb2.Delivery.PENDING for one in items)


async def _chosen(sources: Sources, found: job_pb2.Job, execution_id: str) -> job_pb2.Execution | None:
    """The execution that is asked for, else the newest that has begun to have output, else the newest."""
    for execution in found.executions:
        if execution.execution_id == execution_id:
            return execution
    if execution_id:
        wanted = execution_service_pb2.GetExecutionRequest(execution_id=execution_id)
        execution = await sources.reading.get_execution(wanted)
        if execution.job_id != found.job_id:
            raise NotFound("the job has no such execution", reason="EXECUTION_NOT_FOUND")
        return execution
    return found.executions[-1] if found.executions else None


async def _explained(sources: Sources, found: job_pb2.Job) -> job_service_pb2.ExplainJobResponse | None:
    if found.state in ENDED:
        return None
    return await sources.explaining.job(job_service_pb2.ExplainJobRequest(job_id=found.job_id))


def _reasons(
    found: job_pb2.Job, explained: job_service_pb2.ExplainJobResponse | None
) -> list[job_service_pb2.ExecutionExplanation]:
    """Why its executions wait, but for what the job itself says already."""
    executions = explained.executions if explained is not None else ()
    return [one for one in executions if one.HasField("waiting") and one.waiting.message != found.waiting.message]


async def _fires(sources: Sources, found: job_pb2.Job) -> Sequence[int]:
    if found.state not in _FIRING:
        return ()
    answer = await sources.recurring.get_schedule(job_service_pb2.GetScheduleRequest(job_id=found.job_id, next=_FIRES))
    return [one.ToMilliseconds() for one in answer.next_fires]


async def _excerpt(sources: Sources, chosen: job_pb2.Execution | None, wanted: str) -> Excerpt | None:
    """None where there is none, or it can't be read now."""
    if chosen is None:
        return None
    if wanted:
        return await if_there(sources.excerpts.search(chosen.execution_id, wanted))
    return await if_there(sources.excerpts.last(chosen.execution_id, LINES))


def _allowed(found: job_pb2.Job) -> frozenset[str]:
    """What can be done to a job in its state."""
    if found.state in ENDED:
        return frozenset({"retry"} if not is_recurring(found.spec) else ())
    can = {"stop"} if not found.HasField("stop_requested_at") else set()
    if found.state == _JOB.ACTIVE:
        can |= {"pause", "trigger"}
    elif found.state == _JOB.PAUSED:
        can |= {"resume", "trigger"}
    elif found.state in {_JOB.SCHEDULED, _JOB.RETRYING}:
        can |= {"trigger"}
    return frozenset(can)


def strip(executions: Sequence[job_pb2.Execution], now_ms: int) -> Strip | None:
    """Returns the executions on an axis from the first one's beginning until the last one's end, or now."""
    stretches = [_stretch(execution, now_ms) for execution in executions]
    known = [one for one in stretches if one.begin is not None]
    if not known:
        return None
    first = min(one.begin for one in known if one.begin is not None)
    last = max(first + 1, *(one.end or first for one in known))
    bars = [_bar(one, first, last) for one in stretches]
    length = last - first
    marks = [human.clock(at, length) for at in (first, (first + last) // 2, last)]
    return Strip(bars=bars, marks=marks, length=human.duration(length))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Stretch:
    execution: job_pb2.Execution
    begin: int | None
    started: int | None
    end: int | None


def _stretch(execution: job_pb2.Execution, now_ms: int) -> _Stretch:
    begin = ms_of(execution, "queued_at") or ms_of(execution, "due_at")
    started = ms_of(execution, "started_at")
    if begin is not None and begin > now_ms:
        # It is due only later: nothing of it can be seen yet.
        begin = None
    begin = started if begin is None else begin
    open_still = execution.state in {
        _EXECUTION.SCHEDULED,
        _EXECUTION.QUEUED,
        _EXECUTION.ASSIGNED,
        _EXECUTION.RUNNING,
    }
    end = now_ms if open_still else ms_of(execution, "finished_at")
    if begin is not None and end is not None and end < begin:
        # Times of a host's clock, which may differ from the store's.
        end = begin
    return _Stretch(execution=execution, begin=begin, started=started, end=end if begin is not None else None)


def _bar(one: _Stretch, first: int, last: int) -> Bar:
    waited = ran = None
    waited_ms = ran_ms = None
    if one.begin is not None:
        until = one.started if one.started is not None else one.end
        if until is not None:
            waited_ms = max(0, until - one.begin)
            waited = plots.span(one.begin, max(until, one.begin), first, last) if waited_ms else None
    if one.started is not None and one.end is not None:
        ran_ms = max(0, one.end - one.started)
        ran = plots.span(one.started, max(one.end, one.started), first, last)
    words = [f"attempt {one.execution.attempt}"]
    words += [f"waited {human.duration(waited_ms)}"] if waited_ms is not None else []
    words += [f"ran {human.duration(ran_ms)}"] if ran_ms is not None else []
    return Bar(
        execution=one.execution, waited=waited, ran=ran, waited_ms=waited_ms, ran_ms=ran_ms, title=", ".join(words)
    )
