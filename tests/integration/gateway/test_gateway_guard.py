"""Who may ask, how much at once, and for how long."""

import asyncio
from typing import Any

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from easyq.v1 import job_service_pb2 as api
from easyq.v1.job_pb2 import Execution
from easyq.v1.job_service_pb2_grpc import JobServiceStub
from easyq.v1.spec_pb2 import JobSpec
from easyq_chassis.errors import Code
from easyq_chassis.status import from_rpc_error
from tests.integration.gateway.conftest import SPEC, Client, Starter
from tests.support.waiting import eventually

WEBSOCKET = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec_WebSocket_Version": "13",
    "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Host": "evil.example"},
        {"Host": "evil.example:10000", "Origin": "http://evil.example:10000"},
        {"Origin": "https://evil.example", **WEBSOCKET},
    ],
)
async def test_no_web_page_can_start_a_container(gateway: Client, headers: dict[str, str]) -> None:
    for method, path, body in (("POST", "/tasks/mail", SPEC), ("GET", "/jobs", None), ("GET", "/nope", None)):
        answer = await gateway.call(method, path, body, **headers)
        assert (answer.status, answer.error["code"], answer.error["reason"]) == (
            403,
            "PERMISSION_DENIED",
            "ORIGIN_NOT_ALLOWED",
        )
        assert "Access-Control-Allow-Origin" not in answer.headers
    assert gateway.store.submits == []


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_no_web_page_gets_in_without_its_name(gateway: Client, site: str) -> None:
    """A browser that names no origin says by Sec-Fetch-Site that the request is another page's."""
    job = (await gateway.enqueue())["jobId"]
    other = {"Sec_Fetch_Site": site, "Sec_Fetch_Mode": "no-cors"}
    for method, path in (
        ("POST", f"/jobs/{job}/stop"),
        ("DELETE", f"/jobs/{job}"),
        ("GET", f"/jobs/{job}/stream"),
        ("GET", f"/jobs/{job}/events"),
        ("GET", f"/jobs/{job}"),
    ):
        for dest in ("empty", "image", "iframe", "document") if method != "GET" else ("empty", "image", "iframe"):
            answer = await gateway.call(method, path, **other, Sec_Fetch_Dest=dest)
            assert (answer.status, answer.error["reason"]) == (403, "ORIGIN_NOT_ALLOWED"), (method, path, dest)
    assert gateway.store.wishes == 0
    # Somebody follows a link in a mail; a page of ours; typed into the address bar.
    link = {**other, "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    assert (await gateway.call("GET", f"/jobs/{job}", **link)).status == 200
    for own in ("same-origin", "none"):
        assert (await gateway.call("POST", f"/jobs/{job}/stop", Sec_Fetch_Site=own)).status == 200


async def test_preflights_are_refused(gateway: Client) -> None:
    asked = {"Origin": "https://evil.example", "Access_Control_Request_Method": "POST"}
    assert (await gateway.call("OPTIONS", "/tasks/mail", **asked)).status == 403
    own = await gateway.call("OPTIONS", "/tasks/mail", Origin=gateway.url, Access_Control_Request_Method="POST")
    assert own.status == 405
    assert not [name for name in own.headers if name.startswith("Access-Control")]


async def test_pages_of_the_operator(start_gateway: Starter) -> None:
    gateway = await start_gateway(allowed_origins="https://front.example", allowed_hosts="farm.example,other.example")
    front = {"Origin": "https://front.example", "Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "cors"}
    assert (await gateway.call("POST", "/tasks/mail", SPEC, **front)).status == 200
    assert (await gateway.call("POST", "/tasks/mail", SPEC, Host="farm.example")).status == 200
    assert (await gateway.call("POST", "/tasks/mail", SPEC, Host="evil.example")).status == 403


async def test_its_own_pages_pass(gateway: Client) -> None:
    assert (await gateway.call("POST", "/tasks/mail", SPEC, Origin=gateway.url)).status == 200


async def hold(gateway: Client, count: int) -> list[asyncio.Task[Any]]:
    """Requests that wait for the store's answer."""
    gateway.store.answering.clear()
    tasks = [asyncio.create_task(gateway.call("POST", "/tasks/mail", SPEC)) for _ in range(count)]
    await eventually(lambda: gateway.app._rest._requests._inside == count)
    return tasks


async def test_beyond_the_bound_429(start_gateway: Starter) -> None:
    gateway = await start_gateway(max_requests=3, store_patience=10)
    held = await hold(gateway, 3)
    answer = await gateway.call("POST", "/tasks/mail", SPEC)
    assert (answer.status, answer.error["code"], answer.error["reason"]) == (429, "RESOURCE_EXHAUSTED", "OVERLOADED")
    assert int(answer.headers["Retry-After"]) >= 1
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await JobServiceStub(gateway.channel).CreateJob(api.CreateJobRequest(task_id="t", spec=JobSpec(image="a")))
    told = from_rpc_error(error.value)
    assert (told.code, told.reason, told.retry_after) == (Code.RESOURCE_EXHAUSTED, "OVERLOADED", 1.0)
    # Whoever watches over it is answered all the same.
    assert (await gateway.call("GET", "/healthcheck")).status == 200
    gateway.store.answering.set()
    assert [(await task).status for task in held] == [200, 200, 200]
    assert (await gateway.call("POST", "/tasks/mail", SPEC)).status == 200


async def test_streams_have_a_bound_of_their_own(start_gateway: Starter) -> None:
    gateway = await start_gateway(max_streams=1)
    job = await gateway.enqueue()
    await gateway.store.move(job["executionId"], Execution.RUNNING)
    response = await gateway.session.get(f"{gateway.url}{job['jobUrl']}/stream")
    assert (await gateway.call("GET", f"{job['jobUrl']}/stdout")).status == 429
    assert (await gateway.call("GET", job["jobUrl"])).status == 200
    response.close()
    await eventually(lambda: gateway.app._rest._streams._inside == 0)
    assert (await gateway.call("GET", f"{job['jobUrl']}/stdout")).status == 200


async def test_a_request_that_takes_too_long(start_gateway: Starter) -> None:
    gateway = await start_gateway(request_timeout=0.3, store_patience=10)
    gateway.store.answering.clear()
    answer = await gateway.call("POST", "/tasks/mail", SPEC)
    assert (answer.status, answer.error["code"], answer.error["reason"]) == (
        504,
        "DEADLINE_EXCEEDED",
        "DEADLINE_EXCEEDED",
    )
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await JobServiceStub(gateway.channel).CreateJob(api.CreateJobRequest(task_id="t", spec=JobSpec(image="a")))
    assert from_rpc_error(error.value).code is Code.DEADLINE_EXCEEDED
    gateway.store.answering.set()


async def test_a_body_that_never_comes_counts_as_well(start_gateway: Starter) -> None:
    gateway = await start_gateway(request_timeout=0.3)
    host, _, port = gateway.app.rest_address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"POST /tasks/x HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    )
    assert (await reader.readline()).startswith(b"HTTP/1.1 504")
    writer.close()


async def connect(gateway: Client) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = gateway.app.rest_address.rpartition(":")
    return await asyncio.open_connection(host, int(port))


@pytest.mark.parametrize("beginning", [b"G", b"GET / HT", b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A"])
async def test_a_head_that_never_ends_is_not_waited_for(start_gateway: Starter, beginning: bytes) -> None:
    gateway = await start_gateway(head_timeout=0.2)
    reader, writer = await connect(gateway)
    writer.write(beginning)
    async with asyncio.timeout(10):
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.0 408 ")
    assert b"did not come within 0.2 s" in answer
    writer.close()


async def test_a_head_that_drips_in_gets_no_more_time(start_gateway: Starter) -> None:
    gateway = await start_gateway(head_timeout=0.3)
    reader, writer = await connect(gateway)

    async def drip() -> None:
        writer.write(b"GET / HTTP/1.1\r\nX-Fill: ")
        while True:
            writer.write(b"x")
            await asyncio.sleep(0.02)

    dripping = asyncio.create_task(drip())
    async with asyncio.timeout(10):
        assert (await reader.readline()).startswith(b"HTTP/1.0 408 ")
    dripping.cancel()
    writer.close()


async def test_the_next_head_of_a_connection_is_limited_as_well(start_gateway: Starter) -> None:
    gateway = await start_gateway(head_timeout=0.2)
    reader, writer = await connect(gateway)
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    await reader.readuntil(b"}\n")
    writer.write(b"GET")
    async with asyncio.timeout(10):
        assert (await reader.readline()).startswith(b"HTTP/1.0 408 ")
    writer.close()


async def test_the_limit_of_heads_touches_no_idle_connection_and_no_slow_body(start_gateway: Starter) -> None:
    gateway = await start_gateway(head_timeout=0.1)
    reader, writer = await connect(gateway)
    body = b'{"image": "busybox:1"}'
    head = b"POST /tasks/x HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    for _ in range(2):
        writer.write(head % len(body))
        for place in range(0, len(body), 8):
            await asyncio.sleep(0.1)
            writer.write(body[place : place + 8])
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        await reader.readuntil(b"}\n")
        # Some clients end a body so.
        writer.write(b"\r\n")
        await asyncio.sleep(0.3)
    writer.close()


async def test_a_head_behind_a_slow_request_does_not_cut_it_off(start_gateway: Starter) -> None:
    gateway = await start_gateway(head_timeout=0.1, store_patience=10)
    gateway.store.answering.clear()
    reader, writer = await connect(gateway)
    head = b"POST /tasks/x HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 22\r\n\r\n"
    writer.write(head + b'{"image": "busybox:1"}')
    await eventually(lambda: gateway.store.submits)
    writer.write(b"GET /")
    await asyncio.sleep(0.3)
    gateway.store.answering.set()
    async with asyncio.timeout(10):
        answers = await reader.read()
    assert answers.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.0 408 " in answers
    writer.close()


async def test_few_large_bodies_are_held_at_once(start_gateway: Starter) -> None:
    gateway = await start_gateway(max_large_bodies=1)
    host, _, port = gateway.app.rest_address.rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = b"POST /batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    writer.write(head % 2_000_000 + b"{")

    async def answer(status: int) -> bool:
        return (await gateway.call("POST", "/batch", b" " * 2_000_000)).status == status

    await eventually(lambda: answer(429))
    assert (await gateway.call("POST", "/batch", {"jobs": [{"taskId": "t", "spec": SPEC}]})).status == 200
    writer.close()
    await eventually(lambda: answer(400))


async def test_slow_bodies_keep_nobody_out_who_asks(start_gateway: Starter) -> None:
    gateway = await start_gateway(max_requests=1, max_bodies=2)
    host, _, port = gateway.app.rest_address.rpartition(":")
    writers = [(await asyncio.open_connection(host, int(port)))[1] for _ in range(2)]
    for writer in writers:
        writer.write(
            b"POST /tasks/x HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
        )

    async def refused() -> bool:
        return (await gateway.call("POST", "/tasks/mail", SPEC)).status == 429

    await eventually(refused)
    assert (await gateway.call("GET", "/tasks")).status == 200
    for writer in writers:
        writer.close()

    async def accepted() -> bool:
        return (await gateway.call("POST", "/tasks/mail", SPEC)).status == 200

    await eventually(accepted)


async def test_a_callers_own_deadline(gateway: Client) -> None:
    gateway.store.answering.clear()
    request = api.CreateJobRequest(task_id="t", spec=JobSpec(image="a"))
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await JobServiceStub(gateway.channel).CreateJob(request, timeout=0.2)
    assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    gateway.store.answering.set()
    await eventually(lambda: gateway.app._rest._requests._inside == 0)


@pytest.mark.parametrize(
    "method", ["easyq.v1.JobService/GetJob", "easyq.v1.LogService/ReadLogs", "grpc.health.v1.Health/Check"]
)
async def test_a_call_whose_message_never_comes_is_answered(start_gateway: Starter, method: str) -> None:
    gateway = await start_gateway(request_timeout=0.2)
    call: Any = gateway.channel.stream_stream(f"/{method}")()
    async with asyncio.timeout(10):
        assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert gateway.app._rest._requests._inside == gateway.app._rest._streams._inside == 0


async def test_a_call_that_ends_without_its_message(gateway: Client) -> None:
    for method in ("JobService/GetJob", "LogService/ReadLogs"):
        call: Any = gateway.channel.stream_stream(f"/easyq.v1.{method}")()
        await call.done_writing()
        assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_calls_without_their_messages_have_a_bound(start_gateway: Starter) -> None:
    gateway = await start_gateway(max_bodies=1)
    first: Any = gateway.channel.stream_stream("/easyq.v1.JobService/GetJob")()
    await first.wait_for_connection()

    async def refused() -> bool:
        second: Any = gateway.channel.stream_stream("/easyq.v1.JobService/GetJob")()
        await second.write(api.GetJobRequest(job_id="x").SerializeToString())
        return await second.code() is grpc.StatusCode.RESOURCE_EXHAUSTED

    await eventually(refused)
    first.cancel()


async def test_health_is_watched_through_the_guard(gateway: Client) -> None:
    stub: Any = health_pb2_grpc.HealthStub(gateway.channel)
    watch = stub.Watch(health_pb2.HealthCheckRequest())
    async with asyncio.timeout(10):
        while (await watch.read()).status != health_pb2.HealthCheckResponse.SERVING:
            pass
    watch.cancel()
