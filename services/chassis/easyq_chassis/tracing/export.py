"""Spans on their way out: OTLP over gRPC, in batches, by a thread of its own. Nothing here may harm the work."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from os import environ

from opentelemetry.sdk.environment_variables import OTEL_BSP_SCHEDULE_DELAY
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from easyq_chassis.telling_exports import Told
from easyq_chassis.tracing.encoding import FastSpanExporter

# Spans that wait to be sent. Beyond this they are dropped, and counted.
MOST_WAITING = 8_192
# Whose log tells of all that the library exports.
_EXPORTERS = "opentelemetry.exporter.otlp.proto.grpc.exporter"


def _is_of_others(record: logging.LogRecord) -> bool:
    """The exporter's own lines come by the batch, and tell what `_Told` does."""
    return not isinstance(record.args, tuple) or "traces" not in record.args


class _Told(SpanExporter):
    """Another exporter, of which it is told in one line a minute that it fails, and in one that it does not any more.

    The library itself would write a line, or several, for each batch.
    """

    def __init__(self, inner: SpanExporter, endpoint: str) -> None:
        self._inner = inner
        self._told = Told("spans", endpoint)
        # Numbers that only ever grow, each written by one thread.
        self.taken = 0
        self.lost = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.taken += len(spans)
        try:
            result = self._inner.export(spans)
        except Exception as error:  # noqa: BLE001 - whatever the library raises: spans are lost, and nothing else
            self._failed(len(spans), repr(error))
            return SpanExportResult.FAILURE
        if result is SpanExportResult.SUCCESS:
            self._told.worked(lost=self.lost)
        else:
            self._failed(len(spans), "the collector did not take them")
        return result

    def _failed(self, spans: int, why: str) -> None:
        self.lost += spans
        self._told.failed(why, lost=self.lost)

    def shutdown(self) -> None:
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._inner.force_flush(timeout_millis)


class SpanSink:
    """Takes finished spans, and sends them to `endpoint`. `take` never waits.

    What the standard's variables say (OTEL_EXPORTER_OTLP_HEADERS, OTEL_EXPORTER_OTLP_CERTIFICATE, OTEL_BSP_… and so on)
    holds; the address is the setting's.
    """

    def __init__(self, endpoint: str, *, exporter: SpanExporter | None = None, within_ms: float | None = None) -> None:
        """`within_ms` is how long a span waits for others to go with it; None: as long as the library lets it (5 s).

        OTEL_BSP_SCHEDULE_DELAY wins.
        """
        logging.getLogger(_EXPORTERS).addFilter(_is_of_others)
        exporter = exporter or FastSpanExporter(endpoint=endpoint)
        self._exporter = _Told(exporter, endpoint)
        if environ.get(OTEL_BSP_SCHEDULE_DELAY):
            within_ms = None  # the library reads it
        self._processor = BatchSpanProcessor(
            self._exporter, max_queue_size=MOST_WAITING, schedule_delay_millis=within_ms
        )
        self._given = 0
        self._dropped = 0
        self._closed = False

    @property
    def lost(self) -> int:
        """Spans that reached nobody."""
        return self._dropped + self._exporter.lost

    @property
    def waiting(self) -> int:
        """Spans that are still to be sent."""
        return self._given - self._exporter.taken

    def take(self, span: ReadableSpan) -> None:
        """Takes one that has ended."""
        if self._closed or self.waiting >= MOST_WAITING:
            self._dropped += 1
            return
        self._given += 1
        self._processor.on_end(span)

    def close(self) -> None:
        """Sends what is left. A collector that hangs may keep it for long."""
        self._closed = True
        self._processor.shutdown()  # type: ignore[no-untyped-call]
