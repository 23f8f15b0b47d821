"""An agent on fakes, without sockets: `FakeEngine` below it, `FakeFarm` above it, and crashes at named points."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest

from easyq.v1.spec_pb2 import JobSpec
from easyq_chassis import faults
from easyq_chassis.errors import EasyQError, Unavailable, error_class
from easyq_chassis.tracing.tracer import OFF
from easyq_internal.dispatcher.v1 import dispatcher_pb2 as wire
from easyq_runner.assembly import Assembly, Ports
from easyq_runner.config import RunnerSettings
from easyq_runner.convert import (
    append_answer_from_proto,
    chunk_to_proto,
    hello_to_proto,
    incoming_from_proto,
    outgoing_to_proto,
    welcome_from_proto,
)
from easyq_runner.domain.identity import Identity
from easyq_runner.domain.monitoring import Backoff
from easyq_runner.domain.records import ExecutionKey, Held, Phase, Stream, Terms
from easyq_runner.ports import AppendAnswer, Hello, Incoming, Outgoing, Welcome
from easyq_runner.usecases.daemon import DaemonTimes
from easyq_runner.usecases.host import HostTimes
from easyq_runner.usecases.tools import Times
from tests.fakes.runner import FakeFarm, FarmExecution
from tests.fakes.runner_engine import (
    FakeAgentClock,
    FakeDisks,
    FakeEngine,
    FakeRegistries,
    MemoryImageNotes,
    MemoryJournal,
    MemoryLeaseNotes,
)
from tests.support.waiting import eventually


class LocalStream:
    """One stay at a `FakeFarm` in the same process."""

    def __init__(self, farm: FakeFarm) -> None:
        self._requests: asyncio.Queue[wire.ConnectRequest | None] = asyncio.Queue()
        self._responses = farm.Connect(self._read(), _Context())
        self._ended = False
        # Whether the agent has done what it was told, and waits for more.
        self.listening = False
        self._welcome: Welcome | None = None

    async def open(self, hello: Hello) -> "LocalStream":
        self._requests.put_nowait(hello_to_proto(hello))
        self._welcome = welcome_from_proto((await anext(self._responses)).welcome)
        return self

    @property
    def welcome(self) -> Welcome:
        assert self._welcome is not None
        return self._welcome

    async def send(self, message: Outgoing) -> None:
        if self._ended:
            raise Unavailable("the stream has ended")
        self._requests.put_nowait(outgoing_to_proto(message))
        await asyncio.sleep(0)

    async def receive(self) -> Incoming:
        while True:
            self.listening = True
            try:
                message = incoming_from_proto(await anext(self._responses))
            except StopAsyncIteration:
                self._ended = True
                raise Unavailable("the stream has ended") from None
            finally:
                self.listening = False
            if message is not None:
                return message

    async def close(self) -> None:
        self._ended = True
        self._requests.put_nowait(None)
        await self._responses.aclose()  # type: ignore[attr-defined]

    async def _read(self) -> AsyncIterator[wire.ConnectRequest]:
        while (request := await self._requests.get()) is not None:
            yield request


class _Context:
    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        raise error_class(code.value[0])(details)


class LocalLink:
    """`Link` to a `FakeFarm` in the same process; `farm` None: nobody listens."""

    def __init__(self, farm: FakeFarm) -> None:
        self.farm: FakeFarm | None = farm
        self.opened: list[str] = []
        self.stream: LocalStream | None = None

    async def open(self, address: str, hello: Hello, timeout: float) -> LocalStream:
        self.opened.append(address)
        if self.farm is None:
            raise Unavailable("nobody listens")
        self.stream = await LocalStream(self.farm).open(hello)
        return self.stream

    async def close(self) -> None:
        """There is nothing to close."""


class LocalSink:
    """`LogSink` that is the store of a `FakeFarm` in the same process."""

    def __init__(self, farm: FakeFarm) -> None:
        self._farm = farm

    async def append(self, key: ExecutionKey, stream: Stream, offset: int, data: bytes) -> AppendAnswer:
        await asyncio.sleep(0)
        if self._farm.append_failures > 0:
            self._farm.append_failures -= 1
            raise Unavailable("the store is away")
        (result,) = await self._farm._append_all([chunk_to_proto(key, stream, offset, data)])
        return append_answer_from_proto(result)


class LocalClaims:
    """`Claims` of a `FakeFarm` in the same process; `failure`: it can't be asked."""

    def __init__(self, farm: FakeFarm) -> None:
        self._farm = farm
        self.asked = 0
        self.failure: EasyQError | None = None

    async def is_claimed(self, terms: Terms, agent_id: str) -> bool:
        self.asked += 1
        if self.failure is not None:
            raise self.failure
        return self._farm.elsewhere.get(terms.key.execution_id) == agent_id


