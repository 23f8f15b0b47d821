"""The two ways out: read by Prometheus, pushed by OTLP. Both are OpenTelemetry's own readers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    MetricReader,
    MetricsData,
    PeriodicExportingMetricReader,
    ScopeMetrics,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from easyq_chassis.last_work import do_last
from easyq_chassis.metrics.data import metrics_of
from easyq_chassis.metrics.registry import Registry

# Two: OTLP's encoder keeps but one of the same.
_SCOPE, _OWN_SCOPE = "easyq", "easyq.build"
# Seconds that a last push may take when a service ends.
_LAST_PUSH = 1.0


def resource(service: str, version: str, **attributes: str) -> Resource:
    """What is true of all that this process tells. OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME come in addition."""
    known: Mapping[str, Any] = {
        "service.name": f"easyq-{service}",
        "service.namespace": "easyq",
        "service.version": version,
        **attributes,
    }
    return Resource.create(known)


class Exports:
    """Reads a registry, and what OpenTelemetry's own instruments hold, for whoever asks.

    `push`: where they go by OTLP, every OTEL_METRIC_EXPORT_INTERVAL ms (60,000); None: nowhere.
    """

    def __init__(self, registry: Registry, about: Resource, push: MetricExporter | None = None) -> None:
        self._collected = CollectorRegistry()
        self._writing = asyncio.Lock()
        # Texts that are still to be begun, by their content type.
        self._coming: dict[str, asyncio.Task[bytes]] = {}
        readers: list[MetricReader] = [_Scraped(registry, self._collected)]
        if push is not None:
            readers.append(_Pushed(registry, push))
        self.provider = MeterProvider(metric_readers=readers, resource=about, shutdown_on_exit=False)
        # Without an instrument of its own the provider would have nothing to read, and never ask for ours. It is asked
        # each time: what is set once is told once.
        what = {
            "version": str(about.attributes.get("service.version", "")),
            "service_name": str(about.attributes.get("service.name", "")),
        }
        self.provider.get_meter(_OWN_SCOPE).create_observable_gauge(
            "easyq.build.info", description="1, with what runs here.", callbacks=[lambda _: [Observation(1, what)]]
        )

    async def text(self, accept: str) -> tuple[bytes, str]:
        """Returns all metrics as text, with its content type: OpenMetrics or Prometheus's own, as `accept` asks.

        A farm of many tasks and pools has megabytes of them: they are written beside the event loop, one text at a
        time, and all who ask while one is written share the next.
        """
        encode, content_type = choose_encoder(accept)
        coming = self._coming.get(content_type)
        if coming is None:
            coming = self._coming[content_type] = asyncio.create_task(self._written(content_type, encode))
        return await asyncio.shield(coming), content_type

    async def _written(self, content_type: str, encode: Callable[[CollectorRegistry], bytes]) -> bytes:
        async with self._writing:
            # Who asks from here on wants what happens from here on.
            del self._coming[content_type]
            return await asyncio.to_thread(encode, self._collected)

    async def close(self) -> None:
        """Pushes once more, and ends; nobody waits long for a receiver that hangs."""
        shutdown = partial(self.provider.shutdown, timeout_millis=_LAST_PUSH * 1000)
        await do_last("metrics-closing", shutdown, seconds=_LAST_PUSH)


class _Scraped(PrometheusMetricReader):
    """Prometheus's reader, with the registry's metrics."""

    def __init__(self, registry: Registry, collected: CollectorRegistry) -> None:
        self._ours = registry
        super().__init__(scope_info_enabled=False, registry=collected)

    def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> None:
        super()._receive_metrics(_with(self._ours, metrics_data), timeout_millis=timeout_millis, **kwargs)


class _Pushed(PeriodicExportingMetricReader):
    """The reader that pushes, with the registry's metrics."""

    def __init__(self, registry: Registry, exporter: MetricExporter) -> None:
        self._ours = registry
        super().__init__(exporter)

    def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> None:
        super()._receive_metrics(_with(self._ours, metrics_data), timeout_millis=timeout_millis, **kwargs)


def _with(registry: Registry, data: MetricsData) -> MetricsData:
    """The data, with what the registry holds among what the same process told."""
    ours = ScopeMetrics(scope=InstrumentationScope(_SCOPE), metrics=metrics_of(registry), schema_url="")
    first, *others = data.resource_metrics
    return MetricsData(resource_metrics=[replace(first, scope_metrics=[*first.scope_metrics, ours]), *others])
