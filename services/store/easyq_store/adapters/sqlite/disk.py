"""What may happen to the file under a running store: its disk fills up, or somebody moves it away."""

import errno
import os
import sqlite3
from pathlib import Path

from easyq_chassis.logs import get_logger
from easyq_store.failures import DatabaseGone, DiskFull

# Bytes that must be free again after a disk was full. Below that small writes would succeed now and then, and the
# store would seem to be well while every larger one fails.
_ROOM = 1024 * 1024
_RETRY_AFTER = 10.0


class Disk:
    """Watches over the file of an open database. Used by the writer's thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = _identity(path)
        self._full = False

    def require(self) -> None:
        """Raises `DatabaseGone` where the path leads to another file than was opened, `DiskFull` while it is."""
        if _identity(self._path) != self._file:
            raise DatabaseGone(
                f"{self._path} was moved away or replaced while the store had it open: what it writes would be lost"
            )
        if self._full and free(self._path) < _ROOM:
            raise full(self._path)

    def failed(self, error: sqlite3.Error) -> DiskFull | None:
        """Returns what to say of an error if it means that the disk is full; logs once until something is written."""
        if not is_full(self._path, error):
            return None
        if not self._full:
            get_logger().error("disk_full", path=str(self._path), free=free(self._path), error=str(error))
        self._full = True
        return full(self._path)

    def wrote(self) -> None:
        """A transaction was committed."""
        if self._full:
            get_logger().info("disk_has_room_again", path=str(self._path), free=free(self._path))
        self._full = False


def full(path: Path) -> DiskFull:
    """Returns the error for callers."""
    text = f"the store's disk is full ({path}): free some space on it, and the store goes on by itself"
    return DiskFull(text, retry_after=_RETRY_AFTER)


def is_full(path: Path, error: sqlite3.Error | OSError) -> bool:
    """Whether an error comes from a full disk. SQLite tells some of these as errors of input and output."""
    if isinstance(error, OSError):
        return error.errno in {errno.ENOSPC, errno.EDQUOT}
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and free(path) < _ROOM)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def free(path: Path) -> int:
    """Bytes that this process may still take on the path's disk."""
    try:
        found = os.statvfs(path.parent)
    except OSError:
        return _ROOM
    blocks = found.f_bfree if os.geteuid() == 0 else found.f_bavail
    return blocks * found.f_frsize
