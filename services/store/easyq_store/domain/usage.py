"""What a write means for metrics: how an execution ended, how long it waited, how late it was."""

from easyq_store.domain.records import Execution
from easyq_store.domain.states import ExecutionState, FailureReason, Trigger

# Exit codes by convention of shells: a program that can't be run, or isn't there; killed by a signal.
_CANNOT_RUN, _NOT_FOUND, _SIGNALS = 126, 127, 128


def exit_class(execution: Execution) -> str:
    """How an execution ended, in one of few words."""
    if execution.state is ExecutionState.TIMED_OUT:
        return "timeout"
    if execution.failure is not None and execution.failure.reason is FailureReason.OOM_KILLED:
        return "oom"
    code = execution.exit_code
    if code is None:
        return "none"
    if code == 0:
        return "success"
    if code in {_CANNOT_RUN, _NOT_FOUND}:
        return "command"
    return "signal" if code > _SIGNALS else "error"


def waited_ms(execution: Execution) -> int | None:
    """From when an execution could have begun until it was assigned; None if it never was."""
    if execution.assigned_at is None:
        return None
    since = execution.due_at if execution.queued_at is None else max(execution.queued_at, execution.due_at)
    return max(0, execution.assigned_at - since)


def ran_ms(execution: Execution) -> int | None:
    """How long its container ran; None if it did not, or nobody knows."""
    if execution.ran_ms is not None:
        return execution.ran_ms
    if execution.started_at is None or execution.finished_at is None:
        return None
    return max(0, execution.finished_at - execution.started_at)


def late_by(before: Execution | None, after: Execution) -> tuple[str, int] | None:
    """What kind of time an execution has just become ready at, and how many ms later than planned. None: at none.

    Kinds: `fire` of a recurring job, `start` at the time that a job asked for, `retry` after its pause.
    """
    if after.state is not ExecutionState.QUEUED or after.queued_at is None:
        return None
    fires = after.trigger is Trigger.SCHEDULE
    was_planned = before is not None and before.state is ExecutionState.SCHEDULED
    if not (was_planned or (before is None and fires)):
        return None
    retries = after.trigger in {Trigger.RETRY, Trigger.INFRA_RETRY}
    kind = "fire" if fires else "retry" if retries else "start"
    return kind, max(0, after.queued_at - after.due_at)


def log_bytes(execution: Execution) -> int | None:
    """Bytes of output; None while unknown."""
    if execution.stdout_size is None or execution.stderr_size is None:
        return None
    return execution.stdout_size + execution.stderr_size
