"""Whether an execution may still be started, and how it ends where it may not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from easyq_runner.domain.records import Failure, FailureReason, Finish, GiveBack, OutcomeKind, Word

_NO_PROGRAM = frozenset({126, 127})


class Obstacle(Enum):
    """Why a start must not happen any more."""

    # It is not this agent's any more; nothing is reported.
    KILLED = "killed"
    STOPPED = "stopped"
    # Cut off from the farm for longer than the farm waits.
    LOST = "lost"
    # The agent is stopping, or drains.
    LEAVING = "leaving"
    EXPIRED = "expired"


@dataclass(frozen=True, kw_only=True, slots=True)
class Wishes:
    """What has been asked of an execution so far."""

    kill: bool = False
    stop: bool = False
    lost: bool = False
    leave: bool = False
    # The drain's deadline has come: what runs is ended.
    drain: bool = False


def obstacle(wishes: Wishes, *, now: float, deadline: float | None) -> Obstacle | None:
    """The weightiest obstacle; None: go on. `deadline` is by the same clock as `now`."""
    if wishes.kill:
        return Obstacle.KILLED
    if wishes.stop:
        return Obstacle.STOPPED
    if wishes.lost:
        return Obstacle.LOST
    if wishes.leave:
        return Obstacle.LEAVING
    return Obstacle.EXPIRED if deadline is not None and now >= deadline else None


def word_for(what: Obstacle) -> Word | None:
    """The word on an execution that was never started; None says nothing."""
    if what is Obstacle.KILLED:
        return None
    if what is Obstacle.STOPPED:
        failure = Failure(reason=FailureReason.STOP_REQUESTED, message="stopped before it was started")
        return Finish(outcome=OutcomeKind.STOPPED, failure=failure)
    if what is Obstacle.EXPIRED:
        failure = Failure(reason=FailureReason.START_DEADLINE, message="it could not be started in time")
        return Finish(outcome=OutcomeKind.EXPIRED, failure=failure)
    if what is Obstacle.LOST:
        return give_back(FailureReason.HOST_LOST, "the agent was cut off from the farm before it could start it")
    # No fault of the host: it must not count as one.
    return give_back(FailureReason.DRAINED, "the agent is stopping, or drains")


def give_back(reason: FailureReason, message: str) -> GiveBack:
    """The execution returns to the queue."""
    return GiveBack(failure=Failure(reason=reason, message=message))


def infra_failed(reason: FailureReason, message: str) -> Finish:
    """Never started, for a fault of the host."""
    return Finish(outcome=OutcomeKind.INFRA_FAILED, failure=Failure(reason=reason, message=message))


def rejected(reason: FailureReason, message: str) -> Finish:
    """Never started, and a further attempt would fail the same way."""
    return Finish(outcome=OutcomeKind.REJECTED, failure=Failure(reason=reason, message=message))


def no_program(word: Finish, exit_code: int) -> Finish:
    """The same word with the code that the engine left in the container, if it is one of a program that isn't there
    (127) or can't be run (126): as a shell has them, and `docker run`."""
    return replace(word, exit_code=exit_code) if exit_code in _NO_PROGRAM else word


def ended_before() -> Finish:
    """It was given up here under the same epoch already, and may have run."""
    message = "its host had given it up before, on the farm's word; was the store restored from a backup?"
    return Finish(outcome=OutcomeKind.LOST, failure=Failure(reason=FailureReason.CONTAINER_VANISHED, message=message))
