"""A Docker Engine of EasyQ's own, under the data folder.

It outlives `easyq up`, so that the containers of jobs do: it is started in a session of its own, found again by its
pid file, and ended by `easyq down --stop-jobs` only.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Collection
from pathlib import Path

from easyq_supervisor.adapters import docker_engine, remains
from easyq_supervisor.adapters.bridge import ensure_bridge, remove_bridge
from easyq_supervisor.adapters.packages import SYSTEM_FOLDERS, find_program

# containerd's sockets lie in the exec root, and have the longest names.
_LONGEST_EXEC_ROOT = 60
_START_TIMEOUT = 60.0
_STOP_TIMEOUT = 30.0
_POLL = 0.2
# Containers with a network, and without one for kernels that have no bridges or no iptables.
_BRIDGE = "bridge"
_NONE = "none"
_NO_NETWORK = ("--bridge=none", "--iptables=false", "--ip6tables=false")
# What a dockerd says last whose containerd has not come within its 15 s.
_LATE = "timeout waiting for containerd to start"


class EngineError(Exception):
    """The engine does not start; the message has its last words."""


class OwnEngine:
    """The dockerd under `folder`."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self._folder = folder
        self._say = say
        self._process: subprocess.Popen[bytes] | None = None
        self._key = hashlib.sha256(os.fsencode(folder.absolute())).hexdigest()[:8]
        self._bridge = f"easyq-{self._key}"
        self._exec_root = folder / "exec"
        if len(os.fsencode(self._exec_root)) > _LONGEST_EXEC_ROOT:
            self._exec_root = Path("/run") / f"easyq-{self._key}"

    @property
    def url(self) -> str:
        return f"unix://{self._exec_root}/docker.sock"

    @property
    def log(self) -> Path:
        return self._folder / "log"

    def exists(self) -> bool:
        """Whether one was made here before."""
        return self._folder.exists()

    async def ensure(self) -> None:
        """Starts it where it does not run. Raises EngineError."""
        if self.pid() is not None and await self._comes_up(lambda: self.pid() is not None):
            return
        await asyncio.to_thread(self._prepare)
        modes = self._modes()
        for mode in modes:
            started = await self._start(mode)
            if not started and _LATE in self._last_words():
                # The disk was busy for just so long: nothing is wrong with the network.
                await asyncio.to_thread(self._prepare)
                started = await self._start(mode)
            if started:
                (self._folder / "network").write_text(mode, encoding="ascii")
                return
            if mode == _BRIDGE:
                self._say("dockerd can't make its network here; it is started without, and containers have none")
        raise EngineError(f"dockerd does not start; {self.log} ends with: {self._last_words()}")

    async def stop(self) -> bool:
        """Ends it, and its containers with it; whether there was one."""
        pid = self.pid()
        if pid is not None:
            self._say(f"stopping EasyQ's own Docker Engine (pid {pid})")
            await _end(pid)
        # Also what one left that was killed.
        if self.exists():
            await asyncio.to_thread(self._clear)
        with contextlib.suppress(OSError):
            await asyncio.to_thread(remove_bridge, self._bridge)
        return pid is not None

    async def wait_gone(self) -> None:
        """Returns when it does not run (any more)."""
        pid = self.pid()
        if pid is not None:
            await _end_of(pid)

    def pid(self) -> int | None:
        """Its process, if it lives: the pid file may be older than the machine's last start."""
        if self._process is not None:
            self._process.poll()  # takes in its end, if that was
        return _living(self._folder / "pid", b"dockerd")

    async def _start(self, mode: str) -> bool:
        """Starts it in a network mode and waits until it answers; False where it ended before."""
        network: tuple[str, ...] = _NO_NETWORK
        if mode == _BRIDGE:
            try:
                await asyncio.to_thread(ensure_bridge, self._bridge)
            except OSError:
                return False
            network = (f"--bridge={self._bridge}",)
        process = self._process = await asyncio.to_thread(self._spawn, network)
        return await self._comes_up(lambda: process.poll() is None)

    async def _comes_up(self, lives: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + _START_TIMEOUT
        while time.monotonic() < deadline and lives():
            if await docker_engine.answers(self.url):
                return True
            await asyncio.sleep(_POLL)
        return False

    def _modes(self) -> tuple[str, ...]:
        """Those to try; what worked before is not given up for a worse one by a passing fault."""
        with contextlib.suppress(OSError):
            return ((self._folder / "network").read_text(encoding="ascii").strip(),)
        return (_BRIDGE, _NONE)

    def _prepare(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o711)
        self._exec_root.mkdir(parents=True, exist_ok=True, mode=0o711)
        config = self._folder / "daemon.json"
        if not config.exists():
            # Not the system's, which is for the system's engine.
            config.write_text("{}\n", encoding="ascii")
        if self.pid() is None:
            # The new one ends containers that it knows itself, by their stop signal, or leaves them to live-restore.
            self._clear(kept=self._known_containers())
        # A killed one leaves these behind; where nobody reaps its zombies dockerd takes them for living processes. Its
        # containerd may have lived until just now.
        for file, name in (
            (self._folder / "pid", b"dockerd"),
            (self._exec_root / "containerd/containerd.pid", b"containerd"),
        ):
            if _living(file, name) is None:
                file.unlink(missing_ok=True)

    def _clear(self, kept: Collection[str] = ()) -> None:
        """Ends the processes of one that was killed, but for containers `kept`, and its mounts."""
        if ended := remains.end_processes(self._exec_root, kept=kept):
            self._say(f"ended what was left of EasyQ's own Docker Engine ({ended} processes)")
        if not remains.any_process(self._exec_root):
            for point in remains.unmount(self._folder / "data", self._exec_root):
                self._say(f"{point} is still mounted: it is in use")

    def _known_containers(self) -> list[str]:
        """Ids of those that the engine finds again at its start."""
        with contextlib.suppress(OSError):
            return [path.name for path in (self._folder / "data/containers").iterdir()]
        return []

    def _spawn(self, network: tuple[str, ...]) -> subprocess.Popen[bytes]:
        dockerd = find_program("dockerd")
        if dockerd is None:
            raise EngineError("dockerd is not on this machine")
        command = [
            dockerd,
            f"--host={self.url}",
            f"--data-root={self._folder}/data",
            f"--exec-root={self._exec_root}",
            f"--pidfile={self._folder}/pid",
            f"--config-file={self._folder}/daemon.json",
            # In case the system's containerd runs, which dockerd then shares with the system's engine.
            f"--containerd-namespace=easyq-{self._key}",
            f"--containerd-plugins-namespace=easyq-{self._key}-plugins",
            *network,
        ]
        path = os.pathsep.join((os.environ.get("PATH", os.defpath), *SYSTEM_FOLDERS))
        with self.log.open("ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PATH": path},
                start_new_session=True,
            )

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            lines = self.log.read_bytes()[-4000:].decode(errors="replace").strip().splitlines()
            return lines[-1] if lines else "nothing"
        return "nothing"


async def _end(pid: int) -> None:
    """SIGTERM, and SIGKILL where that does not help in time."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        try:
            async with asyncio.timeout(_STOP_TIMEOUT):
                await _end_of(pid)
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            await _end_of(pid)


async def _end_of(pid: int) -> None:
    """Returns when a process has ended that need not be a child of this one."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(handle, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(handle)
        os.close(handle)


def _living(pid_file: Path, name: bytes) -> int | None:
    """The process of a pid file, if it is one of that name and no zombie."""
    try:
        pid = int(pid_file.read_text(encoding="ascii"))
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return pid if name in command.split(b"\0")[0] else None
