"""What becomes of the fires that are due: which of the missed ones run after all."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from easyq_scheduler.domain.plan import Fire, Misfire, Reason, Skip


@dataclass(kw_only=True, slots=True)
class Due:
    """The fires that are due. The missed ones precede those on time, since no fire is due before an earlier one."""

    bound: int  # so many of the missed may run; 1 for ONCE
    newest: deque[Fire]  # of the missed: the newest `bound`, and the one before them
    first_ms: int = 0  # the oldest missed
    missed: int = 0  # how many
    on_time: list[Fire] = field(default_factory=list)
    cut: bool = False  # more are due than were looked at
    following: int | None = None  # nominal time of the first that was looked at and isn't due; None: there was none

    def miss(self, fires: list[Fire], count: int, first_ms: int) -> None:
        """`fires`: as many of the last of the `count` missed as `newest` may need."""
        self.first_ms = self.first_ms if self.missed else first_ms
        self.missed += count
        self.newest.extend(fires)


def decide(due: Due, misfire: Misfire) -> tuple[list[Fire], list[Skip]]:
    """What runs, and what doesn't, of that which is due.

    After a cut among the missed, the newest of them aren't decided: more missed may follow.
    """
    if misfire is Misfire.SKIP:
        return due.on_time, _skipped(due, 0, Reason.MISFIRED)
    if misfire is Misfire.ONCE:
        late = 0 if due.on_time else min(due.bound, due.missed)
        reason = Reason.COALESCED
    else:
        late = min(due.bound, due.missed)
        reason = Reason.MISFIRE_BOUND
    skips = _skipped(due, late, reason)
    if due.cut and not due.on_time:
        return [], skips
    return [*list(due.newest)[len(due.newest) - late :], *due.on_time], skips


def _skipped(due: Due, kept: int, reason: Reason) -> list[Skip]:
    """All missed but the newest `kept`."""
    if due.missed <= kept:
        return []
    last = due.newest[-kept - 1].nominal_ms
    return [Skip(first_ms=due.first_ms, last_ms=last, count=due.missed - kept, reason=reason)]
