"""A gateway on free ports, in this process, with fake servers behind it."""

import json
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import grpc.aio
import pytest

from easyq_chassis.settings import ServiceSettings
from easyq_gateway.app import App
from easyq_gateway.config import GatewaySettings
from easyq_gateway.usecases import farm
from tests.fakes.gateway import Behind

SPEC = {"image": "busybox:1", "command": "echo hi"}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An HTTP answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """What an error answer tells; checks its shape and bounds on the way."""
        assert list(self.json) == ["error"]
        error: dict[str, Any] = self.json["error"]
        assert list(error) == ["code", "reason", "message", "fields"]
        assert len(error["fields"]) <= 16
        assert len(self.body) <= 4096
        assert self.headers["Content-Type"] == "application/json; charset=utf-8"
        return error

    @property
    def fields(self) -> dict[str, str]:
        """Messages by wrong field."""
        return {item["field"]: item["message"] for item in self.error["fields"]}


class Client:
    """The gateway's two faces."""

    def __init__(self, app: App, behind: Behind, session: aiohttp.ClientSession, channel: grpc.aio.Channel) -> None:
        self.app = app
        self.behind = behind
        self.store = behind.store
        self.session = session
        self.channel = channel
        self.url = f"http://{app.rest_address}"

    async def call(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        """One request; `body` as JSON, bytes as they are. Header names with `_` for `-`."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if data is not None:
            named.setdefault("Content-Type", "application/json")
        # The path goes out as it stands here, neither encoded nor normalised.
        from yarl import URL

        url = URL(self.url + path, encoded=True)
        async with self.session.request(method, url, data=data, headers=named, allow_redirects=False) as response:
            return Answer(status=response.status, headers=dict(response.headers), body=await response.read())

    async def get(self, path: str, **headers: str) -> Any:
        answer = await self.call("GET", path, **headers)
        assert answer.status == 200, answer
        return answer.json

    async def post(self, path: str, body: object = None, **headers: str) -> Any:
        answer = await self.call("POST", path, body, **headers)
        assert answer.status == 200, answer
        return answer.json

    async def enqueue(self, task: str = "mail", **spec: Any) -> Any:
        """Posts a job and gives the answer."""
        return await self.post(f"/tasks/{task}", {**SPEC, **spec})


Starter = Callable[..., Awaitable[Client]]


@asynccontextmanager
async def gateways() -> AsyncIterator[Starter]:
    """Starts gateways with settings of the test's; everything ends with it."""
    started: list[Client] = []
    with tempfile.TemporaryDirectory(prefix="easyq-") as folder:

        async def start(*, schedulers: int = 1, dispatchers: int = 1, running: bool = True, **settings: Any) -> Client:
            place = Path(folder) / str(len(started))
            place.mkdir()
            behind = Behind(place, schedulers=schedulers, dispatchers=dispatchers)
            if running:
                await behind.start_all()
            told: dict[str, Any] = {
                "rest_listen": "127.0.0.1:0",
                "grpc_listen": "127.0.0.1:0",
                "store": behind.addresses["store"],
                "schedulers": [a for name, a in behind.addresses.items() if name.startswith("scheduler")],
                "dispatchers": [a for name, a in behind.addresses.items() if name.startswith("dispatcher")],
                "shutdown_grace": 0.2,
                # What answers at all does so in less, however busy the machine is.
                "store_patience": 15.0,
                "explain_timeout": 10.0,
                "status_timeout": 10.0,
                **settings,
            }
            assert issubclass(GatewaySettings, ServiceSettings)
            app = App(GatewaySettings(**told))
            await app.start()
            channel = grpc.aio.insecure_channel(app.grpc_address)
            client = Client(app, behind, aiohttp.ClientSession(), channel)
            started.append(client)
            return client

        yield start
        for client in started:
            await client.session.close()
            await client.channel.close()
            await client.app.stop()
            await client.behind.stop_all()


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is only told where it comes soon is waited for, however busy the machine is."""
    monkeypatch.setattr(farm, "_SHORT", 30.0)
    monkeypatch.setattr(farm, "_USED_PATIENCE", 30.0)


@pytest.fixture
async def start_gateway() -> AsyncIterator[Starter]:
    """Starts gateways; everything ends with the test."""
    async with gateways() as start:
        yield start


@pytest.fixture
async def gateway(start_gateway: Starter, request: pytest.FixtureRequest) -> Client:
    """A gateway with everything behind it running; with settings by a parameter."""
    return await start_gateway(**getattr(request, "param", {}))


#: For tests in which somebody is away for good, for whom the gateway waits as long as it may.
SOON_GIVES_UP = pytest.mark.parametrize("gateway", [{"store_patience": 2.0}], indirect=True, ids=["soon"])
