"""Bad input by REST: one clear refusal that names the fields, nothing stored, never a 5xx."""

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from easyq.v1.spec_pb2 import JobSpec
from tests.integration.gateway.conftest import SOON_GIVES_UP, SPEC, Answer, Client, Starter

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
        ({**SPEC, "cron": "* * * *"}, "spec.cron"),
        ({**SPEC, "cron": ""}, "spec.cron"),
        ({**SPEC, "cron": "x" * 257}, "spec.cron"),
        ({**SPEC, "cron": "@daily", "startIn": 5}, "spec.cron"),
        ({**SPEC, "cron": "@daily", "timeZone": "Mars/Olympus"}, "spec.timeZone"),
        ({**SPEC, "cron": "@daily", "overlap": "never"}, "spec.overlap"),
        ({**SPEC, "cron": "@daily", "misfire": 1}, "spec.misfire"),
        ({**SPEC, "cron": "@daily", "jitter": "25h"}, "spec.jitter"),
        ({**SPEC, "cron": "@daily", "misfireDeadline": 0.5}, "spec.misfireDeadline"),
        ({**SPEC, "cron": "@daily", "misfireDeadline": "366d"}, "spec.misfireDeadline"),
        ({**SPEC, "cron": "@daily", "endAt": 1}, "spec.endAt"),
        (
            {**SPEC, "cron": "@daily", "startAfter": "2035-01-02T00:00:00Z", "endAt": "2035-01-01T00:00:00Z"},
            "spec.endAt",
        ),
        ({**SPEC, "cron": "@daily", "startAfter": "2030-01-01"}, "spec.startAfter"),
        ({**SPEC, "cron": "@daily", "maxRuns": -1}, "spec.maxRuns"),
        ({**SPEC, "cron": "@daily", "maxRuns": 2**32}, "spec.maxRuns"),
        ({**SPEC, "timeZone": "UTC"}, "spec.timeZone"),
        ({**SPEC, "misfire": "ALL"}, "spec.misfire"),
        ({**SPEC, "misfireDeadline": 60}, "spec.misfireDeadline"),
        ({**SPEC, "startAfter": "2035-01-02T00:00:00Z"}, "spec.startAfter"),
        ({**SPEC, "endAt": "2035-01-02T00:00:00Z"}, "spec.endAt"),
        ({**SPEC, "maxRuns": 5}, "spec.maxRuns"),
        ({**SPEC, "agentLabels": {"": "x"}}, 'spec.agentLabels[""]'),
        ({**SPEC, "agentLabels": {"gpu": 1}}, 'spec.agentLabels["gpu"]'),
        ({**SPEC, "agentLabels": {f"l{i}": "" for i in range(17)}}, "spec.agentLabels"),
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


@pytest.mark.parametrize(("method", "path"), [("POST", "/tasks/mail"), ("PUT", "/tasks/mail/jobs/x")])
async def test_what_only_the_scheduler_knows_is_told_with_all_the_rest(gateway: Client, method: str, path: str) -> None:
    body = {"image": "A", "cron": "every day", "timeZone": "Mars/Olympus", "jitter": "2d", "maxRuns": "x", "nope": 1}
    wrong = {"spec.image", "spec.cron", "spec.timeZone", "spec.jitter", "spec.maxRuns", "spec.nope"}
    answer = await refused(gateway, method, path, body)
    assert set(answer.fields) == wrong
    # The cron is no text at all, so that another has to stand in for it; what follows from that is not told.
    answer = await refused(gateway, method, path, {**body, "cron": 5})
    assert set(answer.fields) == wrong
    assert answer.fields["spec.cron"] == "must be a string, not a number"


@SOON_GIVES_UP
async def test_a_scheduler_that_is_away_hides_nothing_that_is_known(gateway: Client) -> None:
    await gateway.behind.stop("scheduler0")
    answer = await refused(gateway, "POST", "/tasks/mail", {**SPEC, "cron": "@daily", "retries": -1})
    assert (answer.status, list(answer.fields)) == (400, ["spec.retries"])


