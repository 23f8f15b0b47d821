"""Spans of HTTP requests, as OpenTelemetry's conventions name what is told of them."""

from __future__ import annotations

from aiohttp import web
from opentelemetry.trace import SpanKind

from easyq_chassis.tracing.context import from_headers
from easyq_chassis.tracing.tracer import Span, Tracer
from easyq_gateway.rest.routes import Route

# Others, which callers may make up, would make names without number.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})


def begin(tracer: Tracer, request: web.BaseRequest) -> Span:
    """The span of a request: below its caller's, or the first of a trace."""
    headers = request.headers
    parents = headers.getall("traceparent", [])
    parent = from_headers(parents, headers.getall("tracestate", [])) if parents else None
    method = request.method if request.method in _METHODS else "_OTHER"
    attributes = {"http.request.method": method, "url.scheme": request.scheme, "url.path": request.path}
    return tracer.begin(method, parent, kind=SpanKind.SERVER, attributes=attributes, root=tracer.enabled)


def note_route(span: Span, method: str, route: Route) -> None:
    """What it turned out to ask for. Looks at health, and files of pages, have no span."""
    if not route.guarded:
        span.drop()
    elif span.recording:
        span.name(f"{method} {route.template}")
        span.note(http__route=route.template)


def note_status(span: Span, status: int) -> None:
    """How it was answered; what is the caller's fault is no failure of the span."""
    span.note(http__response__status_code=status)
    if status >= 500:
        span.fail(str(status))
