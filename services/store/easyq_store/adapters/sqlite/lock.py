"""One process per database: a lock file that names its holder."""

import fcntl
import os
from pathlib import Path

from easyq_chassis.errors import FailedPrecondition


class FileLock:
    """An exclusive lock, held until released or until the process ends, however it ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None

    def acquire(self) -> None:
        """Raises FailedPrecondition naming the process that holds it."""
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(fd, 32).decode(errors="replace").strip() or "unknown"
            os.close(fd)
            message = f"{self._path} is held by process {holder}: a SQLite store has one process"
            raise FailedPrecondition(message) from error
        self._fd = fd
        # On a full disk this fails; `release` then lets go of what is held already.
        os.ftruncate(fd, 0)
        os.write(fd, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        """Lets go; harmless if it isn't held."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)
