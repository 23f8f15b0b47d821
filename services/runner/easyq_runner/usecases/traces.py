"""Spans of what happens to an execution on this host, and the context that its container gets."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from easyq_chassis.tracing import current
from easyq_chassis.tracing.context import TraceContext, derived_id, parse
from easyq_chassis.tracing.tracer import OFF, Span, Tracer, Value
from easyq_runner.domain.records import Finish, GiveBack, OutcomeKind, Terms
from easyq_runner.usecases.commands import NotStarted


class Traces:
    """All are below the execution's own span, which the store writes. Without a tracer nothing is recorded."""

    def __init__(self, tracer: Tracer = OFF, *, agent_id: str = "") -> None:
        self._tracer = tracer
        self._agent_id = agent_id

    def environment(self, terms: Terms) -> dict[str, str]:
        """What a container gets, so that its program goes on with the trace, below the span `run`."""
        context = parse(terms.trace)
        if context is None:
            return {}
        if self._records(context):
            context = context.at(_run_id(terms))
        return {"TRACEPARENT": context.traceparent} | ({"TRACESTATE": context.state} if context.state else {})

    def trace_id(self, terms: Terms) -> str:
        """For logs; empty: of no trace."""
        context = parse(terms.trace)
        return context.trace_id if context is not None else ""

    def of(self, terms: Terms) -> AbstractContextManager[None]:
        """Whatever happens within is of the execution's trace."""
        return current.use(parse(terms.trace))

    @contextmanager
    def step(self, name: str, terms: Terms, **attributes: Value) -> Iterator[Span]:
        """Around one step. One after which it can't be started fails."""
        span = self._tracer.begin(name, parse(terms.trace), attributes=self._ids(terms))
        span.note(**attributes)
        try:
            yield span
        except NotStarted as end:
            failure = end.word.failure if isinstance(end.word, Finish | GiveBack) else None
            if failure is not None:
                # Without the engine's words, which repeat whatever it was told.
                span.fail(failure.reason.value)
            raise
        except Exception as error:
            span.fail(type(error).__name__)
            raise
        finally:
            span.end()

    def running(self, terms: Terms, *, seconds_ago: float) -> Running:
        """A container that was started so long ago."""
        began = time.time_ns() - round(max(0.0, seconds_ago) * 1e9)
        return Running(self._tracer, terms, self._ids(terms), began)

    def _records(self, context: TraceContext) -> bool:
        return self._tracer.enabled and context.sampled

    def _ids(self, terms: Terms) -> dict[str, Value]:
        return {
            "easyq.task": terms.task_id,
            "easyq.job": terms.job_id,
            "easyq.execution": terms.key.execution_id,
            "easyq.epoch": terms.key.epoch,
            "easyq.attempt": terms.attempt,
            "easyq.agent": self._agent_id,
        }


class Running:
    """The span `run` of one container. Its id follows from the execution, so that an agent that comes back writes the
    one that the container knows."""

    def __init__(self, tracer: Tracer, terms: Terms, attributes: dict[str, Value], began: int) -> None:
        self._tracer = tracer
        self._terms = terms
        self._attributes = attributes
        self._began = began
        self._ended = began

    def ended(self) -> None:
        """It seems to have ended, now."""
        self._ended = time.time_ns()

    def ended_at(self, ms: float | None) -> None:
        """The daemon says when it ended: that is believed where its clock can be this one."""
        at = round(ms * 1e6) if ms is not None else 0
        if self._began <= at <= self._ended:
            self._ended = at

    def write(self, finish: Finish, *, ran_for: float | None) -> None:
        """It has; `ran_for` seconds, if its end was not seen. Else as long as the finish says, up to the end: how long
        its start took is no part of it."""
        parent = parse(self._terms.trace)
        if parent is None:
            return
        attributes = {**self._attributes, "container.id": finish.container_id, "easyq.outcome": finish.outcome.value}
        if finish.exit_code is not None:
            attributes["process.exit.code"] = finish.exit_code
        failure = finish.failure
        failed = failure is not None or finish.outcome is not OutcomeKind.EXITED
        if failure is not None:
            attributes["error.type"] = failure.reason.value
        began, ended = self._began, self._ended
        if ran_for is not None:
            ended = began + round(ran_for * 1e9)
        elif finish.ran_for is not None:
            began = max(began, ended - round(finish.ran_for * 1e9))
        self._tracer.write(
            "run",
            parent.at(_run_id(self._terms)),
            parent=parent,
            began=began,
            ended=ended,
            attributes=attributes,
            error=(failure.message if failure is not None else "") if failed else None,
        )


def _run_id(terms: Terms) -> str:
    return derived_id(terms.key.execution_id, str(terms.key.epoch), "run")