class Rig:
    """One host: what survives a crash of the agent, and the agent."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
        self.engine = FakeEngine()
        self.journal = MemoryJournal()
        self.notes = MemoryLeaseNotes()
        self.clock = FakeAgentClock()
        self.farm = FakeFarm()
        self.farm.beat_every = 0.02
        self.link = LocalLink(self.farm)
        self.disks = FakeDisks()
        self.registries = FakeRegistries()
        self.images = MemoryImageNotes()
        self.claims = LocalClaims(self.farm)
        self.identities: list[Identity] = []
        self.identity = Identity(agent_id="agent", daemon_id="daemon")
        self.settings = RunnerSettings(**{"dispatchers": "a,b", **settings})
        self.tracer = OFF
        self._agent: Assembly | None = None
        # Fault points at which the agent stands still until it is crashed.
        self.stops_at: set[str] = set()
        self.reached: list[str] = []
        monkeypatch.setattr(faults, "point", self._point)

    @property
    def agent(self) -> Assembly:
        assert self._agent is not None, "the agent was not started"
        return self._agent

    async def start(self) -> "Rig":
        ports = Ports(
            engine=self.engine,
            engine_url="fake://",
            journal=self.journal,
            notes=self.notes,
            link=self.link,
            sink=LocalSink(self.farm),
            clock=self.clock,
            registries=self.registries,
            disks=self.disks,
            images=self.images,
            claims=self.claims,
        )
        self._agent = Assembly(
            self.settings,
            ports,
            self.identity,
            on_identity=self.identities.append,
            times=Times(
                short=0.02,
                start_patience=0.1,
                kill_again=0.05,
                signal_again=0.02,
                monitor=Backoff(least=0.01, most=0.04),
                end_patience=0.05,
                oom_patience=0.02,
            ),
            daemon_times=DaemonTimes(ping_every=0.05, compare_every=0.1, lost_after=self.settings.engine_lost_after),
            host_times=HostTimes(look_every=0.05, first_pause=0.1, longest_pause=0.4),
            tracer=self.tracer,
        )
        await self._agent.start(survey_patience=0.3 if self.engine.up else 0.0)
        return self

    async def crash(self) -> "Rig":
        """As SIGKILL: nothing is said any more; the engine and what is on disk stay."""
        await self.agent.halt()
        self.stops_at.clear()
        return self

    async def restart(self) -> "Rig":
        return await (await self.crash()).start()

    async def close(self) -> None:
        if self._agent is not None:
            await self._agent.halt()
        for container in self.engine.containers.values():
            if container.task is not None:
                container.task.cancel()

    async def ready(self) -> "Rig":
        await self.start()
        await self.farm.until_connected()
        return self

    def run(self, script: str, *, start_within: float | None = None, trace: str = "", **spec: Any) -> FarmExecution:
        made = JobSpec(**{"image": "busybox", "command": ["sh", "-c", script], **spec})
        return self.farm.run(made, start_within=start_within, trace=trace)

    def let_go(self, one: FarmExecution) -> None:
        """Lets its program pass one `hold`."""
        self.engine.container_of(one.execution_id).let_go()

    async def until(self, condition: Callable[[], Any], message: str = "") -> Any:
        return await eventually(condition, 5.0, interval=0.005, message=message)

    async def heard(self) -> None:
        """Waits until the agent has heard all that the farm has said."""
        await self.until(
            lambda: self.farm.said_all and self.link.stream is not None and self.link.stream.listening,
            "the agent has heard all",
        )

    async def watched(self, one: FarmExecution) -> None:
        """Waits until the agent at hand has found it running, and two beats longer: time to do something to it."""
        key = ExecutionKey(one.execution_id, one.epoch)
        await self.until(
            lambda: (
                self.agent.agent.surveyed.is_set()
                and Held(key=key, phase=Phase.RUNNING) in self.agent.agent.inventory()
            ),
            f"the agent watches {one.execution_id}",
        )
        seen = len(self.farm.beats)
        await self.until(lambda: len(self.farm.beats) >= seen + 2)

    async def at(self, point: str) -> None:
        """Waits until the agent stands still there."""
        await self.until(lambda: point in self.reached, f"the agent is at {point}")

    async def tidy(self) -> None:
        """Waits until no container is left."""
        await self.until(lambda: not self.engine.containers, "no container is left")

    def starts(self) -> int:
        return self.engine.calls.count("start")

    async def _point(self, name: str) -> None:
        self.reached.append(name)
        if name in self.stops_at:
            await asyncio.Event().wait()
