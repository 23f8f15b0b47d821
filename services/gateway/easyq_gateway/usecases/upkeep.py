"""What operators do to hosts."""

from __future__ import annotations

from collections.abc import Sequence

from easyq.v1 import farm_service_pb2
from easyq_gateway.domain.problems import Problem
from easyq_gateway.ports import AgentRegister, Dispatchers
from easyq_gateway.usecases.checking import Checker
from easyq_internal.dispatcher.v1 import dispatcher_pb2
from easyq_internal.store.v1 import records_pb2


class Upkeep:
    """Cordon, uncordon, drain, declare dead. Unknown agents raise `NotFound`; repeats are harmless.

    The store's word is what holds; dispatchers are told so that an agent need not wait for its next beat.
    """

    def __init__(self, *, checker: Checker, agents: AgentRegister, dispatchers: Dispatchers) -> None:
        self._checker = checker
        self._agents = agents
        self._dispatchers = dispatchers

    async def cordon(
        self, request: farm_service_pb2.CordonAgentRequest, found: Sequence[Problem] = ()
    ) -> farm_service_pb2.CordonAgentResponse:
        """CordonAgent. One that drains takes nothing new already, and goes on draining."""
        self._checker.require(request, found)
        for agent in await self._agents.list_agents():
            if agent.agent_id == request.agent_id and agent.HasField("drained_at"):
                return farm_service_pb2.CordonAgentResponse(agent=agent)
        agent = await self._set(request.agent_id, records_pb2.Upkeep(cordoned=True))
        return farm_service_pb2.CordonAgentResponse(agent=agent)

    async def uncordon(
        self, request: farm_service_pb2.UncordonAgentRequest, found: Sequence[Problem] = ()
    ) -> farm_service_pb2.UncordonAgentResponse:
        """UncordonAgent."""
        self._checker.require(request, found)
        agent = await self._set(request.agent_id, records_pb2.Upkeep())
        return farm_service_pb2.UncordonAgentResponse(agent=agent)

    async def drain(
        self, request: farm_service_pb2.DrainAgentRequest, found: Sequence[Problem] = ()
    ) -> farm_service_pb2.DrainAgentResponse:
        """DrainAgent."""
        self._checker.require(request, found)
        upkeep = records_pb2.Upkeep(cordoned=True, draining=True)
        if request.HasField("deadline"):
            upkeep.deadline_in.CopyFrom(request.deadline)
        return farm_service_pb2.DrainAgentResponse(agent=await self._set(request.agent_id, upkeep))

    async def declare_dead(
        self, request: farm_service_pb2.DeclareAgentDeadRequest, found: Sequence[Problem] = ()
    ) -> farm_service_pb2.DeclareAgentDeadResponse:
        """DeclareAgentDead."""
        self._checker.require(request, found)
        answer = await self._agents.declare_dead(request.agent_id)
        for head in answer.ready:
            self._dispatchers.tell_ready(head)
        return farm_service_pb2.DeclareAgentDeadResponse(agent=answer.agent, lost=answer.lost)

    async def _set(self, agent_id: str, upkeep: records_pb2.Upkeep) -> farm_service_pb2.Agent:
        answer = await self._agents.set_upkeep(agent_id, upkeep)
        self._dispatchers.tell_upkeep(dispatcher_pb2.UpkeepNews(agent_id=agent_id, upkeep=answer.upkeep))
        return answer.agent