async def test_schedules_of_a_batch(gateway: Client) -> None:
    """Those that are sound otherwise are refused by the scheduler that admits them; the others tell it all as well."""
    jobs = [
        {"taskId": "mail", "spec": {**SPEC, "cron": "every day", "timeZone": "Mars/Olympus"}},
        {"taskId": "mail", "spec": {**SPEC, "cron": "every day", "retries": -1}},
        {"taskId": "mail", "spec": {**SPEC, "cron": "@daily"}},
    ]
    results = (await gateway.post("/batch", {"jobs": jobs}))["results"]
    told = [{one["field"] for one in result["error"]["fields"]} for result in results[:2]]
    assert told == [
        {"jobs[0].spec.cron", "jobs[0].spec.timeZone"},
        {"jobs[1].spec.cron", "jobs[1].spec.retries"},
    ]
    assert results[0]["error"]["code"] == "INVALID_ARGUMENT"
    assert results[2]["job"]["jobId"] in gateway.store.jobs
    assert len(gateway.store.jobs) == 1


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("GET", "/jobs/x/schedule?next=-1", None, "next"),
        ("GET", "/jobs/x/schedule?next=1001", None, "next"),
        ("GET", "/jobs/x/schedule?next=few", None, "next"),
        ("DELETE", "/jobs/x?force=maybe", None, "force"),
        ("DELETE", "/tasks/x?force=2", None, "force"),
        ("POST", "/jobs/stop", {}, "selection"),
        ("POST", "/jobs/stop", {"selection": {}}, "selection"),
        ("POST", "/jobs/stop", {"selection": []}, "selection"),
        ("POST", "/jobs/stop", {"selection": {"taskId": "a"}, "dryRun": "yes"}, "dryRun"),
        ("POST", "/jobs/stop", {"selection": {"taskPattern": "("}}, "selection.taskPattern"),
        ("POST", "/jobs/stop", {"selection": {"taskPattern": "a" * 257}}, "selection.taskPattern"),
        ("POST", "/jobs/stop", {"selection": {"taskPattern": 5}}, "selection.taskPattern"),
        ("POST", "/jobs/stop", {"selection": {"state": ["GONE"]}}, "selection.state[0]"),
        ("POST", "/jobs/stop", {"selection": {"reason": ["GONE"]}}, "selection.reason[0]"),
        ("POST", "/jobs/stop", {"selection": {"label": ["a"]}}, "selection.label[0]"),
        ("POST", "/jobs/stop", {"selection": {"olderThan": "-5s"}}, "selection.olderThan"),
        ("POST", "/jobs/stop", {"selection": {"createdAfter": "now"}}, "selection.createdAfter"),
        ("POST", "/jobs/stop", {"selection": {"taskId": "a", "nope": 1}}, "selection.nope"),
        ("POST", "/errors/retry", {}, "selection"),
        ("POST", "/errors/retry", {"selection": {"state": ["FAILED", "RUNNING"]}}, "selection.state[1]"),
        ("POST", "/errors/retry", {"selection": {"taskPattern": "[z-a]"}}, "selection.taskPattern"),
        ("POST", "/errors/discard", {}, "selection"),
        ("POST", "/errors/discard", {"selection": {"state": ["SUCCEEDED"]}}, "selection.state[0]"),
        ("GET", "/errors?reason=GONE", None, "reason[0]"),
        ("GET", "/errors?label=a", None, "label[0]"),
        ("GET", "/errors?pageSize=0", None, "pageSize"),
        ("GET", "/errors?pageToken=x", None, "pageToken"),
        ("GET", "/errors?olderThan=5", None, "olderThan"),
        ("POST", "/agents/x/drain?deadline=soon", None, "deadline"),
        ("POST", "/agents/x/drain?deadline=31d", None, "deadline"),
        ("POST", "/agents/x/drain?deadline=1&deadline=2", None, "deadline"),
        ("POST", "/agents/x/cordon?deadline=5", None, "deadline"),
        ("POST", "/breakers/reset", {}, "kind"),
        ("POST", "/breakers/reset", {"kind": "IMAGE"}, "subject"),
        ("POST", "/breakers/reset", {"kind": "TASK", "subject": "a"}, "kind"),
        ("POST", "/breakers/reset", {"kind": "IMAGE", "subject": "a" * 513}, "subject"),
    ],
)
async def test_bad_requests_of_operators(gateway: Client, method: str, path: str, body: Any, field: str) -> None:
    answer = await refused(gateway, method, path, body)
    assert answer.status == 400
    assert field in answer.fields


@pytest.mark.parametrize(
    ("method", "path", "reason"),
    [
        *(("POST", f"/jobs/x/{verb}", "JOB_NOT_FOUND") for verb in ("pause", "resume", "trigger")),
        ("GET", "/jobs/x/schedule", "JOB_NOT_FOUND"),
        ("GET", "/jobs/x/explain", "JOB_NOT_FOUND"),
        ("DELETE", "/jobs/x", "JOB_NOT_FOUND"),
        ("DELETE", "/tasks/x", "TASK_NOT_FOUND"),
        ("GET", "/tasks/x/explain", "TASK_NOT_FOUND"),
        ("GET", "/pools/x/explain", "POOL_NOT_FOUND"),
        ("POST", "/agents/x/cordon", "AGENT_NOT_FOUND"),
        ("DELETE", "/agents/x/cordon", "AGENT_NOT_FOUND"),
        ("DELETE", "/agents/x/drain", "AGENT_NOT_FOUND"),
        ("POST", "/agents/x/drain", "AGENT_NOT_FOUND"),
        ("POST", "/agents/x/declare-dead", "AGENT_NOT_FOUND"),
    ],
)
async def test_what_operators_name_must_exist(gateway: Client, method: str, path: str, reason: str) -> None:
    answer = await refused(gateway, method, path)
    assert (answer.status, answer.error["reason"]) == (404, reason)


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
        ("GET", "/openapi.yaml", 404, "ROUTE_NOT_FOUND"),
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
