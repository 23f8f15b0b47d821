"""Child processes of a test run, none of which outlives it, and short-lived folders for them."""

import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

from tests.support.waiting import wait_until

# Unix sockets allow about 100 characters of path, so the folders lie right below /tmp.
BASE = Path("/tmp")
STEM = "eqt"

# The kernel sends the death signal when the *thread* that started the child ends, so one thread that lives as long
# as the interpreter starts them all.
_spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="test-servers")
_setpriv = shutil.which("setpriv")


def spawn(
    command: Sequence[str | Path],
    *,
    log: Path,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
    death_signal: signal.Signals = signal.SIGKILL,
    stdout: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Starts `command` in a session of its own with its output appended to `log` (its stdout to `stdout`, if given).

    Where the test run dies, the kernel sends the child `death_signal`.
    """
    guard = [_setpriv, "--pdeathsig", death_signal.name.removeprefix("SIG"), "--"] if _setpriv else []
    full = [*guard, *(str(part) for part in command)]

    def start() -> subprocess.Popen[bytes]:
        with log.open("ab") as errors, (stdout or log).open("ab") as output:
            return _popen(full, output, errors, env, cwd)

    return _spawner.submit(start).result()


def _popen(
    command: list[str], output: IO[bytes], errors: IO[bytes], env: dict[str, str] | None, cwd: Path | None
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=errors,
        env=env,
        cwd=cwd,
        start_new_session=True,
    )


def end(process: subprocess.Popen[bytes], sig: signal.Signals = signal.SIGTERM, timeout: float = 20) -> int:
    """Sends `sig`, waits, kills where that does not help; the exit status as Popen gives it."""
    if process.poll() is None:
        process.send_signal(sig)
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait(timeout)


def tail(log: Path, size: int = 4000) -> str:
    try:
        return log.read_text(encoding="utf-8", errors="replace")[-size:]
    except FileNotFoundError:
        return ""


def make_folder(name: str) -> Path:
    """A new folder with a short path, marked as this process's."""
    return Path(tempfile.mkdtemp(prefix=f"{STEM}-{os.getpid()}-{name}-", dir=BASE))


def remove_folder(folder: Path) -> None:
    """Ends every process that was started with a path below `folder`, unmounts what is mounted there, removes it."""
    for pid in processes_naming(folder):
        _kill_tree(pid)
    for mount in reversed(_mounts_below(folder)):
        subprocess.run(["umount", "--lazy", mount], check=False, capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)


def remove_stale_folders() -> None:
    """Removes what test runs left that were killed."""
    for folder in BASE.glob(f"{STEM}-*-*"):
        pid = folder.name.split("-")[1]
        if pid.isdigit() and not Path("/proc", pid).exists():
            remove_folder(folder)


def processes_naming(folder: Path) -> list[int]:
    """The processes that have a path below `folder` on their command line: ours, since its name is unique."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if f"{folder}/".encode() in line and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found


def alive(pid: int) -> bool:
    """Whether the process exists and is no zombie (PID 1 of a container may never reap those)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in {"Z", "X"}


def stopped(pid: int) -> bool:
    """Whether all threads of a process have been stopped by a signal."""
    states = [
        Path(task, "stat").read_text().rpartition(")")[2].split()[0] for task in Path(f"/proc/{pid}/task").iterdir()
    ]
    return all(state in {"T", "t"} for state in states)


def freeze(pid: int, timeout: float = 30.0) -> None:
    """SIGSTOP, and waits until it stands still: on a busy machine its threads go on until each has had its turn."""
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: stopped(pid), timeout, message=f"process {pid} stands still")


def _kill_tree(pid: int) -> None:
    """Kills a process and its descendants: a shim first loses its container."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except OSError:
        children = []
    for child in children:
        _kill_tree(int(child))
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _mounts_below(folder: Path) -> list[str]:
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [target for line in lines if (target := line.split()[1]).startswith(f"{folder}/")]


class Closing:
    """What a fixture has to close, newest first, whatever fails on the way."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._todo: list[Callable[[], None]] = []

    def add(self, close: Callable[[], None]) -> None:
        with self._lock:
            self._todo.append(close)

    def close(self) -> None:
        errors = []
        while self._todo:
            try:
                self._todo.pop()()
            except Exception as error:  # noqa: BLE001 - the others still have to be closed
                errors.append(error)
        if errors:
            raise ExceptionGroup("test servers did not close", errors)
