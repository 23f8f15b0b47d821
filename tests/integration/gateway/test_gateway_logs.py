"""Output over HTTP and gRPC: whole, in part, live."""

import asyncio
from typing import Any

import aiohttp
import pytest

from easyq.v1 import log_service_pb2 as api
from easyq.v1.job_pb2 import Execution, Job, Trigger
from easyq.v1.log_service_pb2 import LogStream
from easyq.v1.log_service_pb2_grpc import LogServiceStub
from tests.integration.gateway.conftest import Client, Starter
from tests.support.waiting import eventually

OUT = bytes(range(256)) * 20
ERR = b"oops\n" * 300


@pytest.fixture
async def job(gateway: Client) -> Any:
    """A job that runs and has written OUT and ERR."""
    answer = await gateway.enqueue()
    await gateway.store.move(answer["executionId"], Execution.RUNNING)
    await gateway.store.write(answer["executionId"], LogStream.STDOUT, OUT)
    await gateway.store.write(answer["executionId"], LogStream.STDERR, ERR)
    return answer


async def end(gateway: Client, job: Any, state: Execution.State.ValueType = Execution.SUCCEEDED) -> None:
    await gateway.store.move(job["executionId"], state, exit_code=0, logs_complete=True)


def places(job: Any) -> list[str]:
    """Every path under which the output of the job's newest execution is found."""
    return [
        f"/jobs/{job['jobId']}",
        job["jobUrl"],
        f"/executions/{job['executionId']}",
        f"/jobs/{job['jobId']}/executions/{job['executionId']}",
        job["executionUrl"],
    ]


async def test_every_place_has_every_byte(gateway: Client, job: Any) -> None:
    for place in places(job):
        for stream, data in (("stdout", OUT), ("stderr", ERR)):
            answer = await gateway.call("GET", f"{place}/{stream}")
            assert (answer.status, answer.body) == (200, data)
            assert answer.headers["Content-Length"] == str(len(data))
            assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
            assert answer.headers["Accept-Ranges"] == "bytes"
        both = await gateway.call("GET", f"{place}/logs/")
        assert (both.status, both.body) == (200, OUT + ERR)


async def test_what_the_headers_tell(gateway: Client, job: Any) -> None:
    answer = await gateway.call("GET", f"{job['jobUrl']}/stdout")
    told = {name: answer.headers[f"X-EasyQ-{name}"] for name in ("Execution-Id", "State", "Logs-Complete", "Truncated")}
    assert told == {
        "Execution-Id": job["executionId"],
        "State": "RUNNING",
        "Logs-Complete": "false",
        "Truncated": "false",
    }
    gateway.store.executions[job["executionId"]].stderr_truncated = True
    await end(gateway, job)
    for stream, truncated in (("stdout", "false"), ("stderr", "true"), ("logs", "true")):
        answer = await gateway.call("GET", f"{job['jobUrl']}/{stream}")
        assert (answer.headers["X-EasyQ-Logs-Complete"], answer.headers["X-EasyQ-Truncated"]) == ("true", truncated)


@pytest.mark.parametrize(
    ("header", "first", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-2999", 100, 3000),
        ("bytes=5000-", 5000, 5120),
        ("bytes=-7", 5113, 5120),
        ("bytes=0-99999", 0, 5120),
    ],
)
async def test_ranges(gateway: Client, job: Any, header: str, first: int, stop: int) -> None:
    answer = await gateway.call("GET", f"{job['jobUrl']}/stdout", Range=header)
    assert (answer.status, answer.body) == (206, OUT[first:stop])
    assert answer.headers["Content-Range"] == f"bytes {first}-{stop - 1}/5120"
    assert answer.headers["Content-Length"] == str(stop - first)


@pytest.mark.parametrize("header", ["bytes=5-3", "items=0-1", "bytes=0-1,3-4", "nonsense"])
async def test_ranges_that_are_ignored(gateway: Client, job: Any, header: str) -> None:
    answer = await gateway.call("GET", f"{job['jobUrl']}/stdout", Range=header)
    assert (answer.status, answer.body) == (200, OUT)


async def test_ranges_behind_the_end(gateway: Client, job: Any) -> None:
    for path, headers in (
        (f"{job['jobUrl']}/stdout", {"Range": "bytes=5120-"}),
        (f"{job['jobUrl']}/stdout?offset=5121", {}),
    ):
        answer = await gateway.call("GET", path, **headers)
        assert (answer.status, answer.headers["Content-Range"]) == (416, "bytes */5120")
        assert answer.error["code"] == "INVALID_ARGUMENT"


