"""The one table of legal transitions.

Execution:
    SCHEDULED → QUEUED → ASSIGNED → RUNNING → SUCCEEDED | FAILED | TIMED_OUT | STOPPED | LOST
    Before it runs also STOPPED | EXPIRED. ASSIGNED may end in any of them directly.
    ASSIGNED → QUEUED only when its holder gives it back; QUEUED → SCHEDULED only when PUT moves its time.
Job:
    follows its newest execution; an ended one is left only for a further attempt (PUT, or a retry by hand).
"""

from typing import Any

from easyq_chassis.errors import FailedPrecondition
from easyq_store.domain.records import Execution, evolve
from easyq_store.domain.states import ENDED, JOB_ENDED, ExecutionState, JobState

_S = ExecutionState

EXECUTION_MOVES: dict[ExecutionState, frozenset[ExecutionState]] = {
    _S.SCHEDULED: frozenset({_S.QUEUED, _S.STOPPED, _S.EXPIRED}),
    _S.QUEUED: frozenset({_S.ASSIGNED, _S.SCHEDULED, _S.STOPPED, _S.EXPIRED}),
    _S.ASSIGNED: frozenset({_S.QUEUED, _S.RUNNING}) | ENDED,
    _S.RUNNING: ENDED - {_S.EXPIRED},
    **{ended: frozenset() for ended in ENDED},
}

_OPEN_JOB = frozenset({JobState.SCHEDULED, JobState.QUEUED, JobState.RUNNING, JobState.RETRYING})

JOB_MOVES: dict[JobState, frozenset[JobState]] = {
    # Several steps of an execution may be told to the job as one.
    **dict.fromkeys(_OPEN_JOB, _OPEN_JOB | JOB_ENDED),
    # With a further attempt only.
    **dict.fromkeys(JOB_ENDED, _OPEN_JOB | JOB_ENDED),
    # Recurring jobs.
    JobState.ACTIVE: frozenset({JobState.PAUSED, JobState.STOPPED, JobState.EXPIRED}),
    JobState.PAUSED: frozenset({JobState.ACTIVE, JobState.STOPPED, JobState.EXPIRED}),
}


def move(execution: Execution, to: ExecutionState, **fields: Any) -> Execution:
    """Returns the execution in state `to`, with other fields changed.

    Raises FailedPrecondition (ILLEGAL_STATE) where the table does not have it.
    """
    if to not in EXECUTION_MOVES[execution.state]:
        raise FailedPrecondition(
            f"execution {execution.execution_id} is {execution.state.name}, which can't become {to.name}"
        )
    return evolve(execution, state=to, **fields)


def may_follow(old: JobState, new: JobState, *, further_attempt: bool) -> bool:
    """Whether a job in state `old` may come to be in `new`."""
    if old in JOB_ENDED and not further_attempt:
        return new is old
    return new is old or new in JOB_MOVES[old]
