"""HTTP itself: connections, targets, heads, reflection of the gRPC side, the process."""

import asyncio
import http.client
import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.fakes.gateway import Behind
from tests.integration.gateway.conftest import SPEC, Client


async def exchange(gateway: Client, data: bytes) -> bytes:
    """What the server sends to raw bytes until it closes."""
    host, _, port = gateway.app.rest_address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(data)
    async with asyncio.timeout(20):
        told = await reader.read()
    writer.close()
    return told


async def test_a_connection_is_kept(gateway: Client) -> None:
    def talk() -> list[int]:
        host, _, port = gateway.app.rest_address.rpartition(":")
        connection = http.client.HTTPConnection(host, int(port))
        statuses = []
        for method, path, body in (
            ("POST", "/tasks/mail", json.dumps(SPEC)),
            ("GET", "/nope", None),
            ("POST", "/tasks/mail", "{"),
            ("GET", "/jobs", None),
        ):
            connection.request(method, path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            response.read()
            statuses.append(response.status)
            assert connection.sock is not None, "it was closed"
        return statuses

    assert await asyncio.to_thread(talk) == [200, 404, 400, 200]


async def test_requests_in_a_row_without_waiting(gateway: Client) -> None:
    one = b"GET /tasks HTTP/1.1\r\nHost: localhost\r\n"
    told = await exchange(gateway, (one + b"\r\n") * 2 + one + b"Connection: close\r\n\r\n")
    assert told.count(b"HTTP/1.1 200 OK") == 3


async def test_old_clients(gateway: Client) -> None:
    told = await exchange(gateway, b"GET /tasks HTTP/1.0\r\nHost: localhost\r\n\r\n")
    assert re.match(rb"HTTP/1\.[01] 200 ", told)


@pytest.mark.parametrize(
    "target", [b"http://localhost/tasks?pageSize=1", b"/tasks/?pageSize=1", b"/%74asks?pageSize=1"]
)
async def test_targets(gateway: Client, target: bytes) -> None:
    told = await exchange(gateway, b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert told.startswith(b"HTTP/1.1 200 ")


async def test_a_body_that_waits_for_leave(gateway: Client) -> None:
    """As curl does for large bodies."""
    host, _, port = gateway.app.rest_address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = json.dumps(SPEC).encode()
    writer.write(
        b"POST /tasks/mail HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body)
    )
    async with asyncio.timeout(20):
        assert await reader.readline() == b"HTTP/1.1 100 Continue\r\n"
        await reader.readline()
        writer.write(body)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    writer.close()


async def test_a_body_too_large_is_refused_before_it_comes(gateway: Client) -> None:
    head = (
        b"POST /tasks/mail HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n"
        b"Content-Length: 9999999\r\n\r\n"
    )
    told = await exchange(gateway, head)
    assert told.startswith(b"HTTP/1.1 413 ")
    assert b"100 Continue" not in told


@pytest.mark.parametrize("suffix", ["", "/"])
async def test_one_trailing_slash_changes_nothing(gateway: Client, suffix: str) -> None:
    answer = await gateway.post(f"/tasks/mail{suffix}", SPEC)
    for path in (answer["jobUrl"], answer["taskUrl"], answer["executionUrl"], "/status", "/healthcheck", "/jobs"):
        assert (await gateway.call("GET", path + suffix)).status == 200
    assert (await gateway.call("GET", answer["jobUrl"] + "//")).status == 404


async def test_encoded_slashes_are_a_part_of_the_id(gateway: Client) -> None:
    job = await gateway.enqueue()
    gateway.store.jobs["a/b"] = gateway.store.jobs.pop(job["jobId"])
    gateway.store.jobs["a/b"].job_id = "a/b"
    assert (await gateway.get("/jobs/a%2Fb"))["jobId"] == "a/b"
    assert (await gateway.get("/jobs/a%2fb/"))["jobId"] == "a/b"
    assert (await gateway.call("GET", "/jobs/a%252Fb")).status == 404
    assert (await gateway.call("GET", "/jobs/a/b")).error["reason"] == "ROUTE_NOT_FOUND"


async def test_the_head_of_what_can_be_read(gateway: Client) -> None:
    for path in ("/jobs", "/", "/healthcheck", "/status"):
        answer = await gateway.call("HEAD", path)
        assert (answer.status, answer.body) == (200, b"")
        assert int(answer.headers["Content-Length"]) > 0


async def test_headers_of_every_answer(gateway: Client) -> None:
    for path in ("/jobs", "/nope"):
        headers = (await gateway.call("GET", path)).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert headers["Server"] == "EasyQ"


async def test_the_root(gateway: Client) -> None:
    assert (await gateway.get("/"))["name"] == "EasyQ"


async def test_reflection(gateway: Client) -> None:
    """What grpcurl's `list` and `describe` ask for."""
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(gateway.channel)
    asked = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="easyq.v1.JobService"),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="easyq.v1.JobSpec"),
    ]
    listed, *files = [answer async for answer in stub.ServerReflectionInfo(iter(asked))]
    names = {service.name for service in listed.list_services_response.service}
    names_of_ours = ("Job", "Execution", "Task", "Farm", "Log", "Event", "Notification")
    ours = {f"easyq.v1.{name}Service" for name in names_of_ours}
    assert names == {*ours, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    assert all(answer.file_descriptor_response.file_descriptor_proto for answer in files)


async def test_the_process_starts_and_ends_in_order(tmp_path: Path) -> None:
    """`python -m easyq_gateway` with its settings from the environment and by flags."""
    behind = Behind(tmp_path)
    await behind.start_all()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "easyq_gateway", "--rest-listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0"),
        env={
            **os.environ,
            "EASYQ_GATEWAY_STORE": behind.addresses["store"],
            "EASYQ_GATEWAY_SCHEDULERS": behind.addresses["scheduler0"],
            "EASYQ_GATEWAY_DISPATCHERS": f"{behind.addresses['dispatcher0']}, {behind.addresses['dispatcher0']}",
            "EASYQ_GATEWAY_LOG_FORMAT": "json",
        },
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    address = ""
    async with asyncio.timeout(30):
        while not address:
            line = json.loads(await process.stderr.readline())
            assert line["service"] == "gateway"
            # The operations port is told likewise, with what it serves.
            address = line["address"] if line.get("protocol") == "http" and "serves" not in line else ""

    def ask() -> int:
        host, _, port = address.rpartition(":")
        connection = http.client.HTTPConnection(host, int(port))
        connection.request("POST", "/tasks/mail", json.dumps(SPEC), {"Content-Type": "application/json"})
        return connection.getresponse().status

    assert await asyncio.to_thread(ask) == 200
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(30):
        assert await process.wait() == 0
    await behind.stop_all()


async def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "easyq_gateway", "--max-requests", "none"), stderr=asyncio.subprocess.PIPE
    )
    _, told = await process.communicate()
    assert process.returncode == 2
    assert b"--max-requests (EASYQ_GATEWAY_MAX_REQUESTS)" in told
