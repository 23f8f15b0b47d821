"""Bad input by REST: one clear refusal that names the fields, nothing stored, never a 5xx."""

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from easyq.v1.spec_pb2 import JobSpec
from tests.integration.gateway.conftest import SPEC, Answer, Client, Starter

SHELL_OR_LIST = {"command", "entrypoint"}
DURATIONS = {"google.protobuf.Duration", "google.protobuf.Timestamp"}


def wrong_types(descriptor: Descriptor, path: str) -> Iterator[tuple[str, Any]]:
    """Each field of the spec with values of every kind of JSON that it doesn't take, as (path, value)."""
    for field in descriptor.fields:
        taken = kinds(field)
        for kind, value in {"object": {"x": 1}, "list": [[1]], "number": 1.25, "string": "?", "boolean": True}.items():
            if kind not in taken:
                yield f"{path}.{field.json_name}", value
        below = field.message_type
        if below is not None and below.full_name.startswith("easyq.") and not below.GetOptions().map_entry:
            index = "[0]" if field.is_repeated else ""
            yield from wrong_types(below, f"{path}.{field.json_name}{index}")


def kinds(field: FieldDescriptor) -> set[str]:
    message = field.message_type
    if message is not None and message.GetOptions().map_entry:
        return {"object"}
    if field.is_repeated:
        return {"list", "string"} if field.name in SHELL_OR_LIST else {"list"}
    if message is not None:
        return {"number"} if message.full_name in DURATIONS else {"object"}
    if field.type == FieldDescriptor.TYPE_STRING:
        return {"string"}
    if field.type == FieldDescriptor.TYPE_BOOL:
        return {"boolean"}
    return {"number"} if field.type == FieldDescriptor.TYPE_DOUBLE else set()


def body_with(path: str, value: Any) -> dict[str, Any]:
    """A body that has `value` at `path`, and is sound but for it."""
    for part in reversed(path.removeprefix("spec.").split(".")):
        name, bracket, _ = part.partition("[")
        value = {name: [value] if bracket else value}
    return {**SPEC, **value}


async def refused(gateway: Client, method: str, path: str, body: object = None, **headers: str) -> Answer:
    """The answer to a bad request: a 4xx in the one shape, after which nothing is stored."""
    answer = await gateway.call(method, path, body, **headers)
    assert 400 <= answer.status < 500, answer
    assert answer.error["message"]
    assert "Traceback" not in answer.body.decode()
    assert gateway.store.submits == []
    assert gateway.store.jobs == {}
    return answer


async def test_every_field_refuses_every_wrong_type(gateway: Client) -> None:
    cases = list(wrong_types(JobSpec.DESCRIPTOR, "spec"))
    assert len(cases) > 150
    for path, value in cases:
        answer = await refused(gateway, "POST", "/tasks/mail", body_with(path, value))
        assert answer.status == 400, (path, value)
        wrong = set(answer.fields)
        assert any(one == path or one.startswith((path + "[", path + ".")) for one in wrong), (path, value, wrong)


