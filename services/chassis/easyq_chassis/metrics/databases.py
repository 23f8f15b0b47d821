"""How long databases take, as OpenTelemetry names it."""

from __future__ import annotations

from easyq_chassis.metrics.instruments import Histogram
from easyq_chassis.metrics.registry import Registry


def databases(registry: Registry) -> Histogram:
    """Returns the histogram: by system, operation and class of error (empty: none)."""
    return registry.histogram(
        "db.client.operation.duration",
        "How long operations took: plans of the store (durable at their end), reads, scripts of Redis.",
        labels=("db.system.name", "db.operation.name", "error.type"),
    )
