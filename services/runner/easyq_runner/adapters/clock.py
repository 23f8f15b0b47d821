"""The machine's own clocks."""

from __future__ import annotations

import time
import uuid
from pathlib import Path


class BootClock:
    """`AgentClock` of Linux."""

    def __init__(self) -> None:
        try:
            self._boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        except OSError:  # not Linux: no two starts share a boot then, which is the careful guess
            self._boot_id = str(uuid.uuid4())
        self._clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

    @property
    def boot_id(self) -> str:
        return self._boot_id

    def boot(self) -> float:
        return time.clock_gettime(self._clock)

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000
