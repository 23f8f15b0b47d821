"""Spans: what took from when to when, below what. Without an endpoint none; a caller's context goes on all the same."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TypeAlias

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags, TraceState
from opentelemetry.trace.status import Status, StatusCode

from easyq_chassis.about import own_version
from easyq_chassis.last_work import do_last
from easyq_chassis.logs import get_logger
from easyq_chassis.tracing import current
from easyq_chassis.tracing.allowance import Allowance
from easyq_chassis.tracing.context import TraceContext
from easyq_chassis.tracing.export import SpanSink

Value: TypeAlias = str | int | float | bool
Attributes: TypeAlias = Mapping[str, Value]

_SAMPLED, _NOT_SAMPLED = TraceFlags(TraceFlags.SAMPLED), TraceFlags(TraceFlags.DEFAULT)
_UNSET = Status(StatusCode.UNSET)
_SCOPE = InstrumentationScope("easyq")
# Seconds that a stop waits for the last spans to be sent.
_LAST_SPANS = 1.0


class Settings(Protocol):
    """The settings of a service that tracing reads."""

    @property
    def otlp(self) -> str:
        """Where to; empty: nowhere."""

    @property
    def trace_ratio(self) -> float:
        """Share of the traces begun here that are recorded."""

    @property
    def farm(self) -> str:
        """The farm's name."""


class Span:
    """One that has begun. Where nothing is recorded it only holds the context that goes on: its parent's."""

    __slots__ = ("_attributes", "_began", "_dropped", "_error", "_kind", "_name", "_parent", "_tracer", "context")

    def __init__(
        self,
        tracer: Tracer,
        name: str,
        *,
        context: TraceContext | None,
        parent: TraceContext | None,
        kind: SpanKind,
        attributes: Attributes,
    ) -> None:
        self.context = context
        self._tracer = tracer
        self._name = name
        self._parent = parent
        self._kind = kind
        self._attributes: dict[str, Value] = dict(attributes)
        self._began = time.time_ns()
        self._error: str | None = None
        self._dropped = False

    @property
    def recording(self) -> bool:
        """Whether it will be written."""
        return self.context is not None and self.context.sampled and self._tracer.enabled and not self._dropped

    def name(self, name: str) -> None:
        """Gives it another name, where that was not known at its beginning."""
        self._name = name

    def note(self, **attributes: Value) -> None:
        """Adds attributes; `__` in a name stands for a dot."""
        for name, value in attributes.items():
            self._attributes[name.replace("__", ".")] = value

    def fail(self, kind: str, message: str = "") -> None:
        """What it stands for has failed; `kind` is of few possible ones."""
        self._attributes["error.type"] = kind
        self._error = message

    def drop(self) -> None:
        """It is not worth being written."""
        self._dropped = True

    def active(self) -> AbstractContextManager[None]:
        """Whatever happens within is of its trace."""
        return current.use(self.context, self._attributes)

    def end(self) -> None:
        """It ends now."""
        if self.context is None or not self.recording:
            return
        self._tracer.write(
            self._name,
            self.context,
            parent=self._parent,
            kind=self._kind,
            began=self._began,
            ended=time.time_ns(),
            attributes=self._attributes,
            error=self._error,
        )


