"""Time as an argument.

``EASYQ_TEST_CLOCK_FILE``, which only tests set, names a file that holds milliseconds, perhaps negative, by which the
system's clock is wrong: read at each look, so that the wall clock of running services jumps. No file, or none that
holds a number, means none.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Protocol

ENVIRONMENT_VARIABLE = "EASYQ_TEST_CLOCK_FILE"


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

    def __init__(self) -> None:
        named = os.environ.get(ENVIRONMENT_VARIABLE)
        self._wrong = Path(named) if named else None

    def now_ms(self) -> int:
        now = time.time_ns() // 1_000_000
        return now if self._wrong is None else now + _offset_ms(self._wrong)

    def monotonic(self) -> float:
        return time.monotonic()


def _offset_ms(file: Path) -> int:
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0
