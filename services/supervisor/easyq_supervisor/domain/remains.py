"""What a killed engine of EasyQ's own left on this machine: which processes and mounts are surely its own.

A name alone proves nothing: other engines run the same programs. A process counts by the socket or the folder of this
very engine among its arguments, or as a descendant of one that does; a mount by its place and its kind.
"""

from __future__ import annotations

import itertools
import posixpath
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Process:
    """`started` (the kernel's clock ticks) tells it from a later one of the same pid."""

    pid: int
    parent: int
    started: int
    argv: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Mount:
    """A line of /proc/self/mountinfo: `root` is the folder within the file system that is seen at `point`."""

    number: int
    parent: int
    device: str
    root: str
    point: str
    kind: str


def is_part(process: Process, exec_root: str) -> bool:
    """Whether it is the daemon, containerd or a shim of the engine with this exec root."""
    argv = process.argv
    name = posixpath.basename(argv[0]) if argv else ""
    if name == "dockerd":
        return f"--exec-root={exec_root}" in argv
    if name == "containerd":
        return _value(argv, "--config") == f"{exec_root}/containerd/containerd.toml"
    if name.startswith("containerd-shim"):
        return _value(argv, "-address") == f"{exec_root}/containerd/containerd.sock"
    return False


def to_kill(processes: Collection[Process], exec_root: str, *, kept: Collection[str], me: int) -> list[Process]:
    """Who is to be killed next; to be asked again until nobody is.

    Containers' processes come first: as long as their shim lives it takes in orphans, so that none gets away. `kept`
    are the ids of containers that stay, with their shims. Nobody, if `me` would be among them.
    """
    parts = {process.pid: process for process in processes if is_part(process, exec_root)}
    staying = {pid for pid, process in parts.items() if _value(process.argv, "-id") in kept}
    ending = [process for pid, process in parts.items() if pid not in staying]
    below = _descendants(processes, {process.pid for process in ending}, spared=staying)
    if me in {process.pid for process in (*below, *ending)}:
        return []
    return [process for process in below if process.pid not in parts] or ending


def to_unmount(mounts: Sequence[Mount], *, data: str, exec_root: str) -> list[str]:
    """The mount points that the engine made below its data root and its exec root, newest first.

    These are roots of containers, their shared memory, their networks' namespaces, and folders mounted upon themselves.
    Anything else there, a disk say, was mounted by somebody.
    """
    by_number = {mount.number: mount for mount in mounts}
    return [
        mount.point
        for mount in reversed(mounts)
        if (mount.kind in {"overlay", "fuse.fuse-overlayfs"} and mount.point.startswith(f"{data}/"))
        or (mount.kind == "tmpfs" and mount.point.startswith(f"{data}/containers/"))
        or (mount.kind == "nsfs" and mount.point.startswith(f"{exec_root}/netns/"))
        or (_is_within(mount.point, data) and _is_upon_itself(mount, by_number.get(mount.parent)))
    ]


def _descendants(processes: Iterable[Process], ancestors: set[int], *, spared: set[int]) -> list[Process]:
    children: dict[int, list[Process]] = {}
    for process in processes:
        children.setdefault(process.parent, []).append(process)
    found: dict[int, Process] = {}
    todo = list(ancestors)
    while todo:
        for child in children.get(todo.pop(), []):
            if child.pid not in spared and child.pid not in found:
                found[child.pid] = child
                todo.append(child.pid)
    return list(found.values())


def _is_upon_itself(mount: Mount, below: Mount | None) -> bool:
    """Whether it shows what would be seen at its place without it."""
    if below is None or mount.device != below.device:
        return False
    seen = posixpath.join(below.root, posixpath.relpath(mount.point, below.point))
    return mount.root == posixpath.normpath(seen)


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def _value(argv: Sequence[str], flag: str) -> str:
    """What follows a flag; empty without it."""
    return next((value for name, value in itertools.pairwise(argv) if name == flag), "")
