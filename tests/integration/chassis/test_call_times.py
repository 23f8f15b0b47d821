"""How calls are counted by their method and status, over a real server."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from easyq.v1 import farm_service_pb2
from easyq_chassis.channel import open_channel
from easyq_chassis.errors import NotFound
from easyq_chassis.metrics import REGISTRY
from easyq_chassis.server import GrpcServer
from easyq_internal.store.v1 import farm_store_pb2 as pb
from easyq_internal.store.v1.farm_store_pb2_grpc import FarmStoreServiceStub, add_FarmStoreServiceServicer_to_server
from tests.support.waiting import eventually

_NAME = "easyq_internal.store.v1.FarmStoreService"


class Servicer:
    def __init__(self) -> None:
        self.entered = asyncio.Event()

    async def GetGeneration(self, _request: Any, _context: Any) -> pb.GetGenerationResponse:
        return pb.GetGenerationResponse(generation=3)

    async def ListHeld(self, _request: Any, _context: Any) -> pb.ListHeldResponse:
        raise NotFound("there is none")

    async def ListAgents(self, _request: Any, _context: Any) -> None:
        raise RuntimeError("a fault")

    async def ListQueued(self, _request: Any, _context: Any) -> pb.ListQueuedResponse:
        self.entered.set()
        await asyncio.sleep(60)
        return pb.ListQueuedResponse()

    async def Beat(self, request_iterator: Any, _context: Any) -> Any:
        async for request in request_iterator:
            yield pb.BeatResponse(batch=request.batch)

    def __getattr__(self, name: str) -> Any:
        return None


def counted(method: str, code: str) -> float:
    times = REGISTRY.histogram(
        "rpc.server.call.duration", "", labels=("rpc.system.name", "rpc.method", "rpc.response.status_code")
    )
    return sum(times.values.get(("grpc", method, code), [0, 0])[:-1])


@pytest.fixture(autouse=True)
def _fresh() -> None:
    """The process's own instruments have so many ports of earlier tests that new ones would count as `other`."""
    for one in REGISTRY.instruments():
        if one.described.name == "rpc.client.call.duration":
            one.values.clear()


def asked(method: str, address: str, port: str, code: str) -> float:
    """How often the caller's side has seen this end."""
    times = REGISTRY.histogram(
        "rpc.client.call.duration",
        "",
        labels=("rpc.system.name", "rpc.method", "server.address", "server.port", "rpc.response.status_code"),
    )
    return sum(times.values.get(("grpc", method, address, port, code), [0, 0])[:-1])


async def serving(servicer: Servicer, listen: str = "127.0.0.1:0") -> GrpcServer:
    server = GrpcServer(listen)
    server.add(add_FarmStoreServiceServicer_to_server, servicer, _NAME)
    await server.start()
    return server


async def test_calls_count_by_what_was_answered() -> None:
    servicer = Servicer()
    server = await serving(servicer)
    channel = open_channel(server.address)
    stub: Any = FarmStoreServiceStub(channel)

    async def grown(method: str, code: str, before: float) -> None:
        assert await eventually(lambda: counted(method, code) == before + 1)

    was = counted(f"{_NAME}/GetGeneration", "OK")
    await stub.GetGeneration(pb.GetGenerationRequest())
    await grown(f"{_NAME}/GetGeneration", "OK", was)
    for method, request, code in (
        ("ListHeld", pb.ListHeldRequest(), "NOT_FOUND"),
        ("ListAgents", farm_service_pb2.ListAgentsRequest(), "INTERNAL"),
    ):
        was = counted(f"{_NAME}/{method}", code)
        with pytest.raises(grpc.aio.AioRpcError):
            await getattr(stub, method)(request)
        await grown(f"{_NAME}/{method}", code, was)
    was = counted(f"{_NAME}/ListQueued", "CANCELLED")
    call = stub.ListQueued(pb.ListQueuedRequest())
    waiting = asyncio.ensure_future(call)
    await servicer.entered.wait()
    call.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await grown(f"{_NAME}/ListQueued", "CANCELLED", was)
    was = counted(f"{_NAME}/Beat", "OK")
    stream = stub.Beat()
    await stream.write(pb.BeatRequest(batch=7))
    assert (await stream.read()).batch == 7
    await stream.done_writing()
    assert await stream.read() is grpc.aio.EOF
    await grown(f"{_NAME}/Beat", "OK", was)
    was = counted("grpc.health.v1.Health/Check", "OK")
    await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    await grown("grpc.health.v1.Health/Check", "OK", was)
    await channel.close()
    await server.stop(0)


async def test_calls_count_on_the_callers_side_by_neighbour_and_by_how_they_ended() -> None:
    servicer = Servicer()
    server = await serving(servicer)
    channel = open_channel(server.address)
    stub: Any = FarmStoreServiceStub(channel)
    address, _, port = server.address.rpartition(":")

    def seen(method: str, code: str) -> float:
        return asked(f"{_NAME}/{method}", address, port, code)

    assert (await stub.GetGeneration(pb.GetGenerationRequest())).generation == 3
    assert seen("GetGeneration", "OK") == 1
    with pytest.raises(grpc.aio.AioRpcError):
        await stub.ListHeld(pb.ListHeldRequest())
    assert seen("ListHeld", "NOT_FOUND") == 1
    # What only the caller knows: that it waited no longer, or has gone.
    with pytest.raises(grpc.aio.AioRpcError):
        await stub.ListQueued(pb.ListQueuedRequest(), timeout=0.05)
    assert seen("ListQueued", "DEADLINE_EXCEEDED") == 1
    servicer.entered.clear()
    waiting = asyncio.ensure_future(stub.ListQueued(pb.ListQueuedRequest()))
    await servicer.entered.wait()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert await eventually(lambda: seen("ListQueued", "CANCELLED") == 1)
    stream = stub.Beat()
    await stream.write(pb.BeatRequest(batch=7))
    assert (await stream.read()).batch == 7
    assert seen("Beat", "OK") == 0
    await stream.done_writing()
    assert await stream.read() is grpc.aio.EOF
    assert await eventually(lambda: seen("Beat", "OK") == 1)
    call = stub.GetGeneration(pb.GetGenerationRequest())
    assert await call.code() is grpc.StatusCode.OK, "a call is gRPC's own: its code and its metadata can be asked for"
    await server.stop(0)
    with pytest.raises(grpc.aio.AioRpcError):
        await stub.GetGeneration(pb.GetGenerationRequest())
    assert seen("GetGeneration", "UNAVAILABLE") == 1
    await channel.close()


async def test_a_neighbour_at_a_socket_counts_by_its_path(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    server = await serving(Servicer(), f"unix:{path}")
    async with open_channel(f"unix:{path}") as channel:
        await FarmStoreServiceStub(channel).GetGeneration(pb.GetGenerationRequest())
    assert asked(f"{_NAME}/GetGeneration", path, "", "OK") == 1
    await server.stop(0)
