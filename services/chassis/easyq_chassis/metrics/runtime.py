"""What the process itself is at: its event loop, processor, memory, files."""

from __future__ import annotations

import asyncio
import os
import resource as limits
import threading
import time
from collections.abc import Callable
from pathlib import Path

from easyq_chassis.metrics.instruments import Labels
from easyq_chassis.metrics.registry import Registry

# Seconds between two looks at how late the event loop is.
_EVERY = 0.25
_LAG_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class LoopLag:
    """Measures how much later than asked for the event loop wakes a task: what every call waits at least."""

    def __init__(self, registry: Registry) -> None:
        self._lag = registry.histogram(
            "easyq.event_loop.lag",
            "How much later than asked for the event loop woke a task that slept.",
            bounds=_LAG_BOUNDS,
        )
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to measure."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="loop:lag")

    async def stop(self) -> None:
        """Ends it."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            due = time.monotonic() + _EVERY
            await asyncio.sleep(_EVERY)
            self._lag.record(max(0.0, time.monotonic() - due))


def watch_process(registry: Registry) -> Callable[[], None]:
    """Has the registry tell what the process takes; returns what ends that."""
    started = time.monotonic()
    ends = [
        registry.gauge("process.uptime", "Seconds since the service started.", unit="s").watch(
            lambda: {(): time.monotonic() - started}
        ),
        registry.counter("process.cpu.time", "Processor time of this process.", unit="s", labels=("cpu.mode",)).watch(
            _cpu
        ),
        registry.gauge("process.memory.usage", "Resident memory.", unit="By").watch(_memory),
        registry.gauge("process.thread.count", "Threads.", unit="{thread}").watch(
            lambda: {(): float(threading.active_count())}
        ),
        registry.gauge("process.unix.file_descriptor.count", "Open files and sockets.", unit="{file_descriptor}").watch(
            _files
        ),
        registry.gauge(
            "easyq.process.file_descriptor.limit", "Most files and sockets that it may open.", unit="{file_descriptor}"
        ).watch(lambda: {(): float(limits.getrlimit(limits.RLIMIT_NOFILE)[0])}),
    ]

    def end() -> None:
        for one in ends:
            one()

    return end


def _cpu() -> dict[Labels, float]:
    taken = os.times()
    return {("user",): taken.user, ("system",): taken.system}


def _memory() -> dict[Labels, float]:
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return {}
    return {(): float(pages * os.sysconf("SC_PAGE_SIZE"))}


def _files() -> dict[Labels, float]:
    try:
        return {(): float(len(os.listdir("/proc/self/fd")))}  # noqa: PTH208 - names are all that is asked for
    except OSError:
        return {}
