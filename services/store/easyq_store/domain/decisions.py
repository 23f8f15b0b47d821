"""What a write decided, as the log tells it: one line for each decision, with the ids of all that it is about.

What only records facts on the way (a container's start, a beat, how far a log is) is no decision.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from easyq_store.domain.changes import Note
from easyq_store.domain.records import Agent, Execution, Job, Skip
from easyq_store.domain.states import AgentState, ExecutionState, JobState, Trigger


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """One line. `grave`: somebody may have to look at it."""

    event: str
    fields: dict[str, Any]
    grave: bool = False


def decisions_of(note: Note) -> Iterator[Decision]:
    """The decisions of one write, none for most of them."""
    before, after = note
    if isinstance(after, Execution):
        yield from _of_execution(before if isinstance(before, Execution) else None, after)
    elif isinstance(after, Job):
        yield from _of_job(before if isinstance(before, Job) else None, after)
    elif isinstance(after, Agent):
        yield from _of_agent(before if isinstance(before, Agent) else None, after)


# ------------------------------------------------------------------------------------------------------- executions
def _of_execution(before: Execution | None, after: Execution) -> Iterator[Decision]:
    if before is None:
        # The first is told with its job.
        event = "job_accepted" if after.trigger is Trigger.ENQUEUE and after.attempt == 1 else "execution_planned"
        fields = {**_ids(after), "trigger": after.trigger.name, "attempt": after.attempt}
        if after.fire_at is not None:
            fields["fire"] = _time(after.fire_at)
        if after.state is ExecutionState.SCHEDULED:
            fields["due"] = _time(after.due_at)
        yield Decision(event=event, fields=fields)
        if not after.ended:
            return
    elif before.state is after.state:
        return
    if after.ended:
        yield _end(after)
    elif after.state is ExecutionState.ASSIGNED:
        yield Decision(event="assigned", fields={**_ids(after), **_holder(after), "pool": after.pool})
    elif before is not None and before.held and after.state is ExecutionState.QUEUED:
        yield Decision(event="given_back", fields={**_ids(after), **_holder(before)})


def _end(after: Execution) -> Decision:
    fields = {**_ids(after), "state": after.state.name, "attempt": after.attempt}
    if after.agent_id:
        fields |= _holder(after)
    if after.exit_code is not None:
        fields["exit_code"] = after.exit_code
    if after.failure is not None:
        # Not its message: that may repeat what the job's own program says.
        fields["reason"] = after.failure.reason.name
    if after.next is not None:
        fields |= {"next": after.next.execution_id, "next_due": _time(after.next.due_at)}
    lost = after.state is ExecutionState.LOST
    return Decision(event="execution_lost" if lost else "ended", fields=fields, grave=lost)


def _ids(execution: Execution) -> dict[str, Any]:
    ids = {"task": execution.task_id, "job": execution.job_id, "execution": execution.execution_id}
    return {**ids, **_trace(execution.trace)}


def _trace(text: str) -> dict[str, str]:
    """The trace that a record belongs to; its text begins as W3C's traceparent does."""
    return {"trace_id": text.split("-", 2)[1]} if text else {}


def _holder(execution: Execution) -> dict[str, Any]:
    return {"agent": execution.agent_id, "session": execution.session, "epoch": execution.epoch}


# ------------------------------------------------------------------------------------------------------------- jobs
def _of_job(before: Job | None, after: Job) -> Iterator[Decision]:
    ids = {"task": after.task_id, "job": after.job_id, **_trace(after.trace)}
    if before is None:
        # Any other is told with its first execution.
        if after.schedule is not None:
            yield Decision(event="schedule_accepted", fields=ids)
        return
    if after.revision != before.revision:
        yield Decision(event="job_replaced", fields={**ids, "revision": after.revision})
    if after.stop_requested_at is not None and before.stop_requested_at is None:
        yield Decision(event="stop_requested", fields=ids)
    if after.delete_requested and not before.delete_requested:
        yield Decision(event="delete_requested", fields=ids)
    if after.schedule is not None and before.schedule is not None:
        skipped = after.schedule.skipped - before.schedule.skipped
        if skipped > 0:
            yield Decision(event="fires_skipped", fields={**ids, "count": skipped, **_skips(after.schedule.unkept)})
        if after.state is not before.state:
            yield Decision(
                event=_SCHEDULES.get(after.state, "schedule_ended"), fields={**ids, "state": after.state.name}
            )


def _skips(skips: Sequence[Skip]) -> dict[str, Any]:
    """Why, and the times of the first and the last fire that were skipped."""
    reasons = sorted({skip.reason.name for skip in skips})
    if not skips:
        return {"reasons": reasons}
    first, last = min(skip.first for skip in skips), max(skip.last for skip in skips)
    return {"reasons": reasons, "first": _time(first), "last": _time(last)}


_SCHEDULES = {JobState.ACTIVE: "schedule_resumed", JobState.PAUSED: "schedule_paused"}


# ----------------------------------------------------------------------------------------------------------- agents
def _of_agent(before: Agent | None, after: Agent) -> Iterator[Decision]:
    ids = {"agent": after.agent_id, "session": after.session}
    if before is None or after.session != before.session:
        yield Decision(event="session_opened", fields={**ids, "pools": after.pools, "slots": after.slots})
    elif after.state is not before.state:
        dead = after.state is AgentState.DEAD
        fields = {**ids, "by_hand": True} if after.declared_dead else ids
        yield Decision(
            event="session_dead" if dead else f"session_{after.state.name.lower()}", fields=fields, grave=dead
        )
    if before is None:
        return
    if (after.cordoned_at is None) is not (before.cordoned_at is None):
        event = "agent_uncordoned" if after.cordoned_at is None else "agent_cordoned"
        yield Decision(event=event, fields=ids)
    if after.drained_at is not None and before.drained_at is None:
        deadline = None if after.drain_deadline is None else _time(after.drain_deadline)
        yield Decision(event="agent_drains", fields={**ids, "deadline": deadline})


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
