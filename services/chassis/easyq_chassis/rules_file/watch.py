"""The rules file, read again whenever it changes, while the service runs."""

from __future__ import annotations

import asyncio
import signal
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from easyq_chassis.clock import Clock, SystemClock
from easyq_chassis.logs import get_logger
from easyq_chassis.loops import Loop
from easyq_chassis.rules_file import contract
from easyq_chassis.rules_file.reading import read_text

R = TypeVar("R")

#: Seconds between two looks at a file. A change is taken within two of them, whether others follow or not.
INTERVAL = 0.25
# While it changes from each look to the next it is read after so many of them, and then whenever as many have passed
# as the last: whatever follows on a change, such as counting all jobs anew, is not to be done all the time. From there
# on it does not pass any more for one that is being written.
_UNREST = (2, 4, 8, 16)
# After so many looks without a change it is read once more: a file system whose times are in seconds hides a change
# that follows on another at once.
_CHECKED_AFTER = 10

_NOTE_SUFFIX = ".refused"
_MOST_OF_NOTE = 1_000


class RulesError(ValueError):
    """The file can't be used; the message names it and says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Seen:
    """What tells one content of the file from another, without reading it. All zero: there is none."""

    modified_ns: int = 0
    changed_ns: int = 0
    size: int = 0
    inode: int = 0
    device: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """What stands in a file, or why that can't be read.

    `settled`: nobody is at it any more, as far as can be told; where that is not so, what is wrong with it may only be
    that half of it is there. `modified_ms`: when it was written, in ms since the epoch; 0: there is no file.
    """

    text: str = ""
    error: OSError | ValueError | None = None
    settled: bool = True
    modified_ms: int = 0


class WatchedFile:
    """Tells when a file has changed, and what it says then. Without a path it is empty, for ever.

    A change is handed out once two looks have seen the same. While a file changes from each look to the next, the
    second look hands it out all the same, and later ones ever more seldom, as not `settled`; what stands there at last
    is handed out in any case.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        # As it was when it was read; None: what was read may have changed meanwhile.
        self._taken: _Seen | None = _Seen()
        self._last = _Seen()
        self._unrest = self._quiet = 0
        self._handed: tuple[str, str] | None = None

    def read(self) -> Content:
        """What is there now."""
        content = self._read(settled=True)
        self._handed = _told(content)
        return content

    def look(self) -> Content | None:
        """What is there now, if that is to be told, and is not what was handed out last."""
        if self._path is None:
            return None
        seen, before = _look_at(self._path), self._last
        self._last = seen
        if seen == self._taken:
            self._unrest, self._quiet = 0, self._quiet + 1
            if self._quiet != _CHECKED_AFTER:
                return None
        elif seen == before:
            self._unrest = 0
        else:
            self._unrest += 1
            if self._unrest not in _UNREST and self._unrest % _UNREST[-1]:
                return None
            # Many a writer empties the file first: that is not what it is to say.
            if self._unrest < _UNREST[-1] and not seen.size:
                return None
        content = self._read(settled=not 0 < self._unrest < _UNREST[-1])
        if _told(content) == self._handed:
            return None
        self._handed = _told(content)
        return content

    def forget(self) -> None:
        """Takes what was handed out last for not seen: it is handed out again once it is settled."""
        self._handed = None

    def _read(self, *, settled: bool) -> Content:
        if self._path is None:
            return Content()
        before, text, error = _look_at(self._path), "", None
        try:
            text = read_text(self._path)
        except (OSError, ValueError) as problem:
            error = problem
        self._last = _look_at(self._path)
        settled = settled and self._last == before
        if self._last != self._taken:
            self._quiet = 0
        self._taken = self._last if settled else None
        return Content(text=text, error=error, settled=settled, modified_ms=before.modified_ns // 10**6)


class RulesFile(Generic[R]):
    """Reads the file at `path` (empty: there is none, and no rules).

    `parse` gets the whole document once that has passed the contract, and returns the service's part of it: it refuses
    nothing, since others would take what it refuses. `on_change` gets what it returned: once from `load`, then after
    each change. A file that can't be used later on changes nothing: the old rules stay, the log tells, and `problem`
    says so until a good one is there. So does the note of who writes the file (`note_beside`).
    """

    def __init__(
        self,
        path: str,
        parse: Callable[[Mapping[str, Any]], R],
        on_change: Callable[[R], None],
        *,
        clock: Clock | None = None,
    ) -> None:
        self._path = Path(path) if path else None
        self._parse = parse
        self._on_change = on_change
        self._clock = clock or SystemClock()
        self._file = WatchedFile(self._path)
        self._note = WatchedFile(note_beside(self._path) if self._path else None)
        self._loop = Loop("watch_rules", self._look, INTERVAL)
        self._log = get_logger()
        self._own, self._own_since_ms = "", 0
        self._noted, self._noted_since_ms = "", 0
        #: When the file that was read last was written, in ms since the epoch; 0: there was none.
        self.changed_ms = 0

    @property
    def problem(self) -> str:
        """Why the newest rules are not in force; empty where they are."""
        return self._own or self._noted

    @property
    def problem_since_ms(self) -> int:
        """Since when, in ms since the epoch."""
        return self._own_since_ms if self._own else self._noted_since_ms

    def load(self) -> None:
        """Reads the file for the first time. Raises `RulesError`: a service does not start without the rules it has."""
        content = self._file.read()
        rules = self._rules(content)
        self.changed_ms = content.modified_ms
        self._on_change(rules)
        self._take_note(self._note.read())

    def start(self) -> None:
        """Watches the file; SIGHUP has it read again at once, and ends nobody who has none."""
        if self._path is not None:
            self._loop.start()
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.reload)

    async def stop(self) -> None:
        """Watches no longer."""
        asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)
        await self._loop.stop()

    def reload(self) -> None:
        """Reads the file now, whether it changed or not. Raises nothing."""
        if self._path is None:
            self._log.warning("rules_unset", hint="no file of rules is set: see --rules")
            return
        self._take(self._file.read())

    async def _look(self) -> None:
        if content := self._file.look():
            self._take(content)
        if note := self._note.look():
            self._take_note(note)

    def _take(self, content: Content) -> None:
        try:
            rules = self._rules(content)
        except RulesError as error:
            if content.settled:
                self._refuse(error, content)
            else:
                # It may be half written: it is told if it stays so.
                self._file.forget()
            return
        self.changed_ms = content.modified_ms
        self._own = ""
        self._on_change(rules)
        self._log.info("rules_loaded", path=str(self._path))

    def _take_note(self, note: Content) -> None:
        self._noted, self._noted_since_ms = " ".join(note.text.split())[:_MOST_OF_NOTE], note.modified_ms

    def _refuse(self, error: RulesError, content: Content) -> None:
        problem = f"{error}. The rules before it stay in force."
        self.changed_ms = content.modified_ms
        if problem != self._own:
            self._own, self._own_since_ms = problem, self._clock.now_ms()
        self._log.error("rules_refused", path=str(self._path), error=str(error))

    def _rules(self, content: Content) -> R:
        try:
            if content.error is not None:
                raise content.error
            return self._parse(_checked(content.text))
        except OSError as error:
            raise RulesError(f"the rules file {self._path} can't be read: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise RulesError(f"the rules file {self._path} is wrong: {error}") from error


def note_beside(rules: Path) -> Path:
    """Where a program that writes the rules file says, in one line, what it was told to write and refused.

    No file: nothing.
    """
    return rules.with_name(rules.name + _NOTE_SUFFIX)


def _checked(text: str) -> dict[str, Any]:
    document = tomllib.loads(text)
    try:
        contract.check(document)
    except contract.RuleProblem as problem:
        if line := contract.line_of(text, problem):
            raise ValueError(f"line {line}: {problem}") from problem
        raise
    return document


def _told(content: Content) -> tuple[str, str]:
    return content.text, str(content.error)


def _look_at(path: Path | None) -> _Seen:
    try:
        if path is not None:
            stat = path.stat()
            return _Seen(
                modified_ns=stat.st_mtime_ns,
                changed_ns=stat.st_ctime_ns,
                size=stat.st_size,
                inode=stat.st_ino,
                device=stat.st_dev,
            )
    except OSError:
        pass
    return _Seen()