async def test_from_an_offset(gateway: Client, job: Any) -> None:
    for offset in (0, 1, 2500, 5119, 5120):
        answer = await gateway.call("GET", f"{job['jobUrl']}/stdout?offset={offset}")
        assert (answer.status, answer.body) == (200, OUT[offset:])


@pytest.mark.parametrize(
    "query", ["offset=-1", "offset=x", "offset=", "offset=1&offset=2", "nope=1", "offset=9223372036854775808"]
)
async def test_offsets_that_are_none(gateway: Client, job: Any, query: str) -> None:
    answer = await gateway.call("GET", f"{job['jobUrl']}/stdout?{query}")
    assert (answer.status, list(answer.fields)) == (400, [query.partition("=")[0]])


async def test_both_ways_to_say_a_part(gateway: Client, job: Any) -> None:
    assert (await gateway.call("GET", f"{job['jobUrl']}/stdout?offset=1", Range="bytes=1-")).status == 400


async def test_the_head_alone(gateway: Client, job: Any) -> None:
    for stream, length in (("stdout", "5120"), ("stderr", "1500")):
        answer = await gateway.call("HEAD", f"{job['jobUrl']}/{stream}")
        assert (answer.status, answer.body, answer.headers["Content-Length"]) == (200, b"", length)
    assert (await gateway.call("HEAD", f"{job['jobUrl']}/logs")).status == 200


async def test_no_output_at_all(gateway: Client) -> None:
    job = await gateway.enqueue()
    for stream in ("stdout", "stderr", "logs"):
        answer = await gateway.call("GET", f"{job['jobUrl']}/{stream}")
        assert (answer.status, answer.body) == (200, b"")


async def test_a_store_that_restarts_amid_a_download(gateway: Client, job: Any) -> None:
    gateway.store.cut_logs_after = 2
    answer = await gateway.call("GET", f"{job['jobUrl']}/stdout")
    assert (answer.status, answer.body) == (200, OUT)
    assert gateway.store.cut_logs_after is None


async def test_a_download_that_can_not_be_completed_is_seen_to_be_cut(start_gateway: Starter) -> None:
    gateway = await start_gateway(stream_patience=0.2)
    job = await gateway.enqueue()
    await gateway.store.write(job["executionId"], LogStream.STDOUT, OUT)
    gateway.store.executions[job["executionId"]].stdout_bytes = 9999
    with pytest.raises(aiohttp.ClientPayloadError):
        await gateway.call("GET", f"{job['jobUrl']}/stdout")


# --------------------------------------------------------------------------------------------------------------- live


async def test_live_output_until_the_end(gateway: Client, job: Any) -> None:
    for place in places(job):
        seen = b""
        async with gateway.session.get(f"{gateway.url}{place}/stream") as response:
            assert response.status == 200
            while len(seen) < len(OUT + ERR):
                seen += await response.content.readany()
            assert seen == OUT + ERR
            break
    async with gateway.session.get(f"{gateway.url}{job['jobUrl']}/stream") as response:
        await response.content.readexactly(len(OUT + ERR))
        await gateway.store.write(job["executionId"], LogStream.STDOUT, b"more")
        assert await response.content.readexactly(4) == b"more"
        await end(gateway, job)
        assert await response.content.read() == b""


async def test_live_output_of_all_attempts(gateway: Client, job: Any) -> None:
    async with gateway.session.get(f"{gateway.url}{job['jobUrl']}/stream") as response:
        await response.content.readexactly(len(OUT + ERR))
        gateway.store.executions[job["executionId"]].state = Execution.FAILED
        gateway.store.jobs[job["jobId"]].state = Job.RETRYING
        second = gateway.store._attempt(gateway.store.jobs[job["jobId"]], "second", Trigger.RETRY)
        await gateway.store.write("second", LogStream.STDERR, b"again")
        assert await response.content.readexactly(5) == b"again"
        await gateway.store.move(second.execution_id, Execution.SUCCEEDED)
        assert await response.content.read() == b""


async def test_a_reader_that_leaves_is_let_go(gateway: Client, job: Any) -> None:
    response = await gateway.session.get(f"{gateway.url}{job['jobUrl']}/stream")
    await response.content.readexactly(len(OUT + ERR))
    assert gateway.store.open_readers == 1
    response.close()
    await eventually(lambda: gateway.store.open_readers == 0)


