"""A loop is ``run_once``, an interval, and a wait that can be cut short."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from easyq_chassis.errors import DeadlineExceeded, Unavailable
from easyq_chassis.logs import get_logger
from easyq_chassis.metrics.registry import REGISTRY

_FIRST_BACKOFF = 0.2
_LONGEST_BACKOFF = 5.0
# A neighbour is away, or too slow: nothing that a stack trace would explain.
_OUTAGES = (Unavailable, DeadlineExceeded)
_FAILURES = REGISTRY.counter(
    "easyq.loop.failures", "Runs of a service's loops that failed.", unit="{run}", labels=("loop",)
)


class Loop:
    """Calls ``run_once`` again and again until stopped.

    ``run_once`` returns the seconds until it wants to run again, or ``None`` for the loop's own interval. ``wake``
    cuts the wait short; a wake during a run makes the next one follow at once. An error is logged, and the next run
    comes after a growing back-off, so that a loop never ends by itself and never spins.
    """

    def __init__(self, name: str, run_once: Callable[[], Awaitable[float | None]], interval: float) -> None:
        self._name = name
        self._run_once = run_once
        self._interval = interval
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self._log = get_logger()

    def start(self) -> None:
        """Starts the loop; its first run is now."""
        if self._task is None:
            self._stopping = False
            self._task = asyncio.create_task(self._run(), name=f"loop:{self._name}")

    async def stop(self) -> None:
        """Ends the loop, cancelling a run under way."""
        task, self._task = self._task, None
        # A run may swallow the cancellation: `asyncio.wait_for` before Python 3.12 does, where its work ends just then.
        self._stopping = True
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def wake(self) -> None:
        """Makes the next run happen now."""
        self._wake.set()

    async def _run(self) -> None:
        failures = 0
        while not self._stopping:
            self._wake.clear()
            try:
                delay = await self._run_once()
            except Exception as error:  # noqa: BLE001 - a loop outlives whatever its work raises; the log tells
                delay = self._after_failure(error, failures)
                failures += 1
                await asyncio.sleep(delay)
                continue
            if failures:
                self._log.info("loop_recovered", loop=self._name, failures=failures)
            failures = 0
            await self._wait(self._interval if delay is None else delay)

    def _after_failure(self, error: Exception, failures: int) -> float:
        _FAILURES.add(1, self._name)
        delay: float = min(_LONGEST_BACKOFF, _FIRST_BACKOFF * 2.0 ** min(failures, 16))
        # A neighbour that is away is told at the powers of two: one line, then fewer and fewer.
        if failures & (failures - 1) == 0 or not isinstance(error, _OUTAGES):
            self._log.warning(
                "loop_failed",
                loop=self._name,
                error=str(error),
                failures=failures + 1,
                exc_info=not isinstance(error, _OUTAGES),
            )
        return delay * (0.5 + random.random() / 2)  # noqa: S311 - spreading load, not a secret

    async def _wait(self, seconds: float) -> None:
        if seconds <= 0 or self._stopping:
            await asyncio.sleep(0)
            return
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return
