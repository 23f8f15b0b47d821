"""Spans as OTLP's messages, made in place: a fifth of the time that the exporter's own way takes (ADR 21)."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1 import trace_pb2
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext
from opentelemetry.trace.status import StatusCode

_HAS_IS_REMOTE = trace_pb2.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
_IS_REMOTE = _HAS_IS_REMOTE | trace_pb2.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK

_CODES = {
    StatusCode.UNSET: trace_pb2.Status.STATUS_CODE_UNSET,
    StatusCode.OK: trace_pb2.Status.STATUS_CODE_OK,
    StatusCode.ERROR: trace_pb2.Status.STATUS_CODE_ERROR,
}


class FastSpanExporter(OTLPSpanExporter):
    """The library's, for spans that `Tracer` makes."""

    def _translate_data(self, data: Sequence[ReadableSpan]) -> ExportTraceServiceRequest:
        return encoded(data)


def encoded(spans: Sequence[ReadableSpan]) -> ExportTraceServiceRequest:
    """The same as the library's `encode_spans`, for spans of one resource and scope, without events.

    Their attributes are strings, booleans, whole numbers and floats, their links have none. What can't be encoded
    (half a surrogate pair, a number beyond 64 bits) is left out.
    """
    request = encode_spans(spans[:1])
    if not spans:
        return request
    added = request.resource_spans[0].scope_spans[0].spans
    del added[:]
    for span in spans:
        context = span.context
        parent = span.parent
        message = added.add(
            trace_id=context.trace_id.to_bytes(16, "big"),
            span_id=context.span_id.to_bytes(8, "big"),
            parent_span_id=parent.span_id.to_bytes(8, "big") if parent is not None else b"",
            name=span.name,
            # OTLP counts from 1.
            kind=span.kind.value + 1,
            start_time_unix_nano=span.start_time,
            end_time_unix_nano=span.end_time,
            flags=_flags(parent),
        )
        message.status.code = _CODES[span.status.status_code]
        if span.status.description:
            message.status.message = span.status.description
        if context.trace_state:
            message.trace_state = context.trace_state.to_header()
        for link in span.links:
            message.links.add(
                trace_id=link.context.trace_id.to_bytes(16, "big"),
                span_id=link.context.span_id.to_bytes(8, "big"),
                flags=_flags(link.context),
            )
        _add_attributes(message, span)
    return request


def _flags(context: SpanContext | None) -> int:
    return _IS_REMOTE if context is not None and context.is_remote else _HAS_IS_REMOTE


def _add_attributes(message: trace_pb2.Span, span: ReadableSpan) -> None:
    attributes = message.attributes
    for key, value in (span.attributes or {}).items():
        try:
            into = attributes.add(key=key).value
            if isinstance(value, str):
                into.string_value = value
            elif isinstance(value, bool):
                into.bool_value = value
            elif isinstance(value, int):
                into.int_value = value
            elif isinstance(value, float):
                into.double_value = value
        except ValueError:
            del attributes[-1]
