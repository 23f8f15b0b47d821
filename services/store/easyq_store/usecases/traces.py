"""Spans of what the store does, and of what only it has seen whole: waits, and executions."""

from collections.abc import Callable, Sequence
from typing import Protocol

from easyq_chassis.tracing.context import parse
from easyq_chassis.tracing.tracer import Tracer, Value
from easyq_store.domain.changes import Note
from easyq_store.domain.records import Execution
from easyq_store.domain.states import ExecutionState
from easyq_store.domain.tracing import Spot, begun_by, passed_on, recorded, spot

_MS = 1_000_000


class New(Protocol):
    """A job that was submitted, as far as its span goes."""

    @property
    def task_id(self) -> str: ...
    @property
    def job_id(self) -> str: ...
    @property
    def execution_id(self) -> str: ...
    @property
    def trace(self) -> str: ...


class Traces(Protocol):
    """What use cases tell of; each call is cheap, and never fails."""

    def now(self) -> int:
        """Nanoseconds since the epoch, for `began`."""

    def submitted(self, jobs: Sequence[New], results: Sequence[object], *, began: int) -> None:
        """These were stored, or refused, together."""

    def made(self, execution: Execution) -> Execution:
        """One that is about to be inserted. Of one that begins a trace it is decided here whether that is recorded."""

    def of(self, execution: Execution) -> str:
        """The context for who runs it: `TraceContext.text`; empty: of no trace."""


class NoTraces:
    """Nothing is recorded; a caller's context goes on."""

    def now(self) -> int:
        return 0

    def submitted(self, jobs: Sequence[New], results: Sequence[object], *, began: int) -> None:
        """Nothing is recorded."""

    def made(self, execution: Execution) -> Execution:
        return execution

    def of(self, execution: Execution) -> str:
        return passed_on(execution)


class TracedStore:
    """`Traces`, written by a tracer. `clock` is the wall clock in nanoseconds.

    Records have the store's clock, which goes on where the wall clock was set back: `ahead_ms` says how far it is
    ahead, so that spans stand beside those of other services.
    """

    def __init__(self, tracer: Tracer, clock: Callable[[], int], *, ahead_ms: Callable[[], int] = lambda: 0) -> None:
        self._tracer = tracer
        self._clock = clock
        self._ahead_ms = ahead_ms

    def now(self) -> int:
        return self._clock()

    def submitted(self, jobs: Sequence[New], results: Sequence[object], *, began: int) -> None:
        ended = self._clock()
        for job, result in zip(jobs, results, strict=True):
            if not job.trace:
                continue
            failed = isinstance(result, Exception)
            self._tracer.write_child(
                "submit",
                parse(job.trace),
                began=began,
                ended=ended,
                attributes={
                    "easyq.task": job.task_id,
                    "easyq.job": job.job_id,
                    "easyq.batch_size": len(jobs),
                    **({"error.type": type(result).__name__} if failed else {}),
                },
                error=str(result) if failed else None,
            )

    def made(self, execution: Execution) -> Execution:
        begun = begun_by(execution)
        return recorded(execution) if begun and self._tracer.records(begun) else execution

    def of(self, execution: Execution) -> str:
        found = self._spot(execution)
        return found.context.text if found is not None else passed_on(execution)

    def take(self, notes: Sequence[Note]) -> None:
        """Writes what has ended by these changes, which are durable."""
        for before, after in notes:
            if isinstance(after, Execution) and isinstance(before, Execution) and after.state is not before.state:
                self._moved(before, after)

    def _moved(self, before: Execution, after: Execution) -> None:
        if not after.trace or not (after.waiting or after.ended or after.state is ExecutionState.ASSIGNED):
            return
        found = self._spot(after)
        if found is None:
            return
        if after.ended:
            self._ended(found, after)
        elif after.state is ExecutionState.ASSIGNED and after.queued_at is not None:
            self._waited("queue", found, after, began=after.queued_at, ended=after.assigned_at or after.queued_at)
        elif before.state is ExecutionState.SCHEDULED and after.queued_at is not None:
            self._waited("schedule", found, after, began=after.created_at, ended=after.queued_at)

    def _waited(self, name: str, found: Spot, execution: Execution, *, began: int, ended: int) -> None:
        # What else there is to say stands at the execution: each attribute costs as much as a fifth of a span.
        attributes: dict[str, Value] = {"easyq.execution": execution.execution_id}
        if execution.pool:
            attributes["easyq.pool"] = execution.pool
        self._tracer.write_child(
            name, found.context, began=self._wall(began), ended=self._wall(ended), attributes=attributes
        )

    def _ended(self, found: Spot, execution: Execution) -> None:
        attributes = _ids(execution) | {
            "easyq.attempt": execution.attempt,
            "easyq.trigger": execution.trigger.name.lower(),
            "easyq.state": execution.state.name,
            "container.image.name": execution.image,
        }
        if execution.agent_id:
            attributes |= {"easyq.agent": execution.agent_id, "easyq.pool": execution.pool}
            attributes["easyq.epoch"] = execution.epoch
        if execution.exit_code is not None:
            attributes["process.exit.code"] = execution.exit_code
        failure = execution.failure
        failed = execution.state is not ExecutionState.SUCCEEDED
        if failed:
            attributes["error.type"] = (
                failure.reason.name.lower() if failure is not None else execution.state.name.lower()
            )
        self._tracer.write(
            "execution",
            found.context,
            parent=found.parent,
            link=found.link,
            began=self._wall(execution.created_at),
            ended=self._wall(execution.finished_at or execution.created_at),
            attributes=attributes,
            error=(failure.message if failure is not None else "") if failed else None,
        )

    def _wall(self, at: int) -> int:
        return (at - self._ahead_ms()) * _MS

    def _spot(self, execution: Execution) -> Spot | None:
        return spot(execution) if execution.trace else None


def _ids(execution: Execution) -> dict[str, Value]:
    return {
        "easyq.task": execution.task_id,
        "easyq.job": execution.job_id,
        "easyq.execution": execution.execution_id,
    }