async def test_a_reader_by_grpc_that_leaves_is_let_go(gateway: Client, job: Any) -> None:
    stub: Any = LogServiceStub(gateway.channel)
    call = stub.ReadLogs(api.ReadLogsRequest(job_id=job["jobId"], follow=True))
    await call.read()
    call.cancel()
    await eventually(lambda: gateway.store.open_readers == 0)


async def test_streams_do_not_hold_up_the_end(start_gateway: Starter) -> None:
    gateway = await start_gateway(shutdown_grace=30.0)
    job = await gateway.enqueue()
    response = await gateway.session.get(f"{gateway.url}{job['jobUrl']}/stream")
    async with asyncio.timeout(20):
        await gateway.app._rest.stop(30.0)
    with pytest.raises(aiohttp.ClientError):
        await response.content.read()


async def read(gateway: Client, **request: Any) -> tuple[dict[int, bytes], list[api.LogEnd]]:
    """All that ReadLogs gives: bytes by stream, and the ends; checks that offsets follow each other."""
    stub: Any = LogServiceStub(gateway.channel)
    data: dict[int, bytes] = {}
    ends = []
    async for event in stub.ReadLogs(api.ReadLogsRequest(**request)):
        if event.HasField("end"):
            ends.append(event.end)
            continue
        chunk = event.chunk
        begin = request.get("stdout_offset", 0) if chunk.stream == LogStream.STDOUT else request.get("stderr_offset", 0)
        assert chunk.offset == begin + len(data.get(chunk.stream, b""))
        data[chunk.stream] = data.get(chunk.stream, b"") + chunk.data
    return data, ends


async def test_reading_by_grpc(gateway: Client, job: Any) -> None:
    await end(gateway, job)
    data, [last] = await read(gateway, execution_id=job["executionId"])
    assert data == {LogStream.STDOUT: OUT, LogStream.STDERR: ERR}
    assert (last.state, last.exit_code, last.job_ended) == ("SUCCEEDED", 0, True)
    only, _ = await read(gateway, execution_id=job["executionId"], streams=[LogStream.STDERR], stderr_offset=1490)
    assert only == {LogStream.STDERR: ERR[1490:]}
    whole, _ = await read(gateway, job_id=job["jobId"], follow=True)
    assert whole == data


@pytest.mark.parametrize("by", ["execution_id", "job_id"])
async def test_a_reader_survives_a_store_that_restarts(gateway: Client, job: Any, by: str) -> None:
    ids = {"execution_id": job["executionId"], "job_id": job["jobId"]}
    reading = asyncio.create_task(read(gateway, follow=True, **{by: ids[by]}))
    await eventually(lambda: gateway.store.open_readers == 1)
    await gateway.behind.stop("store")
    await gateway.store.write(job["executionId"], LogStream.STDOUT, b"while away")
    await gateway.behind.start("store")
    await eventually(lambda: gateway.store.open_readers == 1)
    await gateway.store.write(job["executionId"], LogStream.STDERR, b"afterwards")
    await end(gateway, job)
    data, ends = await asyncio.wait_for(reading, 30)
    assert data == {LogStream.STDOUT: OUT + b"while away", LogStream.STDERR: ERR + b"afterwards"}
    assert [one.state for one in ends] == ["SUCCEEDED"]


async def test_a_reader_gives_up_in_the_end(start_gateway: Starter) -> None:
    gateway = await start_gateway(stream_patience=0.3, store_patience=0.3)
    await gateway.behind.stop("store")
    stub: Any = LogServiceStub(gateway.channel)
    with pytest.raises(Exception, match="UNAVAILABLE"):
        await stub.ReadLogs(api.ReadLogsRequest(job_id="x")).read()


async def test_output_that_is_removed_while_it_is_read(gateway: Client, job: Any) -> None:
    """Never a short answer that looks like the whole one: an error with its reason, or where it began, a cut."""
    await end(gateway, job)
    output = gateway.store.output[job["executionId"], LogStream.STDOUT]
    del output[300:]
    with pytest.raises(aiohttp.ClientPayloadError):
        await gateway.call("GET", f"{job['jobUrl']}/stdout")
    output.clear()
    answer = await gateway.call("GET", f"{job['jobUrl']}/stdout")
    assert (answer.status, answer.error["code"]) == (409, "ABORTED")
    assert "removed while it was read" in answer.error["message"]
