"""Operations ports: where operators' own programs look, and what they find there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from easyq.v1.farm_service_pb2 import Agent, OperationsPort
from easyq_gateway.ports import Health
from easyq_internal.dispatcher.v1.dispatcher_pb2 import GetMatchingResponse


def operations_ports(
    own: Health, health: Iterable[Health], agents: Iterable[Agent], views: Sequence[GetMatchingResponse]
) -> Iterator[OperationsPort]:
    """The gateway's own, those of its neighbours, and those of agents as dispatchers know them: by the facts of the
    status, nobody is asked once more."""
    for one in (own, *health):
        yield OperationsPort(
            service=one.kind,
            instance=one.address,
            address=one.operations,
            alive=one.answers,
            ready=one.healthy,
            why=one.message,
        )
    places = _places(views)
    for agent in agents:
        address = places.get(agent.agent_id, "")
        alive = agent.state == Agent.LIVE
        # Of one that is long gone nothing can be looked at.
        if alive or address:
            yield OperationsPort(
                service="runner",
                instance=agent.agent_id,
                address=address,
                alive=alive,
                ready=alive and agent.healthy,
                why="" if alive and agent.healthy else agent.message or "it is silent",
            )


def _places(views: Sequence[GetMatchingResponse]) -> Mapping[str, str]:
    return {agent: address for view in views for agent, address in view.operations.items()}
