"""The config file of `easyq up`, and the flags that win over it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from easyq_chassis.rules_file import contract
from easyq_chassis.rules_file.watch import FileWatch
from easyq_supervisor.domain.options import OptionError, Options, merge


class ConfigFile:
    """Options from flags (as click gives them) and from TOML at `path`, if there is one."""

    def __init__(self, flags: Mapping[str, Any], path: Path | None) -> None:
        self._flags = flags
        self._path = path.absolute() if path else None
        self._watch = FileWatch(self._path)

    @property
    def name(self) -> str:
        """Its path; empty where there is none."""
        return str(self._path or "")

    def changed(self) -> bool:
        """Whether it has changed since `options` read it, and not since the last look."""
        return self._watch.changed()

    def options(self) -> Options:
        """The options as they are now. Raises OptionError."""
        self._watch.note()
        return merge(self._flags, self._read(), self.name, contract.check)

    def _read(self) -> dict[str, Any]:
        if self._path is None:
            return {}
        try:
            return tomllib.loads(self._path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise OptionError(f"{self._path}: {error}") from error
        except OSError as error:
            raise OptionError(f"{self._path}: {error.strerror}") from error
