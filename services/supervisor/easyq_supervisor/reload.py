"""Reads the config file again while the system runs, and hands on what may change then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from easyq_chassis.rules_file.watch import INTERVAL
from easyq_supervisor.domain.changes import needing_restart, rule_changes
from easyq_supervisor.domain.hosts import DockerHost, deserted
from easyq_supervisor.domain.options import OptionError, Options
from easyq_supervisor.domain.plan import rules_text


class Source(Protocol):
    """Where the options come from."""

    @property
    def name(self) -> str:
        """Of the config file; empty where there is none."""

    def changed(self) -> bool:
        """Whether the file has changed since it was read, and not since the last look."""

    def options(self) -> Options:
        """As they are now. Raises OptionError."""


class Reloader:
    """`running` is what the processes were started with, `hosts` the Docker Engines that have agents. `write` writes
    the rules file and raises OSError."""

    def __init__(
        self,
        source: Source,
        *,
        running: Options,
        hosts: Sequence[DockerHost],
        write: Callable[[str], None],
        say: Callable[[str], None],
    ) -> None:
        self._source = source
        self._running = running
        self._rules = running.rules
        self._hosts = tuple(hosts)
        self._write = write
        self._say = say

    async def watch(self) -> None:
        """Looks for ever."""
        while True:
            await asyncio.sleep(INTERVAL)
            self.look()

    def look(self) -> None:
        """Reads the file if it has changed, and not since the last look."""
        if self._source.changed():
            self.read_again()

    def read_again(self) -> None:
        """Reads the file now, whether it changed or not. What is wrong in it is told and changes nothing."""
        name = self._source.name
        if not name:
            self._say("there is no config file to be read again: --config names one")
            return
        try:
            options = self._source.options()
            text = rules_text(options.rules)
            changes = rule_changes(self._rules, options.rules)
            if changes:
                self._write(text)
        except OptionError as error:
            told = str(error) if name in str(error) else f"{name}: {error}"
            self._say(f"REFUSED: {told}. The rules before it stay in force.")
            return
        except (OSError, ValueError) as error:
            self._say(f"REFUSED: {name}: its rules can't be written down: {error}. The rules before it stay in force.")
            return
        self._rules = options.rules
        self._say(f"{name} was read again: {'; '.join(changes) or 'no rule has changed'}")
        if settings := needing_restart(self._running, options):
            self._say(f"{name}: a change of {', '.join(settings)} needs a restart: easyq down, then easyq up")
        if changes:
            for warning in deserted(options.pools, self._hosts):
                self._say(warning)
