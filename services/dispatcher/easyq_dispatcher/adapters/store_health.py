"""Whether the store can do its work, by gRPC's own health protocol."""

from __future__ import annotations

from typing import Any

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from easyq_chassis.server import WHY_KEY
from easyq_chassis.status import from_rpc_error

# Statuses of a store that answers, and does not know the protocol.
_UNKNOWN = (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.NOT_FOUND)


class StoreHealth:
    """Asks it, for `timeout` seconds at most. One that hangs would keep every other call for much longer."""

    def __init__(self, channel: grpc.aio.Channel, *, timeout: float) -> None:
        self._stub: Any = health_pb2_grpc.HealthStub(channel)
        self._timeout = timeout

    async def problem(self) -> str:
        """What keeps the store from its work, in words; empty: nothing. Raises nothing."""
        call = self._stub.Check(health_pb2.HealthCheckRequest(), timeout=self._timeout)
        try:
            answer = await call
        except grpc.aio.AioRpcError as error:
            if error.code() in _UNKNOWN:
                return ""
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                return f"it did not answer within {self._timeout:g} s"
            return from_rpc_error(error).message
        if answer.status == health_pb2.HealthCheckResponse.SERVING:
            return ""
        for key, value in await call.trailing_metadata() or ():
            if key == WHY_KEY and isinstance(value, bytes):
                return value.decode(errors="replace")
        return "it is not ready"
