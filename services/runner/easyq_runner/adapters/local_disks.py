"""`Disks` of the machine that the agent runs on."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from easyq_runner.domain.host import Disk

# Seconds.
_PATIENCE = 5.0


class LocalDisks:
    """Looks at the agent's folder, and at the engine's data if `engine_is_here` (behind a socket of this machine)."""

    def __init__(self, data: Path, *, engine_is_here: bool) -> None:
        self._data = data
        self._engine_is_here = engine_is_here
        self._looking: asyncio.Task[tuple[Disk, ...]] | None = None

    async def free(self, engine_root: str) -> tuple[Disk, ...]:
        folders = [str(self._data)] + ([engine_root] if engine_root and self._engine_is_here else [])
        looking = self._looking
        if looking is None or looking.done():
            looking = self._looking = asyncio.create_task(asyncio.to_thread(_look, folders))
        # A network file system may hang; one thread at most hangs with it.
        done, _ = await asyncio.wait({looking}, timeout=_PATIENCE)
        return looking.result() if done else ()


def _look(folders: list[str]) -> tuple[Disk, ...]:
    """An engine in a virtual machine names a folder that is not there."""
    found = []
    for folder in folders:
        try:
            told = os.statvfs(folder)
        except OSError:
            continue
        found.append(Disk(folder=folder, free=told.f_bavail * told.f_frsize))
    return tuple(found)
