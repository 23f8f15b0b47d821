"""Everything that may happen to an execution, each a pure function from the record to the record.

One that changes nothing returns the very record it was given.
"""

from dataclasses import dataclass, replace
from enum import Enum

from easyq_store.domain.decide import Decision, End
from easyq_store.domain.policy import Policy
from easyq_store.domain.records import Agent, Execution, Failure, Head, HeldHead
from easyq_store.domain.states import AgentState, ExecutionState, FailureReason, Trigger
from easyq_store.domain.timing import has_expired
from easyq_store.domain.transitions import move


class Refusal(Enum):
    """Why an execution was not assigned."""

    NOT_QUEUED = 1
    STALE_EPOCH = 2
    STALE_GENERATION = 3
    STALE_SESSION = 4
    EXPIRED = 5
    CORDONED = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """An agent's session, chosen by a dispatcher to run an execution that it knows in one epoch."""

    execution_id: str
    epoch: int
    generation: int
    agent_id: str
    session: int
    pool: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LogSizes:
    """Final sizes of both streams, and whether output beyond the cap was dropped."""

    stdout: int
    stderr: int
    stdout_truncated: bool = False
    stderr_truncated: bool = False


def fire(execution: Execution, *, epoch: int, now: int, seq: int) -> Execution:
    """SCHEDULED → QUEUED at its time, or EXPIRED past its last moment. Others are left alone."""
    if execution.state is not ExecutionState.SCHEDULED or execution.epoch != epoch or execution.due_at > now:
        return execution
    if has_expired(execution.latest_start, now):
        return expire(execution, now=now)
    return move(execution, ExecutionState.QUEUED, queue_seq=seq, queued_at=now)


def hasten(execution: Execution, policy: Policy, *, now: int, seq: int) -> Execution:
    """SCHEDULED → QUEUED before its time, by hand. Others, and those that may not start any more, are left alone."""
    latest_start = policy.timing.latest_start(now)
    if execution.state is not ExecutionState.SCHEDULED or has_expired(latest_start, now):
        return execution
    return move(
        execution,
        ExecutionState.QUEUED,
        epoch=execution.epoch + 1,
        due_at=now,
        latest_start=latest_start,
        series_due_at=now if execution.trigger is Trigger.ENQUEUE else execution.series_due_at,
        queue_seq=seq,
        queued_at=now,
    )


def expire(execution: Execution, *, now: int) -> Execution:
    """SCHEDULED or QUEUED → EXPIRED past its last moment. Others are left alone."""
    if not execution.waiting or not has_expired(execution.latest_start, now):
        return execution
    failure = Failure(reason=FailureReason.START_DEADLINE, message="it did not start in time")
    return move(execution, ExecutionState.EXPIRED, finished_at=now, failure=failure)


def assign(execution: Execution, claim: Claim, *, now: int) -> Execution | Refusal:
    """QUEUED → ASSIGNED, epoch + 1; or why not. EXPIRED means that `expire` is to be applied."""
    if execution.state is not ExecutionState.QUEUED:
        return Refusal.NOT_QUEUED
    if execution.epoch != claim.epoch:
        return Refusal.STALE_EPOCH
    if has_expired(execution.latest_start, now):
        return Refusal.EXPIRED
    return move(
        execution,
        ExecutionState.ASSIGNED,
        epoch=execution.epoch + 1,
        assigned_at=now,
        agent_id=claim.agent_id,
        session=claim.session,
        pool=claim.pool,
    )


def may_take(agent: Agent | None, claim: Claim) -> bool:
    """Whether the claim's session is the agent's newest, and alive."""
    return agent is not None and agent.session == claim.session and agent.state is AgentState.LIVE


def fence(execution: Execution) -> Execution:
    """Raises the epoch while it is QUEUED, so that an assignment under way for the old one can't succeed."""
    if execution.state is not ExecutionState.QUEUED:
        return execution
    return replace(execution, epoch=execution.epoch + 1)


def holds(execution: Execution, agent_id: str, epoch: int) -> bool:
    """Whether this agent holds the execution in this epoch: only then its words count."""
    return execution.held and execution.epoch == epoch and execution.agent_id == agent_id


def start(execution: Execution, *, now: int, container_id: str, image_digest: str) -> Execution:
    """ASSIGNED → RUNNING. One that runs already is left alone."""
    if execution.state is ExecutionState.RUNNING:
        return execution
    return move(execution, ExecutionState.RUNNING, started_at=now, container_id=container_id, image_digest=image_digest)


