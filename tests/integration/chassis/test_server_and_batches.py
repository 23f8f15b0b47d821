"""The chassis over a real socket: health, reflection, errors and micro-batches, under one of the internal contracts."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from easyq_chassis.batching import MicroBatcher, answer_batches
from easyq_chassis.channel import open_channel
from easyq_chassis.errors import FieldProblem, Internal, InvalidArgument, NotFound, Unavailable
from easyq_chassis.server import GrpcServer
from easyq_chassis.status import from_rpc_error
from easyq_internal.store.v1 import farm_store_pb2, farm_store_pb2_grpc
from easyq_internal.store.v1.records_pb2 import Directive
from tests.support.waiting import eventually

NAME = "easyq_internal.store.v1.FarmStoreService"


class Servicer(farm_store_pb2_grpc.FarmStoreServiceServicer):
    """Answers each beat with a directive that names its agent; fails as told; waits while the gate is shut."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.answers: int | None = None
        self.gate, self.arrived = asyncio.Event(), asyncio.Event()
        self.gate.set()
        self.batches: list[int] = []
        # Why each stream ended.
        self.ended: list[object] = []

    async def GetGeneration(self, _request: Any, _context: Any) -> farm_store_pb2.GetGenerationResponse:
        if self.error:
            raise self.error
        return farm_store_pb2.GetGenerationResponse(generation=1)

    async def Beat(self, request_iterator: AsyncIterator[Any], _context: Any) -> AsyncIterator[Any]:
        try:
            async for response in answer_batches(request_iterator, self._beat, farm_store_pb2.BeatResponse):
                yield response
                while response.results[0].directives[0].execution_id == "endless":
                    yield farm_store_pb2.BeatResponse(
                        results=[farm_store_pb2.BeatResult(directives=[Directive(execution_id="x" * 200_000)])]
                    )
        finally:
            self.ended.append(sys.exc_info()[0])

    async def _beat(self, items: Sequence[farm_store_pb2.AgentBeat]) -> list[farm_store_pb2.BeatResult]:
        self.batches.append(len(items))
        self.arrived.set()
        await self.gate.wait()
        if self.error:
            raise self.error
        items = items[: self.answers]
        return [farm_store_pb2.BeatResult(directives=[Directive(execution_id=item.agent_id)]) for item in items]


class Served:
    """A running server and a channel to it."""

    def __init__(self, listen: str) -> None:
        self.listen = listen
        self.servicer = Servicer()  # type: ignore[abstract]

    async def start(self) -> None:
        self.server = GrpcServer(self.listen)
        self.server.add(farm_store_pb2_grpc.add_FarmStoreServiceServicer_to_server, self.servicer, NAME)
        await self.server.start()


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    it = Served(f"unix:{tmp_path}/s")
    await it.start()
    yield it
    it.servicer.gate.set()
    await it.server.stop(0)


@pytest.fixture
async def channel(served: Served) -> AsyncIterator[grpc.aio.Channel]:
    async with open_channel(served.listen) as channel:
        yield channel


@pytest.fixture
async def batcher(channel: grpc.aio.Channel) -> AsyncIterator[MicroBatcher[Any, Any]]:
    stub = farm_store_pb2_grpc.FarmStoreServiceStub(channel)
    it: MicroBatcher[Any, Any] = MicroBatcher(stub.Beat, farm_store_pb2.BeatRequest, most_items=10, timeout=20)
    yield it
    await it.close()


def _beat(name: str) -> farm_store_pb2.AgentBeat:
    return farm_store_pb2.AgentBeat(agent_id=name)


def _name(result: farm_store_pb2.BeatResult) -> str:
    return result.directives[0].execution_id


async def test_health_follows_what_the_service_says(served: Served, channel: grpc.aio.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    for serving, status in ((False, "NOT_SERVING"), (True, "SERVING"), (False, "NOT_SERVING")):
        await served.server.set_serving(serving)
        for name in ("", NAME):
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=name))
            assert health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status) == status


