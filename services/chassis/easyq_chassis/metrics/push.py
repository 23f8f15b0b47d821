"""Metrics on their way out: OTLP over gRPC, of which it is told as of everything else that it fails."""

from __future__ import annotations

import logging
from typing import Any

from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData

from easyq_chassis.telling_exports import Told

# Whose log tells of all that the library exports.
_EXPORTERS = "opentelemetry.exporter.otlp.proto.grpc.exporter"


def _is_of_others(record: logging.LogRecord) -> bool:
    """The exporter's own sentences come by the push, and tell what `TellingExporter` does."""
    return not isinstance(record.args, tuple) or "metrics" not in record.args


class TellingExporter(OTLPMetricExporter):
    """The library's, of which it is told in one line a minute that it fails, and in one that it does not any more."""

    def __init__(self, endpoint: str, **others: Any) -> None:
        logging.getLogger(_EXPORTERS).addFilter(_is_of_others)
        super().__init__(endpoint=endpoint, **others)
        self._told = Told("metrics", endpoint)
        # Pushes in vain since one was taken.
        self._vain = 0

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        try:
            result = super().export(metrics_data, timeout_millis, **kwargs)
        except Exception as error:  # noqa: BLE001 - whatever the library raises: a push is lost, and nothing else
            self._tell_failure(repr(error))
            return MetricExportResult.FAILURE
        if result is MetricExportResult.SUCCESS:
            self._tell_success()
        else:
            self._tell_failure("the collector did not take them")
        return result

    def _tell_failure(self, why: str) -> None:
        self._vain += 1
        self._told.failed(why, pushes=self._vain)

    def _tell_success(self) -> None:
        self._told.worked(pushes=self._vain)
        self._vain = 0
