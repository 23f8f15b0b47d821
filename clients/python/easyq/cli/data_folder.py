"""The data folder of the `easyq up` that serves an address on this machine: it may be any, by `--data` or a file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")
#: Where `easyq up` keeps everything unless it is told otherwise.
DEFAULT = "~/.easyq"
# What a running `easyq up` holds open in its folder, and what it says of itself beside that.
_LOCK, _SAYS = "lock", "up.json"


def data_folder_of(address: str, proc: Path = _PROC) -> Path | None:
    """The folder; None where it can't be found: no `easyq up` serves there, it is another user's, or there is no
    /proc."""
    port = address.rpartition(":")[2]
    for pid, folder in _held(proc):
        with suppress(OSError, ValueError, KeyError, TypeError):
            said = json.loads((folder / _SAYS).read_bytes())
            if said["pid"] == pid and str(said["grpc"]).rpartition(":")[2] == port:
                return folder
    return None


def _held(proc: Path) -> Iterator[tuple[int, Path]]:
    """Processes with the folders of the files named `lock` that they have open, as far as this user may see that."""
    with suppress(OSError):  # there is no such thing
        for process in filter(lambda one: one.name.isdecimal(), proc.iterdir()):
            with suppress(OSError):  # it has ended, or is somebody else's
                for number in (process / "fd").iterdir():
                    with suppress(OSError):
                        target = number.readlink()
                        if target.name == _LOCK:
                            yield int(process.name), target.parent
