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

R = TypeVar("R")

#: Seconds between two looks at a file. A change is taken once two have seen the same: within a second.
INTERVAL = 0.5
_MOST_BYTES = 1024 * 1024


class RulesError(ValueError):
    """The file can't be used; the message names it and says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Seen:
    """What tells one content of the file from another, without reading it. All zero: there is none."""

    modified_ns: int = 0
    size: int = 0
    inode: int = 0


class FileWatch:
    """Tells when a file has changed, and is not being written any more. Without a path it never does."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._taken = self._last = _Seen()

    def note(self) -> int:
        """What is there now is about to be read; returns when it was written, in ms since the epoch (0: no file)."""
        self._taken = self._last = _look_at(self._path)
        return self._taken.modified_ns // 10**6

    def changed(self) -> bool:
        """Whether there is something else than what was noted, and the same as at the look before."""
        seen, before = _look_at(self._path), self._last
        self._last = seen
        return seen != self._taken and seen == before


class RulesFile(Generic[R]):
    """Reads the file at `path` (empty: there is none, and no rules).

    `parse` gets the whole document once that has passed the contract, and returns the service's part of it: it refuses
    nothing, since others would take what it refuses. `on_change` gets what it returned: once from `load`, then after
    each change. A file that can't be used later on changes nothing: the old rules stay, the log tells, and `problem`
    says so until a good one is there.
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
        self._watch = FileWatch(self._path)
        self._loop = Loop("watch_rules", self._look, INTERVAL)
        self._log = get_logger()
        #: Why the newest file is not in force, and since when (ms since the epoch); empty where it is.
        self.problem, self.problem_since_ms = "", 0
        #: When the file that was read last was written, in ms since the epoch; 0: there was none.
        self.changed_ms = 0

    def load(self) -> None:
        """Reads the file for the first time. Raises `RulesError`: a service does not start without the rules it has."""
        self.changed_ms = self._watch.note()
        self._on_change(self._read())

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
        self.changed_ms = self._watch.note()
        try:
            rules = self._read()
        except RulesError as error:
            self._refuse(error)
            return
        self.problem = ""
        self._on_change(rules)
        self._log.info("rules_loaded", path=str(self._path))

    async def _look(self) -> None:
        if self._watch.changed():
            self.reload()

    def _refuse(self, error: RulesError) -> None:
        problem = f"{error}. The rules before it stay in force."
        if problem != self.problem:
            self.problem, self.problem_since_ms = problem, self._clock.now_ms()
        self._log.error("rules_refused", path=str(self._path), error=str(error))

    def _read(self) -> R:
        if self._path is None:
            return self._parse({})
        try:
            with self._path.open("rb") as file:
                data = file.read(_MOST_BYTES + 1)
            if len(data) > _MOST_BYTES:
                raise ValueError(f"it has more than {_MOST_BYTES} bytes")
            return self._parse(_checked(data.decode("utf-8")))
        except OSError as error:
            raise RulesError(f"the rules file {self._path} can't be read: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise RulesError(f"the rules file {self._path} is wrong: {error}") from error


def _checked(text: str) -> dict[str, Any]:
    document = tomllib.loads(text)
    try:
        contract.check(document)
    except contract.RuleProblem as problem:
        if line := contract.line_of(text, problem):
            raise ValueError(f"line {line}: {problem}") from problem
        raise
    return document


def _look_at(path: Path | None) -> _Seen:
    try:
        if path is not None:
            stat = path.stat()
            return _Seen(modified_ns=stat.st_mtime_ns, size=stat.st_size, inode=stat.st_ino)
    except OSError:
        pass
    return _Seen()
