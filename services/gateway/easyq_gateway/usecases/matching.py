"""What matches jobs with hosts: pools, limits, breakers."""

from __future__ import annotations

from collections.abc import Sequence

from easyq.v1 import farm_service_pb2
from easyq_gateway.domain.problems import Problem
from easyq_gateway.ports import Dispatchers, none_answers
from easyq_gateway.usecases.checking import Checker
from easyq_internal.dispatcher.v1 import dispatcher_pb2


class Matchings:
    """ListPools, ListLimits, ListBreakers, ResetBreaker. `Unavailable` where no dispatcher answers."""

    def __init__(self, *, checker: Checker, dispatchers: Dispatchers) -> None:
        self._checker = checker
        self._dispatchers = dispatchers

    async def list_pools(
        self, request: farm_service_pb2.ListPoolsRequest, found: Sequence[Problem] = ()
    ) -> farm_service_pb2.ListPoolsResponse:
        """ListPools."""
        self._checker.require(request, found)
        return farm_service_pb2.ListPoolsResponse(items=(await self._views())[0].pools)

    async def list_limits(
        self, request: farm_service_pb2.ListLimitsRequest, found: Sequence[Problem] = ()
    ) -> farm_service_pb2.ListLimitsResponse:
        """ListLimits."""
        self._checker.require(request, found)
        return farm_service_pb2.ListLimitsResponse(items=(await self._views())[0].limits)

    async def list_breakers(
        self, request: farm_service_pb2.ListBreakersRequest, found: Sequence[Problem] = ()
    ) -> farm_service_pb2.ListBreakersResponse:
        """ListBreakers."""
        self._checker.require(request, found)
        return farm_service_pb2.ListBreakersResponse(items=breakers_of(await self._views()))

    async def reset_breaker(
        self, request: farm_service_pb2.ResetBreakerRequest, found: Sequence[Problem] = ()
    ) -> farm_service_pb2.ResetBreakerResponse:
        """ResetBreaker. A repeat is harmless."""
        self._checker.require(request, found)
        await self._dispatchers.reset_breaker(
            dispatcher_pb2.ResetBreakerRequest(kind=request.kind, subject=request.subject)
        )
        return farm_service_pb2.ResetBreakerResponse()

    async def _views(self) -> Sequence[dispatcher_pb2.GetMatchingResponse]:
        told = await self._dispatchers.matching()
        views = [one.view for one in told if one.view is not None]
        if not views:
            raise none_answers(max((one.slow_after for one in told if one.slow_after is not None), default=None))
        return views


def breakers_of(views: Sequence[dispatcher_pb2.GetMatchingResponse]) -> list[farm_service_pb2.Breaker]:
    """Returns the breakers of all views, each once: dispatchers share them."""
    found: dict[tuple[int, str], farm_service_pb2.Breaker] = {}
    for view in views:
        for breaker in view.breakers:
            found.setdefault((breaker.kind, breaker.subject), breaker)
    return list(found.values())


def add_used(agents: Sequence[farm_service_pb2.Agent], views: Sequence[dispatcher_pb2.GetMatchingResponse]) -> None:
    """Says of each agent what the jobs that it holds asked for, where a dispatcher knows."""
    for agent in agents:
        for view in views:
            if agent.agent_id in view.used:
                agent.used.CopyFrom(view.used[agent.agent_id])
                break
