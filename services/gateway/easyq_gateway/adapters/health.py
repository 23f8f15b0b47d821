"""Health of the services behind the gateway, by gRPC's own health protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from easyq_chassis.status import from_rpc_error
from easyq_gateway.ports import Health


@dataclass(frozen=True, kw_only=True, slots=True)
class Neighbour:
    """One service to be asked."""

    kind: str
    address: str
    channel: grpc.aio.Channel


class GrpcHealthChecks:
    """`HealthChecks`: each service gets `timeout` seconds."""

    def __init__(self, *, store: Neighbour, others: Sequence[Neighbour], timeout: float) -> None:
        self._store = store
        self._others = others
        self._timeout = timeout

    async def store(self) -> Health:
        return await self._ask(self._store)

    async def all(self) -> Sequence[Health]:
        return await asyncio.gather(*(self._ask(one) for one in (self._store, *self._others)))

    async def _ask(self, one: Neighbour) -> Health:
        stub: Any = health_pb2_grpc.HealthStub(one.channel)
        try:
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=self._timeout)
        except grpc.aio.AioRpcError as error:
            message = from_rpc_error(error).message
        else:
            serving = answer.status == health_pb2.HealthCheckResponse.SERVING
            message = "" if serving else "it runs, but is not ready"
        return Health(kind=one.kind, address=one.address, healthy=not message, message=message)
