"""When a process that ended is started again."""

from __future__ import annotations

FIRST = 0.1
FACTOR = 2.0
LONGEST = 5.0
# One that lived this long had started well: the next crash is a new story.
STEADY = 5.0


def next_delay(previous: float | None, *, lived: float) -> float:
    """Seconds to wait before the restart, after a life of `lived` seconds; `previous` is the wait before that life."""
    if previous is None or lived >= STEADY:
        return FIRST
    return min(previous * FACTOR, LONGEST)
