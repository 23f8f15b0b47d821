"""What follows when an execution ends: a pure function, whose answer is stored in the very write that ends it."""

import uuid
from dataclasses import dataclass
from enum import Enum

from easyq_store.domain.policy import Policy, infra_wait_ms
from easyq_store.domain.records import Execution, Failure, Planned
from easyq_store.domain.states import ExecutionState, FailureReason, OnLost, Outcome, Trigger
from easyq_store.domain.timing import has_expired

# Names the ids of successors, so that whoever decides again, or completes what a crash left, comes to the same ids.
_SUCCESSORS = uuid.UUID("5f4d9e0c-6a35-4c0e-9a51-0a0f9d3f7c11")


class Blame(Enum):
    """Whose fault an end is: it says which counter a further attempt uses up."""

    # Nothing follows: it succeeded, was stopped, expired, or would fail the same way again.
    FINAL = "final"
    PROGRAM = "program"
    INFRASTRUCTURE = "infrastructure"


@dataclass(frozen=True, kw_only=True, slots=True)
class End:
    """How an execution ended, as told by its agent or (LOST, with its session) found by the store."""

    outcome: Outcome
    exit_code: int | None = None
    oom_killed: bool = False
    failure: Failure | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """The final state, why, and what follows."""

    state: ExecutionState
    failure: Failure | None = None
    next: Planned | None = None


def successor_id(execution_id: str) -> str:
    """The id of the attempt that follows an execution."""
    return str(uuid.uuid5(_SUCCESSORS, execution_id))


def decide(
    execution: Execution,
    end: End,
    policy: Policy,
    *,
    revision: int,
    now: int,
    share: float,
    stop_requested: bool,
) -> Decision:
    """Decides the execution's end.

    `policy` and `revision` are of the spec that a further attempt would run; `share` in [0, 1) is the random part of
    its wait; `stop_requested` means of the job or of the execution: a stop wins over every further attempt.
    """
    state, failure, blame = judge(end)
    if stop_requested or blame is Blame.FINAL:
        return Decision(state=state, failure=failure)
    if blame is Blame.PROGRAM:
        following = _retry(execution, end, policy, revision=revision, now=now, share=share)
    elif state is ExecutionState.LOST and policy.on_lost is OnLost.FAIL:
        following = None
    else:
        following = _infra_retry(execution, policy, revision=revision, now=now, share=share)
    return Decision(state=state, failure=failure, next=following)


def judge(end: End) -> tuple[ExecutionState, Failure | None, Blame]:
    """The final state, the reason to show, and whose fault it is."""
    match end.outcome:
        case Outcome.EXITED if end.exit_code == 0:
            # The program's own word: one that lost a child for want of memory and went on has succeeded.
            return ExecutionState.SUCCEEDED, None, Blame.FINAL
        case Outcome.EXITED if end.exit_code is not None:
            return ExecutionState.FAILED, _exit_failure(end, end.exit_code), Blame.PROGRAM
        case Outcome.TIMED_OUT:
            failure = _told(end, FailureReason.TIMEOUT, "it ran longer than its timeout")
            return ExecutionState.TIMED_OUT, failure, Blame.PROGRAM
        case Outcome.STOPPED:
            failure = _told(end, FailureReason.STOP_REQUESTED, "a stop was asked for")
            return ExecutionState.STOPPED, failure, Blame.FINAL
        case Outcome.REJECTED:
            failure = _told(end, FailureReason.INVALID_CONTAINER, "it can't be run as asked")
            return ExecutionState.FAILED, failure, Blame.FINAL
        case Outcome.INFRA_FAILED:
            failure = _told(end, FailureReason.HOST_FAILED, "its host failed")
            return ExecutionState.FAILED, failure, Blame.INFRASTRUCTURE
        case Outcome.EXPIRED:
            failure = _told(end, FailureReason.START_DEADLINE, "it did not start in time")
            return ExecutionState.EXPIRED, failure, Blame.FINAL
        case _:  # LOST, and an exit without a code, which tells nothing either
            failure = _told(end, FailureReason.HOST_LOST, "how it ended is not known")
            return ExecutionState.LOST, failure, Blame.INFRASTRUCTURE


def _told(end: End, reason: FailureReason, message: str) -> Failure:
    return end.failure or Failure(reason=reason, message=message)


def _exit_failure(end: End, exit_code: int) -> Failure:
    if end.oom_killed:
        message = f"killed for want of memory (exit code {exit_code})"
        return Failure(reason=FailureReason.OOM_KILLED, message=message)
    return _told(end, FailureReason.NONZERO_EXIT, f"exit code {exit_code}")


def _retry(execution: Execution, end: End, policy: Policy, *, revision: int, now: int, share: float) -> Planned | None:
    worth_it = policy.retries_on(exit_code=end.exit_code, oom=end.oom_killed, timeout=end.outcome is Outcome.TIMED_OUT)
    if execution.retries_used >= policy.retries or not worth_it:
        return None
    number = execution.retries_used + 1
    due_at = now + policy.backoff.wait_ms(number, share)
    bound = policy.backoff.max_elapsed_ms
    if bound is not None and due_at > execution.series_due_at + bound:
        return None
    return _planned(
        execution,
        policy,
        trigger=Trigger.RETRY,
        due_at=due_at,
        revision=revision,
        retries_used=number,
        infra_used=execution.infra_used,
    )


def _infra_retry(execution: Execution, policy: Policy, *, revision: int, now: int, share: float) -> Planned | None:
    if execution.infra_used >= policy.infra_retries:
        return None
    number = execution.infra_used + 1
    return _planned(
        execution,
        policy,
        trigger=Trigger.INFRA_RETRY,
        due_at=now + infra_wait_ms(number, share),
        revision=revision,
        retries_used=execution.retries_used,
        infra_used=number,
    )


def _planned(
    execution: Execution,
    policy: Policy,
    *,
    trigger: Trigger,
    due_at: int,
    revision: int,
    retries_used: int,
    infra_used: int,
) -> Planned | None:
    latest_start = policy.timing.latest_start(due_at)
    if has_expired(latest_start, due_at):
        return None
    return Planned(
        execution_id=successor_id(execution.execution_id),
        attempt=0 if policy.recurring else execution.attempt + 1,
        fence=0 if policy.recurring else execution.fence + 1,
        trigger=trigger,
        due_at=due_at,
        latest_start=latest_start,
        priority=policy.priority,
        spec_revision=revision,
        retries_used=retries_used,
        infra_used=infra_used,
        series_due_at=execution.series_due_at,
        fire_at=execution.fire_at,
        needs=policy.needs,
        image=policy.image,
        trace=execution.trace,
    )
