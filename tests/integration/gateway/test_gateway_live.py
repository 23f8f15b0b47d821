"""Live output: WebSocket, Server-Sent Events and gRPC; stored first, then as it comes; resumed; slow readers."""

import asyncio
import base64
import contextlib
import json
import re
import socket as socket_module
import uuid
from typing import Any

import aiohttp
import grpc
import pytest
import websockets
from aiohttp import web
from websockets.asyncio.client import connect

from easyq.v1 import log_service_pb2 as api
from easyq.v1.job_pb2 import Execution, Job, Trigger
from easyq.v1.log_service_pb2 import LogStream
from easyq.v1.log_service_pb2_grpc import LogServiceStub
from easyq_chassis.errors import Aborted, Unavailable
from easyq_gateway import interceptor
from easyq_gateway.rest import pace, socket
from tests.fakes import gateway as fakes
from tests.integration.gateway.conftest import Client, Starter
from tests.support.live import Reader, closed, read_socket, read_sse
from tests.support.waiting import eventually

OUT = b"one\ntwo\n\xff\x00three\r\nno end"
ERR = b"oops\n"


@pytest.fixture
async def job(gateway: Client) -> Any:
    """A job that runs and has written OUT and ERR."""
    return await running(gateway)


async def running(gateway: Client) -> Any:
    answer = await gateway.enqueue()
    await gateway.store.move(answer["executionId"], Execution.RUNNING)
    await gateway.store.write(answer["executionId"], LogStream.STDOUT, OUT)
    await gateway.store.write(answer["executionId"], LogStream.STDERR, ERR)
    return answer


async def end(gateway: Client, job: Any, state: Execution.State.ValueType = Execution.SUCCEEDED) -> None:
    await gateway.store.move(job["executionId"], state, exit_code=0, logs_complete=True)


async def retry(gateway: Client, job: Any) -> str:
    """The first attempt fails and a second runs: its id."""
    gateway.store.executions[job["executionId"]].state = Execution.FAILED
    gateway.store.executions[job["executionId"]].exit_code = 3
    gateway.store.jobs[job["jobId"]].state = Job.RETRYING
    second = gateway.store._attempt(gateway.store.jobs[job["jobId"]], str(uuid.uuid4()), Trigger.RETRY)
    await gateway.store.move(second.execution_id, Execution.RUNNING)
    return second.execution_id


def places(job: Any) -> list[str]:
    return [
        f"/jobs/{job['jobId']}",
        job["jobUrl"],
        f"/executions/{job['executionId']}",
        f"/jobs/{job['jobId']}/executions/{job['executionId']}",
        job["executionUrl"],
    ]


def ws(gateway: Client, path: str, **options: Any) -> connect:
    return connect(gateway.url.replace("http", "ws") + path, **options)


# ---------------------------------------------------------------------------------------------------------- WebSocket


async def test_stored_then_live_then_the_end_at_every_place(gateway: Client, job: Any) -> None:
    for place in places(job):
        reader = Reader()
        async with ws(gateway, f"{place}/ws") as socket:
            await read_socket(socket, reader, until=len(OUT + ERR))
            assert (reader.of(job, "STDOUT"), reader.of(job, "STDERR")) == (OUT, ERR)
    reader = Reader()
    async with ws(gateway, f"{places(job)[0]}/ws") as socket:
        await read_socket(socket, reader, until=len(OUT + ERR))
        await gateway.store.write(job["executionId"], LogStream.STDERR, b"more")
        await read_socket(socket, reader, until=len(OUT + ERR) + 4)
        await end(gateway, job)
        await read_socket(socket, reader)
        assert (socket.close_code, socket.close_reason) == (1000, "this is the end of the output")
    assert reader.of(job, "STDERR") == ERR + b"more"
    assert reader.events[0] == "attempt"
    assert reader.ends == [
        {
            "executionId": job["executionId"],
            "state": "SUCCEEDED",
            "exitCode": 0,
            "jobEnded": True,
            "attempt": 1,
            "complete": True,
        }
    ]
    assert reader.position == f"{job['executionId']}:{len(OUT)}:{len(ERR) + 4}:end"


