"""Reads the metrics of all services of a running system once a second, as Prometheus would do it every 15 s."""

from __future__ import annotations

import threading
import time
import urllib.request
from collections.abc import Mapping

from tests.chaos.alerts.rules import RULES, rules_of
from tests.chaos.alerts.series import Recording, names_in

# Prometheus waits for 10 of its 15 s. Time is stretched, and the machine's slowness is not: a busy one may take longer.
_TIMEOUT = 2.0


class Scraper:
    """`targets`: where each process serves its metrics, by its name: a service's, which a `-` and more may follow."""

    def __init__(self, targets: Mapping[str, str]) -> None:
        self.recording = Recording()
        #: ns since the epoch of the recording's second 0.
        self.began_ns = 0
        self._names = names_in(rule for path in RULES for rule in rules_of(path)) | {"up"}
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._run, args=one, name=f"scrape {one[0]}", daemon=True)
            for one in targets.items()
        ]

    def start(self) -> None:
        self._began, self.began_ns = time.monotonic(), time.time_ns()
        for thread in self._threads:
            thread.start()

    def stop(self) -> Recording:
        """What was read."""
        self._over.set()
        for thread in self._threads:
            thread.join(2 * _TIMEOUT)
        return self.recording

    @property
    def second(self) -> int:
        """Of the recording, that goes on now."""
        return int(time.monotonic() - self._began)

    def at(self, ns: int) -> float:
        """A time since the epoch as seconds of the recording."""
        return (ns - self.began_ns) / 1e9

    def _run(self, name: str, url: str) -> None:
        labels = {"job": "easyq", "service": name.partition("-")[0], "instance": name}
        while not self._over.is_set():
            second = self.second
            text = _ask(url)
            until = max(self.second, second + 1)
            with self._lock:
                self.recording.add(second, until, labels, text, self._names)
            self._over.wait(max(0.0, self._began + until - time.monotonic()))


def _ask(url: str) -> str | None:
    try:
        with urllib.request.urlopen(f"{url}/metrics", timeout=_TIMEOUT) as answer:  # noqa: S310 - this system's
            text: str = answer.read().decode()
            return text
    except OSError:
        return None
