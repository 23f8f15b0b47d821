"""When a container is asked after again that could not be asked after, although its engine answers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Backoff:
    """Pauses between tries, in seconds. They say nothing of the job, and count against nothing of it."""

    least: float = 0.5
    most: float = 30.0

    def pause(self, failures: int) -> float:
        """The pause after so many failures in a row (1 and more)."""
        return min(self.most, self.least * 2.0 ** min(failures - 1, 32))
