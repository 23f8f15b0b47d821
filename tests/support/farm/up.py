"""`easyq up` as a user runs it, in a folder of its own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, Self

from tests.support import process
from tests.support.farm import processes
from tests.support.farm.rest import Rest
from tests.support.waiting import free_port, wait_until

EASYQ = str(Path(sys.executable).parent / "easyq")


class Engine(Protocol):
    """What a farm needs to know of a Docker Engine."""

    @property
    def label(self) -> str: ...

    @property
    def url(self) -> str: ...


def clean_environment() -> dict[str, str]:
    """This process's environment without what would configure EasyQ, Docker or a proxy."""
    unwanted = ("EASYQ_", "DOCKER_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    return {name: value for name, value in os.environ.items() if not name.upper().startswith(unwanted)}


class UpFarm:
    """One `easyq up`; `start()` returns when it says that it is ready.

    `docker` gives the agents: hosts, or pairs of a pool's name and a host. `faults` are crash points with what happens
    there (`{"runner.after_start": "kill@2"}`); each happens once, however often its service is restarted.
    """

    start_timeout = 60.0

    def __init__(
        self,
        docker: Sequence[Engine | tuple[str, Engine]] = (),
        *,
        slots: int = 4,
        arguments: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        faults: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = process.make_folder("up")
        self.data = self.folder / "data"
        # Below it lie the folders that containers may see.
        self.mounts = self.folder / "mounts"
        self.mounts.mkdir()
        self.once = self.folder / "once"
        self.once.mkdir()
        self.slots = slots
        self.arguments = tuple(arguments)
        self.env = dict(env or {})
        self.faults = dict(faults or {})
        self.docker = [host if isinstance(host, tuple) else ("", host) for host in docker]
        # The same over restarts, as a user's would be: clients go on with the address that they know.
        self.rest_port, self.grpc_port = free_port(), free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._starts = 0

    # What it is started with -----------------------------------------------------------------------------------
    def command(self) -> list[str]:
        hosts = [f"{name}={host.url}" if name else host.url for name, host in self.docker]
        # Without any there is one that does not answer, whatever else may run on this machine.
        hosts = hosts or [f"unix://{self.folder}/no-docker.sock"]
        return [
            EASYQ,
            "up",
            *("--data", str(self.data), "--rest-port", str(self.rest_port), "--grpc-port", str(self.grpc_port)),
            *("--slots", str(self.slots), "--engine", "none", "--metrics-port", "0"),
            *(part for url in hosts for part in ("--docker-host", url)),
            *self.arguments,
        ]

    def environment(self) -> dict[str, str]:
        faults = ",".join(f"{point}={action}" for point, action in self.faults.items())
        return {
            **clean_environment(),
            processes.MARK: str(self.folder),
            "EASYQ_RUNNER_ALLOWED_MOUNTS": str(self.mounts),
            **({"EASYQ_TEST_FAULTS": faults, "EASYQ_TEST_FAULTS_ONCE": str(self.once)} if faults else {}),
            **self.env,
        }

    # Life ------------------------------------------------------------------------------------------------------
    def start(self, *, wait: bool = True) -> Self:
        assert not self.running, "it runs"
        self._starts += 1
        self._process = process.spawn(
            self.command(),
            log=self.log_path,
            env=self.environment(),
            cwd=self.folder,
            stdout=self.stdout_path,
            death_signal=signal.SIGTERM,
        )
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self) -> None:
        def said() -> bool:
            assert self._process is not None
            if self._process.poll() is not None:
                raise RuntimeError(f"easyq up ended with {self._process.returncode}:\n{self.tail()}")
            return bool(self.ready_url())

        try:
            wait_until(said, self.start_timeout, interval=0.05, message="easyq up says `ready`")
        except AssertionError as error:
            raise RuntimeError(f"{error}:\n{self.tail()}") from error

    def ready_url(self) -> str:
        """What stands after `ready` on stdout; empty before."""
        for line in self.stdout.splitlines():
            if line.startswith("ready "):
                return line.removeprefix("ready ").strip()
        return ""

    def stop(self, sig: signal.Signals = signal.SIGTERM, timeout: float = 30) -> int:
        """Ends it as a user does; its exit status."""
        assert self._process is not None
        return process.end(self._process, sig, timeout)

    def kill(self, service: str) -> list[int]:
        """SIGKILL to all processes of a service (a name of processes.SERVICES, or `redis`); their pids."""
        pids = self.pids(service)
        assert pids, f"no process of {service}: {processes.marked(self.folder)}"
        processes.kill(pids)
        return pids

    def kill_all(self) -> None:
        """SIGKILL to `easyq up` and everything below it, at once."""
        # A supervisor that still lives would start them again.
        processes.kill([*self.pids("up"), *processes.marked(self.folder)])
        assert self._process is not None
        self._process.wait(10)

    def close(self) -> None:
        """Ends all of it at once: nothing of it is needed any more, and to say goodbye takes time. Containers stay."""
        try:
            if self.running:
                self.kill_all()
        finally:
            processes.kill(list(processes.marked(self.folder)))
            process.remove_folder(self.folder)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    # What it is ------------------------------------------------------------------------------------------------
    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def pids(self, service: str) -> list[int]:
        return processes.pids_of(self.folder, service)

    @property
    def rest(self) -> Rest:
        return Rest(f"http://127.0.0.1:{self.rest_port}")

    @property
    def metrics(self) -> dict[str, str]:
        """Where each process serves its metrics and health, by its name."""
        found: dict[str, str] = json.loads((self.data / "up.json").read_text(encoding="utf-8"))["metrics"]
        return found

    @property
    def grpc_address(self) -> str:
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def stdout_path(self) -> Path:
        return self.folder / f"stdout-{self._starts}"

    @property
    def log_path(self) -> Path:
        """stderr of all starts."""
        return self.folder / "log"

    @property
    def stdout(self) -> str:
        """Of the newest start."""
        return self.stdout_path.read_text(encoding="utf-8") if self.stdout_path.exists() else ""

    @property
    def log(self) -> str:
        return process.tail(self.log_path, 1_000_000)

    def tail(self) -> str:
        return self.stdout + process.tail(self.log_path, 8000)

    def fired(self, point: str) -> bool:
        """Whether the crash point has acted."""
        return (self.once / point).exists()

    def cli(self, *arguments: str, timeout: float = 60, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """`easyq …` against this farm."""
        environment = {**clean_environment(), "EASYQ_SERVER": self.grpc_address}
        return subprocess.run(
            [EASYQ, *arguments], env=environment, capture_output=True, timeout=timeout, input=stdin, check=False
        )
