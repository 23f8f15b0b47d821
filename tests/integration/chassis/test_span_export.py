"""Spans on their way to a real OTLP receiver, which may be away, or hang."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import grpc.aio
import pytest

from easyq_chassis.errors import Internal, NotFound
from easyq_chassis.server import GrpcServer
from easyq_chassis.tracing import current
from easyq_chassis.tracing.context import TraceContext
from easyq_chassis.tracing.export import MOST_WAITING, SpanSink
from easyq_chassis.tracing.interceptor import TracingInterceptor
from easyq_chassis.tracing.tracer import Tracer, Value, new_span_id, new_trace_id
from easyq_internal.store.v1 import farm_store_pb2, farm_store_pb2_grpc
from tests.support.collector import Collector
from tests.support.waiting import eventually, free_port

NAME = "easyq_internal.store.v1.FarmStoreService"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as found:
        yield found


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")


def new_context() -> TraceContext:
    return TraceContext(trace_id=new_trace_id(), span_id=new_span_id(), sampled=True, state="a=1")


async def test_a_span_arrives_as_it_was(collector: Collector) -> None:
    tracer = Tracer("store", farm="blue", sink=SpanSink(collector.url))
    caller, own, link = new_context(), new_context(), new_context()
    own = caller.at(own.span_id)
    attributes: dict[str, Value] = {"easyq.task": "t", "easyq.attempt": 2, "share": 0.5, "last": True}
    tracer.write("work", own, parent=caller, began=10, ended=30, attributes=attributes, error="why", link=link)
    await tracer.close()
    [span] = collector.spans()
    assert (span.name, span.service, span.kind) == ("work", "easyq-store", "INTERNAL")
    assert (span.trace_id, span.span_id, span.parent_id) == (caller.trace_id, own.span_id, caller.span_id)
    assert (span.start, span.end) == (10, 30)
    assert span.attributes == attributes
    assert (span.failed, span.message) == (True, "why")
    assert span.links == ((link.trace_id, link.span_id),)
    assert span.state == "a=1"
    assert span.resource["easyq.farm"] == "blue"
    assert {"service.version", "service.instance.id", "host.name"} <= span.resource.keys()


async def test_a_span_waits_for_others_no_longer_than_it_may(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a minute by the standard's variable wins over what the service says."""
    for said in ("", "30000"):
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", said)
        context = new_context()
        tracer = Tracer("runner", sink=SpanSink(collector.url, within_ms=50))
        tracer.write("work", context, parent=None, began=1, ended=2)
        if said:
            await asyncio.sleep(0.2)
            assert collector.spans(context.trace_id) == []
        else:
            await eventually(partial(collector.spans, context.trace_id), 4)
        await tracer.close()
        assert collector.spans(context.trace_id)


async def test_a_collector_that_hangs_costs_nobody_time(collector: Collector) -> None:
    sink = SpanSink(collector.url)
    tracer = Tracer("store", sink=sink)
    with collector.hanging():
        for _ in range(MOST_WAITING + 2_000):
            tracer.write("work", new_context(), parent=None, began=1, ended=2)
        # What is under way has been taken, and there is room for some more.
        assert 0 < sink.lost <= 2_000
        assert sink.waiting <= MOST_WAITING
        began = time.monotonic()
        await tracer.close()
        # Not the ten seconds that the library would wait for an answer.
        assert time.monotonic() - began < 5
        lost = sink.lost
        tracer.write("late", new_context(), parent=None, began=1, ended=2)
        assert sink.lost == lost + 1


SCRIPT = """
import asyncio, sys
from easyq_chassis import logs
from easyq_chassis.tracing.context import TraceContext
from easyq_chassis.tracing.export import SpanSink
from easyq_chassis.tracing.tracer import Tracer, new_span_id, new_trace_id

async def main():
    logs.configure("store", fmt="json")
    sink = SpanSink(sys.argv[1])
    tracer = Tracer("store", sink=sink)
    for rounds in range(2):
        context = TraceContext(trace_id=new_trace_id(), span_id=new_span_id(), sampled=True)
        tracer.write("work", context, parent=None, began=1, ended=2)
        while sink.lost <= rounds:
            await asyncio.sleep(0.02)
    print("serves on", flush=True)
    over = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    while not over.done():
        context = TraceContext(trace_id=new_trace_id(), span_id=new_span_id(), sampled=True)
        tracer.write("found", context, parent=None, began=1, ended=2)
        await asyncio.sleep(0.05)
    await tracer.close()

asyncio.run(main())
"""


