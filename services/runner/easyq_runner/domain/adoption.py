"""What a starting agent does with each container that is its own, and with what its journal knows beyond them."""

from __future__ import annotations

from enum import Enum

from easyq_runner.domain.journal import ExecutionRecord
from easyq_runner.domain.outcome import Status


class Adoption(Enum):
    """What becomes of a container, or of a record without one."""

    # Created, and no start was ever sent: start it, once the farm agrees.
    START = "start"
    # A start may have been sent and may still be under way: wait, remove without force, report LOST; if it runs after
    # all, follow it.
    AWAIT_START = "await_start"
    # It runs: go on with its logs and its end.
    FOLLOW = "follow"
    # It ended while nobody looked.
    CONCLUDE = "conclude"
    # How it ended is known, and not acknowledged yet.
    REPORT = "report"
    # All is said: only the container is left.
    REMOVE = "remove"
    # A start was sent, and there is no container.
    VANISHED = "vanished"
    # Nothing is left.
    FORGET = "forget"


def adopt(status: Status | None, record: ExecutionRecord | None) -> Adoption:
    """The decision for an execution with this container (None: there is none) and this record (None: no entry)."""
    if record is not None and record.settled:
        return Adoption.FORGET if status is None else Adoption.REMOVE
    if record is not None and record.finish is not None:
        return Adoption.REPORT
    if status is None:
        return Adoption.VANISHED if record is not None and record.start_intended else Adoption.FORGET
    if status is Status.CREATED:
        return Adoption.AWAIT_START if record is not None and record.start_intended else Adoption.START
    if status is Status.REMOVING:
        return Adoption.VANISHED
    return Adoption.FOLLOW if status.alive else Adoption.CONCLUDE
