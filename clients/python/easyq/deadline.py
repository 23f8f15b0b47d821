"""How much time is left for something that takes several calls."""

from __future__ import annotations

import time


class Deadline:
    """A moment so many seconds from now, or none at all."""

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self._at = None if seconds is None else time.monotonic() + seconds

    @property
    def left(self) -> float | None:
        """Seconds until then, at least 0; None: there is no end."""
        return None if self._at is None else max(0.0, self._at - time.monotonic())

    @property
    def passed(self) -> bool:
        """Whether no time is left."""
        return self.left == 0

    def cut(self, seconds: float) -> float:
        """So many seconds, or what is left of them."""
        left = self.left
        return seconds if left is None else min(seconds, left)
