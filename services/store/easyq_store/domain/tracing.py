"""Where an execution stands in a trace.

A record's `trace` is `TraceContext.text` of the request that asked for it. One of a series that a fire began stands in
a trace of its own: there the text names that trace without a span, whether it is recorded, and after a space the span
of the request that made the job, to which it is linked. Attempts of one series share the text. The id of an execution's
own span follows from its id, so that its children can be written before it is.
"""

from dataclasses import dataclass, replace

from easyq_chassis.tracing.context import NO_SPAN, TraceContext, derived_id, derived_trace, parse
from easyq_store.domain.records import Execution


@dataclass(frozen=True, kw_only=True, slots=True)
class Spot:
    """An execution's own span, what it is a child of, and what it is linked to."""

    context: TraceContext
    parent: TraceContext | None = None
    link: TraceContext | None = None


def of_fire(execution_id: str, asked: str) -> str:
    """The trace that an execution begins by itself, which is not recorded; `asked` is that of its job."""
    root = TraceContext(trace_id=derived_trace(execution_id), span_id=NO_SPAN, sampled=False)
    return f"{root.traceparent} {asked.partition(' ')[0]}".rstrip()


def begun_by(execution: Execution) -> str:
    """The id of the trace that this execution begins, as the first of its series; empty: it begins none."""
    begun = execution.trace.partition(" ")[0]
    trace_id = derived_trace(execution.execution_id)
    return trace_id if _is_root(begun) and begun.split("-")[1] == trace_id else ""


def recorded(execution: Execution) -> Execution:
    """The same, of which the trace that it begins is recorded, as are those of its further attempts."""
    root = TraceContext(trace_id=begun_by(execution), span_id=NO_SPAN, sampled=True)
    asked = execution.trace.partition(" ")[2]
    return replace(execution, trace=f"{root.traceparent} {asked}".rstrip())


def spot(execution: Execution) -> Spot | None:
    """Where it stands; None where nothing is recorded of it."""
    begun, _, asked = execution.trace.partition(" ")
    own_id = derived_id(execution.execution_id)
    if _is_root(begun):
        _, trace_id, _, flags = begun.split("-")
        context = TraceContext(trace_id=trace_id, span_id=own_id, sampled=flags == "01")
        return Spot(context=context, link=parse(asked)) if context.sampled else None
    parent = parse(execution.trace)
    if parent is None or not parent.sampled:
        return None
    return Spot(context=parent.at(own_id), parent=parent)


def passed_on(execution: Execution) -> str:
    """What goes on to its container where nothing is recorded: the caller's context as it came."""
    begun, _, asked = execution.trace.partition(" ")
    return asked if _is_root(begun) else execution.trace


def _is_root(text: str) -> bool:
    return text.count("-") == 3 and text.split("-")[2] == NO_SPAN