async def test_every_level_refuses_unknown_names(gateway: Client) -> None:
    for path in ("spec.nope", "spec.backoff.nope", "spec.resources.nope", "spec.mounts[0].nope"):
        answer = await refused(gateway, "POST", "/tasks/mail", body_with(path, 1))
        assert path in answer.fields


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"command": "true"}, "spec.image"),
        ({**SPEC, "image": ""}, "spec.image"),
        ({**SPEC, "image": "Not An Image"}, "spec.image"),
        ({**SPEC, "command": "echo 'open"}, "spec.command"),
        ({**SPEC, "command": ["x" * 131_072]}, "spec.command[0]"),
        ({**SPEC, "envs": {"A=B": 1}}, 'spec.envs["A=B"]'),
        ({**SPEC, "envs": {"EASYQ_FENCE": 1}}, 'spec.envs["EASYQ_FENCE"]'),
        ({**SPEC, "envs": {"A": "x" * 131_070}}, 'spec.envs["A"]'),
        ({**SPEC, "retries": 1001}, "spec.retries"),
        ({**SPEC, "retries": -1}, "spec.retries"),
        ({**SPEC, "priority": 101}, "spec.priority"),
        ({**SPEC, "retryOn": ["300"]}, "spec.retryOn[0]"),
        ({**SPEC, "backoff": {"min": "10s", "max": "5s"}}, "spec.backoff.max"),
        ({**SPEC, "timeout": 0}, "spec.timeout"),
        ({**SPEC, "timeout": "20y"}, "spec.timeout"),
        ({**SPEC, "stopGrace": "2h"}, "spec.stopGrace"),
        ({**SPEC, "startAt": 1, "startIn": 1}, "spec.startIn"),
        ({**SPEC, "startAt": "2090-01-01T00:00:00Z"}, "spec.startAt"),
        ({**SPEC, "cron": "* * * * *"}, "spec.cron"),
        ({**SPEC, "jitter": 5}, "spec.jitter"),
        ({**SPEC, "overlap": "allow"}, "spec.overlap"),
        ({**SPEC, "resources": {"memory": "1m"}}, "spec.resources.memory"),
        ({**SPEC, "mounts": [{"target": "/a"}]}, "spec.mounts[0].source"),
        ({**SPEC, "labels": {"easyq.x": "1"}}, 'spec.labels["easyq.x"]'),
        ({**SPEC, "metadata": {"a": 2**53 + 1}}, 'spec.metadata["a"]'),
        ({**SPEC, "envs": {f"A{i}": "x" * 100_000 for i in range(3)}}, "spec"),
    ],
)
async def test_values_out_of_range(gateway: Client, body: Any, field: str) -> None:
    answer = await refused(gateway, "POST", "/tasks/mail", body)
    assert answer.status == 400
    assert list(answer.fields) == [field]


async def test_all_errors_of_codec_schema_and_domain_at_once(gateway: Client) -> None:
    body = {"image": "A", "nope": 1, "retries": 5000, "envs": {"A": None}, "resources": {"memory": 5}, "priority": "x"}
    answer = await refused(gateway, "POST", "/tasks/not%20good?alsoNot=1", body)
    assert set(answer.fields) == {
        "taskId",
        "alsoNot",
        "spec.image",
        "spec.nope",
        "spec.retries",
        'spec.envs["A"]',
        "spec.resources.memory",
        "spec.priority",
    }
    assert answer.error["message"] == "8 fields are wrong"


async def test_many_and_long_errors_are_cut(gateway: Client) -> None:
    answer = await refused(gateway, "POST", "/tasks/mail", {f"{i}é" * 300: i for i in range(200)})
    assert 1 <= len(answer.fields) <= 16
    assert answer.error["message"].startswith("201 fields are wrong; the first")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "MALFORMED_BODY"),
        (b"{", "MALFORMED_BODY"),
        (b"[]", "MALFORMED_BODY"),
        (b"null", "MALFORMED_BODY"),
        (b'"x"', "MALFORMED_BODY"),
        (b"5", "MALFORMED_BODY"),
        (b'{"image": "\xff"}', "MALFORMED_BODY"),
        (b'{"image": "a"} {"image": "b"}', "MALFORMED_BODY"),
        (b"[" * 100_000, "MALFORMED_BODY"),
        (b'{"image": "a", "image": "b"}', "INVALID_FIELDS"),
        (b'{"image": "a", "priority": NaN}', "INVALID_FIELDS"),
        (b'{"image": "a\\ud800"}', "INVALID_FIELDS"),
        (b'{"image": "a", "metadata": ' + b'{"a":' * 40 + b"1" + b"}" * 41, "INVALID_FIELDS"),
    ],
)
async def test_malformed_bodies(gateway: Client, body: bytes, reason: str) -> None:
    answer = await refused(gateway, "POST", "/tasks/mail", body)
    assert (answer.status, answer.error["code"], answer.error["reason"]) == (400, "INVALID_ARGUMENT", reason)


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/json; charset=latin-1"],
)
async def test_bodies_of_other_types(gateway: Client, content_type: str) -> None:
    answer = await refused(gateway, "POST", "/tasks/mail", json.dumps(SPEC).encode(), Content_Type=content_type)
    assert (answer.status, answer.error["reason"]) == (415, "UNSUPPORTED_MEDIA_TYPE")


