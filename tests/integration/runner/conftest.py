"""An agent as a process of its own, on a real Docker Engine, with a farm of ours above it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Self

import pytest

from easyq.v1.spec_pb2 import JobSpec
from tests.fakes.runner import FakeFarm, FarmExecution
from tests.support import process
from tests.support.farm import processes
from tests.support.hosts import EXAMPLE_IMAGE, DockerHost
from tests.support.waiting import eventually


def held(before: str, after: str) -> str:
    """A script of busybox's shell that goes on from `before` to `after` when it is let go, and not by time: no test is
    too slow to catch it. `before` has to print something, which tells that it can be let go.
    """
    return f"trap go=1 USR1; {before}; until [ $go ]; do sleep 0.05; done; {after}"


def pid_of(host: DockerHost, one: FarmExecution) -> int:
    """Of the program of its container, as the host sees it."""
    [container] = host.containers(label=f"easyq.execution={one.execution_id}", status="running")
    return int(container.attrs["State"]["Pid"])


def let_go(host: DockerHost, one: FarmExecution) -> None:
    """Lets a `held` script go on. Without the engine, so that the agent hears of nothing but its end."""
    os.kill(pid_of(host, one), signal.SIGUSR1)


async def let_end(host: DockerHost, one: FarmExecution) -> None:
    """The same, and waits until the program has ended, whoever looks."""
    pid = pid_of(host, one)
    os.kill(pid, signal.SIGUSR1)
    await eventually(lambda: not process.alive(pid), message="it has ended")


class AgentProcess:
    """`python -m easyq_runner`: a watchdog (`process`) and its agent (`agent_pid`); the data folder outlives both."""

    def __init__(self, farm: FakeFarm, host: DockerHost, **settings: Any) -> None:
        self.folder = process.make_folder("agent")
        self.farm = farm
        self.host = host
        self.settings = settings
        self.faults: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("EASYQ_", "DOCKER_"))}
        (self.folder / "once").mkdir(exist_ok=True)
        own = {
            "dispatchers": self.farm.address,
            "store": self.farm.address,
            "docker_host": self.host.url,
            "data": str(self.folder / "data"),
            **self.settings,
        }
        settings = {
            f"EASYQ_RUNNER_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
            for name, value in own.items()
        }
        faults = {
            "EASYQ_TEST_FAULTS": ",".join(f"runner.{point}={action}" for point, action in self.faults.items()),
            "EASYQ_TEST_FAULTS_ONCE": str(self.folder / "once"),
        }
        return {**kept, **settings, **faults}

    def start(self) -> Self:
        self._process = process.spawn(
            [sys.executable, "-m", "easyq_runner"],
            log=self.log_path,
            env=self.environment(),
            cwd=self.folder,
        )
        return self

    async def ready(self) -> Self:
        self.start()
        await self.farm.until_connected()
        return self

    @property
    def log_path(self) -> Path:
        return self.folder / "log"

    @property
    def log(self) -> str:
        return process.tail(self.log_path, 100_000)

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "it was not started"
        return self._process

    @property
    def agent_pid(self) -> int:
        """Of the living agent; 0 while there is none."""
        return processes.child_of(self.process.pid, "easyq_runner.agent")

    async def living(self) -> int:
        """The same, once there is one: no signal is ever sent to 0, which is every process of the test."""
        return await eventually(lambda: self.agent_pid, message="an agent lives")

    @property
    def deaths(self) -> int:
        """How often its watchdog has seen an agent end that was not told to."""
        return self.log.count('"event": "agent_ended"')

    def fired(self, point: str) -> bool:
        """Whether the crash point has acted."""
        return (self.folder / "once" / f"runner.{point}").exists()

    async def kill(self) -> None:
        """Both at once."""
        agent = self.agent_pid
        await self.end(signal.SIGKILL)
        if agent:
            await eventually(lambda: not process.alive(agent), message="the agent ends with its watchdog")

    async def kill_agent(self) -> None:
        """Its watchdog starts another."""
        deaths = self.deaths
        os.kill(await self.living(), signal.SIGKILL)
        await eventually(lambda: self.deaths > deaths)

    async def end(self, sig: signal.Signals = signal.SIGTERM) -> int:
        """Its exit status; the farm goes on answering meanwhile."""
        return await asyncio.to_thread(process.end, self.process, sig)

    def close(self) -> None:
        if self.running:
            for pid in (self.process.pid, self.agent_pid):
                if pid:
                    os.kill(pid, signal.SIGCONT)
            process.end(self.process)
        print(self.log)  # shown with a test that failed
        process.remove_folder(self.folder)


@pytest.fixture
async def farm() -> AsyncIterator[FakeFarm]:
    async with FakeFarm() as running:
        yield running


@pytest.fixture
async def new_agent(farm: FakeFarm, docker_host: DockerHost) -> AsyncIterator[Callable[..., AgentProcess]]:
    closing = process.Closing()

    def make(host: DockerHost | None = None, **settings: Any) -> AgentProcess:
        agent = AgentProcess(farm, host or docker_host, **settings)
        closing.add(agent.close)
        return agent

    yield make
    # The farm goes on: an agent that says goodbye waits for its answer.
    await asyncio.to_thread(closing.close)


@pytest.fixture
async def agent(new_agent: Callable[..., AgentProcess]) -> AgentProcess:
    """One that is connected."""
    return await new_agent().ready()


@pytest.fixture
def run(farm: FakeFarm, busybox_image: str) -> Callable[..., FarmExecution]:
    """`run("echo hi", timeout=…)` assigns a script of busybox's shell."""

    def assign(script: str, **spec: Any) -> FarmExecution:
        return farm.run(JobSpec(**{"image": EXAMPLE_IMAGE, "command": ["sh", "-c", script], **spec}))

    return assign
