"""Hosts: all of them, and one with what runs there."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence

from easyq.v1 import execution_service_pb2, farm_service_pb2, job_pb2
from easyq_gateway.pages.sources import Sources, if_there
from easyq_gateway.pages.views.overview import EVERY
from easyq_gateway.pages.views.page import Page, Query

_AGENT = farm_service_pb2.Agent
_BREAKER = farm_service_pb2.Breaker
_HELD = (job_pb2.Execution.ASSIGNED, job_pb2.Execution.RUNNING)
# The newest executions that are looked at: of all hosts together, and of one.
_MOST_HELD = 200
_MOST_OF_HOST = 100
_RANK = {_AGENT.LIVE: 0, _AGENT.PARKED: 1, _AGENT.DEAD: 2}


async def hosts(sources: Sources, _query: Query) -> Page:
    """`/admin/hosts`."""
    agents, breakers, held = await asyncio.gather(
        sources.farm.list_agents(farm_service_pb2.ListAgentsRequest()),
        if_there(sources.matchings.list_breakers(farm_service_pb2.ListBreakersRequest())),
        if_there(_held(sources, _MOST_HELD)),
    )
    found = breakers.items if breakers else ()
    return Page(
        template="hosts",
        context={
            "agents": sorted(agents.items, key=lambda agent: (_RANK.get(agent.state, 3), agent.agent_id)),
            "tripped": {one.subject: one for one in found if one.kind == _BREAKER.HOST},
            "images": [one for one in found if one.kind == _BREAKER.IMAGE],
            "held": held or {},
        },
        live={"every": EVERY},
    )


async def host(sources: Sources, _query: Query, agent_id: str) -> Page:
    """`/admin/hosts/{agentId}`."""
    agent, breakers, held = await asyncio.gather(
        sources.farm.get_agent(farm_service_pb2.GetAgentRequest(agent_id=agent_id)),
        if_there(sources.matchings.list_breakers(farm_service_pb2.ListBreakersRequest())),
        if_there(_held(sources, _MOST_OF_HOST, agent_id)),
    )
    tripped = [
        one for one in (breakers.items if breakers else ()) if (one.kind, one.subject) == (_BREAKER.HOST, agent_id)
    ]
    return Page(
        template="host",
        context={"agent": agent, "breaker": next(iter(tripped), None), "held": (held or {}).get(agent_id, ())},
        live={"every": EVERY},
    )


async def _held(sources: Sources, most: int, agent_id: str = "") -> dict[str, Sequence[job_pb2.Execution]]:
    """What each host, or one, holds, the newest first."""
    request = execution_service_pb2.ListExecutionsRequest(state=_HELD, host=agent_id, page_size=most)
    by_host: defaultdict[str, list[job_pb2.Execution]] = defaultdict(list)
    for execution in (await sources.reading.list_executions(request)).items:
        by_host[execution.host].append(execution)
    return dict(by_host)
