"""Every backend of the runner's ports: fakes and real ones pass the same suites."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from easyq_chassis.channel import open_channel
from easyq_runner.adapters.claims import StoreClaims
from easyq_runner.adapters.docker_engine import DockerEngine
from easyq_runner.adapters.docker_http import DockerHttp
from easyq_runner.adapters.image_file import FileImageNotes
from easyq_runner.adapters.journal_file import FileJournal
from easyq_runner.adapters.lease_file import FileLeaseNotes
from easyq_runner.adapters.link import GrpcLink
from easyq_runner.adapters.log_sink import GrpcLogSink
from easyq_runner.adapters.registry_auth import RegistryCredentials
from easyq_runner.ports import Claims, ContainerEngine, ImageNotes, Journal, LeaseNotes, Link, LogSink
from tests.fakes.runner import FakeFarm
from tests.fakes.runner_engine import FakeEngine, MemoryImageNotes, MemoryJournal, MemoryLeaseNotes
from tests.fakes.runner_rig import LocalClaims, LocalLink, LocalSink
from tests.support.hosts import EXAMPLE_IMAGE, DockerHost


class EngineUnderTest:
    """An engine, the image that its containers are made of, and another process of it on the same data."""

    def __init__(self, engine: ContainerEngine, image: str, host: DockerHost | None) -> None:
        self.engine = engine
        self.image = image
        self.host = host

    def body(self, script: str, **more: Any) -> dict[str, Any]:
        host = {"NetworkMode": "none", "LogConfig": {"Type": "local", "Config": {}}}
        return {
            "Image": self.image,
            "Cmd": ["sh", "-c", script],
            "Labels": {"easyq.farm": "f", "easyq.agent": "a"},
            "HostConfig": host,
            **more,
        }

    async def restart(self) -> None:
        if self.host is not None:
            self.host.stop()
            self.host.start()
        else:
            assert isinstance(self.engine, FakeEngine)
            await self.engine.go_down()
            await self.engine.come_up()


@pytest.fixture(params=["fake", pytest.param("docker", marks=pytest.mark.docker)])
async def under_test(request: pytest.FixtureRequest) -> AsyncIterator[EngineUnderTest]:
    if request.param == "fake":
        yield EngineUnderTest(FakeEngine(), "busybox", None)
        return
    host: DockerHost = request.getfixturevalue("docker_host")
    engine = DockerEngine(DockerHttp(host.url), RegistryCredentials({}))
    yield EngineUnderTest(engine, EXAMPLE_IMAGE, host)
    await engine.close()


@pytest.fixture(params=["memory", "file"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Journal:
    return MemoryJournal() if request.param == "memory" else FileJournal(tmp_path / "journal")


@pytest.fixture(params=["memory", "file"])
def notes(request: pytest.FixtureRequest, tmp_path: Path) -> LeaseNotes:
    return MemoryLeaseNotes() if request.param == "memory" else FileLeaseNotes(tmp_path / "lease")


@pytest.fixture(params=["memory", "file"])
def image_notes(request: pytest.FixtureRequest, tmp_path: Path) -> ImageNotes:
    return MemoryImageNotes() if request.param == "memory" else FileImageNotes(tmp_path / "images.json")


@pytest.fixture
async def farm() -> AsyncIterator[FakeFarm]:
    async with FakeFarm() as running:
        yield running


@pytest.fixture(params=["local", "grpc"])
async def link(request: pytest.FixtureRequest, farm: FakeFarm) -> AsyncIterator[Link]:
    made: Link = LocalLink(farm) if request.param == "local" else GrpcLink()
    yield made
    await made.close()


@pytest.fixture(params=["local", "grpc"])
async def sink(request: pytest.FixtureRequest, farm: FakeFarm) -> AsyncIterator[LogSink]:
    if request.param == "local":
        yield LocalSink(farm)
        return
    channel = open_channel(farm.address)
    made = GrpcLogSink(channel)
    yield made
    await made.close()
    await channel.close()


@pytest.fixture(params=["local", "grpc"])
async def claims(request: pytest.FixtureRequest, farm: FakeFarm) -> AsyncIterator[Claims]:
    if request.param == "local":
        yield LocalClaims(farm)
        return
    channel = open_channel(farm.address)
    yield StoreClaims(channel)
    await channel.close()
