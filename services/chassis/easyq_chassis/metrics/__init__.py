"""Metrics: cheap instruments, read by Prometheus (text and OpenMetrics) and pushed by OTLP.

Hot paths count in plain dicts (`instruments`): an OpenTelemetry instrument costs 5 µs a measurement, these 0.2. Whoever
reads gets them through OpenTelemetry's own readers (`export`), with names and units as its conventions have them.
Instruments belong to the process (`REGISTRY`): asking for one that is there returns it.
"""

from easyq_chassis.metrics.instruments import DURATIONS, Counter, Gauge, Histogram
from easyq_chassis.metrics.registry import REGISTRY, Registry
from easyq_chassis.metrics.tasks import TaskLabels

__all__ = ["DURATIONS", "REGISTRY", "Counter", "Gauge", "Histogram", "Registry", "TaskLabels"]
