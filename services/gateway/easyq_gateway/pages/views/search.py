"""Search over everything that has a name."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from easyq.v1 import farm_service_pb2
from easyq_gateway.pages.rendering import path
from easyq_gateway.pages.rendering import query as query_of
from easyq_gateway.pages.sources import Sources, if_there
from easyq_gateway.pages.views.page import Page, Query

_MOST = 256
_MOST_HOSTS = 10
_KINDS = {"task": "Tasks", "job": "Jobs", "execution": "Executions", "host": "Hosts", "pool": "Pools"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Hit:
    """Something found. `where` tells what it belongs to."""

    kind: str
    name: str
    url: str
    state: str = ""
    where: str = ""


async def search(sources: Sources, query: Query) -> Page:
    """`/admin/search?query=`."""
    wanted = query.get("query", "").strip()[:_MOST]
    groups: dict[str, list[Hit]] = {}
    if wanted:
        found, farm = await asyncio.gather(
            sources.reading.search(farm_service_pb2.SearchRequest(query=wanted)), _of_farm(sources, wanted)
        )
        for hit in [*map(_hit, found.items), *farm]:
            groups.setdefault(_KINDS.get(hit.kind, hit.kind), []).append(hit)
    return Page(template="search", context={"wanted": wanted, "groups": groups}, live=None)


async def _of_farm(sources: Sources, wanted: str) -> list[Hit]:
    """Hosts and pools, of which there are few."""
    agents, pools = await asyncio.gather(
        if_there(sources.farm.list_agents(farm_service_pb2.ListAgentsRequest())),
        if_there(sources.matchings.list_pools(farm_service_pb2.ListPoolsRequest())),
    )
    needle = wanted.lower()
    hits = [
        Hit(
            kind="host",
            name=agent.agent_id,
            url=path("admin", "hosts", agent.agent_id),
            state=farm_service_pb2.Agent.State.Name(agent.state),
            where=agent.hostname,
        )
        for agent in (agents.items if agents else ())
        if needle in agent.agent_id.lower() or needle in agent.hostname.lower()
    ]
    hits += [
        Hit(kind="pool", name=pool.name, url="/admin/queues#pools", where=pool.pattern)
        for pool in (pools.items if pools else ())
        if needle in pool.name.lower()
    ]
    return hits[:_MOST_HOSTS]


def _hit(hit: farm_service_pb2.SearchHit) -> Hit:
    if hit.execution_id:
        url = path("admin", "jobs", hit.job_id) + query_of(execution=hit.execution_id)
        return Hit(
            kind=hit.kind, name=hit.execution_id, url=url, state=hit.state, where=f"{hit.task_id} / {hit.job_id}"
        )
    if hit.job_id:
        url = path("admin", "jobs", hit.job_id)
        return Hit(kind=hit.kind, name=hit.job_id, url=url, state=hit.state, where=hit.task_id)
    return Hit(kind=hit.kind, name=hit.task_id, url=path("admin", "tasks", hit.task_id))
