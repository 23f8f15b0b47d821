"""A file of rules that is read again whenever it changes, while the service runs.

It is TOML, shared by all services: each reads its own tables and leaves the others' alone.
"""

from __future__ import annotations

import asyncio
import signal
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from easyq_chassis.logs import get_logger
from easyq_chassis.loops import Loop

R = TypeVar("R")

#: The tables that a rules file may have. `default` is the gateway's, `pool`, `limit` and `weight` are the dispatcher's,
#: `retention` is the store's.
TABLES = frozenset({"pool", "limit", "weight", "default", "retention"})

# A change is taken once two looks have seen the same: a file that is being written is not read half. So it takes at
# most a second.
_INTERVAL = 0.5
_MOST_BYTES = 1024 * 1024


class RulesError(ValueError):
    """The file can't be used; the message names it and says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Seen:
    """What tells one content of the file from another, without reading it. All zero: there is none."""

    modified_ns: int = 0
    size: int = 0
    inode: int = 0


class RulesFile(Generic[R]):
    """Reads the file at `path` (empty: there is none, and no rules).

    `parse` gets the whole document and returns the rules; it raises `ValueError` with words for people. `on_change`
    gets what it returned: once from `load`, then after each change. A file that can't be used later on changes nothing:
    the old rules stay, the log tells, and `problem` says so until a good one is there.
    """

    def __init__(
        self, path: str, parse: Callable[[Mapping[str, Any]], R], on_change: Callable[[R], None], *, name: str = "rules"
    ) -> None:
        self._path = Path(path) if path else None
        self._parse = parse
        self._on_change = on_change
        self._taken = _Seen()
        self._last = _Seen()
        self._loop = Loop(f"watch_{name}", self._look, _INTERVAL)
        self._log = get_logger()
        #: Why the newest file is not in force; empty where it is.
        self.problem = ""

    def load(self) -> None:
        """Reads the file for the first time. Raises `RulesError`: a service does not start without the rules it has."""
        self._taken = self._last = _look_at(self._path)
        self._on_change(self._read())

    def start(self) -> None:
        """Watches the file; SIGHUP has it read again at once. Does nothing where there is none."""
        if self._path is None:
            return
        self._loop.start()
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.reload)

    async def stop(self) -> None:
        """Watches no longer."""
        if self._path is not None:
            asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)
            await self._loop.stop()

    def reload(self) -> None:
        """Reads the file now, whether it changed or not. Raises nothing."""
        self._taken = self._last = _look_at(self._path)
        try:
            rules = self._read()
        except RulesError as error:
            self.problem = f"{error}. The rules before it stay in force."
            self._log.error("rules_refused", path=str(self._path), error=str(error))
            return
        self.problem = ""
        self._on_change(rules)
        self._log.info("rules_loaded", path=str(self._path))

    async def _look(self) -> None:
        seen, before = _look_at(self._path), self._last
        self._last = seen
        if seen != self._taken and seen == before:
            self.reload()

    def _read(self) -> R:
        if self._path is None:
            return self._parse({})
        try:
            with self._path.open("rb") as file:
                data = file.read(_MOST_BYTES + 1)
            if len(data) > _MOST_BYTES:
                raise ValueError(f"it has more than {_MOST_BYTES} bytes")
            document = tomllib.loads(data.decode("utf-8"))
            _check_tables(document)
            return self._parse(document)
        except OSError as error:
            raise RulesError(f"the rules file {self._path} can't be read: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise RulesError(f"the rules file {self._path} is wrong: {error}") from error


def tables(document: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Returns the tables `[[name]]` of a document, in order. Raises `ValueError` where it has another form."""
    found = document.get(name, [])
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise ValueError(f"{name} must be written as [[{name}]]")
    return found


def _check_tables(document: Mapping[str, Any]) -> None:
    unknown = sorted(set(document) - TABLES)
    if unknown:
        raise ValueError(f"{unknown[0][:64]!r} is none of the tables {', '.join(sorted(TABLES))}")


def _look_at(path: Path | None) -> _Seen:
    try:
        if path is not None:
            stat = path.stat()
            return _Seen(modified_ns=stat.st_mtime_ns, size=stat.st_size, inode=stat.st_ino)
    except OSError:
        pass
    return _Seen()