async def test_a_collector_that_is_away_is_told_once_and_found_again() -> None:
    port = free_port()
    environment = {"OTEL_BSP_SCHEDULE_DELAY": "20", "OTEL_EXPORTER_OTLP_TIMEOUT": "2"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SCRIPT, f"http://127.0.0.1:{port}"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"serves on\n"
    with Collector(port) as collector:
        # gRPC takes its time until it tries again.
        await eventually(collector.spans, 30)
        _, written = await process.communicate(b"")
        assert {span.name for span in collector.spans()} == {"found"}
    away, back = (json.loads(line) for line in written.splitlines())
    assert (away["event"], away["level"], away["lost"]) == ("spans_not_exported", "warning", 1)
    assert str(port) in away["endpoint"]
    assert back["event"] == "spans_exported_again"
    assert back["lost"] >= 2


class Servicer(farm_store_pb2_grpc.FarmStoreServiceServicer):
    """Tells by its answers in which trace it was asked."""

    async def GetGeneration(self, _request: Any, _context: Any) -> farm_store_pb2.GetGenerationResponse:
        place = current.current()
        return farm_store_pb2.GetGenerationResponse(generation=0 if place is None else int(place.span_id[:12], 16))

    async def ParkSession(self, request: farm_store_pb2.ParkSessionRequest, _context: Any) -> Any:
        raise (NotFound("no such agent") if request.agent_id else Internal("broken"))

    async def Beat(self, request_iterator: AsyncIterator[Any], _context: Any) -> AsyncIterator[Any]:
        async for request in request_iterator:
            yield farm_store_pb2.BeatResponse(batch=request.batch)


@pytest.fixture
async def served(collector: Collector, request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    """A stub of it; `edge` as the parameter says."""
    tracer = Tracer("store", sink=SpanSink(collector.url))
    interceptor = TracingInterceptor(tracer, prefix="easyq_internal.", edge=request.param)
    server = GrpcServer("127.0.0.1:0", outer=(interceptor,))
    server.add(farm_store_pb2_grpc.add_FarmStoreServiceServicer_to_server, Servicer(), NAME)  # type: ignore[abstract]
    await server.start()
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield farm_store_pb2_grpc.FarmStoreServiceStub(channel)
    await server.stop(0)
    await tracer.close()


def sent(context: TraceContext) -> tuple[tuple[str, str], ...]:
    return (("traceparent", context.traceparent), ("tracestate", context.state))


async def beat(stub: Any, context: TraceContext) -> None:
    stream = stub.Beat(metadata=sent(context))
    await stream.write(farm_store_pb2.BeatRequest(batch=1))
    assert (await stream.read()).batch == 1
    await stream.done_writing()
    assert await stream.read() is grpc.aio.EOF


@pytest.mark.parametrize("served", [False], indirect=True)
async def test_calls_between_services(served: Any, collector: Collector) -> None:
    caller = new_context()
    seen = await served.GetGeneration(farm_store_pb2.GetGenerationRequest(), metadata=sent(caller))
    for agent_id, code in (("a", grpc.StatusCode.NOT_FOUND), ("", grpc.StatusCode.INTERNAL)):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.ParkSession(farm_store_pb2.ParkSessionRequest(agent_id=agent_id), metadata=sent(caller))
        assert caught.value.code() is code
    # Neither a stream nor a call of nobody's has a span.
    await beat(served, caller)
    assert (await served.GetGeneration(farm_store_pb2.GetGenerationRequest())).generation == 0
    await eventually(lambda: len(collector.spans(caller.trace_id)) == 3)
    good, missing, broken = collector.spans(caller.trace_id)
    assert (good.name, good.kind, good.parent_id) == (f"{NAME}/GetGeneration", "SERVER", caller.span_id)
    assert good.attributes == {
        "rpc.system.name": "grpc",
        "rpc.method": f"{NAME}/GetGeneration",
        "rpc.response.status_code": "OK",
    }
    assert int(good.span_id[:12], 16) == seen.generation
    assert good.state == "a=1"
    assert (missing.attributes["rpc.response.status_code"], missing.failed) == ("NOT_FOUND", False)
    assert (broken.attributes["rpc.response.status_code"], broken.failed) == ("INTERNAL", True)
    assert broken.attributes["error.type"] == "INTERNAL"
    assert len(collector.spans()) == 3


@pytest.mark.parametrize("served", [True], indirect=True)
async def test_calls_at_the_edge(served: Any, collector: Collector) -> None:
    caller = new_context()
    await beat(served, caller)
    await served.GetGeneration(farm_store_pb2.GetGenerationRequest(), metadata=(("traceparent", "nonsense"),))
    await eventually(lambda: len(collector.spans()) == 2)
    [stream] = collector.spans(caller.trace_id)
    assert (stream.name, stream.parent_id) == (f"{NAME}/Beat", caller.span_id)
    [root] = [span for span in collector.spans() if span.trace_id != caller.trace_id]
    assert (root.name, root.parent_id) == (f"{NAME}/GetGeneration", "")
