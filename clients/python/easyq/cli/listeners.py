"""Who holds a port of this machine, as the kernel knows it: a process that hangs still holds its port."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_LISTENS = "0A"
# What the programs of EasyQ are called: `python -m easyq_gateway`, `easyq gateway`, `/usr/bin/easyq up`.
_MODULE = re.compile(r"easyq(_[a-z]+)?(\.[a-z_.]+)?")
_SOCKET = re.compile(r"socket:\[(\d+)\]")


@dataclass(frozen=True, kw_only=True, slots=True)
class Listener:
    """A process that listens. `pid` 0, and `argv` empty: it is another user's, and can't be seen from here."""

    pid: int
    user: str
    argv: tuple[str, ...] = ()
    stopped: bool = False

    @property
    def is_easyq(self) -> bool:
        """Whether it is a program of EasyQ."""
        if not self.argv:
            return False
        program, *rest = self.argv
        names = [Path(program).name]
        if names[0].startswith("python"):
            # The script, or the module behind -m; options of the interpreter have no such name.
            names += [Path(one).name for one in rest[:4]]
        return any(_MODULE.fullmatch(name) for name in names)

    @property
    def words(self) -> str:
        """Which process it is, for a person."""
        if not self.pid:
            return f"a process of the user {self.user}"
        command = " ".join(self.argv)
        return f"process {self.pid} ({command[:80]}{'…' if len(command) > 80 else ''})"


def listener_at(address: str, proc: Path = _PROC) -> Listener | None:
    """Who listens at `host:port` or `unix:/path` of this machine; None where nobody does, or there is no /proc."""
    if address.startswith("unix:"):
        path = address.removeprefix("unix:").removeprefix("//")
        found = _unix(proc, path)
    else:
        port = address.rpartition(":")[2]
        found = _tcp(proc, int(port)) if port.isdecimal() else None
    if found is None:
        return None
    inode, uid = found
    return _owner(proc, inode) or Listener(pid=0, user=_user(uid))


def _tcp(proc: Path, port: int) -> tuple[str, int | None] | None:
    """The inode of the listening socket, and its user."""
    for name in ("tcp", "tcp6"):
        for fields in _table(proc / "net" / name):
            if len(fields) > 9 and fields[3] == _LISTENS and int(fields[1].rpartition(":")[2], 16) == port:
                return fields[9], int(fields[7])
    return None


def _unix(proc: Path, path: str) -> tuple[str, int | None] | None:
    for fields in _table(proc / "net" / "unix"):
        if len(fields) > 7 and fields[7] == path:
            with suppress(OSError):
                return fields[6], Path(path).stat().st_uid
            return fields[6], None
    return None


def _table(file: Path) -> Iterator[list[str]]:
    with suppress(OSError):
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines()[1:]:
            yield line.split()


def _owner(proc: Path, inode: str) -> Listener | None:
    """The process that has the socket open: of a parent that handed it on, and its child, the first."""
    with suppress(OSError):
        pids = sorted(int(one.name) for one in proc.iterdir() if one.name.isdecimal())
        for pid in pids:
            if inode in _sockets(proc / str(pid)):
                return _process(proc, pid)
    return None


def _sockets(folder: Path) -> Iterator[str]:
    with suppress(OSError):  # it has ended, or is somebody else's
        for number in (folder / "fd").iterdir():
            with suppress(OSError):
                if found := _SOCKET.fullmatch(str(number.readlink())):
                    yield found[1]


def _process(proc: Path, pid: int) -> Listener | None:
    folder = proc / str(pid)
    try:
        command = (folder / "cmdline").read_bytes()
        state = (folder / "stat").read_bytes().rpartition(b")")[2].split()[0]
        uid = folder.stat().st_uid
    except (OSError, IndexError):
        return None
    argv = tuple(os.fsdecode(part) for part in command.rstrip(b"\0").split(b"\0"))
    return Listener(pid=pid, user=_user(uid), argv=argv, stopped=state in {b"T", b"t"})


def _user(uid: int | None) -> str:
    with suppress(ImportError, KeyError, TypeError):
        import pwd  # there is none on Windows

        return pwd.getpwuid(uid).pw_name  # type: ignore[arg-type]
    return "?" if uid is None else str(uid)
