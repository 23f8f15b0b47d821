"""When a loop looks again."""

from __future__ import annotations

from easyq_scheduler.domain.admission import Timing


def seconds_until_next(
    *, next_in: float | None, worked: float = 0.0, progressed: bool, longest: float, shortest: float
) -> float:
    """How long to sleep after a round, in seconds.

    `next_in` is the store's word on when there is more to do (None: nothing is planned), `worked` how long ago it said
    so, `progressed` whether this round changed anything. The sleep is never longer than `longest`: others may plan
    something without telling us, and a wake-up may be lost. A round that found work and changed none of it (the other
    scheduler was faster, or the store is at odds with itself) pauses for `shortest`, so that it can't spin.
    """
    if next_in is None:
        return longest
    if next_in <= 0.0 and not progressed:
        return min(shortest, longest)
    return min(max(next_in - worked, 0.0), longest)


def due_before_next_poll(timing: Timing, *, now_ms: int, longest: float) -> bool:
    """Whether a job with this timing may be due before a loop that sleeps up to `longest` seconds looks by itself.

    `now_ms` is this host's clock, which only hurries: the store's clock decides, and the poll is the guarantee.
    """
    if timing.start_in_ms is not None:
        return timing.start_in_ms < longest * 1000
    if timing.start_at_ms is not None:
        return timing.start_at_ms - now_ms < longest * 1000
    return False
