"""Which trace the work at hand belongs to. A task that is made meanwhile inherits it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from easyq_chassis.tracing.context import TraceContext

_CURRENT: ContextVar[TraceContext | None] = ContextVar("easyq_trace", default=None)
_NOTES: ContextVar[dict[str, Any] | None] = ContextVar("easyq_trace_notes", default=None)


def current() -> TraceContext | None:
    """The span whose children begin here, or None."""
    return _CURRENT.get()


def current_text() -> str:
    """The same as it travels between services; empty where there is none."""
    context = _CURRENT.get()
    return context.text if context is not None else ""


@contextmanager
def use(context: TraceContext | None, notes: dict[str, Any] | None = None) -> Iterator[None]:
    """Whatever happens within is of this trace; `notes` are the attributes of its span, which may be added to."""
    token, noted = _CURRENT.set(context), _NOTES.set(notes)
    try:
        yield
    finally:
        _NOTES.reset(noted)
        _CURRENT.reset(token)


def note(**attributes: Any) -> None:
    """Adds attributes to the span at hand; `__` in a name stands for a dot."""
    notes = _NOTES.get()
    if notes is not None:
        notes.update({name.replace("__", "."): value for name, value in attributes.items()})


def metadata() -> tuple[tuple[str, str], ...] | None:
    """What a gRPC call made now sends along."""
    context = _CURRENT.get()
    if context is None:
        return None
    parent = ("traceparent", context.traceparent)
    return (parent, ("tracestate", context.state)) if context.state else (parent,)


def add_trace_id(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """A processor of structlog: `trace_id` in each line that is written within a trace, unless it says another."""
    context = _CURRENT.get()
    if context is not None:
        event.setdefault("trace_id", context.trace_id)
    return event