def finish(
    execution: Execution,
    end: End,
    decision: Decision,
    *,
    now: int,
    sizes: LogSizes,
    container_id: str = "",
    image_digest: str = "",
    ran_ms: int | None = None,
    logs_complete: bool = False,
) -> Execution:
    """The end that an agent reported, with the decision what follows."""
    started_at = execution.started_at
    if started_at is None and ran_ms is not None:
        # It ran so shortly that its start came with its end. No earlier than it was given out, whatever the host says.
        started_at = max(execution.assigned_at or now, now - ran_ms)
    return move(
        execution,
        decision.state,
        started_at=started_at,
        finished_at=now,
        container_id=container_id or execution.container_id,
        image_digest=image_digest or execution.image_digest,
        outcome=end.outcome,
        exit_code=end.exit_code,
        failure=decision.failure,
        stdout_size=sizes.stdout,
        stderr_size=sizes.stderr,
        stdout_truncated=sizes.stdout_truncated,
        stderr_truncated=sizes.stderr_truncated,
        logs_complete=logs_complete,
        ran_ms=ran_ms,
        next=decision.next,
    )


def is_repeat(execution: Execution, agent_id: str, epoch: int, end: End) -> bool:
    """Whether this end of this epoch was recorded before."""
    return (
        execution.ended
        and execution.epoch == epoch
        and execution.agent_id == agent_id
        and execution.outcome is end.outcome
        and execution.exit_code == end.exit_code
    )


def lose(execution: Execution, decision: Decision, *, now: int) -> Execution:
    """The end of one whose session is dead. The epoch rises: whatever its agent says later is refused."""
    return move(
        execution,
        decision.state,
        epoch=execution.epoch + 1,
        finished_at=now,
        failure=decision.failure,
        next=decision.next,
    )


def give_back(execution: Execution, *, now: int) -> Execution:
    """ASSIGNED → QUEUED in its old place; STOPPED if that was asked for meanwhile."""
    if execution.stop_requested_at is not None:
        return stop(execution, now=now)
    return move(execution, ExecutionState.QUEUED, assigned_at=None, agent_id="", session=0, pool="")


def stop(execution: Execution, *, now: int) -> Execution:
    """Ends one that never started as STOPPED."""
    failure = Failure(reason=FailureReason.STOP_REQUESTED, message="a stop was asked for")
    return move(
        execution,
        ExecutionState.STOPPED,
        finished_at=now,
        stop_requested_at=execution.stop_requested_at or now,
        failure=failure,
        stdout_size=0,
        stderr_size=0,
        logs_complete=True,
    )


def request_stop(execution: Execution, *, now: int) -> Execution:
    """Waiting → STOPPED; a held one is marked, and its agent ends it. Others are left alone."""
    if execution.waiting:
        return stop(execution, now=now)
    if execution.held and execution.stop_requested_at is None:
        return replace(execution, stop_requested_at=now)
    return execution


def retime(execution: Execution, policy: Policy, *, revision: int, now: int, seq: int) -> Execution:
    """Gives one that waits a newer spec. Others, and those that have it, are left alone.

    A first attempt gets the new start time; a retry keeps its own. The epoch rises, so that who knows it by its old
    priority or time reads it again. `seq` is its place if it is queued now and was not before.
    """
    if not execution.waiting or execution.spec_revision >= revision:
        return execution
    due_at = policy.timing.due_at(now) if execution.trigger is Trigger.ENQUEUE else execution.due_at
    changed = replace(
        execution,
        epoch=execution.epoch + 1,
        spec_revision=revision,
        priority=policy.priority,
        due_at=due_at,
        series_due_at=due_at if execution.trigger is Trigger.ENQUEUE else execution.series_due_at,
        latest_start=policy.timing.latest_start(due_at),
        needs=policy.needs,
        image=policy.image,
    )
    if due_at <= now and execution.state is ExecutionState.SCHEDULED:
        return move(changed, ExecutionState.QUEUED, queue_seq=seq, queued_at=now)
    if due_at > now and execution.state is ExecutionState.QUEUED:
        return move(changed, ExecutionState.SCHEDULED, queue_seq=0, queued_at=None)
    return changed


def rebind(execution: Execution, agent_id: str, session: int) -> Execution:
    """Puts one that the agent holds under its newer session. Others are left alone."""
    if not execution.held or execution.agent_id != agent_id or execution.session >= session:
        return execution
    return replace(execution, session=session)


def head(execution: Execution) -> Head | None:
    """The execution as queues know it, if it is QUEUED."""
    if execution.state is not ExecutionState.QUEUED:
        return None
    return Head(
        execution_id=execution.execution_id,
        task_id=execution.task_id,
        priority=execution.priority,
        queue_seq=execution.queue_seq,
        epoch=execution.epoch,
        needs=execution.needs,
        image=execution.image,
    )


def held_head(execution: Execution) -> HeldHead | None:
    """The execution as counts know it, if it is ASSIGNED or RUNNING."""
    if not execution.held:
        return None
    return HeldHead(
        execution_id=execution.execution_id,
        task_id=execution.task_id,
        agent_id=execution.agent_id,
        session=execution.session,
        pool=execution.pool,
        epoch=execution.epoch,
        needs=execution.needs,
    )
