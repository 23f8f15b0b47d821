"""Keys of signatures by name, in a file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

from easyq_chassis.logs import get_logger


class SecretsFile:
    """A TOML file of `name = "key"`, read again when it changes; one that can't be read leaves what was."""

    def __init__(self, path: str) -> None:
        """An empty path: there are none."""
        self._path = Path(path) if path else None
        self._seen: tuple[int, int, int] | None = None
        self._secrets: Mapping[str, str] = {}
        self._problem = ""

    def __call__(self) -> Mapping[str, str]:
        """The keys as the file has them now."""
        if self._path is not None:
            self._look(self._path)
        return self._secrets

    @property
    def problem(self) -> str:
        """Why the keys are not those that stand in the file now, in words for people; empty where they are."""
        self()
        return self._problem

    def _look(self, path: Path) -> None:
        try:
            found = path.stat()
            seen = (found.st_mtime_ns, found.st_size, found.st_ino)
            if seen == self._seen:
                return
            self._seen = seen
            table = tomllib.loads(path.read_text(encoding="utf-8"))
            if not all(isinstance(value, str) for value in table.values()):
                raise ValueError
        except (OSError, ValueError) as error:
            if isinstance(error, OSError):
                # That it can be read again is no change of the file.
                self._seen = None
            # Not what it says: a broken line may be a key.
            self._refuse(path, error.strerror if isinstance(error, OSError) else "it is not a TOML file of texts")
            return
        self._secrets, self._problem = table, ""

    def _refuse(self, path: Path, reason: str | None) -> None:
        problem = f"the keys of webhooks in {path} can't be read: {reason}. Those before stay in force."
        if problem != self._problem:
            get_logger().warning("webhook_secrets_unread", path=str(path), error=reason)
        self._problem = problem
