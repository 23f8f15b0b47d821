"""How many traces may be recorded: a bucket of tokens."""

from __future__ import annotations

import time
from collections.abc import Callable

# Seconds whose share may be taken at once, so that a burst after a quiet time is recorded whole.
_BURST = 5.0


class Allowance:
    """`rate` a second (above 0), and what is left over of the last five seconds. `now` gives seconds that only
    grow.
    """

    def __init__(self, rate: float, *, now: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._most = max(1.0, rate * _BURST)
        self._left = self._most
        self._now = now
        self._at = now()

    def take(self) -> bool:
        """Takes one; false: there is none now."""
        now = self._now()
        self._left = min(self._most, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