class Tracer:
    """The spans of one service. All methods return at once; times are nanoseconds since the epoch.

    A trace that comes from a caller is recorded if the caller's is; one that begins here by `ratio`, decided by its id
    (ParentBased(TraceIdRatioBased)), and only as far as `rate` a second allow it (0: all). Spans
    are made here and not by the SDK's tracer: most are written when they have ended, under an id that was known before,
    and that costs a third of it.
    """

    def __init__(
        self, service: str, *, farm: str = "", ratio: float = 1.0, rate: float = 0.0, sink: SpanSink | None = None
    ) -> None:
        self._sink = sink
        self._sampler = TraceIdRatioBased(ratio)
        self._allowance = Allowance(rate) if rate > 0 else None
        self._resource = Resource.create(_resource(service, farm)) if sink is not None else Resource.get_empty()

    @property
    def enabled(self) -> bool:
        """Whether any span is recorded."""
        return self._sink is not None

    @property
    def lost(self) -> int:
        """Spans that reached nobody."""
        return self._sink.lost if self._sink is not None else 0

    def samples(self, trace_id: str) -> bool:
        """Whether a trace of this id that begins here may be recorded."""
        if self._sink is None:
            return False
        return self._sampler.should_sample(None, int(trace_id, 16), "").decision is Decision.RECORD_AND_SAMPLE

    def records(self, trace_id: str) -> bool:
        """Whether a trace of this id, which begins now, is recorded: also as far as the rate allows it."""
        return self.samples(trace_id) and (self._allowance is None or self._allowance.take())

    def begin(
        self,
        name: str,
        parent: TraceContext | None,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = {},  # noqa: B006 - is only read
        root: bool = False,
    ) -> Span:
        """A span from now on. Without a parent there is none, unless with `root` it begins a trace."""
        context = parent
        if self._sink is not None:
            if parent is not None and parent.sampled:
                context = parent.at(new_span_id())
            elif parent is None and root:
                trace_id = new_trace_id()
                context = TraceContext(trace_id=trace_id, span_id=new_span_id(), sampled=self.records(trace_id))
        return Span(self, name, context=context, parent=parent, kind=kind, attributes=attributes)

    @contextmanager
    def span(
        self,
        name: str,
        parent: TraceContext | None,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = {},  # noqa: B006 - is only read
        root: bool = False,
    ) -> Iterator[Span]:
        """The same around a block, whose work is of the trace; an error that leaves it fails the span."""
        span = self.begin(name, parent, kind=kind, attributes=attributes, root=root)
        try:
            with span.active():
                yield span
        except asyncio.CancelledError:
            span.fail("cancelled")
            raise
        except Exception as error:
            span.fail(type(error).__name__)
            raise
        finally:
            span.end()

    def write(
        self,
        name: str,
        context: TraceContext,
        *,
        parent: TraceContext | None,
        began: int,
        ended: int,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = {},  # noqa: B006 - is only read
        error: str | None = None,
        link: TraceContext | None = None,
    ) -> None:
        """A span that has ended; `error` is set if it failed, with or without words. Only if its trace is recorded."""
        if self._sink is None or not context.sampled:
            return
        self._sink.take(
            ReadableSpan(
                name,
                context=_otel(context, remote=False),
                parent=_otel(parent, remote=True) if parent is not None else None,
                resource=self._resource,
                attributes=dict(attributes),
                links=(Link(_otel(link, remote=True)),) if link is not None else (),
                kind=kind,
                status=_UNSET if error is None else Status(StatusCode.ERROR, error or None),
                start_time=began,
                end_time=max(began, ended),
                instrumentation_scope=_SCOPE,
            )
        )

    def write_child(
        self,
        name: str,
        parent: TraceContext | None,
        *,
        began: int,
        ended: int,
        attributes: Attributes = {},  # noqa: B006 - is only read
        error: str | None = None,
    ) -> None:
        """The same below `parent`, under an id of no importance."""
        if self._sink is not None and parent is not None and parent.sampled:
            context = parent.at(new_span_id())
            self.write(name, context, parent=parent, began=began, ended=ended, attributes=attributes, error=error)

    async def close(self) -> None:
        """Sends what is left, within a second."""
        if self._sink is None:
            return
        await do_last("spans-closing", self._sink.close, seconds=_LAST_SPANS)


#: Records nothing.
OFF = Tracer("")


def open_tracer(service: str, settings: Settings, *, rate: float = 0.0, within_ms: float | None = None) -> Tracer:
    """The tracer of a service (`store`), as its settings want it; `rate` as `Tracer`, `within_ms` as `SpanSink`."""
    sink = _open_sink(settings.otlp, within_ms) if settings.otlp else None
    return Tracer(service, farm=settings.farm, ratio=settings.trace_ratio, rate=rate, sink=sink)


def _open_sink(endpoint: str, within_ms: float | None) -> SpanSink | None:
    try:
        return SpanSink(endpoint, within_ms=within_ms)
    except Exception as error:  # noqa: BLE001 - the library reads variables of the environment; jobs run without spans
        get_logger().error("traces_off", endpoint=endpoint, error=f"{error} (see the variables OTEL_…)")
        return None


def new_span_id() -> str:
    """A fresh one, 16 hex digits."""
    return f"{random.getrandbits(64) or 1:016x}"


def new_trace_id() -> str:
    """A fresh one, 32 hex digits."""
    return f"{random.getrandbits(128) or 1:032x}"


def _resource(service: str, farm: str) -> dict[str, Value]:
    host = socket.gethostname()
    return {
        "service.name": f"easyq-{service}",
        "service.namespace": "easyq",
        "service.version": own_version(),
        "service.instance.id": f"{host}-{os.getpid()}",
        "host.name": host,
        "easyq.farm": farm,
    }


def _otel(context: TraceContext, *, remote: bool) -> SpanContext:
    return SpanContext(
        int(context.trace_id, 16),
        int(context.span_id, 16),
        is_remote=remote,
        trace_flags=_SAMPLED if context.sampled else _NOT_SAMPLED,
        trace_state=TraceState.from_header([context.state]) if context.state else None,
    )
