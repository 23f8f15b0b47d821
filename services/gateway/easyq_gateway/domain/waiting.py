"""Why an execution is not running yet, as far as its own record tells."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

#: States in which the dispatcher knows more than the record.
ASK_DISPATCHER = frozenset({"QUEUED", "ASSIGNED"})
_RETRIES = frozenset({"RETRY", "INFRA_RETRY"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Snapshot:
    """What counts of an execution. States and triggers by name, times in ms since the epoch."""

    state: str
    trigger: str
    attempt: int
    host: str
    due_at_ms: int | None
    queued_at_ms: int | None
    assigned_at_ms: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Words:
    """A reason (a name of `Waiting.Reason`), a sentence for people, and since when, if that is known."""

    reason: str
    message: str
    since_ms: int | None


def from_record(execution: Snapshot) -> Words | None:
    """Returns why it waits where its record alone tells, else None."""
    if execution.state != "SCHEDULED":
        return None
    due = _time(execution.due_at_ms)
    if execution.trigger in _RETRIES:
        kind = "failed" if execution.trigger == "RETRY" else "was lost to a failure of the infrastructure"
        text = f"The attempt before it {kind}; attempt {execution.attempt} is due {due}."
        return Words(reason="BACKOFF", message=text, since_ms=execution.queued_at_ms)
    return Words(reason="NOT_DUE", message=f"It is due {due}.", since_ms=execution.queued_at_ms)


def without_dispatcher(execution: Snapshot) -> Words | None:
    """Returns what is to be said where no dispatcher answered."""
    if execution.state == "ASSIGNED":
        return _assigned(execution)
    if execution.state != "QUEUED":
        return None
    text = "No dispatcher can be reached. The job is stored and runs once one is there again; see /status."
    return Words(reason="DISPATCHER_UNAVAILABLE", message=text, since_ms=execution.queued_at_ms)


def unexplained(execution: Snapshot) -> Words | None:
    """Returns what is to be said where the dispatchers answered, and know nothing of it."""
    if execution.state == "ASSIGNED":
        return _assigned(execution)
    if execution.state != "QUEUED":
        return None
    text = "It was queued a moment ago, or many are before it in its task; the dispatcher has not come to it yet."
    return Words(reason="POSITION", message=text, since_ms=execution.queued_at_ms)


def _assigned(execution: Snapshot) -> Words:
    text = f"Agent {execution.host} has it and starts it."
    return Words(reason="STARTING", message=text, since_ms=execution.assigned_at_ms)


def _time(ms: int | None) -> str:
    if ms is None:
        return "later"
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("at %Y-%m-%d %H:%M:%S UTC")
