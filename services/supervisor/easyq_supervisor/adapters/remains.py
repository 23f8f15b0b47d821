"""Ending what a killed engine of EasyQ's own left. By /proc, so that elsewhere than on Linux nothing is found."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import time
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

from easyq_supervisor.domain.remains import Mount, Process, is_part, to_kill, to_unmount

_KILL_PATIENCE = 10.0
_MOUNT_PATIENCE = 2.0
_POLL = 0.02
# umount2's flag against a link that was put in the place of a mount point.
_NO_FOLLOW = 8


def end_processes(exec_root: Path, *, kept: Collection[str] = ()) -> int:
    """Kills every process of the engine with this exec root, but for containers of the ids `kept`; how many."""
    ended: set[tuple[int, int]] = set()
    deadline = time.monotonic() + _KILL_PATIENCE
    while time.monotonic() < deadline:
        victims = to_kill(_known(exec_root), str(exec_root), kept=kept, me=os.getpid())
        if not victims:
            break
        for victim in victims:
            if kill(victim):
                ended.add((victim.pid, victim.started))
        time.sleep(_POLL)
    return len(ended)


def any_process(exec_root: Path) -> bool:
    """Whether a part of the engine lives."""
    return any(is_part(process, str(exec_root)) for process in _known(exec_root))


def unmount(data: Path, exec_root: Path) -> list[str]:
    """Unmounts what the engine mounted; the mount points that could not be."""
    where = {"data": os.path.realpath(data), "exec_root": os.path.realpath(exec_root)}
    deadline = time.monotonic() + _MOUNT_PATIENCE
    while left := [point for point in to_unmount(mounts(), **where) if not _unmounted(point)]:
        if time.monotonic() > deadline:
            break
        # The mounts of a container that was killed are in use until the kernel has taken it apart.
        time.sleep(_POLL)
    return left


def processes(proc: Path = Path("/proc")) -> list[Process]:
    """Those that live (no zombies) and can be looked at."""
    return list(filter(None, (_process(folder) for folder in proc.glob("[0-9]*"))))


def mounts(table: Path = Path("/proc/self/mountinfo")) -> list[Mount]:
    """The mounts that this process sees, oldest first."""
    try:
        lines = os.fsdecode(table.read_bytes()).strip("\n").split("\n")
    except OSError:
        return []
    return list(_mounts(lines))


def kill(process: Process) -> bool:
    """SIGKILL, unless the pid is another's by now; whether it was sent."""
    try:
        handle = os.pidfd_open(process.pid)
    except OSError:
        return False
    try:
        now = _process(Path(f"/proc/{process.pid}"))
        if now is None or now.started != process.started:
            return False
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def _process(folder: Path) -> Process | None:
    try:
        stat = (folder / "stat").read_bytes().rpartition(b")")[2].split()
        command = (folder / "cmdline").read_bytes()
    except OSError:
        return None
    if stat[0] in {b"Z", b"X"}:
        return None
    argv = tuple(os.fsdecode(part) for part in command.rstrip(b"\0").split(b"\0"))
    return Process(pid=int(folder.name), parent=int(stat[1]), started=int(stat[19]), argv=argv)


def _known(exec_root: Path) -> list[Process]:
    """All processes, without the arguments of those that mean another folder by the same path."""
    return [
        replace(process, argv=()) if is_part(process, str(exec_root)) and not _sees(process, exec_root) else process
        for process in processes()
    ]


def _sees(process: Process, folder: Path) -> bool:
    """Whether a path means the same folder to a process as here: it may be in a chroot or a container."""
    try:
        return Path(f"/proc/{process.pid}/root{folder}").samefile(folder)
    except OSError:
        return False


def _mounts(lines: list[str]) -> Iterator[Mount]:
    for line in lines:
        number, parent, device, root, point, *rest = line.split(" ")
        yield Mount(
            number=int(number),
            parent=int(parent),
            device=device,
            root=_plain(root),
            point=_plain(point),
            kind=rest[rest.index("-") + 1],
        )


def _plain(path: str) -> str:
    r"""The kernel writes blanks, and backslashes themselves, as \ooo."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)


def _unmounted(point: str) -> bool:
    """Never lazily: what is in use, or has somebody's disk mounted within, stays."""
    with contextlib.suppress(OSError, AttributeError):
        return bool(ctypes.CDLL(None).umount2(os.fsencode(point), _NO_FOLLOW) == 0)
    return False
