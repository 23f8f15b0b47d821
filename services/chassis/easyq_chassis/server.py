"""A service's gRPC server, with health and reflection."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc.aio
from grpc_health.v1 import health as health_names
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health

from easyq_chassis import reflection
from easyq_chassis.channel import KEEPALIVE, MAX_MESSAGE
from easyq_chassis.departed import hush_departed_callers
from easyq_chassis.errors import Unavailable
from easyq_chassis.interceptors import ErrorInterceptor
from easyq_chassis.logs import get_logger
from easyq_chassis.metrics.rpc import CallTimes
from easyq_chassis.ops.readiness import Readiness
from easyq_chassis.status import clip

#: Trailing metadata of a health check, as UTF-8: why the service can't do its work; of one that is serving, what of it
#: it can't do as it should: it is degraded.
WHY_KEY = "easyq-why-bin"
#: The same: the address of the service's operations port.
OPERATIONS_KEY = "easyq-operations-bin"
_MOST_WHY = 500

_OPTIONS = (
    *KEEPALIVE,
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_send_message_length", MAX_MESSAGE),
    # Two servers on one port would share its calls by chance.
    ("grpc.so_reuseport", 0),
)


class _Health(health.HealthServicer):  # type: ignore[misc]
    """gRPC's health service, which also says why a service is not serving, or is degraded, and where its operations
    port is: in trailing metadata under `WHY_KEY` and `OPERATIONS_KEY`."""

    def __init__(self, readiness: Readiness) -> None:
        super().__init__()
        self._readiness = readiness

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802 - its name in the protocol
        why, operations = clip(self._readiness.why, _MOST_WHY), self._readiness.operations
        told = ((WHY_KEY, why.encode()), (OPERATIONS_KEY, operations.encode()))
        context.set_trailing_metadata(tuple((key, text) for key, text in told if text))
        return await super().Check(request, context)


class GrpcServer:
    """A gRPC server at ``listen``: ``host:port`` (port 0 picks a free one) or ``unix:/path``.

    It starts as NOT_SERVING; ``set_serving`` tells when its dependencies are there. The empty service name stands for
    the whole. The ``outer`` interceptors stand before the one that maps errors, the others behind it.
    """

    def __init__(
        self,
        listen: str,
        *,
        interceptors: tuple[grpc.aio.ServerInterceptor, ...] = (),
        outer: tuple[grpc.aio.ServerInterceptor, ...] = (),
    ) -> None:
        self._listen = listen
        hush_departed_callers()
        everywhere = (CallTimes(), ErrorInterceptor())
        self._server = grpc.aio.server(interceptors=(*outer, *everywhere, *interceptors), options=_OPTIONS)
        self.readiness = Readiness()
        self._health = _Health(self.readiness)
        self._names: list[str] = []
        self._serving: bool | None = None
        self._log = get_logger()
        self.address = listen

    def add(self, register: Callable[[Any, grpc.aio.Server], None], servicer: object, name: str) -> None:
        """Adds a servicer by its generated ``add_…_to_server``; ``name`` is the service's full name."""
        register(servicer, self._server)
        self._names.append(name)

    async def start(self) -> None:
        """Binds and serves. Raises ``Unavailable`` naming the address if it can't be bound."""
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable([*self._names, health_names.SERVICE_NAME], self._server)
        try:
            port = self._server.add_insecure_port(self._listen)
        except RuntimeError as error:
            raise Unavailable(f"can't listen on {self._listen}: {error}") from error
        if self._listen.startswith("unix:"):
            Path(self._listen.removeprefix("unix:").removeprefix("//")).chmod(0o600)  # noqa: ASYNC240 - before it serves
        else:
            self.address = f"{self._listen.rpartition(':')[0]}:{port}"
        await self.set_serving(False)
        await self._server.start()
        self._log.info("listening", address=self.address, services=self._names, pid=os.getpid())

    async def set_serving(self, serving: bool, why: str = "") -> None:
        """Tells health checkers whether this service can do its work now, and why it can't.

        Serving with a `why` it is degraded: something is in its way, and it does its work all the same. Loops that fail
        are told besides.
        """
        self.readiness.set(serving, why)
        if serving == self._serving:
            return
        self._serving = serving
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", *self._names):
            await self._health.set(name, status)

    async def stop(self, grace: float) -> None:
        """Refuses new calls, lets those under way end for ``grace`` seconds, then cancels them."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace)
