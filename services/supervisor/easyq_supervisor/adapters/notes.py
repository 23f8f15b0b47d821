"""The file of recurring jobs that `easyq down --stop-jobs` has paused, for the next `easyq up` to resume."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from easyq_supervisor.domain.resting import Note, Notes


class NotesUnreadable(Exception):
    """The file is not as it was written."""


class NotesFile:
    """`paused.json` of the data folder; there only while something is noted. `down` and `up` may both be at it, so
    that each change is made under a lock (`paused.lock`)."""

    def __init__(self, data: Path) -> None:
        self.path = data / "paused.json"
        self._lock = data / "paused.lock"

    def read(self) -> Notes:
        """What is noted. Raises NotesUnreadable, OSError."""
        try:
            text = self.path.read_bytes()
        except FileNotFoundError:
            return ()
        try:
            return tuple(Note(**entry) for entry in json.loads(text))
        except (ValueError, TypeError) as error:
            raise NotesUnreadable(f"{self.path} can't be understood: {error}") from error

    def change(self, change: Callable[[Notes], Notes]) -> None:
        """Replaces the file as a whole by what `change` makes of it; it is on disk then. Raises NotesUnreadable,
        OSError."""
        with self._locked():
            old = self.read()
            new = change(old)
            if new == old:
                return
            if new:
                self._write(new)
            else:
                self.path.unlink(missing_ok=True)
            _sync(self.path.parent)

    def _write(self, notes: Notes) -> None:
        draft = self.path.with_suffix(".json.new")
        # One that root's `down` left can be removed by the folder's owner, but not written to.
        draft.unlink(missing_ok=True)
        draft.write_text(json.dumps([asdict(note) for note in notes]), encoding="utf-8")
        _sync(draft)
        draft.replace(self.path)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        lock = os.open(self._lock, os.O_RDONLY | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
