"""Time as an argument."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Where the time comes from; tests hand in one that stands still."""

    def now_ms(self) -> int:
        """Returns the wall-clock time in milliseconds since the epoch, UTC. May jump, both ways."""
        ...

    def monotonic(self) -> float:
        """Returns seconds that never run backwards, from an arbitrary origin. For durations."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()
