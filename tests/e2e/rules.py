"""The file of rules of a farm whose services watch it."""

import os
import signal
from pathlib import Path
from typing import Any

from tests.support.farm import SplitFarm
from tests.support.farm.split import Service
from tests.support.waiting import wait_until

# Different in each version, so that each is news.
_MARK = '[[limit]]\npattern = "mark-of-version-{}"\nmax_running = 1\n'


class RulesText:
    """`write` replaces the file as an editor does; all that have rules hold to them when it returns."""

    def __init__(self, path: Path, farm: SplitFarm) -> None:
        self.path = path
        self.farm = farm
        self._versions = 0
        self._refused_before = self._told("rules_refused")

    def put(self, text: str) -> None:
        """Only replaces it."""
        fresh = self.path.with_suffix(".new")
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(self.path)

    def write(self, text: str, *, watched: bool = False) -> None:
        """With `watched` the services find the change by themselves; otherwise they are told, which is quicker."""
        self._versions += 1
        before = self._told("rules_loaded")
        self.put(f"{text}\n{_MARK.format(self._versions)}")
        if not watched:
            for service in self._services:
                os.kill(service.pid, signal.SIGHUP)
        wait_until(
            lambda: all(n > b for n, b in zip(self._told("rules_loaded"), before, strict=True)),
            20,
            message="rules are read",
        )
        self._refused_before = self._told("rules_refused")

    @property
    def _services(self) -> list[Service]:
        return [*self.farm.dispatchers, self.farm.gateway, self.farm.store]

    def _told(self, event: str) -> list[int]:
        """How often each service that has them has logged it."""
        logs = [service.log_path.read_text(encoding="utf-8") for service in self._services]
        return [log.count(f'"event":"{event}"') for log in logs]

    def refused(self) -> list[int]:
        """How often each service has refused a file since the last `write`."""
        return [now - then for now, then in zip(self._told("rules_refused"), self._refused_before, strict=True)]

    def problems(self) -> list[dict[str, Any]]:
        """What /status tells of rules that were refused; not that new ones take effect just now."""
        return [one for one in self.farm.rest.get("/status")["problems"] if "rules before it" in one["message"]]