async def test_what_a_frame_tells(gateway: Client, job: Any) -> None:
    async with ws(gateway, f"{job['jobUrl']}/ws") as socket:
        first, second = [json.loads(await socket.recv()) for _ in range(2)]
    id_ = job["executionId"]
    told = {"executionId": id_, "attempt": 1, "stdoutOffset": 0, "stderrOffset": 0}
    assert first == {"type": "attempt", **told, "position": f"{id_}:0:0"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", second.pop("at"))
    # Not UTF-8, so as bytes.
    coded = base64.b64encode(OUT).decode()
    log = {"type": "log", "executionId": id_, "stream": "STDOUT", "offset": 0, "base64": coded}
    assert second == {**log, "position": f"{id_}:{len(OUT)}:0"}


async def test_binary_frames_by_request(gateway: Client, job: Any) -> None:
    await end(gateway, job)
    reader = Reader()
    async with ws(gateway, f"{job['jobUrl']}/ws?binary=1") as socket:
        await read_socket(socket, reader)
    assert (reader.of(job, "STDOUT"), reader.of(job, "STDERR")) == (OUT, ERR)
    assert reader.events == ["attempt", "log", "log", "end"]


async def test_a_job_is_followed_over_its_attempts(gateway: Client, job: Any) -> None:
    reader = Reader()
    async with ws(gateway, f"{job['jobUrl']}/ws") as socket:
        await read_socket(socket, reader, until=len(OUT + ERR))
        second = await retry(gateway, job)
        await gateway.store.write(second, LogStream.STDERR, b"again")
        await gateway.store.move(second, Execution.SUCCEEDED)
        await read_socket(socket, reader)
    assert reader.output[second, "STDERR"] == b"again"
    assert [(one["attempt"], one["state"], one["jobEnded"]) for one in reader.ends] == [
        (1, "FAILED", False),
        (2, "SUCCEEDED", True),
    ]


@pytest.mark.parametrize("how", ["ws", "sse"])
async def test_a_reader_that_comes_back_loses_and_doubles_nothing(gateway: Client, job: Any, how: str) -> None:
    reader = Reader()
    written = len(OUT + ERR)
    for number in range(5):
        after = f"?from={reader.position}" if reader.position else ""
        if how == "ws":
            async with ws(gateway, f"{job['jobUrl']}/ws{after}") as socket:
                await read_socket(socket, reader, until=written)
        else:
            headers = {"Accept": "text/event-stream", "Last-Event-ID": reader.position}
            async with gateway.session.get(f"{gateway.url}{job['jobUrl']}/stream", headers=headers) as response:
                await read_sse(response.content, reader, until=written)
        reader.again()
        await gateway.store.write(job["executionId"], LogStream.STDOUT, b"%d" % number)
        written += 1
    assert reader.of(job, "STDOUT") == OUT + b"0123"
    assert reader.of(job, "STDERR") == ERR


async def test_a_position_of_another_job_is_none(gateway: Client, job: Any) -> None:
    other = await running(gateway)
    for word, status in ((f"{other['executionId']}:0:0", 404), ("nonsense", 400), (f"{job['executionId']}:0:-1", 400)):
        answer = await gateway.call("GET", f"{job['jobUrl']}/stream?from={word}")
        assert answer.status == status
    answer = await gateway.call("GET", f"{job['jobUrl']}/stream", Last_Event_ID="nonsense")
    assert list(answer.fields) == ["Last-Event-ID"]
    answer = await gateway.call("GET", f"{job['executionUrl']}/stream?from={other['executionId']}:0:0")
    assert answer.status == 400


@pytest.mark.parametrize(
    "headers", [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Host": "evil.example"}, {"Host": ""}]
)
async def test_no_web_page_of_others_reads_output(gateway: Client, job: Any, headers: dict[str, str]) -> None:
    with pytest.raises(websockets.InvalidStatus) as refused:
        await raw_handshake(gateway, f"{job['jobUrl']}/ws", headers)
    assert refused.value.response.status_code == 403
    assert b"ORIGIN_NOT_ALLOWED" in (refused.value.response.body or b"")


async def raw_handshake(gateway: Client, path: str, headers: dict[str, str]) -> None:
    """A handshake with headers that the client's library would not send so."""
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    sent = {
        "Host": f"{host}:{port}",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        **headers,
    }
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    writer.write(f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    status = int(head.split()[1])
    length = re.search(r"(?i)content-length: (\d+)", head)
    body = await reader.readexactly(int(length[1])) if length else b""
    writer.close()
    if status != 101:
        response = websockets.Response(status, "", websockets.Headers(), body)
        raise websockets.InvalidStatus(response)


async def test_an_origin_that_is_allowed_and_ours(start_gateway: Starter) -> None:
    gateway = await start_gateway(allowed_origins="https://front.example")
    job = await running(gateway)
    for origin in ("https://front.example", gateway.url):
        async with ws(gateway, f"{job['jobUrl']}/ws", origin=origin) as socket:
            assert json.loads(await socket.recv())["type"] == "attempt"


async def test_what_is_no_handshake(gateway: Client, job: Any) -> None:
    for method in ("GET", "HEAD"):
        answer = await gateway.call(method, f"{job['jobUrl']}/ws")
        assert (answer.status, answer.headers["Upgrade"]) == (426, "websocket")
    for wrong in ({"Sec-WebSocket-Version": "1"}, {"Sec-WebSocket-Key": "short"}, {"Sec-WebSocket-Key": "é"}):
        with pytest.raises(websockets.InvalidStatus) as refused:
            await raw_handshake(gateway, f"{job['jobUrl']}/ws", wrong)
        assert refused.value.response.status_code == 400


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("tail=-1", "tail"),
        ("tail=100001", "tail"),
        ("tail=9999999999", "tail"),
        ("since=yesterday", "since"),
        ("since=2030-01-31", "since"),
        ("timestamps=maybe", "timestamps"),
        ("nope=1", "nope"),
        ("tail=1&tail=2", "tail"),
    ],
)
async def test_parameters_that_are_wrong(gateway: Client, job: Any, query: str, field: str) -> None:
    for path in ("stream", "ws", "stdout", "logs"):
        answer = await gateway.call("GET", f"{job['jobUrl']}/{path}?{query}")
        assert (answer.status, list(answer.fields)) == (400, [field])
    for path, wrong in (("ws", "binary=x"), ("stream", "format=x"), ("stream", "format=sse&download=1")):
        assert (await gateway.call("GET", f"{job['jobUrl']}/{path}?{wrong}")).status == 400


async def test_jobs_that_are_not_there(gateway: Client) -> None:
    for path in ("/jobs/nope/ws", "/jobs/nope/stream", f"/executions/{uuid.uuid4()}/ws"):
        assert (await gateway.call("GET", path)).status == 404


async def test_streams_are_bounded(start_gateway: Starter) -> None:
    gateway = await start_gateway(max_streams=1)
    job = await running(gateway)
    async with ws(gateway, f"{job['jobUrl']}/ws") as socket:
        await socket.recv()
        with pytest.raises(websockets.InvalidStatus) as refused:
            async with ws(gateway, f"{job['jobUrl']}/ws"):
                pass
        assert refused.value.response.status_code == 429
    await eventually(lambda: gateway.store.open_readers == gateway.app._rest._streams._inside == 0)
    async with ws(gateway, f"{job['jobUrl']}/ws") as socket:
        await socket.recv()


async def test_readers_that_leave_are_let_go(gateway: Client, job: Any) -> None:
    headers = {"Accept": "text/event-stream"}
    socket = await ws(gateway, f"{job['jobUrl']}/ws")
    response = await gateway.session.get(f"{gateway.url}{job['jobUrl']}/stream", headers=headers)
    stub: Any = LogServiceStub(gateway.channel)
    call = stub.FollowLogs(api.FollowLogsRequest(job_id=job["jobId"]))
    await socket.recv()
    await response.content.readline()
    await call.read()
    # Of Server-Sent Events the beginning comes before anything of the store's.
    await eventually(lambda: gateway.store.open_readers == 3)
    await socket.close()
    response.close()
    call.cancel()
    await eventually(lambda: gateway.store.open_readers == 0)


async def test_what_a_reader_sends_is_for_nobody(gateway: Client, job: Any) -> None:
    async with ws(gateway, f"{job['jobUrl']}/ws") as socket:
        await socket.send("hello")
        await asyncio.wait_for(await socket.ping(), 20)
        await end(gateway, job)
        await read_socket(socket, Reader())
        assert socket.close_code == 1000
    async with ws(gateway, f"{job['jobUrl']}/ws?tail=0") as socket:
        pass
    other = await running(gateway)
    async with ws(gateway, f"{other['jobUrl']}/ws") as socket:
        await socket.send("x" * 5000)
        await closed(socket)
        assert socket.close_code == 1009


async def test_a_gateway_that_stops_says_where_to_go_on(start_gateway: Starter) -> None:
    gateway = await start_gateway(shutdown_grace=30.0)
    job = await running(gateway)
    async with ws(gateway, f"{job['jobUrl']}/ws") as socket:
        reader = Reader()
        await read_socket(socket, reader, until=len(OUT + ERR))
        stopping = asyncio.create_task(gateway.app._rest.stop(30.0))
        with pytest.raises(websockets.ConnectionClosed):
            await socket.recv()
        async with asyncio.timeout(10):
            await stopping
        assert (socket.close_code, socket.close_reason) == (1001, f"the gateway stops; from={reader.position}")


async def test_a_store_that_restarts_amid_it(gateway: Client, job: Any) -> None:
    reader = Reader()
    async with ws(gateway, f"{job['jobUrl']}/ws") as socket:
        await read_socket(socket, reader, until=len(OUT + ERR))
        await gateway.behind.stop("store")
        await gateway.store.write(job["executionId"], LogStream.STDOUT, b"while away")
        await gateway.behind.start("store")
        await read_socket(socket, reader, until=len(OUT + ERR) + 10)
        await end(gateway, job)
        await read_socket(socket, reader)
    assert reader.of(job, "STDOUT") == OUT + b"while away"
    assert reader.events.count("attempt") == reader.events.count("end") == 1
    # It was not read from its beginning again.
    again = gateway.store.follows[-1]
    assert (again.position.stdout_offset, again.position.stderr_offset) == (len(OUT), len(ERR))


CUTS = [(Aborted("the output was removed while it was read"), 4409, "ABORTED"), (None, 1013, "UNAVAILABLE")]


@pytest.mark.parametrize(("error", "code", "name"), CUTS)
async def test_a_socket_that_can_not_go_on_says_why(
    start_gateway: Starter, error: Aborted | None, code: int, name: str
) -> None:
    gateway = await start_gateway(stream_patience=0.3)
    job = await running(gateway)
    async with ws(gateway, f"{job['jobUrl']}/ws") as socket:
        await read_socket(socket, Reader(), until=len(OUT + ERR))
        await break_off(gateway, job, error)
        await closed(socket)
        assert socket.close_code == code
        reason, _, position = (socket.close_reason or "").partition("; from=")
        assert reason
        assert position == f"{job['executionId']}:{len(OUT)}:{len(ERR)}"


@pytest.mark.parametrize(("error", "code", "name"), CUTS)
async def test_an_event_stream_that_can_not_go_on_says_why(
    start_gateway: Starter, error: Aborted | None, code: int, name: str
) -> None:
    gateway = await start_gateway(stream_patience=0.3)
    job = await running(gateway)
    async with gateway.session.get(f"{gateway.url}{job['jobUrl']}/stream?format=sse") as response:
        await read_sse(response.content, Reader(), until=len(OUT + ERR))
        await break_off(gateway, job, error)
        events = (await response.content.read()).decode()
    assert f"id: {job['executionId']}:{len(OUT)}:{len(ERR)}\nevent: cut\ndata: " in events
    assert json.loads(events.partition("data: ")[2])["code"] == name


async def break_off(gateway: Client, job: Any, error: Aborted | None) -> None:
    """The store fails with an error, or goes away."""
    await eventually(lambda: gateway.store.open_readers == 1)
    gateway.store.follow_error = error
    if error is None:
        await gateway.behind.stop("store")
    else:
        await gateway.store.write(job["executionId"], LogStream.STDOUT, b"")


# ------------------------------------------------------------------------------------------------- Server-Sent Events


async def test_server_sent_events_by_curl(gateway: Client, job: Any) -> None:
    url = f"{gateway.url}{job['jobUrl']}/stream"
    curl = await asyncio.create_subprocess_exec(
        *("curl", "-sSNi", "-H", "Accept: text/event-stream", url), stdout=asyncio.subprocess.PIPE
    )
    assert curl.stdout is not None
    head = (await curl.stdout.readuntil(b"\r\n\r\n")).decode()
    assert "HTTP/1.1 200 OK" in head
    assert "Content-Type: text/event-stream; charset=utf-8\r\n" in head
    assert "X-Accel-Buffering: no\r\n" in head
    assert await curl.stdout.readline() == b"retry: 1000\n"
    reader = Reader()
    await read_sse(curl.stdout, reader, until=len(OUT + ERR))
    await gateway.store.write(job["executionId"], LogStream.STDOUT, "grün".encode())
    await read_sse(curl.stdout, reader, until=len(OUT + ERR) + 5)
    await end(gateway, job)
    await read_sse(curl.stdout, reader)
    assert await curl.wait() == 0
    assert (reader.of(job, "STDOUT"), reader.of(job, "STDERR")) == (OUT + "grün".encode(), ERR)
    assert [one["state"] for one in reader.ends] == ["SUCCEEDED"]


async def test_an_event_source_that_has_it_all_is_told_not_to_come_back(gateway: Client, job: Any) -> None:
    second = await retry(gateway, job)
    for path, position, status in (
        (job["jobUrl"], f"{job['executionId']}:{len(OUT)}:{len(ERR)}:end", 200),
        (job["executionUrl"], f"{job['executionId']}:{len(OUT)}:{len(ERR)}:end", 204),
        (job["jobUrl"], f"{second}:0:0:end", 204),
        (job["jobUrl"], f"{second}:0:0", 200),
    ):
        await gateway.store.move(second, Execution.SUCCEEDED)
        headers = {"Accept": "text/event-stream", "Last_Event_ID": position}
        answer = await gateway.call("GET", f"{path}/stream?tail=1", **headers)
        assert (answer.status, bool(answer.body)) == (status, status == 200)
        assert b"oops" not in answer.body


async def test_signs_of_life(gateway: Client, job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "QUIET", 0.05)
    response = await gateway.session.get(f"{gateway.url}{job['jobUrl']}/stream?format=sse")
    while await response.content.readline() != b": alive\n":
        pass
    await end(gateway, job)
    await response.content.read()


async def test_a_socket_whose_pings_nobody_answers_is_let_go(
    gateway: Client, job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "QUIET", 0.05)
    monkeypatch.setattr(socket, "_SILENT", 2.0)
    async with ws(gateway, f"{job['jobUrl']}/ws") as alive:
        host, _, port = gateway.url.removeprefix("http://").partition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        head = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        writer.write(f"GET {job['jobUrl']}/ws HTTP/1.1\r\nHost: {host}:{port}\r\n{head}{key}\r\n".encode())
        await eventually(lambda: gateway.store.open_readers == 2)
        await eventually(lambda: gateway.store.open_readers == 1)
        # The one whose library answers stays.
        await asyncio.wait_for(await alive.ping(), 20)
        await end(gateway, job)
        await read_socket(alive, Reader())
        writer.close()


# ---------------------------------------------------------------------------------------------------------------- gRPC


async def test_following_by_grpc(gateway: Client, job: Any) -> None:
    stub: Any = LogServiceStub(gateway.channel)
    await end(gateway, job)
    events = [e async for e in stub.FollowLogs(api.FollowLogsRequest(job_id=job["jobId"]))]
    assert [e.WhichOneof("event") for e in events] == ["attempt", "chunk", "chunk", "end"]
    assert events[1].chunk.at.seconds > 0
    assert (events[-1].end.attempt, events[-1].end.job_ended, events[-1].end.complete) == (1, True, True)
    position = api.LogPosition(execution_id=job["executionId"], stdout_offset=4, stderr_offset=len(ERR))
    rest = [e async for e in stub.FollowLogs(api.FollowLogsRequest(job_id=job["jobId"], position=position))]
    assert [e.chunk.data for e in rest if e.HasField("chunk")] == [OUT[4:]]


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (api.FollowLogsRequest(), "executionId"),
        (api.FollowLogsRequest(job_id="a", execution_id="b"), "executionId"),
        (api.FollowLogsRequest(job_id="a", position=api.LogPosition()), "position.executionId"),
        (api.FollowLogsRequest(execution_id="a", position=api.LogPosition(execution_id="b")), "position.executionId"),
        (api.FollowLogsRequest(job_id="a", tail=100_001), "tail"),
        (api.FollowLogsRequest(job_id="a", streams=[9]), "streams[0]"),  # type: ignore[list-item]
    ],
)
async def test_requests_that_are_wrong(gateway: Client, request_: api.FollowLogsRequest, field: str) -> None:
    stub: Any = LogServiceStub(gateway.channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.FollowLogs(request_).read()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field in str(caught.value.trailing_metadata())


# -------------------------------------------------------------------------------------------------------- slow readers


@pytest.mark.parametrize("path", ["stream?format=text", "stream?format=sse"])
async def test_a_reader_that_does_not_take_the_end_is_let_go(
    gateway: Client, job: Any, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    await end(gateway, job)
    monkeypatch.setattr(pace, "STALLED", 0.1)
    monkeypatch.setattr(pace, "_KEPT", 0.1)

    async def waits(_: web.StreamResponse) -> None:
        """As where the buffers on the way are full."""
        await asyncio.Event().wait()

    monkeypatch.setattr(web.StreamResponse, "write_eof", waits)
    response = await gateway.session.get(f"{gateway.url}{job['jobUrl']}/{path}")
    server = gateway.app._rest._server
    assert server is not None
    await eventually(lambda: gateway.app._rest._streams._inside == 0 and not server.connections)
    response.close()


async def test_a_reader_that_takes_nothing_is_let_go_and_the_others_are_not(
    start_gateway: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "STALLED", 3.0)
    monkeypatch.setattr(fakes, "CHUNK", 256 * 1024)
    gateway = await start_gateway(store_patience=10.0)
    job = await running(gateway)
    data = b"x" * (24 * 1024 * 1024)
    await gateway.store.write(job["executionId"], LogStream.STDOUT, data)
    size = len(OUT + data + ERR)
    headers = {"Accept": "text/event-stream"}
    async with aiohttp.ClientSession(read_bufsize=1024) as slow:
        # Neither is read: the buffers on the way are smaller than the output.
        stalled = await slow.get(f"{gateway.url}{job['jobUrl']}/stream", headers=headers)
        idle = await ws(gateway, f"{job['jobUrl']}/ws?binary=1", max_queue=1, ping_interval=None)
        reader = Reader()
        async with ws(gateway, f"{job['jobUrl']}/ws?binary=1", max_size=None) as socket:
            await read_socket(socket, reader, until=size)
            await eventually(lambda: gateway.store.open_readers == 1, 30)
            await end(gateway, job)
            await read_socket(socket, reader)
        assert reader.of(job, "STDOUT") == OUT + data
        # What was sent so far is there still, and the end that says where to go on.
        late = Reader()
        await closed(idle, late)
        assert idle.close_code == 1008
        assert (idle.close_reason or "").endswith(f"; from={job['executionId']}:{len(late.of(job, 'STDOUT'))}:0")
        stalled.close()


@pytest.mark.parametrize("path", ["stream", "stdout"])
async def test_what_a_reader_does_not_take_waits_in_the_store(
    start_gateway: Starter, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """gRPC would else fetch ten MiB and more for each reader ahead of it, into the gateway's memory."""
    monkeypatch.setattr(fakes, "CHUNK", 64 * 1024)
    gateway = await start_gateway(store_patience=10.0)
    job = await running(gateway)
    # A quick reader, as those before whom gRPC takes the link for one that needs much under way.
    await gateway.store.write(job["executionId"], LogStream.STDOUT, b"x" * (16 * 1024 * 1024))
    await end(gateway, job)
    await gateway.call("GET", f"{job['jobUrl']}/{path}")
    gateway.store.bytes_read = 0
    monkeypatch.setattr(pace, "STALLED", 1.0)
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    with socket_module.socket() as slow:
        slow.setsockopt(socket_module.SOL_SOCKET, socket_module.SO_RCVBUF, 2048)
        slow.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(slow, (host, int(port)))
        await loop.sock_sendall(slow, f"GET {job['jobUrl']}/{path} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        await eventually(lambda: gateway.store.bytes_read)
        await eventually(lambda: gateway.store.open_readers == 0, 30)
    # The kernel's own buffer has most of it.
    assert gateway.store.bytes_read < 4 * 1024 * 1024


async def test_a_reader_by_grpc_that_takes_nothing_is_let_go(
    start_gateway: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interceptor, "_STALLED", 3.0)
    monkeypatch.setattr(fakes, "CHUNK", 256 * 1024)
    gateway = await start_gateway(store_patience=10.0)
    job = await running(gateway)
    data = b"x" * (24 * 1024 * 1024)
    await gateway.store.write(job["executionId"], LogStream.STDOUT, data)
    stub: Any = LogServiceStub(gateway.channel)
    call = stub.FollowLogs(api.FollowLogsRequest(job_id=job["jobId"]))
    await eventually(lambda: gateway.store.open_readers == 1)
    await eventually(lambda: gateway.store.open_readers == 0, 30)
    got = 0
    with contextlib.suppress(grpc.aio.AioRpcError):
        async for event in call:
            assert event.HasField("attempt") or event.chunk.offset == got
            got += len(event.chunk.data)
    assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert got < len(data)


# ------------------------------------------------------------------------------------------------------ parts, as text


async def test_the_last_lines_as_text(gateway: Client, job: Any) -> None:
    for place in places(job):
        answer = await gateway.call("GET", f"{place}/stdout?tail=2")
        assert (answer.status, answer.body) == (200, b"\xff\x00three\r\nno end")
        assert answer.headers["X-EasyQ-State"] == "RUNNING"
    assert gateway.store.follows[-1].stored_only
    assert list(gateway.store.follows[-1].streams) == [LogStream.STDOUT]
    await end(gateway, job)
    live = await gateway.call("GET", f"{job['jobUrl']}/stream?tail=1")
    assert live.body == b"no end" + ERR
    assert not gateway.store.follows[-1].stored_only


async def test_since_a_time(gateway: Client, job: Any) -> None:
    await end(gateway, job)
    for text, seconds, ago in (
        ("10m", None, 600),
        ("1h30m", None, 5400),
        ("10m%20", None, 600),
        ("-5", -5, None),
        ("1.9e9", 1_900_000_000, None),
        ("1900000000", 1_900_000_000, None),
        ("2030-03-17T17:46:40Z", 1_900_000_000, None),
        ("2030-03-17T19:46:40+02:00", 1_900_000_000, None),
    ):
        assert (await gateway.call("GET", f"{job['jobUrl']}/logs?since={text}")).status == 200
        asked = gateway.store.follows[-1]
        assert (asked.since.seconds if asked.HasField("since") else None) == seconds
        assert (asked.since_ago.seconds if asked.HasField("since_ago") else None) == ago


async def test_times_before_lines(gateway: Client, job: Any) -> None:
    await end(gateway, job)
    answer = await gateway.call("GET", f"{job['jobUrl']}/logs?timestamps=1")
    lines = answer.body.split(b"\n")
    times = [line[:24].decode() for line in lines if line]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", time) for time in times)
    # What the other stream breaks is two lines.
    assert [line[25:] for line in lines] == [b"one", b"two", b"\xff\x00three\r", b"no end", b"oops", b""]
    assert gateway.store.follows[-1].timestamps


async def test_each_attempt_begins_a_line(gateway: Client, job: Any) -> None:
    second = await retry(gateway, job)
    await gateway.store.write(second, LogStream.STDOUT, b"again")
    await gateway.store.write(second, LogStream.STDERR, b", and ")
    await gateway.store.write(second, LogStream.STDERR, b"on")
    await gateway.store.move(second, Execution.SUCCEEDED, exit_code=0, logs_complete=True)
    told = await gateway.call("GET", f"{job['jobUrl']}/stream")
    assert told.body == OUT + ERR + b"again, and on"
    # Nor where it ends without a line's end.
    gateway.store.output[job["executionId"], LogStream.STDERR] = bytearray(b"oops")
    told = await gateway.call("GET", f"{job['jobUrl']}/stream")
    assert told.body == OUT + b"oops" + b"\n" + b"again, and on"


async def test_binary_frames_have_no_times(gateway: Client, job: Any) -> None:
    with pytest.raises(websockets.InvalidStatus) as refused:
        async with ws(gateway, f"{job['jobUrl']}/ws?binary=1&timestamps=1"):
            pass
    assert refused.value.response.status_code == 400
    assert b'"field": "timestamps"' in (refused.value.response.body or b"")


async def test_output_as_a_file(gateway: Client, job: Any) -> None:
    await end(gateway, job)
    name = f"{job['jobId']}-1"
    for path, what in (("stdout", "stdout"), ("stderr", "stderr"), ("logs", "logs"), ("stream", "stream")):
        for more in ("", "&tail=1"):
            answer = await gateway.call("GET", f"{job['jobUrl']}/{path}?download=1{more}")
            assert answer.headers["Content-Disposition"] == f'attachment; filename="{name}-{what}.log"'
    assert "Content-Disposition" not in (await gateway.call("GET", f"{job['jobUrl']}/logs?download=0")).headers


async def test_an_offset_goes_with_no_other_part(gateway: Client, job: Any) -> None:
    assert (await gateway.call("GET", f"{job['jobUrl']}/stdout?offset=1&tail=1")).status == 400


async def test_a_store_that_is_away_is_told_before_the_answer_begins(start_gateway: Starter) -> None:
    gateway = await start_gateway(stream_patience=0.1)
    job = await running(gateway)
    gateway.store.follow_error = Unavailable("gone")
    await gateway.store.move(job["executionId"], Execution.SUCCEEDED)
    gateway.store.cut_logs_after = 0
    answer = await gateway.call("GET", f"{job['jobUrl']}/stdout?tail=3")
    assert answer.status in {200, 503}


async def test_the_head_alone(gateway: Client, job: Any) -> None:
    for path, kind in (
        ("stream", "text/plain; charset=utf-8"),
        ("stream?format=sse", "text/event-stream; charset=utf-8"),
    ):
        answer = await gateway.call("HEAD", f"{job['jobUrl']}/{path}")
        assert (answer.status, answer.headers["Content-Type"], answer.body) == (200, kind, b"")
    assert gateway.store.open_readers == 0
