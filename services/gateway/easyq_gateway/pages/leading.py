"""Where browsers are led that open an address of the API: to the page of the same thing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias
from urllib.parse import urlencode

from aiohttp import web

from easyq.v1 import execution_service_pb2, job_service_pb2
from easyq_gateway.http_rules import Variable
from easyq_gateway.pages.answers import see_other
from easyq_gateway.pages.rendering import path, query
from easyq_gateway.pages.sources import Sources
from easyq_gateway.places import OUTPUT, Place
from easyq_gateway.rest.requests import target_of
from easyq_gateway.rest.routes import Handler

Where: TypeAlias = Mapping[str, str]
#: Says where to go. Raises `NotFound` for what is not there.
Way: TypeAlias = Callable[[Sources, Where], Awaitable[str]]

_TASK, _JOB, _HOST = Variable("task_id"), Variable("job_id"), Variable("agent_id")
# Lists whose page has the same name, and takes the same filters.
_LISTS = frozenset({("tasks",), ("jobs",), ("errors",), ("search",)})


async def _job(sources: Sources, where: Where) -> str:
    request = job_service_pb2.GetJobRequest(task_id=where.get("task_id", ""), job_id=where["job_id"])
    return path("admin", "jobs", (await sources.reading.get_job(request)).job_id)


async def _execution(sources: Sources, where: Where) -> str:
    found = await sources.reading.get_execution(execution_service_pb2.GetExecutionRequest(**where))
    return path("admin", "jobs", found.job_id) + query(execution=found.execution_id)


async def _output(sources: Sources, where: Where) -> str:
    execution = await sources.logs.find(*(where.get(name, "") for name in ("task_id", "job_id", "execution_id")))
    chosen = query(execution=execution.execution_id) if "execution_id" in where else ""
    return f"{path('admin', 'jobs', execution.job_id)}{chosen}#output"


async def _task(_: Sources, where: Where) -> str:
    return path("admin", "tasks", where["task_id"])


async def _jobs_of_task(_: Sources, where: Where) -> str:
    return f"/admin/jobs?{urlencode({'taskId': where['task_id']})}"


async def _hosts(_: Sources, where: Where) -> str:
    return path("admin", "hosts", *where.values())


_WAYS: Mapping[Place, Way] = {
    ("tasks", _TASK): _task,
    ("tasks", _TASK, "jobs"): _jobs_of_task,
    ("agents",): _hosts,
    ("agents", _HOST): _hosts,
    **{place: _execution if Variable("execution_id") in place else _job for place in OUTPUT},
    **{(*place, "stream"): _output for place in OUTPUT},
}


def leading(sources: Sources, place: Place) -> Handler | None:
    """Returns what leads browsers from a GET of this place; None where it has no page."""
    way = _WAYS.get(place)
    if way is not None:

        async def lead(_: web.BaseRequest, where: dict[str, str]) -> web.StreamResponse:
            return see_other(await way(sources, where))

        return lead
    if place in _LISTS:

        async def keep(request: web.BaseRequest, _: dict[str, str]) -> web.StreamResponse:
            asked = target_of(request).query
            return see_other(path("admin", *map(str, place)) + (f"?{asked}" if asked else ""))

        return keep
    return None
