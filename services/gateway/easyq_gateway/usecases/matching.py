"""What matches jobs with hosts: pools, limits, breakers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from easyq.v1 import farm_service_pb2
from easyq_gateway.domain.gaps import Gap, blind_gaps
from easyq_gateway.domain.problems import Problem
from easyq_gateway.ports import Dispatchers, Matching, none_answers
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
        best = (await self._views())[0]
        return farm_service_pb2.ListPoolsResponse(items=best.pools, unknown=_unknown("pools", best))

    async def list_limits(
        self, request: farm_service_pb2.ListLimitsRequest, found: Sequence[Problem] = ()
    ) -> farm_service_pb2.ListLimitsResponse:
        """ListLimits."""
        self._checker.require(request, found)
        best = (await self._views())[0]
        return farm_service_pb2.ListLimitsResponse(items=best.limits, unknown=_unknown("limits", best))

    async def list_breakers(
        self, request: farm_service_pb2.ListBreakersRequest, found: Sequence[Problem] = ()
    ) -> farm_service_pb2.ListBreakersResponse:
        """ListBreakers."""
        self._checker.require(request, found)
        views = await self._views()
        unknown = _unknown("breakers", views[0])
        return farm_service_pb2.ListBreakersResponse(items=breakers_of(views), unknown=unknown)

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
        views = answers_of(told)
        if not views:
            raise none_answers(max((one.slow_after for one in told if one.slow_after is not None), default=None))
        return views


def answers_of(told: Sequence[Matching]) -> list[dispatcher_pb2.GetMatchingResponse]:
    """Returns what dispatchers that answered said. Those that can ask Redis come first."""
    return sorted((one.view for one in told if one.view is not None), key=lambda view: bool(view.blind))


def unknown_of(gaps: Iterable[Gap]) -> list[farm_service_pb2.Unknown]:
    """Returns what can't be told, as messages."""
    return [farm_service_pb2.Unknown(field=gap.field, why=gap.why) for gap in gaps]


def _unknown(field: str, best: dispatcher_pb2.GetMatchingResponse) -> list[farm_service_pb2.Unknown]:
    gaps = blind_gaps(best.blind) if best.blind else ()
    return unknown_of(gap for gap in gaps if gap.field.partition(".")[0] == field)


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
