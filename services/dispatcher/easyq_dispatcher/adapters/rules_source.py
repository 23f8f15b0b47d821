"""The file of rules on disk."""

from __future__ import annotations

from pathlib import Path

from easyq_dispatcher.ports import RulesText


class RulesFile:
    """`RulesSource` for a path."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def stamp(self) -> tuple[int, int, int] | None:
        """Changes when the file does; None where it can't be looked at."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def read(self) -> RulesText:
        """Raises OSError, and ValueError where it is no text."""
        return RulesText(text=self._path.read_text(encoding="utf-8"), changed_ms=self._path.stat().st_mtime_ns // 10**6)

    def __str__(self) -> str:
        return str(self._path)