async def test_reflection_lists_the_services(channel: grpc.aio.Channel) -> None:
    call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    answer = await call.read()
    call.cancel()
    assert NAME in [service.name for service in answer.list_services_response.service]


async def test_reflection_finds_whatever_has_a_name(channel: grpc.aio.Channel) -> None:
    call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
    for symbol, found in (
        (NAME, True),
        (f"{NAME}.Beat", True),
        ("easyq_internal.store.v1.BeatRequest.items", True),
        (f"{NAME}.Nothing", False),
    ):
        await call.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol))
        answer = await call.read()
        assert answer.HasField("file_descriptor_response") is found, symbol
        assert found or answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
    call.cancel()


async def test_readers_that_leave_are_no_errors(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    """The write fails that waits for them, often before gRPC has heard that they left: it logs that as our error."""
    ended = served.servicer.ended
    for number in range(1, 11):
        async with open_channel(served.listen, slow_readers=True) as channel:
            call = farm_store_pb2_grpc.FarmStoreServiceStub(channel).Beat()
            await call.write(farm_store_pb2.BeatRequest(items=[_beat("endless")]))
            await call.read()
        await eventually(lambda number=number: len(ended) == number)  # type: ignore[misc]
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    # gRPC has one poller for all event loops of a process: it also stumbles over what those of earlier tests left.
    assert [error for error in errors if "PollerCompletionQueue" not in error] == []


async def test_callers_that_leave_are_no_errors(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """gRPC writes an answer behind all interceptors, and logs as an error that nobody is there to take it."""

    async def answer(_request: Any, _context: Any) -> bytes:
        return b"x"

    def write(_answer: bytes) -> bytes:
        # As gRPC's own write does, if the caller has left a moment ago: that can't be had at will.
        raise grpc.aio.InternalError("Failed grpc_call_start_batch")

    handler: Any = grpc.unary_unary_rpc_method_handler(answer, response_serializer=write)
    methods = grpc.method_handlers_generic_handler("a.Service", {"Get": handler})
    server = GrpcServer(f"unix:{tmp_path}/left")
    server.add(lambda _servicer, to: to.add_generic_rpc_handlers((methods,)), None, "a.Service")
    await server.start()
    async with open_channel(server.address) as channel:
        call: Any = channel.unary_unary("/a.Service/Get")
        with structlog.testing.capture_logs() as logged, pytest.raises(grpc.aio.AioRpcError):
            await call(b"")
    await server.stop(0)
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []
    [told] = [event for event in logged if event["event"] == "caller_gone"]
    assert (told["log_level"], "exc_info" in told) == ("debug", False)
    assert "/a.Service/Get" in told["what"]


async def test_errors_reach_the_caller_whole(served: Served, channel: grpc.aio.Channel) -> None:
    field = FieldProblem(field="spec.image", message="is empty")
    served.servicer.error = InvalidArgument("one field is wrong", fields=[field])
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await farm_store_pb2_grpc.FarmStoreServiceStub(channel).GetGeneration(farm_store_pb2.GetGenerationRequest())
    error = from_rpc_error(raised.value)
    assert isinstance(error, InvalidArgument)
    assert (error.message, error.reason, error.fields) == ("one field is wrong", "INVALID_FIELDS", (field,))


async def test_what_nobody_foresaw_is_internal_and_tells_nothing(served: Served, channel: grpc.aio.Channel) -> None:
    served.servicer.error = ZeroDivisionError("secret detail")
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await farm_store_pb2_grpc.FarmStoreServiceStub(channel).GetGeneration(farm_store_pb2.GetGenerationRequest())
    assert raised.value.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in (raised.value.details() or "")


async def test_an_address_in_use_is_named() -> None:
    first = GrpcServer("127.0.0.1:0")
    await first.start()
    with pytest.raises(Unavailable, match=first.address):
        await GrpcServer(first.address).start()
    await first.stop(0)


async def test_the_first_goes_at_once_and_those_that_come_meanwhile_go_together(
    served: Served, batcher: MicroBatcher[Any, Any]
) -> None:
    served.servicer.gate.clear()
    first = asyncio.create_task(batcher.call(_beat("first")))
    await asyncio.wait_for(served.servicer.arrived.wait(), 30)
    others = [asyncio.create_task(batcher.call(_beat(f"n{n}"))) for n in range(25)]
    await asyncio.sleep(0)
    served.servicer.gate.set()
    names = [_name(result) for result in await asyncio.wait_for(asyncio.gather(first, *others), 30)]
    assert names == ["first", *(f"n{n}" for n in range(25))]
    assert served.servicer.batches == [1, 10, 10, 5]


async def test_an_error_of_the_server_is_each_waiters(served: Served, batcher: MicroBatcher[Any, Any]) -> None:
    served.servicer.error = NotFound("no such agent", reason="AGENT_NOT_FOUND")
    results = await asyncio.gather(*(batcher.call(_beat("x")) for _ in range(3)), return_exceptions=True)
    assert [(type(error), getattr(error, "reason", "")) for error in results] == [(NotFound, "AGENT_NOT_FOUND")] * 3
    served.servicer.error = None
    assert _name(await batcher.call(_beat("again"))) == "again"


async def test_an_answer_with_too_few_results_is_an_error_and_no_end(
    served: Served, batcher: MicroBatcher[Any, Any]
) -> None:
    served.servicer.answers = 0
    with pytest.raises(Internal):
        await asyncio.wait_for(batcher.call(_beat("x")), 30)
    served.servicer.answers = None
    assert _name(await asyncio.wait_for(batcher.call(_beat("again")), 30)) == "again"


async def test_goes_on_after_the_server_came_back(served: Served, batcher: MicroBatcher[Any, Any]) -> None:
    assert _name(await batcher.call(_beat("before"))) == "before"
    await served.server.stop(0)
    with pytest.raises(Unavailable):
        await asyncio.wait_for(batcher.call(_beat("lost")), 30)
    await served.start()
    for attempt in range(100):
        try:
            assert _name(await batcher.call(_beat(f"a{attempt}"))) == f"a{attempt}"
            return
        except Unavailable:
            await asyncio.sleep(0.05)
    pytest.fail("the batcher did not find the server again")


async def test_close_lets_nobody_wait(served: Served, batcher: MicroBatcher[Any, Any]) -> None:
    served.servicer.gate.clear()
    calls = [asyncio.create_task(batcher.call(_beat("x"))) for _ in range(3)]
    await asyncio.wait_for(served.servicer.arrived.wait(), 30)
    await batcher.close()
    results = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 30)
    assert [type(result) for result in results] == [Unavailable] * 3
    with pytest.raises(Unavailable):
        await batcher.call(_beat("late"))


async def test_a_link_may_be_slow_to_greet() -> None:
    """Each connection is passed on 1.5 s late: later than the longest pause between two attempts to connect."""
    served = Served("127.0.0.1:0")
    await served.start()

    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(1.5)
        host, port = served.server.address.split(":")
        behind, to_behind = await asyncio.open_connection(host, int(port))
        await asyncio.gather(pass_on(reader, to_behind), pass_on(behind, writer))

    link = await asyncio.start_server(late, "127.0.0.1", 0)
    async with link, open_channel(f"127.0.0.1:{link.sockets[0].getsockname()[1]}") as channel:
        stub: Any = farm_store_pb2_grpc.FarmStoreServiceStub(channel)
        answer = await stub.GetGeneration(farm_store_pb2.GetGenerationRequest(), wait_for_ready=True, timeout=30)
    assert answer.generation == 1
    await served.server.stop(0)


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()
