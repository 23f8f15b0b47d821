"""Queues: pools, limits, and which tasks wait for what."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from easyq.v1 import farm_service_pb2, job_pb2
from easyq_gateway.pages.sources import Sources, if_there
from easyq_gateway.pages.views.overview import EVERY, counts_of, unknown_of
from easyq_gateway.pages.views.page import Page, Query

_POOLS = 20
_TASKS = 20
# No task's name is longer.
_MOST = 128


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolRow:
    """A pool, and why its work waits; None: it does not, or nobody could say."""

    pool: farm_service_pb2.PoolStatus
    waiting: job_pb2.Waiting | None


async def queues(sources: Sources, query: Query) -> Page:
    """`/admin/queues`: where the tasks that wait fit one page, the one that waits longest is the first."""
    after = query.get("pageToken", "")[:_MOST]
    status, tasks = await asyncio.gather(
        sources.farm.status(farm_service_pb2.GetStatusRequest()), sources.queues.page(after, _TASKS)
    )
    pools = await asyncio.gather(*(_pool_row(sources, pool) for pool in status.pools[:_POOLS]))
    rows = list(tasks.items)
    whole = not after and not tasks.after
    if whole:
        rows.sort(key=lambda row: (row.since_ms is None, row.since_ms or 0))
    return Page(
        template="queues",
        context={
            "unknown": unknown_of(status),
            "pools": pools,
            "matched": bool(status.pools),
            "limits": status.limits,
            "rows": rows,
            "whole": whole,
            "counts": counts_of(status.jobs),
            "tasks": tasks.count,
            "more": tasks.more,
            "token": after,
            "next": tasks.after,
        },
        live={"every": EVERY},
    )


async def _pool_row(sources: Sources, pool: farm_service_pb2.PoolStatus) -> PoolRow:
    told = await if_there(sources.explaining.pool(farm_service_pb2.ExplainPoolRequest(name=pool.name)))
    waiting = told.waiting if told is not None and told.HasField("waiting") else None
    return PoolRow(pool=pool, waiting=waiting)
