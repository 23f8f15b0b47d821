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

    def __call__(self) -> Mapping[str, str]:
        """The keys as the file has them now."""
        if self._path is not None:
            try:
                self._read(self._path)
            except (OSError, ValueError) as error:
                # Not what it says: a broken line may be a key.
                reason = error.strerror if isinstance(error, OSError) else "it is not a TOML file of texts"
                get_logger().warning("webhook_secrets_unread", path=str(self._path), error=reason)
        return self._secrets

    def _read(self, path: Path) -> None:
        found = path.stat()
        seen = (found.st_mtime_ns, found.st_size, found.st_ino)
        if seen == self._seen:
            return
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        if not all(isinstance(value, str) for value in table.values()):
            raise ValueError
        self._secrets = table
        self._seen = seen
