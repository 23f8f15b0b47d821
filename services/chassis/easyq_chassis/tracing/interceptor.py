"""Spans of gRPC calls that a server answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeAlias

import grpc
import grpc.aio
from opentelemetry.trace import SpanKind

from easyq_chassis.tracing.context import TraceContext, from_headers
from easyq_chassis.tracing.tracer import Span, Tracer
from easyq_chassis.wrapping import Handler, WrappingInterceptor, rewrapped

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Method: TypeAlias = Callable[[Any, Context], Awaitable[Any]]

_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}
_STATUS = "rpc.response.status_code"
# Of these the server is to blame: https://opentelemetry.io/docs/specs/semconv/rpc/grpc/.
_OURS = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)


class TracingInterceptor(WrappingInterceptor):
    """A span around each call of the services whose full names begin with `prefix`; what it does is of the trace.

    It stands before all others, so that handlers are coroutines here, which write streams to the context themselves.
    With `edge` a call without a trace begins one, and streams have their span too; else (between our own services)
    only single calls that come with a trace have one: streams there carry a context in each message.
    """

    def __init__(self, tracer: Tracer, *, prefix: str, edge: bool = False) -> None:
        super().__init__()
        self._tracer = tracer
        self._prefix = f"/{prefix}"
        self._edge = edge

    def wrap(self, method: str, handler: Any) -> Handler:
        streams = handler.request_streaming or handler.response_streaming
        if not method.startswith(self._prefix) or (streams and not self._edge):
            return handler  # type: ignore[no-any-return]
        return rewrapped(handler, partial(self._traced, method))

    def _traced(self, method: str, inner: Method) -> Method:
        name = method.removeprefix("/")
        attributes = {"rpc.system.name": "grpc", "rpc.method": name}

        async def traced(request: Any, context: Context) -> Any:
            parent = _parent(context)
            if parent is None and not self._edge:
                return await inner(request, context)
            span = self._tracer.begin(name, parent, kind=SpanKind.SERVER, attributes=attributes, root=self._edge)
            try:
                with span.active():
                    answer = await inner(request, context)
                span.note(**{_STATUS: "OK"})
                return answer
            except asyncio.CancelledError:
                # Whoever asked has gone.
                span.note(**{_STATUS: "CANCELLED"})
                raise
            except Exception:
                _note_status(span, context)
                raise
            finally:
                span.end()

        return traced


def _parent(context: Context) -> TraceContext | None:
    parents: list[str] = []
    states: list[str] = []
    for key, value in context.invocation_metadata() or ():
        if key == "traceparent":
            parents.append(str(value))
        elif key == "tracestate":
            states.append(str(value))
    return from_headers(parents, states) if parents else None


def _note_status(span: Span, context: Context) -> None:
    """How an aborted call ended; what is the caller's fault is no failure of the span."""
    # gRPC gives its number, whatever the type stubs say.
    code: Any = context.code()
    status = code if isinstance(code, grpc.StatusCode) else _CODES.get(code, grpc.StatusCode.UNKNOWN)
    span.note(**{_STATUS: status.name})
    if status in _OURS:
        span.fail(status.name, str(context.details() or ""))
