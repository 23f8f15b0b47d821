"""Health of the services behind the gateway, by gRPC's own health protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from easyq_chassis.clock import Clock, SystemClock
from easyq_chassis.server import OPERATIONS_KEY, WHY_KEY
from easyq_chassis.status import from_rpc_error
from easyq_gateway.adapters.calls import answered
from easyq_gateway.ports import Health


@dataclass(frozen=True, kw_only=True, slots=True)
class Neighbour:
    """One service to be asked."""

    kind: str
    address: str
    channel: grpc.aio.Channel


class GrpcHealthChecks:
    """`HealthChecks`: each service gets `timeout` seconds. Since when one is not healthy is known as well as it is
    looked at."""

    def __init__(
        self, *, store: Neighbour, others: Sequence[Neighbour], timeout: float, clock: Clock | None = None
    ) -> None:
        self._store = store
        self._others = others
        self._timeout = timeout
        self._clock = clock or SystemClock()
        # By address, when the first of the looks began that found it not healthy.
        self._since: dict[str, int] = {}

    async def store(self) -> Health:
        return await self._ask(self._store, self._timeout)

    async def all(self, *, within: float | None = None) -> Sequence[Health]:
        timeout = self._timeout if within is None else min(within, self._timeout)
        return await asyncio.gather(*(self._ask(one, timeout) for one in (self._store, *self._others)))

    async def others(self) -> Sequence[Health]:
        """Asks all but the store."""
        return await asyncio.gather(*(self._ask(one, self._timeout) for one in self._others))

    async def _ask(self, one: Neighbour, timeout: float) -> Health:
        began = self._clock.now_ms()
        health = await self._look(one, timeout)
        if health.healthy:
            self._since.pop(one.address, None)
            return health
        return replace(health, since_ms=self._since.setdefault(one.address, began))

    async def _look(self, one: Neighbour, timeout: float) -> Health:
        stub: Any = health_pb2_grpc.HealthStub(one.channel)
        request = health_pb2.HealthCheckRequest()
        try:
            call = await answered(stub.Check, request, address=one.address, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            slow = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            message = f"no answer within {timeout:g} s" if slow else from_rpc_error(error).message
            return Health(kind=one.kind, address=one.address, healthy=False, answers=False, message=message, slow=slow)
        serving = (await call).status == health_pb2.HealthCheckResponse.SERVING
        told = await _told(call)
        return Health(
            kind=one.kind,
            address=one.address,
            healthy=serving,
            answers=True,
            message=told.get(WHY_KEY) or ("" if serving else "it is not ready"),
            operations=told.get(OPERATIONS_KEY, ""),
        )


async def _told(call: Any) -> dict[str, str]:
    """What a health check says besides."""
    trailing = await call.trailing_metadata() or ()
    return {key: value.decode(errors="replace") for key, value in trailing if isinstance(value, bytes)}
