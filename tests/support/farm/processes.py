"""Finds the processes of a farm by a mark in their environment, whoever started them."""

import contextlib
import os
import re
import signal
from pathlib import Path

from tests.support import process
from tests.support.waiting import wait_until

MARK = "EASYQ_TEST_FARM"
# A runner is two processes, of which tests may mean one: "watchdog" and "agent".
SERVICES = ("gateway", "scheduler", "dispatcher", "store", "runner")

_NAMES = {
    **{name: re.compile(rf"(easyq_{name}\b|easyq {name}\b)") for name in SERVICES},
    # With `easyq runner`, which the watchdog is for a moment.
    "watchdog": re.compile(r"(easyq_runner(?!\.agent)\b|easyq runner\b)"),
    "agent": re.compile(r"easyq_runner\.agent\b"),
    "redis": re.compile(r"(valkey|redis)-server"),
    "up": re.compile(r"(easyq_supervisor\b|easyq up\b)"),
}


def marked(folder: Path) -> dict[int, str]:
    """Living processes whose environment carries the mark of `folder`: command line by pid."""
    mark = f"{MARK}={folder}\0".encode()
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark not in (entry / "environ").read_bytes() + b"\0" or not process.alive(int(entry.name)):
                continue
            found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
    return found


def pids_of(folder: Path, service: str) -> list[int]:
    """The processes of one service: a name of SERVICES, `watchdog`, `agent`, `redis` or `up`."""
    return sorted(pid for pid, line in marked(folder).items() if _NAMES[service].search(line))


def child_of(parent: int, name: str) -> int:
    """The living child of a process whose command line has `name` in it; 0 if there is none."""
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii").split():
            # Others come and go meanwhile.
            with contextlib.suppress(OSError):
                if name.encode() in Path(f"/proc/{child}/cmdline").read_bytes() and process.alive(int(child)):
                    return int(child)
    return 0


def kill(pids: list[int]) -> None:
    """SIGKILL to all, and waits until they are gone."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    wait_until(lambda: not any(process.alive(pid) for pid in pids), message=f"{pids} are dead")
