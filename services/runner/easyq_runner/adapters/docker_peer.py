"""The process behind a unix socket, as the kernel tells it."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from struct import Struct

_CREDENTIALS = Struct("3i")
# Where systemd or a proxy holds the socket, their process says nothing of the daemon's.
_DAEMONS = {"dockerd", "podman"}


async def process_behind(path: str) -> str:
    """Names the daemon's process by id, start and boot of the machine; empty where it can't be told."""
    if not path or not hasattr(socket, "SO_PEERCRED"):
        return ""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.setblocking(False)
        try:
            async with asyncio.timeout(5):
                await asyncio.get_running_loop().sock_connect(client, path)
        except OSError:  # also where the time is over: whoever needs the daemon meets that error itself
            return ""
        raw = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return describe(_CREDENTIALS.unpack(raw)[0], Path("/proc"))


def describe(pid: int, proc: Path) -> str:
    """Process `pid` as `/proc` knows it; empty where it is no daemon's, or can't be seen (0: another namespace's)."""
    try:
        if (proc / str(pid) / "comm").read_text(encoding="ascii").strip() not in _DAEMONS:
            return ""
        # Behind the name, which is in parentheses and may hold blanks, the 20th field is the start time in ticks.
        started = (proc / str(pid) / "stat").read_text(encoding="ascii").rpartition(")")[2].split()[19]
        boot = (proc / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
    return f"{pid} {started} {boot}"
