"""The config file of `easyq up`, and the flags that win over it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from easyq_chassis.rules_file import contract
from easyq_chassis.rules_file.watch import Content, WatchedFile
from easyq_supervisor.domain.options import OptionError, Options, merge


class ConfigFile(WatchedFile):
    """Options from flags (as click gives them) and from TOML at `path`, if there is one."""

    def __init__(self, flags: Mapping[str, Any], path: Path | None) -> None:
        self._flags = flags
        self._file = path.absolute() if path else None
        super().__init__(self._file)

    @property
    def name(self) -> str:
        """Its path; empty where there is none."""
        return str(self._file or "")

    def options(self, content: Content) -> Options:
        """The options that hold with this in the file. Raises OptionError, which names the line where it can."""
        try:
            return merge(self._flags, self._document(content), self.name, contract.check)
        except OptionError as error:
            if error.source and (line := _line_of(content.text, error)):
                raise error.at(line) from error
            raise

    def _document(self, content: Content) -> dict[str, Any]:
        try:
            if content.error is not None:
                raise content.error
            return tomllib.loads(content.text)
        except OSError as error:
            raise OptionError(f"{self._file}: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise OptionError(f"{self._file}: {error}") from error


def _line_of(text: str, error: OptionError) -> int:
    """The line of the file where it is, from 1; 0 where that can't be told."""
    problem = error.__cause__
    if isinstance(problem, contract.RuleProblem) and (line := contract.line_of(text, problem)):
        return line
    setting = re.compile(rf"\s*([\"']?){re.escape(error.key)}\1\s*=")
    for number, line_text in enumerate(text.splitlines(), 1):
        if line_text.lstrip().startswith("[["):
            break
        if setting.match(line_text):
            return number
    return 0
