"""The agent's data folder: who may use it, and who the agent is."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

from easyq_chassis.errors import FailedPrecondition
from easyq_runner.domain.identity import Identity


class DataFolder:
    """A folder that one agent uses at a time. Raises OSError where it can't be made or written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = -1

    @property
    def path(self) -> Path:
        """The folder itself."""
        return self._path

    @property
    def images(self) -> Path:
        """Path of the notes on images that were pulled."""
        return self._path / "images.json"

    @property
    def journal(self) -> Path:
        """Path of the journal."""
        return self._path / "journal"

    @property
    def lease(self) -> Path:
        """Path of the lease's note."""
        return self._path / "lease"

    def lock(self, holder: int) -> None:
        """Makes the folder and takes it until the process ends; `holder` is the process to end for that.

        Raises FailedPrecondition if another agent has it.
        """
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = os.open(self._path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            known = os.read(self._lock, 32).decode(errors="replace").strip()
            self.unlock()
            message = f"{self._path} belongs to another agent that runs, with process id {known or 'unknown'}"
            raise FailedPrecondition(message) from None
        os.ftruncate(self._lock, 0)
        os.write(self._lock, str(holder).encode())

    def unlock(self) -> None:
        """Gives the folder free."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def read_identity(self) -> Identity | None:
        """Who the agent of this folder is; None in a new folder. Raises FailedPrecondition if it can't be read."""
        file = self._path / "agent.json"
        try:
            raw = json.loads(file.read_bytes())
            return Identity(agent_id=str(raw["agent_id"]), daemon_id=str(raw["daemon_id"]))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise FailedPrecondition(f"{file} is damaged: {error!r}") from error

    def write_identity(self, identity: Identity) -> None:
        """Keeps it, on disk before this returns."""
        fresh = self._path / "agent.json.new"
        fields = {"agent_id": identity.agent_id, "daemon_id": identity.daemon_id}
        with fresh.open("w", encoding="utf-8") as file:
            json.dump(fields, file)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path / "agent.json")

    def set_journal_aside(self) -> None:
        """The journal is another agent's: keeps one such for people to look at."""
        if self.journal.exists():
            self.journal.replace(self._path / "journal.old")
        self.lease.unlink(missing_ok=True)
