"""Reads the config file again while the system runs, and hands on what may change then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from easyq_chassis.rules_file.watch import INTERVAL, Content
from easyq_supervisor.domain.changes import needing_restart, rule_changes
from easyq_supervisor.domain.hosts import DockerHost, deserted
from easyq_supervisor.domain.options import OptionError, Options
from easyq_supervisor.domain.plan import rules_text

_STAYS = "The rules before it stay in force."
# Of what is wrong: a file may quote itself at any length.
_MOST_WORDS = 500


class Source(Protocol):
    """Where the options come from."""

    @property
    def name(self) -> str:
        """Of the config file; empty where there is none."""

    def look(self) -> Content | None:
        """What the file says, if that is something new."""

    def read(self) -> Content:
        """What it says now."""

    def forget(self) -> None:
        """Has `look` tell again what was told last, once it is settled."""

    def options(self, content: Content) -> Options:
        """The options with that. Raises OptionError."""


class Rulebook(Protocol):
    """What services are told."""

    def write_rules(self, text: str) -> None:
        """Writes the rules file. Raises OSError."""

    def note_refused(self, words: str) -> None:
        """Says beside that file what was refused; empty: nothing. Raises OSError."""


class Reloader:
    """`running` is what the processes were started with, `hosts` the Docker Engines that have agents."""

    def __init__(
        self,
        source: Source,
        *,
        running: Options,
        hosts: Sequence[DockerHost],
        book: Rulebook,
        say: Callable[[str], None],
        complain: Callable[[str], None] | None = None,
    ) -> None:
        self._source = source
        self._running = running
        self._rules = running.rules
        self._hosts = tuple(hosts)
        self._book = book
        self._say = say
        self._complain = complain or say

    async def watch(self) -> None:
        """Looks for ever."""
        while True:
            await asyncio.sleep(INTERVAL)
            self.look()

    def look(self) -> None:
        """Takes what is new in the file."""
        if content := self._source.look():
            self._take(content)

    def read_again(self) -> None:
        """Reads the file now, whether it changed or not. What is wrong in it is told and changes nothing."""
        if self._source.name:
            self._take(self._source.read())
        else:
            self._say("there is no config file to be read again: --config names one")

    def _take(self, content: Content) -> None:
        name = self._source.name
        try:
            options = self._source.options(content)
            text = rules_text(options.rules)
            changes = rule_changes(self._rules, options.rules)
            if changes:
                self._book.write_rules(text)
        except OptionError as error:
            if content.settled:
                self._refuse(str(error) if name in str(error) else f"{name}: {error}")
            else:
                # It may be half written: it is told if it stays so.
                self._source.forget()
            return
        except (OSError, ValueError) as error:
            self._refuse(f"{name}: its rules can't be written down: {error}")
            return
        self._note("")
        self._rules = options.rules
        self._say(f"{name} was read again: {'; '.join(changes) or 'no rule has changed'}")
        if settings := needing_restart(self._running, options):
            self._say(f"{name}: a change of {', '.join(settings)} needs a restart: easyq down, then easyq up")
        if changes:
            for warning in deserted(options.pools, self._hosts):
                self._say(warning)

    def _refuse(self, why: str) -> None:
        told = " ".join(why.split())
        told = told if len(told) <= _MOST_WORDS else told[:_MOST_WORDS] + "…"
        self._complain(f"REFUSED: {told}. {_STAYS}")
        self._note(f"The config file was refused: {told}. {_STAYS}")

    def _note(self, words: str) -> None:
        """For GET /status."""
        try:
            self._book.note_refused(words)
        except OSError as error:
            self._say(f"GET /status can't be told of it: {error}")
