"""The config file of `easyq up`, and the flags that win over it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from easyq_supervisor.domain.options import OptionError, Options, merge

#: Time of change, size and inode.
Stamp = tuple[int, int, int]


class ConfigFile:
    """Options from flags (as click gives them) and from TOML at `path`, if there is one."""

    def __init__(self, flags: Mapping[str, Any], path: Path | None) -> None:
        self._flags = flags
        self._path = path.absolute() if path else None
        #: The stamp of what `options` has read last.
        self.taken: Stamp | None = None

    @property
    def name(self) -> str:
        """Its path; empty where there is none."""
        return str(self._path or "")

    def stamp(self) -> Stamp | None:
        """What tells one content from another without reading it; None where it can't be looked at."""
        try:
            found = self._path.stat() if self._path else None
        except OSError:
            return None
        return (found.st_mtime_ns, found.st_size, found.st_ino) if found else None

    def options(self) -> Options:
        """The options as they are now. Raises OptionError."""
        self.taken = self.stamp()
        return merge(self._flags, self._read(), self.name)

    def _read(self) -> dict[str, Any]:
        if self._path is None:
            return {}
        try:
            return tomllib.loads(self._path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise OptionError(f"{self._path}: {error}") from error
        except OSError as error:
            raise OptionError(f"{self._path}: {error.strerror}") from error
