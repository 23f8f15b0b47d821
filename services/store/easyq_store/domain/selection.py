"""Which jobs a call for many is about."""

from collections.abc import Callable
from dataclasses import dataclass

from easyq_chassis.errors import FieldProblem, InvalidArgument
from easyq_chassis.patterns import Pattern
from easyq_store.domain.records import Job
from easyq_store.domain.states import JOB_ENDED, FailureReason, JobState

# Jobs that gave up: the error queue.
GAVE_UP = (JobState.FAILED, JobState.TIMED_OUT)
NOT_ENDED = tuple(sorted(frozenset(JobState) - JOB_ENDED))


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """Conditions that hold together. Empty and None: no such condition."""

    task_id: str = ""
    # A regex for whole names of tasks.
    task_pattern: str = ""
    states: tuple[JobState, ...] = ()
    # Why the newest attempt failed.
    reasons: tuple[FailureReason, ...] = ()
    # All of them, each `key=value`.
    labels: tuple[str, ...] = ()
    created_from: int | None = None
    created_before: int | None = None
    # Created at least this long before the call.
    older_than_ms: int | None = None


def task_test(task_pattern: str) -> Callable[[str], bool]:
    """Returns what tells whether a task's whole name matches; each does if the pattern is empty.

    Errors: INVALID_ARGUMENT naming the field.
    """
    if not task_pattern:
        return lambda _: True
    try:
        return Pattern(task_pattern).matches
    except ValueError as error:
        problem = FieldProblem(field="taskPattern", message=str(error))
        raise InvalidArgument(f"taskPattern: {error}", fields=[problem]) from error


def bound(selection: Selection, began: int) -> int:
    """Jobs with created_at below this are meant: those made before the call began, and as long ago as asked for."""
    bounds = [began + 1]
    if selection.created_before is not None:
        bounds.append(selection.created_before)
    if selection.older_than_ms is not None:
        bounds.append(began - selection.older_than_ms + 1)
    return min(bounds)


def may_stop(job: Job) -> bool:
    """Whether a stop has something to do."""
    return not job.ended


def had_ended(job: Job, began: int) -> bool:
    """Whether it had ended when the call began: one that did since is not meant."""
    return job.ended and job.last_modified_at <= began