async def test_compressed_bodies(gateway: Client) -> None:
    answer = await refused(gateway, "POST", "/tasks/mail", json.dumps(SPEC).encode(), Content_Encoding="gzip")
    assert (answer.status, answer.error["reason"]) == (415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize("content_type", ["application/json", "APPLICATION/JSON", "application/json; charset=UTF-8"])
async def test_bodies_of_this_type(gateway: Client, content_type: str) -> None:
    assert (await gateway.call("POST", "/tasks/mail", SPEC, Content_Type=content_type)).status == 200


async def test_a_body_that_is_too_large(gateway: Client) -> None:
    answer = await refused(gateway, "POST", "/tasks/mail", b'{"image": "' + b"a" * 1024 * 1024 + b'"}')
    assert (answer.status, answer.error["reason"]) == (413, "TOO_LARGE")


async def test_a_body_that_turns_out_too_large(start_gateway: Starter) -> None:
    """Without a length: it is counted while it comes."""
    gateway = await start_gateway(max_body=2000)

    async def endless() -> Any:
        for _ in range(100):
            yield b" " * 100

    async with gateway.session.post(
        f"{gateway.url}/tasks/mail", data=endless(), headers={"Content-Type": "application/json"}
    ) as response:
        assert response.status == 413
        assert (await response.json())["error"]["reason"] == "TOO_LARGE"
    assert gateway.store.submits == []


async def test_a_batch_has_a_bound_of_its_own(start_gateway: Starter) -> None:
    gateway = await start_gateway(max_body=2000, max_batch_body=4000)
    body = {"jobs": [{"taskId": "t", "spec": {**SPEC, "envs": {"A": "x" * 3000}}}]}
    assert (await gateway.call("POST", "/batch", body)).status == 200
    assert (await gateway.call("POST", "/batch", b" " * 4001)).status == 413
    assert (await gateway.call("POST", "/tasks/mail", b" " * 2001)).status == 413


ID = "5b8db248edc7d584132a6d4d"
EXECUTION = "77cfabbb-1864-4073-afe7-0efe01014754"


@pytest.mark.parametrize(
    ("method", "path", "status", "reason"),
    [
        ("GET", "/tasks/nope", 404, "TASK_NOT_FOUND"),
        ("GET", "/tasks/%C3%A9%20x", 404, "TASK_NOT_FOUND"),
        ("GET", f"/jobs/{ID}", 404, "JOB_NOT_FOUND"),
        ("GET", f"/tasks/t/jobs/{ID}", 404, "JOB_NOT_FOUND"),
        ("GET", "/jobs/a%2Fb", 404, "JOB_NOT_FOUND"),
        ("POST", f"/jobs/{ID}/stop", 404, "JOB_NOT_FOUND"),
        ("POST", f"/jobs/{ID}/retry", 404, "JOB_NOT_FOUND"),
        ("GET", f"/executions/{EXECUTION}", 404, "EXECUTION_NOT_FOUND"),
        ("GET", "/executions/nope", 400, "INVALID_FIELDS"),
        ("POST", "/executions/nope/stop", 400, "INVALID_FIELDS"),
        ("POST", f"/executions/{EXECUTION}/stop", 404, "EXECUTION_NOT_FOUND"),
        ("GET", f"/jobs/{ID}/stdout", 404, "JOB_NOT_FOUND"),
        ("GET", f"/jobs/{ID}/stream", 404, "JOB_NOT_FOUND"),
        ("GET", f"/executions/{EXECUTION}/logs", 404, "EXECUTION_NOT_FOUND"),
        ("GET", "/executions/nope/stderr", 400, "INVALID_FIELDS"),
        ("GET", "/agents/nope", 404, "AGENT_NOT_FOUND"),
        ("GET", "/search", 400, "INVALID_FIELDS"),
        ("GET", "/search?query=" + "x" * 257, 400, "INVALID_FIELDS"),
        ("GET", "/jobs?state=nope", 400, "INVALID_FIELDS"),
        ("GET", "/jobs?pageSize=0", 400, "INVALID_FIELDS"),
        ("GET", "/jobs?pageToken=nope", 400, "INVALID_FIELDS"),
        ("GET", "/jobs?label=nope", 400, "INVALID_FIELDS"),
        ("GET", "/jobs?createdAfter=nope", 400, "INVALID_FIELDS"),
        ("GET", "/jobs?%ff=1", 400, "INVALID_FIELDS"),
        ("GET", "/jobs/%ff", 400, "INVALID_FIELDS"),
        ("GET", "/jobs/%00", 400, "INVALID_FIELDS"),
        ("GET", "/tasks?task_id=x", 400, "INVALID_FIELDS"),
        ("GET", "/?x=1", 400, "INVALID_FIELDS"),
        ("PUT", "/tasks/t/jobs/bad%20id", 400, "INVALID_FIELDS"),
        ("GET", "/nope", 404, "ROUTE_NOT_FOUND"),
        ("GET", "/tasks//jobs", 404, "ROUTE_NOT_FOUND"),
        ("GET", "/openapi.json", 404, "ROUTE_NOT_FOUND"),
        ("DELETE", "/tasks", 405, "METHOD_NOT_ALLOWED"),
        ("PUT", "/tasks/t", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/batch", 405, "METHOD_NOT_ALLOWED"),
        ("OPTIONS", "/tasks/t", 405, "METHOD_NOT_ALLOWED"),
        ("PROPFIND", "/tasks/t", 405, "METHOD_NOT_ALLOWED"),
    ],
)  # fmt: skip
async def test_wrong_ids_paths_and_methods(gateway: Client, method: str, path: str, status: int, reason: str) -> None:
    answer = await refused(gateway, method, path, SPEC if method == "PUT" else None)
    assert (answer.status, answer.error["reason"]) == (status, reason)
    if status == 405:
        assert answer.headers["Allow"]
    if reason == "INVALID_FIELDS" and "%ff" not in path:
        assert answer.fields


async def test_a_job_of_another_task(gateway: Client) -> None:
    answer = await gateway.enqueue("mail")
    for path in ("", "/stdout", "/executions/" + answer["executionId"]):
        assert (await gateway.call("GET", f"/tasks/other/jobs/{answer['jobId']}{path}")).status == 404
    assert (await gateway.call("POST", f"/tasks/other/jobs/{answer['jobId']}/stop")).status == 404


@pytest.mark.parametrize(("body", "status"), [(b"", 200), (b"{}", 200), (b'{"x": 1}', 400), (b"[]", 400), (b"{", 400)])
async def test_a_call_without_a_body_takes_none(gateway: Client, body: bytes, status: int) -> None:
    answer = await gateway.enqueue()
    assert (await gateway.call("POST", answer["jobUrl"] + "/stop", body)).status == status


async def test_what_is_no_http(gateway: Client) -> None:

    host, _, port = gateway.app.rest_address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /tasks/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: banana\r\n\r\n")
    told = await reader.read()
    writer.close()
    head, _, body = told.partition(b"\r\n\r\n")
    assert re.match(rb"HTTP/1\.[01] 400 ", head)
    assert json.loads(body)["error"]["reason"] == "MALFORMED_BODY"
    assert b"banana" not in told
