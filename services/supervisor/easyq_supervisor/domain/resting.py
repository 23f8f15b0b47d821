"""What `easyq down --stop-jobs` does to what is open, and which recurring jobs go on with the next `easyq up`.

A recurring job is not stopped: that would be the end of its schedule. It is paused, with a note in the data folder, and
its runs are stopped one by one. The note stands before the pause, so that whatever dies in between, nothing rests that
nobody wakes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

Notes = tuple["Note", ...]


class Kind(Enum):
    """What matters here of a job that has not ended."""

    PLAIN = "plain"
    # Recurring.
    ACTIVE = "active"
    PAUSED = "paused"


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenJob:
    """A job that has not ended. `is_stopping`: somebody asked for its stop."""

    job_id: str
    task_id: str = ""
    kind: Kind = Kind.PLAIN
    is_stopping: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenRun:
    """An execution that has not ended."""

    execution_id: str
    job_id: str
    is_stopping: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """What is to be done next. `is_quiet`: nothing runs or waits any more, and nothing will."""

    stop_jobs: tuple[str, ...]
    pause: tuple[OpenJob, ...]
    stop_runs: tuple[str, ...]
    is_quiet: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """A recurring job that `down` pauses. Times are milliseconds since the epoch.

    `noted_at` tells this note from an earlier one of the same job. `paused_at` is the store's word of when it was
    paused; None if `down` did not come to hear it.
    """

    job_id: str
    task_id: str
    noted_at: int
    paused_at: int | None = None


def next_round(jobs: Sequence[OpenJob], runs: Iterable[OpenRun]) -> Round:
    """Decides on what is open: `runs` were listed after `jobs`, those of plain jobs may be among them or not."""
    resting = {job.job_id for job in jobs if job.kind is not Kind.PLAIN and not job.is_stopping}
    theirs = [run for run in runs if run.job_id in resting]
    return Round(
        stop_jobs=tuple(job.job_id for job in jobs if job.kind is Kind.PLAIN and not job.is_stopping),
        pause=tuple(job for job in jobs if job.kind is Kind.ACTIVE and not job.is_stopping),
        stop_runs=tuple(run.execution_id for run in theirs if not run.is_stopping),
        is_quiet=not theirs and all(job.kind is Kind.PAUSED and not job.is_stopping for job in jobs),
    )


def merged(old: Notes, new: Iterable[Note]) -> Notes:
    """The notes with these, each in the place of an earlier one of its job."""
    return tuple({note.job_id: note for note in (*old, *new)}.values())


def confirmed(notes: Notes, mine: Iterable[Note], paused: Mapping[str, int | None]) -> Notes:
    """The notes after the pauses of `mine`: `paused` has their times, by job; the others had ended and rest no more."""
    own = set(mine)
    return tuple(
        replace(note, paused_at=paused[note.job_id]) if note in own else note
        for note in notes
        if note not in own or note.job_id in paused
    )


def without(notes: Notes, done: Iterable[Note]) -> Notes:
    """The notes that are not done with; a newer one of the same job stays."""
    gone = set(done)
    return tuple(note for note in notes if note not in gone)


def goes_on(note: Note, *, is_paused: bool, is_stopping: bool, paused_at: int | None) -> bool:
    """Whether a noted job, as it is now, is to be resumed: not if somebody has resumed, stopped or paused it since."""
    if not is_paused or is_stopping:
        return False
    return note.paused_at is None or note.paused_at == paused_at


def told_resumed(count: int) -> str:
    return "1 recurring job goes on" if count == 1 else f"{count} recurring jobs go on"
