"""The records of `firing`: what a recurring job's rules and state are, and what is decided about its fires.

All times are ms since the epoch, UTC. A fire's *nominal* time is the one that the expression gives and the one that it
is known by; its *due* time is when it is decided: as `due_times` has it, up to `jitter_ms` later.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from easyq_scheduler.domain.schedule import Schedule


class Misfire(enum.Enum):
    """What becomes of missed fires: those that are decided later than the misfire deadline after they were due."""

    SKIP = "skip"
    ONCE = "once"
    ALL = "all"


class Reason(enum.Enum):
    """Why fires were skipped."""

    MISFIRED = "misfired"  # SKIP: the policy wants no late fires
    COALESCED = "coalesced"  # ONCE: another fire stands for these
    MISFIRE_BOUND = "misfire bound"  # ALL: more were missed than are made up for


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """When to fire, and what to do where that failed.

    No fire's nominal time is before `start_after_ms` or after `end_at_ms`; both may be fires themselves. `max_runs`
    counts fires that run, not skipped ones. Of missed fires, ALL runs the newest `all_bound`.
    """

    schedule: Schedule
    jitter_ms: int = 0
    start_after_ms: int | None = None
    end_at_ms: int | None = None
    max_runs: int | None = None
    misfire: Misfire = Misfire.ONCE
    misfire_deadline_ms: int
    all_bound: int = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """How far a job's fires are decided: all up to the nominal time `cursor_ms`, `runs` of which ran.

    A new job's cursor is the time of its creation.
    """

    cursor_ms: int
    runs: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Fire:
    """One fire: its nominal time, and when it is due."""

    nominal_ms: int
    due_ms: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Skip:
    """`count` consecutive nominal times that don't run, from `first_ms` to `last_ms`, both included."""

    first_ms: int
    last_ms: int
    count: int
    reason: Reason


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What is decided now. `fires` are to run, `skips` to be recorded; all of them by ascending nominal time.

    `state` is the state after it. `next` is the first fire that isn't decided yet, None where there will be none: the
    time to look again is its `due_ms`. With `more` that time has come already: the plan was cut, ask again.
    """

    fires: tuple[Fire, ...] = ()
    skips: tuple[Skip, ...] = ()
    state: State
    next: Fire | None
    more: bool = False
