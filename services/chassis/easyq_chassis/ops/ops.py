"""What a service shows of itself: its metrics, and its operations port."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import partial

from opentelemetry.sdk.metrics.export import MetricExporter

from easyq_chassis.about import own_version
from easyq_chassis.errors import Unavailable
from easyq_chassis.logs import get_logger
from easyq_chassis.metrics.export import Exports, resource
from easyq_chassis.metrics.registry import REGISTRY, Registry
from easyq_chassis.metrics.runtime import LoopLag, watch_process
from easyq_chassis.ops.readiness import Readiness
from easyq_chassis.ops.server import OpsServer
from easyq_chassis.settings import ServiceSettings


class Ops:
    """`service`: its short name; `instance` tells one of several apart (an agent's name)."""

    def __init__(
        self,
        settings: ServiceSettings,
        service: str,
        readiness: Readiness,
        *,
        instance: str = "",
        registry: Registry = REGISTRY,
    ) -> None:
        self._settings = settings
        self._readiness = readiness
        self._log = get_logger()
        attributes = {"easyq.farm": settings.farm, **({"service.instance.id": instance} if instance else {})}
        about = resource(service, own_version(), **attributes)
        self.exports = Exports(registry, about, partial(_push, settings.otlp) if settings.otlp else None)
        self._lag = LoopLag(registry)
        self._server = self._make_server(settings.ops_listen)
        self._ends: list[Callable[[], None]] = [watch_process(registry)]
        ready = registry.gauge(
            "easyq.ready", "1: it can do its work. 0.5: it does, but something is in its way. 0: it can't."
        )
        self._ends.append(ready.watch(lambda: {(): _grade(readiness)}))

    @property
    def address(self) -> str:
        """Where it serves, with the real port once started; empty if nowhere."""
        return self._server.address if self._server else ""

    async def start(self) -> None:
        """Begins. Raises Unavailable if an address that was asked for can't be bound.

        Where the usual one is taken (by another farm, or a second service of this kind) any free one serves.
        """
        self._lag.start()
        if self._server is None:
            return
        try:
            await self._server.start()
        except Unavailable:
            if "ops_listen" in self._settings.model_fields_set:
                raise
            self._server = self._make_server(f"{self._settings.ops_listen.rpartition(':')[0]}:0")
            if self._server is not None:
                await self._server.start()
        self._readiness.operations = self.address
        serves = "/metrics /livez /readyz"
        self._log.info("listening", address=self.address, protocol="http", serves=serves, pid=os.getpid())

    async def stop(self) -> None:
        """Ends it."""
        await self._lag.stop()
        for end in self._ends:
            end()
        if self._server is not None:
            await self._server.stop()
        await self.exports.close()

    def _make_server(self, listen: str) -> OpsServer | None:
        return OpsServer(listen, exports=self.exports, readiness=self._readiness) if listen else None


def _grade(readiness: Readiness) -> float:
    if not readiness.ready:
        return 0.0
    return 0.5 if readiness.degraded else 1.0


def _push(endpoint: str) -> MetricExporter:
    # Only where it is used: it takes 0.2 s to import.
    from easyq_chassis.metrics.push import TellingExporter

    # It tells each retry of each push; that a push failed is one line a minute.
    logging.getLogger("opentelemetry.exporter.otlp.proto.grpc").setLevel(logging.ERROR)
    return TellingExporter(endpoint)
