"""A collector of OpenTelemetry: a real OTLP gRPC server, which keeps what it gets."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2

from tests.support.waiting import wait_until

_KINDS = trace_pb2.Span.SpanKind


@dataclass(frozen=True, kw_only=True)
class Received:
    """A span as it arrived. `start` and `end` are nanoseconds since the epoch, `links` pairs of trace and span."""

    name: str
    service: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: str
    start: int
    end: int
    attributes: Mapping[str, Any]
    failed: bool
    message: str
    links: tuple[tuple[str, str], ...]
    state: str
    resource: Mapping[str, Any] = field(repr=False)


class _Servicer(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, take: Callable[[trace_service_pb2.ExportTraceServiceRequest], None]) -> None:
        self._take = take

    def Export(
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        self._take(request)
        return trace_service_pb2.ExportTraceServiceResponse()


class Collector:
    """Listens on 127.0.0.1. While `hangs` is set calls get no answer."""

    def __init__(self, port: int = 0) -> None:
        self._lock = threading.Lock()
        self._spans: list[Received] = []
        self.answers = threading.Event()
        self.answers.set()
        self._server = grpc.server(futures.ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
        add: Any = trace_service_pb2_grpc.add_TraceServiceServicer_to_server
        add(_Servicer(self._take), self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.answers.set()
        self._server.stop(0).wait(5)

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Calls made meanwhile get no answer before its end."""
        self.answers.clear()
        try:
            yield
        finally:
            self.answers.set()

    def spans(self, trace_id: str = "") -> list[Received]:
        """All of a trace, or all there are, by their start."""
        with self._lock:
            found = [span for span in self._spans if trace_id in {"", span.trace_id}]
        return sorted(found, key=lambda span: span.start)

    def wait_for(self, trace_id: str, *names: str, timeout: float = 20) -> list[Received]:
        """The trace's spans, by their start, once it has these names, each as often as it is named."""

        def complete() -> list[Received]:
            found = self.spans(trace_id)
            missing = Counter(names) - Counter(span.name for span in found)
            assert not missing, (missing, [span.name for span in found])
            return found

        return wait_until(complete, timeout, message=f"spans {names} of {trace_id}")

    def _take(self, request: trace_service_pb2.ExportTraceServiceRequest) -> None:
        self.answers.wait()
        for group in request.resource_spans:
            resource = _values(group.resource.attributes)
            for scope in group.scope_spans:
                with self._lock:
                    self._spans += [_received(span, resource) for span in scope.spans]


def _received(span: trace_pb2.Span, resource: Mapping[str, Any]) -> Received:
    return Received(
        name=span.name,
        service=resource["service.name"],
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        kind=_KINDS.Name(span.kind).removeprefix("SPAN_KIND_"),
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
        attributes=_values(span.attributes),
        failed=span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
        message=span.status.message,
        links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        state=span.trace_state,
        resource=resource,
    )


def _values(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair) for pair in pairs}


def _value(pair: KeyValue) -> Any:
    kind = pair.value.WhichOneof("value")
    return getattr(pair.value, kind) if kind else None
