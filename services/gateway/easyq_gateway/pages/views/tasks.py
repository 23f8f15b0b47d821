"""Tasks: all of them, and one."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable

from easyq.v1 import execution_service_pb2, job_pb2, job_service_pb2, task_service_pb2
from easyq_gateway.pages.figures import SPANS, Series
from easyq_gateway.pages.sources import Sources, if_there
from easyq_gateway.pages.views.overview import counts_of
from easyq_gateway.pages.views.page import Page, Query
from easyq_gateway.pages.views.plots import dot_plot, outcome_plot, series_of, time_plot

_PAGE = 50
_JOBS = 20
# Newest executions whose run times are drawn, and whose exit codes are counted where no figures are kept.
_DRAWN = 100

_EXECUTION = job_pb2.Execution
_ENDED = (_EXECUTION.SUCCEEDED, _EXECUTION.FAILED, _EXECUTION.TIMED_OUT, _EXECUTION.STOPPED, _EXECUTION.LOST)


async def tasks(sources: Sources, query: Query) -> Page:
    """`/admin/tasks`."""
    token = query.get("pageToken", "")
    page = await sources.reading.list_tasks(task_service_pb2.ListTasksRequest(page_size=_PAGE, page_token=token))
    whole = await asyncio.gather(*(if_there(_task(sources, task.task_id)) for task in page.items))
    rows = [_row(known or task) for task, known in zip(page.items, whole, strict=True)]
    return Page(
        template="tasks",
        context={"rows": rows, "token": token, "next": page.next_page_token},
        live=None if token else {},
    )


async def task(sources: Sources, query: Query, task_id: str) -> Page:
    """`/admin/tasks/{taskId}`."""
    span = SPANS.get(query.get("span", ""), SPANS["hour"])
    now = sources.clock.now_ms()
    found, jobs, executions, explained, series = await asyncio.gather(
        _task(sources, task_id),
        sources.reading.list_jobs(job_service_pb2.ListJobsRequest(task_id=task_id, page_size=_JOBS)),
        sources.reading.list_executions(
            execution_service_pb2.ListExecutionsRequest(task_id=task_id, state=_ENDED, page_size=_DRAWN)
        ),
        if_there(sources.explaining.task(task_service_pb2.ExplainTaskRequest(task_id=task_id))),
        series_of(sources, task_id, span, now),
    )
    return Page(
        template="task",
        context={
            **_row(found),
            "jobs": jobs.items,
            "more": bool(jobs.next_page_token),
            "dots": dot_plot(executions.items),
            "codes": _codes(series, executions.items),
            "explained": explained,
            "span": span,
            "spans": SPANS,
            "series": series,
            "outcomes": outcome_plot(series, span),
            "times": time_plot(series, span),
        },
        live={"taskId": task_id, "every": "10"},
    )


async def _task(sources: Sources, task_id: str) -> job_pb2.Task:
    return await sources.reading.get_task(task_service_pb2.GetTaskRequest(task_id=task_id))


def _row(task: job_pb2.Task) -> dict[str, object]:
    counts = counts_of(task.states)
    return {
        "task": task,
        "counts": counts,
        "open": sum(counts[name] for name in ("SCHEDULED", "QUEUED", "RETRYING")),
        "gave_up": counts["FAILED"] + counts["TIMED_OUT"],
    }


def _codes(series: Series | None, executions: Iterable[job_pb2.Execution]) -> list[tuple[str, int]]:
    """Failures by exit code or reason, the most frequent first."""
    counts: Counter[str] = Counter()
    if series is not None and series.exit_codes:
        counts.update({f"exit {code}": number for code, number in series.exit_codes if code})
    else:
        for execution in executions:
            if execution.state not in {_EXECUTION.SUCCEEDED, _EXECUTION.STOPPED}:
                counts[_code(execution)] += 1
    return counts.most_common(8)


def _code(execution: job_pb2.Execution) -> str:
    if execution.error.reason == job_pb2.Failure.NONZERO_EXIT and execution.HasField("exit_code"):
        return f"exit {execution.exit_code}"
    if execution.HasField("error") and execution.error.reason in job_pb2.Failure.Reason.values():
        return job_pb2.Failure.Reason.Name(execution.error.reason).replace("_", " ").lower()
    return _EXECUTION.State.Name(execution.state).replace("_", " ").lower()
