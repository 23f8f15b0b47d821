"""A loop is ``run_once``, an interval, and a wait that can be cut short."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

from easyq_chassis.error_reports import report_error
from easyq_chassis.logs import get_logger
from easyq_chassis.metrics.registry import REGISTRY
from easyq_chassis.outages import OUTAGES, any_away

_FIRST_BACKOFF = 0.2
_LONGEST_BACKOFF = 5.0
_FAILURES = REGISTRY.counter(
    "easyq.loop.failures", "Runs of a service's loops that failed.", unit="{run}", labels=("loop",)
)
# Failures in a row after which a loop is told as one that fails: one alone may be a moment of bad luck.
_FAILING = 3
# Seconds after which a run that goes on does its work: longer than calls wait for an answer. Some listen for ever.
_GOES_ON = 15.0

# Of this process: why a loop fails, by the loop. Whoever asks for a service's health is told.
_failing: dict[Loop, str] = {}


def failing() -> list[str]:
    """What this process can't do now as it should, in words; empty where all is well."""
    return [f"{loop.name} fails: {why}" for loop, why in _failing.items() if not loop.goes_on]


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
        # When the run under way began, by the monotonic clock.
        self._began: float | None = None
        # Its failures are in the log.
        self._told = False
        self._log = get_logger()

    @property
    def name(self) -> str:
        """What it is called in the log."""
        return self._name

    @property
    def goes_on(self) -> bool:
        """Whether a run has been under way for so long that it can't be one that is about to fail."""
        return self._began is not None and time.monotonic() - self._began > _GOES_ON

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
        _failing.pop(self, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def wake(self) -> None:
        """Makes the next run happen now."""
        self._wake.set()

    async def _run(self) -> None:
        failures = 0
        self._told = False
        while not self._stopping:
            self._wake.clear()
            self._began = time.monotonic()
            try:
                delay = await self._run_once()
            except Exception as error:  # noqa: BLE001 - a loop outlives whatever its work raises; the log tells
                self._began = None
                delay = self._after_failure(error, failures)
                failures += 1
                await asyncio.sleep(delay)
                continue
            self._began = None
            if failures:
                if self._told:
                    self._log.info("loop_recovered", loop=self._name, failures=failures)
                _failing.pop(self, None)
            failures, self._told = 0, False
            await self._wait(self._interval if delay is None else delay)

    def _after_failure(self, error: Exception, failures: int) -> float:
        _FAILURES.add(1, self._name)
        delay: float = min(_LONGEST_BACKOFF, _FIRST_BACKOFF * 2.0 ** min(failures, 16))
        if failures + 1 >= _FAILING:
            _failing[self] = str(error)
        if not isinstance(error, OUTAGES):
            self._told = True
            self._log.warning("loop_failed", loop=self._name, error=str(error), failures=failures + 1, exc_info=True)
            report_error(error, f"loop {self._name}")
        elif failures + 1 >= _FAILING and not any_away():
            # Of a neighbour that is away whoever asks it tells (`easyq_chassis.outages`), for all loops together.
            self._told = True
            self._log.warning("loop_failed", loop=self._name, error=str(error), failures=failures + 1, burst=1)
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
