"""Recurring jobs: made, triggered, paused, resumed and stopped at moments of the seed's, a few at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from tests.chaos.nemesis.history import History
from tests.chaos.nemesis.intents import Intent, recurring
from tests.chaos.nemesis.load import Load

_AGAIN = 0.3


class Steering:
    """`slots`: so many live at once. `stopped` is told each job whose stop was answered."""

    def __init__(self, load: Load, history: History, *, seed: int, slots: int, stopped: Callable[[str], None]) -> None:
        self._load = load
        self._history = history
        self._seed = seed
        self._stopped = stopped
        self._ending = threading.Event()
        # No more requests.
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(slot,), name=f"recurring {slot}", daemon=True)
            for slot in range(slots)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def finish(self, timeout: float) -> bool:
        """No new jobs; those that are paused go on. Whether all threads have come to their end."""
        self._ending.set()
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._ended.set()
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self, slot: int) -> None:
        for intent in recurring(self._seed, slot):
            if self._ending.is_set():
                return
            self._history.add("intent", **intent.as_event())
            job = self._load.post(intent)
            if not job:
                return
            self._live(job, intent)

    def _live(self, job: str, intent: Intent) -> None:
        began, paused = time.monotonic(), False
        for at, verb in intent.steps:
            if self._ending.wait(max(0.0, began + at - time.monotonic())):
                break
            if verb == "stop":
                # However long it takes: one that nobody stops would go on firing for the rest of the run.
                if self._load.stop_job(job, intent, 100_000):
                    self._stopped(job)
            elif verb == "resume":
                self._resume(job, intent)
                paused = False
            else:
                self._load.command(job, intent, verb)
                # It may be, whatever the answer was.
                paused = paused or verb == "pause"
        if paused:
            self._resume(job, intent)

    def _resume(self, job: str, intent: Intent) -> None:
        """Until it is answered or refused, since a repeat is harmless."""
        while self._load.command(job, intent, "resume") == "unknown" and not self._ended.wait(_AGAIN):
            pass
