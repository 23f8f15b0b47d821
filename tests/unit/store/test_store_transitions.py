"""The table of legal transitions, spelled out once more by hand."""

from dataclasses import replace

import pytest

from easyq_chassis.errors import FailedPrecondition
from easyq_store.domain.records import Failure, evolve
from easyq_store.domain.states import ENDED, HELD, JOB_ENDED, OPEN, WAITING, ExecutionState, FailureReason, JobState
from easyq_store.domain.transitions import EXECUTION_MOVES, JOB_MOVES, may_follow, move
from tests.support.store_records import T0, execution

LEGAL = {
    "SCHEDULED": "QUEUED STOPPED EXPIRED",
    "QUEUED": "ASSIGNED SCHEDULED STOPPED EXPIRED",
    "ASSIGNED": "QUEUED RUNNING SUCCEEDED FAILED TIMED_OUT STOPPED LOST EXPIRED",
    "RUNNING": "SUCCEEDED FAILED TIMED_OUT STOPPED LOST",
    **dict.fromkeys(["SUCCEEDED", "FAILED", "TIMED_OUT", "STOPPED", "LOST", "EXPIRED"], ""),
}


@pytest.mark.parametrize("old", ExecutionState)
@pytest.mark.parametrize("new", ExecutionState)
def test_every_pair_of_execution_states(old: ExecutionState, new: ExecutionState) -> None:
    made = execution(state=old)
    if new.name in LEGAL[old.name].split():
        moved = move(made, new, finished_at=T0)
        assert (moved.state, moved.finished_at, moved.job_id) == (new, T0, made.job_id)
    else:
        with pytest.raises(FailedPrecondition, match=f"{old.name}, which can't become {new.name}"):
            move(made, new)


def test_the_tables_know_every_state() -> None:
    assert set(EXECUTION_MOVES) == set(ExecutionState)
    assert set(JOB_MOVES) == set(JobState)
    assert set(ExecutionState) == WAITING | HELD | ENDED
    assert WAITING | HELD == OPEN
    assert not OPEN & ENDED
    assert JobState.RETRYING not in JOB_ENDED


@pytest.mark.parametrize("old", sorted(JOB_ENDED))
def test_an_ended_job_is_left_for_a_further_attempt_only(old: JobState) -> None:
    assert may_follow(old, old, further_attempt=False)
    for new in JobState:
        if new is not old:
            assert not may_follow(old, new, further_attempt=False)
    assert may_follow(old, JobState.QUEUED, further_attempt=True)
    assert may_follow(old, JobState.EXPIRED, further_attempt=True)


def test_an_open_job_follows_its_execution() -> None:
    assert may_follow(JobState.QUEUED, JobState.RUNNING, further_attempt=False)
    assert may_follow(JobState.RUNNING, JobState.RETRYING, further_attempt=False)
    assert may_follow(JobState.RUNNING, JobState.RUNNING, further_attempt=False)
    assert not may_follow(JobState.ACTIVE, JobState.RUNNING, further_attempt=False)
    assert may_follow(JobState.ACTIVE, JobState.PAUSED, further_attempt=False)


def test_a_record_evolves_as_it_is_replaced() -> None:
    made = execution(failure=Failure(reason=FailureReason.TIMEOUT))
    assert evolve(made, epoch=3, failure=None) == replace(made, epoch=3, failure=None)
    assert made.epoch == 0
    with pytest.raises(TypeError, match="Execution has no colour"):
        evolve(made, colour=1)
