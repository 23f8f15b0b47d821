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
    next_look_ms: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class JobSnapshot:
    """What counts of a job as a whole. The state by name; times in ms since the epoch, None where unset."""

    state: str
    next_run_ms: int | None = None
    last_modified_ms: int | None = None
    paused_ms: int | None = None
    # Nominal time of a fire that waits for the one before it to end; of a run asked for by hand, when that was.
    waiting_fire_ms: int | None = None


def of_job(job: JobSnapshot) -> Words | None:
    """Returns why a job as a whole waits: for its time, its back-off, its next fire, or for being resumed."""
    at = _time(job.next_run_ms)
    if job.state == "SCHEDULED":
        return _words("NOT_DUE", f"It is due {at}.", job)
    if job.state == "RETRYING":
        return _words("BACKOFF", f"It failed; next attempt {at}.", job)
    if job.state == "PAUSED":
        text = "It is paused: nothing fires until it is resumed."
        return Words(reason="PAUSED", message=text, since_ms=job.paused_ms)
    if job.state != "ACTIVE":
        return None
    if job.waiting_fire_ms is not None:
        text = f"Its run of {_date(job.waiting_fire_ms)} waits for the one before it to end."
        return Words(reason="OVERLAP", message=text, since_ms=job.waiting_fire_ms, next_look_ms=job.next_run_ms)
    if job.next_run_ms is None:
        return None
    return _words("NOT_DUE", f"Its next fire is due {at}.", job)


def _words(reason: str, text: str, job: JobSnapshot) -> Words:
    return Words(reason=reason, message=text, since_ms=job.last_modified_ms, next_look_ms=job.next_run_ms)


def from_record(execution: Snapshot) -> Words | None:
    """Returns why it waits where its record alone tells, else None."""
    if execution.state != "SCHEDULED":
        return None
    due = _time(execution.due_at_ms)
    if execution.trigger in _RETRIES:
        kind = "failed" if execution.trigger == "RETRY" else "was lost to a failure of the infrastructure"
        text = f"The attempt before it {kind}; next attempt {due}, number {execution.attempt}."
        reason = "BACKOFF"
    else:
        text, reason = f"It is due {due}.", "NOT_DUE"
    return Words(reason=reason, message=text, since_ms=execution.queued_at_ms, next_look_ms=execution.due_at_ms)


def without_dispatcher(execution: Snapshot, *, slow_after: float | None = None) -> Words | None:
    """Returns what is to be said where no dispatcher answered: none can be reached, or one that may be there did not
    within `slow_after` seconds."""
    if execution.state == "ASSIGNED":
        return _assigned(execution)
    if execution.state != "QUEUED":
        return None
    if slow_after is not None:
        text = (
            f"No dispatcher has answered within {slow_after:g} s, so that why it waits is not known now. The job is "
            "stored; a dispatcher that is only busy runs it all the same. See /status."
        )
        return Words(reason="DISPATCHER_SLOW", message=text, since_ms=execution.queued_at_ms)
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
    return "later" if ms is None else f"at {_date(ms)}"


def _date(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
