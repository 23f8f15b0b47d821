"""Between agents' messages and the dispatcher's records. Messages that are only relayed are left as they are."""

from __future__ import annotations

from collections.abc import Sequence

from easyq_chassis.errors import InvalidArgument
from easyq_dispatcher.convert.times import duration
from easyq_dispatcher.domain.agents import Held, Hello, Phase
from easyq_dispatcher.domain.needs import UNKNOWN, Offer
from easyq_dispatcher.messages import (
    Acknowledged,
    Beat,
    Farewell,
    Goodbye,
    HealthChange,
    Incoming,
    Orders,
    Outgoing,
    Reports,
    Results,
    Runs,
    Welcome,
    Wish,
)
from easyq_internal.dispatcher.v1 import dispatcher_pb2
from easyq_internal.store.v1 import job_store_pb2, records_pb2

_PHASES = {phase.value: phase for phase in Phase}


def incoming(message: dispatcher_pb2.ConnectRequest) -> Incoming:
    """What an agent says. Raises InvalidArgument for a message without content."""
    kind = message.WhichOneof("message")
    match kind:
        case "hello":
            return hello(message.hello)
        case "beat":
            return Beat(number=message.beat.number, inventory=inventory(message.beat.inventory))
        case "reports":
            return Reports(items=message.reports.items)
        case "goodbye":
            return Goodbye()
        case "health":
            return HealthChange(healthy=message.health.healthy, message=message.health.message)
    raise InvalidArgument("the message is empty")


def hello(message: dispatcher_pb2.Hello) -> Hello:
    """An agent's first words."""
    return Hello(
        agent_id=message.agent_id,
        daemon_id=message.daemon_id,
        hostname=message.hostname,
        pools=tuple(message.pools),
        slots=message.slots,
        labels=dict(message.labels),
        version=message.version,
        protocol_min=message.protocol_min,
        protocol_max=message.protocol_max,
        inventory=inventory(message.inventory),
        healthy=message.health.healthy if message.HasField("health") else True,
        message=message.health.message,
        unhealthy_ms=max(0, message.health.unhealthy_for.ToMilliseconds()),
        offer=offer(message.offer) if message.HasField("offer") else UNKNOWN,
        operations=message.operations,
    )


def offer(message: records_pb2.Offer) -> Offer:
    """What a host has."""
    return Offer(cpu_millis=max(0, message.cpu_millis), memory=max(0, message.memory), gpus=max(0, message.gpus))


def inventory(items: Sequence[records_pb2.Held]) -> tuple[Held, ...]:
    """What an agent has on its host."""
    return tuple(
        Held(execution_id=item.execution_id, epoch=item.epoch, phase=_PHASES.get(item.phase, Phase.UNSPECIFIED))
        for item in items
    )


def outgoing(message: Outgoing) -> dispatcher_pb2.ConnectResponse:
    """What an agent is told."""
    match message:
        case Welcome():
            return dispatcher_pb2.ConnectResponse(
                welcome=dispatcher_pb2.Welcome(
                    session=message.session,
                    protocol=message.protocol,
                    beat_every=duration(message.beat_every_ms),
                    lease=duration(message.lease_ms),
                    lost_after=duration(message.lost_after_ms),
                    directives=message.directives,
                    upkeep=message.upkeep,
                )
            )
        case Acknowledged():
            ack = dispatcher_pb2.BeatAck(number=message.number, directives=message.directives, upkeep=message.upkeep)
            return dispatcher_pb2.ConnectResponse(beat_ack=ack)
        case Runs():
            return dispatcher_pb2.ConnectResponse(runs=dispatcher_pb2.Runs(items=message.items))
        case Results():
            return dispatcher_pb2.ConnectResponse(results=dispatcher_pb2.ReportResults(items=message.items))
        case Orders():
            return dispatcher_pb2.ConnectResponse(directives=dispatcher_pb2.Directives(items=message.items))
        case Wish():
            return dispatcher_pb2.ConnectResponse(upkeep=message.upkeep)
        case Farewell():
            return dispatcher_pb2.ConnectResponse(parked=dispatcher_pb2.Parked())


def stop_orders(hints: Sequence[job_store_pb2.StopHint]) -> dict[str, list[records_pb2.Directive]]:
    """Stops, as directives by agent."""
    orders: dict[str, list[records_pb2.Directive]] = {}
    for hint in hints:
        order = records_pb2.Directive(
            kind=records_pb2.Directive.Order.STOP, execution_id=hint.execution_id, epoch=hint.epoch
        )
        orders.setdefault(hint.agent_id, []).append(order)
    return orders
