"""Queues: pools, limits, and which tasks wait for what."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from easyq.v1 import farm_service_pb2, job_pb2, job_service_pb2, task_service_pb2
from easyq_gateway.pages.sources import Sources, if_there
from easyq_gateway.pages.views.overview import EVERY, counts_of
from easyq_gateway.pages.views.page import Page, Query

_JOB = job_pb2.Job
_POOLS = 20
_TASKS = 20
# Jobs at the head of the farm's queue that are looked at for tasks that wait.
_LOOKED_AT = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolRow:
    """A pool, and why its work waits; None: it does not, or nobody could say."""

    pool: farm_service_pb2.PoolStatus
    waiting: job_pb2.Waiting | None


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskRow:
    """A task that waits, its oldest job, and what is in its way."""

    task_id: str
    oldest: _JOB
    explained: task_service_pb2.ExplainTaskResponse | None


async def queues(sources: Sources, _query: Query) -> Page:
    """`/admin/queues`."""
    request = job_service_pb2.ListJobsRequest(state=[_JOB.QUEUED], order=job_pb2.ListOrder.OLDEST, page_size=_LOOKED_AT)
    status, waiting = await asyncio.gather(
        sources.farm.status(farm_service_pb2.GetStatusRequest()), sources.reading.list_jobs(request)
    )
    oldest: dict[str, _JOB] = {}
    for job in waiting.items:
        oldest.setdefault(job.task_id, job)
    shown = list(oldest)[:_TASKS]
    explained, pools = await asyncio.gather(
        asyncio.gather(*(if_there(_explain_task(sources, task_id)) for task_id in shown)),
        asyncio.gather(*(_pool_row(sources, pool) for pool in status.pools[:_POOLS])),
    )
    rows = [
        TaskRow(task_id=task_id, oldest=oldest[task_id], explained=known)
        for task_id, known in zip(shown, explained, strict=True)
    ]
    return Page(
        template="queues",
        context={
            "pools": pools,
            "matched": bool(status.pools),
            "limits": status.limits,
            "rows": rows,
            "counts": counts_of(status.jobs),
            "more": bool(waiting.next_page_token) or len(oldest) > len(shown),
            "looked_at": len(waiting.items),
        },
        live={"every": EVERY},
    )


async def _explain_task(sources: Sources, task_id: str) -> task_service_pb2.ExplainTaskResponse:
    return await sources.explaining.task(task_service_pb2.ExplainTaskRequest(task_id=task_id))


async def _pool_row(sources: Sources, pool: farm_service_pb2.PoolStatus) -> PoolRow:
    told = await if_there(sources.explaining.pool(farm_service_pb2.ExplainPoolRequest(name=pool.name)))
    waiting = told.waiting if told is not None and told.HasField("waiting") else None
    return PoolRow(pool=pool, waiting=waiting)
