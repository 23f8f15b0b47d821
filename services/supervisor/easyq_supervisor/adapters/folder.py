"""The data folder: who holds it, and where sockets and states of this run are."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from easyq_chassis.rules_file.watch import note_beside

# A unix socket's path has at most 107 characters; the longest name that we add is `/dispatcher.sock`.
_LONGEST_RUN_FOLDER = 90
# More than file systems keep inside their own records.
_PROBE = 4096


class Held(Exception):
    """Another `easyq up` has this folder."""

    def __init__(self, data: Path, pid: int) -> None:
        super().__init__(f"{data} is held by another easyq up, pid {pid}")
        self.pid = pid


@dataclass(frozen=True, kw_only=True, slots=True)
class Running:
    """What the running `easyq up` says of itself to `easyq down`."""

    pid: int
    grpc: str
    rest: str
    #: Where each process serves its metrics and health.
    metrics: Mapping[str, str] = field(default_factory=dict)


class DataFolder:
    """Layout: `lock` (held by the running system), `up.json` (what it says of itself), `run/` (sockets),
    `farm` (its name), `rules.toml` (what services read again when it changes), `rules.toml.refused` (what was to be
    written there, and is refused), `easyq.db` (the store), `paused.json` (recurring jobs that go on with the next
    `easyq up`; see `notes`), `agents/<id>/` (journals), `engine/` (a Docker Engine of EasyQ's own)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None
        self._run: Path | None = None

    def hold(self) -> None:
        """Makes the folder where it is missing, and takes it for this process. Raises Held, OSError."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = _read_pid(lock)
            os.close(lock)
            raise Held(self.path, pid) from None
        self._lock = lock
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)

    def probe(self) -> None:
        """Writes something to the folder: that it could be held says little, since the lock may be there already.

        Raises OSError.
        """
        probe = self.path / "probe"
        try:
            probe.write_bytes(bytes(_PROBE))
        finally:
            probe.unlink(missing_ok=True)

    def free(self) -> int:
        """Bytes that this user may still write to the folder's disk. Raises OSError."""
        return shutil.disk_usage(self.path).free

    def holder(self) -> int | None:
        """The pid of the process that holds the folder; None where nobody does."""
        try:
            lock = os.open(self.path / "lock", os.O_RDWR)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return _read_pid(lock)
        finally:
            os.close(lock)
        return None

    def make_run_folder(self) -> Path:
        """An empty folder for sockets that only this user can enter; elsewhere if the path here is too long."""
        self._forget_run_folder()
        run = self.path / "run"
        if len(os.fsencode(run)) > _LONGEST_RUN_FOLDER:
            run = Path(tempfile.mkdtemp(prefix="easyq-"))
            (self.path / "run-elsewhere").write_text(str(run), encoding="utf-8")
        else:
            run.mkdir(mode=0o700)
        self._run = run
        return run

    def farm(self) -> str:
        """The name of the farm that this folder holds: made once, and no other folder's. It stands on containers and
        before keys in Redis, so that farms which share a Docker Engine or a Redis leave each other alone."""
        file = self.path / "farm"
        if not file.exists():
            draft = self.path / "farm.new"
            draft.write_text(f"easyq-{secrets.token_hex(4)}", encoding="ascii")
            draft.replace(file)
        return file.read_text(encoding="ascii").strip()

    @property
    def rules(self) -> Path:
        return self.path / "rules.toml"

    def write_rules(self, text: str) -> None:
        """Replaces the rules file as a whole: nobody ever reads half of it. Raises OSError."""
        draft = self.path / "rules.toml.new"
        draft.write_text(text, encoding="utf-8")
        draft.replace(self.rules)

    def note_refused(self, words: str) -> None:
        """Says beside the rules file what was to be written there and is refused; empty: nothing is. Raises OSError."""
        note = note_beside(self.rules)
        if not words:
            note.unlink(missing_ok=True)
            return
        draft = note.with_name(note.name + ".new")
        draft.write_text(words + "\n", encoding="utf-8")
        draft.replace(note)

    def announce(self, running: Running) -> None:
        """Writes down what `easyq down` needs to know."""
        draft = self.path / "up.json.new"
        draft.write_text(json.dumps(asdict(running)), encoding="utf-8")
        draft.replace(self.path / "up.json")

    def running(self) -> Running | None:
        """What the last `easyq up` announced, unless it took that back."""
        try:
            return Running(**json.loads((self.path / "up.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def release(self) -> None:
        """Gives the folder back, if this process holds it."""
        if self._lock is None:
            return
        (self.path / "up.json").unlink(missing_ok=True)
        self._forget_run_folder()
        os.close(self._lock)
        self._lock = None

    def _forget_run_folder(self) -> None:
        """Removes the sockets of this run or, after a crash, of the one before."""
        shutil.rmtree(self.path / "run", ignore_errors=True)
        note = self.path / "run-elsewhere"
        with contextlib.suppress(OSError):
            elsewhere = Path(note.read_text(encoding="utf-8"))
            if elsewhere.name.startswith("easyq-") and elsewhere.stat().st_uid == os.getuid():
                shutil.rmtree(elsewhere, ignore_errors=True)
            note.unlink()


def _read_pid(lock: int) -> int:
    text = os.pread(lock, 32, 0).strip()
    return int(text) if text.isdigit() else 0
