"""Whole dispatchers in this process, on a fake store behind a real socket and on a real Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from easyq_chassis.channel import open_channel
from easyq_dispatcher.app import App
from easyq_dispatcher.config import DispatcherSettings
from easyq_dispatcher.domain.records import Head
from easyq_internal.dispatcher.v1 import dispatcher_pb2 as pb
from easyq_internal.dispatcher.v1.dispatcher_pb2_grpc import DispatcherServiceStub
from tests.fakes.dispatcher import FakeFarm, FakeFarmServer, head_message
from tests.integration.dispatcher.scripted_agent import ScriptedAgent
from tests.support import RedisServer, eventually


class Dispatcher:
    """A running dispatcher and a client of it."""

    def __init__(self, app: App, address: str) -> None:
        self.app = app
        self.address = address
        self.channel: grpc.aio.Channel = open_channel(address)
        self.stub = DispatcherServiceStub(self.channel)
        self._news: Any = None

    async def notify(self, heads: list[Head], stops: Any = (), upkeep: Any = ()) -> None:
        """Tells it of heads, stops and wishes, as gateway and scheduler do."""
        if self._news is None:
            self._news = self.stub.Notify()
        ready = [head_message(head) for head in heads]
        await self._news.write(pb.NotifyRequest(batch=1, ready=ready, stops=stops, upkeep=upkeep))
        assert (await self._news.read()).batch == 1

    async def matching(self) -> pb.GetMatchingResponse:
        return await self.stub.GetMatching(pb.GetMatchingRequest())

    async def assigns(self) -> bool:
        """Whether an index holds for it."""
        return not any(problem.subject == "redis" for problem in (await self.matching()).problems)

    async def explain(self, execution_id: str, task_id: str = "t", agent_id: str = "") -> Any:
        """What it says of one execution; None if nothing."""
        item = pb.ExplainItem(execution_id=execution_id, task_id=task_id, agent_id=agent_id)
        response = await self.stub.Explain(pb.ExplainRequest(items=[item]))
        return response.items[0].waiting if response.items else None

    async def stop(self) -> None:
        if self._news is not None:
            self._news.cancel()
        await self.channel.close()
        await self.app.stop()


@pytest.fixture
def farm() -> FakeFarm:
    return FakeFarm()


@pytest.fixture
async def store(farm: FakeFarm, tmp_path: Path) -> AsyncIterator[FakeFarmServer]:
    server = FakeFarmServer(farm, f"unix:{tmp_path}/store")
    await server.start()
    yield server
    farm.gate.set()
    await server.stop()


Start = Callable[..., Any]


@pytest.fixture
async def dispatcher(store: FakeFarmServer, redis_server: RedisServer, tmp_path: Path) -> AsyncIterator[Start]:
    """`await dispatcher(pools=[…], …)` starts one, with settings, and waits until it can assign (if `ready`); they are
    stopped in the end."""
    running: list[Dispatcher] = []

    async def start(*, ready: bool = True, **settings: Any) -> Dispatcher:
        listen = f"unix:{tmp_path}/d{len(running)}"
        quick = {"redis_timeout": 1.0, "call_timeout": 3.0, "shutdown_grace": 0.2}
        values = {"listen": listen, "store": store.address, "redis": redis_server.url, **quick, **settings}
        app = App(DispatcherSettings(**values))
        await app.start()
        running.append(Dispatcher(app, app.address))
        if ready:
            await eventually(running[-1].assigns)
        return running[-1]

    yield start
    for one in running:
        await one.stop()


@pytest.fixture
async def agents() -> AsyncIterator[Callable[..., Any]]:
    """`await agents(dispatcher, "name", slots=2)` connects one; they are closed in the end."""
    made: list[ScriptedAgent] = []

    async def connect(dispatcher: Dispatcher, name: str = "a", **settings: Any) -> ScriptedAgent:
        agent = ScriptedAgent(dispatcher.address, name, **settings)
        made.append(agent)
        return await agent.connect()

    yield connect
    for agent in made:
        await agent.close()
