"""Which points of statistics are asked for."""

from __future__ import annotations

from dataclasses import dataclass

from easyq_gateway.domain.problems import Problems

MINUTE = 60_000
HOUR = 60 * MINUTE
#: Points of one answer.
MOST_POINTS = 1_500
# As long as minutes are kept.
_BY_MINUTES = 48 * HOUR
# Points of an answer whose step was not asked for.
_USUAL_POINTS = 120
_STEPS = (MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 6 * HOUR, 24 * HOUR)


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """From when (included) to when (not included), and the time of one point, all in ms."""

    start: int
    end: int
    step: int


def window(*, start: int | None, end: int | None, step: int | None, now: int, problems: Problems) -> Window:
    """What is asked for, in whole steps, with the defaults of what is not said; what is wrong goes into `problems`."""
    end = now if end is None else end
    # Nothing was counted before 1970.
    start = max(0, end - HOUR if start is None else start)
    if start >= end:
        problems.add("from", "must be before `to`, which is now unless it is given")
        return Window(start=start, end=start + 1, step=MINUTE)
    old = start < now - _BY_MINUTES
    if step is None:
        step = _usual_step(end - start, old=old)
    elif step % MINUTE:
        problems.add("step", "must be whole minutes")
    elif old and step % HOUR:
        problems.add("step", "must be whole hours where `from` is more than 48 hours ago")
    if (end - start) // step >= MOST_POINTS:
        problems.add("step", f"gives more than {MOST_POINTS:,} points: take a longer one, or less time")
    return Window(start=start, end=end, step=step)


def _usual_step(length: int, *, old: bool) -> int:
    steps = [step for step in _STEPS if not (old and step % HOUR)]
    return next((step for step in steps if length <= step * _USUAL_POINTS), steps[-1])
