"""Each wrong thing gets one clear refusal that names it, stores nothing, and is never a fault of ours."""

import json
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from easyq.v1 import job_service_pb2, spec_pb2
from easyq.v1.job_service_pb2_grpc import JobServiceStub
from tests.support.farm import Answer, Rest, UpFarm
from tests.support.hosts import EXAMPLE_IMAGE

GOOD: dict[str, Any] = {"image": EXAMPLE_IMAGE, "command": "true"}
TASK = "bad-input"

# (what is wrong, the field that must be named)
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"image": 5}, "image"),
    ({"image": ""}, "image"),
    ({"image": None}, "image"),
    ({"image": "with space"}, "image"),
    ({"image": "x" * 513}, "image"),
    ({"command": 5}, "command"),
    ({"command": "unclosed 'quote"}, "command"),
    ({"command": ["a", 5]}, "command[1]"),
    ({"command": ["nul\0"]}, "command[0]"),
    ({"command": ["x" * 131_072]}, "command[0]"),
    ({"command": {}}, "command"),
    ({"entrypoint": [None]}, "entrypoint[0]"),
    ({"envs": []}, "envs"),
    ({"envs": {"A": None}}, 'envs["A"]'),
    ({"envs": {"A": {}}}, 'envs["A"]'),
    ({"envs": {"A=B": "x"}}, 'envs["A=B"]'),
    ({"envs": {"": "x"}}, 'envs[""]'),
    ({"envs": {"EASYQ_FENCE": "9"}}, 'envs["EASYQ_FENCE"]'),
    ({"labels": {"easyq.x": "y"}}, 'labels["easyq.x"]'),
    ({"labels": {"-bad": "y"}}, 'labels["-bad"]'),
    ({"labels": {"a": 1}}, 'labels["a"]'),
    ({"metadata": []}, "metadata"),
    ({"metadata": {"n": 2**60}}, "metadata"),
    ({"startIn": "soon"}, "startIn"),
    ({"startIn": -1}, "startIn"),
    ({"startIn": "400000000s"}, "startIn"),
    ({"startIn": True}, "startIn"),
    ({"startAt": "2024-01-01T00:00:00"}, "startAt"),
    ({"startAt": "yesterday"}, "startAt"),
    ({"startAt": "2024-13-01T00:00:00Z"}, "startAt"),
    ({"startAt": 1, "startIn": 1}, "start"),
    ({"cron": "* * * *"}, "cron"),
    ({"cron": "0 0 30 2 *"}, "cron"),
    ({"cron": "@daily", "timeZone": "Mars/Olympus"}, "timeZone"),
    ({"cron": "@daily", "endAt": 1}, "endAt"),
    ({"cron": "61 * * * *"}, "cron"),
    ({"cron": "@sometimes"}, "cron"),
    ({"cron": "@every 0s"}, "cron"),
    ({"cron": 5}, "cron"),
    ({"cron": "@daily", "jitter": "2d"}, "jitter"),
    ({"cron": "@daily", "misfireDeadline": "0s"}, "misfireDeadline"),
    ({"cron": "@daily", "overlap": "SOMETIMES"}, "overlap"),
    ({"cron": "@daily", "misfire": "SOMETIMES"}, "misfire"),
    ({"cron": "@daily", "maxRuns": -1}, "maxRuns"),
    ({"cron": "@daily", "startAfter": "2030-01-02T00:00:00Z", "endAt": "2030-01-01T00:00:00Z"}, "endAt"),
    # No leap year.
    ({"cron": "0 0 29 2 *", "startAfter": "2030-01-01T00:00:00Z", "endAt": "2030-12-31T00:00:00Z"}, "startAfter"),
    ({"cron": "@daily", "startIn": "1s"}, "cron"),
    ({"overlap": "ALLOW"}, "overlap"),
    ({"misfire": "SKIP"}, "misfire"),
    ({"jitter": "1s"}, "jitter"),
    ({"maxRuns": 1}, "maxRuns"),
    ({"startAfter": "2040-01-01T00:00:00Z"}, "startAfter"),
    ({"endAt": "2040-01-01T00:00:00Z"}, "endAt"),
    ({"misfireDeadline": "5s"}, "misfireDeadline"),
    ({"agentLabels": {"-bad": "x"}}, 'agentLabels["-bad"]'),
    ({"agentLabels": {"zone": 1}}, 'agentLabels["zone"]'),
    ({"infraRetries": 101}, "infraRetries"),
    ({"backoff": {"maxElapsed": 0}}, "backoff.maxElapsed"),
    ({"maxRuns": 5}, "maxRuns"),
    ({"timeZone": "Europe/Berlin"}, "timeZone"),
    ({"retries": -1}, "retries"),
    ({"retries": 1001}, "retries"),
    ({"retries": 1.5}, "retries"),
    ({"retries": "x"}, "retries"),
    ({"retryOn": ["300-2"]}, "retryOn[0]"),
    ({"retryOn": ["never"]}, "retryOn[0]"),
    ({"backoff": {"factor": 0.5}}, "backoff.factor"),
    ({"backoff": {"jitter": 2}}, "backoff.jitter"),
    ({"backoff": {"min": "10s", "max": "1s"}}, "backoff"),
    ({"backoff": {"unknown": 1}}, "backoff.unknown"),
    ({"timeout": 0}, "timeout"),
    ({"timeout": "-5s"}, "timeout"),
    ({"stopGrace": "2h"}, "stopGrace"),
    ({"priority": 101}, "priority"),
    ({"priority": "high"}, "priority"),
    ({"pull": "SOMETIMES"}, "pull"),
    ({"pull": "UNSPECIFIED"}, "pull"),
    ({"onLost": 7}, "onLost"),
    ({"resources": {"cpus": -1}}, "resources.cpus"),
    ({"resources": {"memory": "5x"}}, "resources.memory"),
    ({"resources": {"memory": 1024}}, "resources.memory"),
    ({"resources": {"gpus": 65}}, "resources.gpus"),
    ({"workdir": "relative"}, "workdir"),
    ({"user": "a b"}, "user"),
    ({"mounts": [{"source": "/x"}]}, "mounts[0].target"),
    ({"mounts": [{"source": "relative", "target": "/x"}]}, "mounts[0].source"),
    ({"mounts": {}}, "mounts"),
    ({"platform": "LINUX"}, "platform"),
    ({"shmSize": -1}, "shmSize"),
    ({"logLimit": "11g"}, "logLimit"),
    ({"privileged": "yes"}, "privileged"),
    ({"devices": ["/etc/passwd"]}, "devices[0]"),
    ({"unknownField": 1}, "unknownField"),
    ({"depends_on": []}, "depends_on"),
    ({"envs": {"A": "\ud800"}}, 'envs["A"]'),
]


def refused(answer: Answer, status: int) -> dict[str, Any]:
    """Checks the one shape of refusals; what stands in `error`."""
    assert answer.status == status, answer
    assert answer.headers.get_content_type() == "application/json"
    assert len(answer.body) <= 8192
    error = answer.error
    assert set(error) == {"code", "reason", "message", "fields"}
    assert error["message"]
    assert "Traceback" not in error["message"]
    return error


@pytest.fixture(autouse=True)
def nothing_stored(farm: UpFarm, rest: Rest) -> Iterator[None]:
    yield
    assert rest.call("GET", f"/tasks/{TASK}").status == 404


@pytest.mark.parametrize(("wrong", "field"), WRONG, ids=[str(wrong)[:40] for wrong, _ in WRONG])
def test_a_wrong_field_is_named(farm: UpFarm, rest: Rest, wrong: dict[str, Any], field: str) -> None:
    answer = rest.call("POST", f"/tasks/{TASK}", {**GOOD, **wrong})
    error = refused(answer, 400)
    assert error["code"] == "INVALID_ARGUMENT"
    named = [item["field"] for item in error["fields"]]
    assert any(name.startswith(f"spec.{field}") for name in named), (named, error)
    assert all(len(item["message"]) <= 300 for item in error["fields"])


def test_all_errors_at_once(farm: UpFarm, rest: Rest) -> None:
    wrong = {"image": "", "retries": -1, "envs": {"A": []}, "nonsense": 1, "pull": "x"}
    named = rest.call("POST", f"/tasks/{TASK}", wrong).fields
    wanted = ["image", "retries", 'envs["A"]', "nonsense", "pull"]
    assert {f"spec.{field}" for field in wanted} <= set(named)
    many = {**GOOD, **{f"unknown{number}": 1 for number in range(100)}}
    assert len(refused(rest.call("POST", f"/tasks/{TASK}", many), 400)["fields"]) <= 16


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"5",
        b'"text"',
        b"null",
        b"\xff\xfe",
        b'{"image": NaN}',
        b'{"image": "a", "image": "b"}',
        b'{"image": "a", "retries": 1e999}',
        b'{"image": "a"} trailing',
        b'{"metadata": ' + b'{"a":' * 40 + b"1" + b"}" * 40 + b', "image": "a"}',
        b"[" * 100_000,
        b'{"stop_grace": 1, "stopGrace": 2, "image": "a"}',
    ],
    ids=lambda body: body[:25].decode("latin-1"),
)
def test_a_malformed_body(farm: UpFarm, rest: Rest, body: bytes) -> None:
    refused(rest.call("POST", f"/tasks/{TASK}", body), 400)


def test_a_body_that_is_too_large(farm: UpFarm, rest: Rest) -> None:
    body = json.dumps({**GOOD, "metadata": {"a": "x" * (1024 * 1024)}}).encode()
    assert refused(rest.call("POST", f"/tasks/{TASK}", body), 413)["reason"] == "TOO_LARGE"
    spec_too_large = {**GOOD, "metadata": {"a": "x" * (300 * 1024)}}
    refused(rest.call("POST", f"/tasks/{TASK}", spec_too_large), 400)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_a_body_of_another_kind(farm: UpFarm, rest: Rest, kind: str) -> None:
    answer = rest.call("POST", f"/tasks/{TASK}", json.dumps(GOOD).encode(), headers={"Content-Type": kind})
    assert refused(answer, 415)["reason"] == "UNSUPPORTED_MEDIA_TYPE"


@pytest.mark.parametrize("name", ["-x", ".x", "a%20b", "a%2Fb", "%00", "x" * 129, "%FF", "%E4"])
def test_a_wrong_task_name(farm: UpFarm, rest: Rest, name: str) -> None:
    answer = rest.call("POST", f"/tasks/{name}", GOOD)
    assert answer.status in {400, 404}, answer
    refused(answer, answer.status)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/jobs/nobody", 404),
        ("GET", "/tasks/nobody", 404),
        ("GET", "/tasks/nobody/jobs/ffffffffffffffffffffffff", 404),
        ("GET", "/executions/not-a-uuid", 400),
        ("GET", "/executions/00000000-0000-4000-8000-000000000000", 404),
        ("GET", "/jobs/nobody/stdout", 404),
        ("GET", "/jobs/nobody/executions/00000000-0000-4000-8000-000000000000/stdout", 404),
        ("GET", "/jobs/nobody/stream", 404),
        ("POST", "/jobs/nobody/stop", 404),
        ("POST", "/jobs/nobody/retry", 404),
        ("GET", "/agents/nobody", 404),
        ("GET", "/no/such/path", 404),
        ("GET", "//jobs", 404),
        ("DELETE", "/jobs", 405),
        ("PATCH", "/jobs/x", 405),
        ("GET", "/batch", 405),
        ("GET", "/jobs?pageSize=0", 400),
        ("GET", "/jobs?pageSize=1001", 400),
        ("GET", "/jobs?pageSize=x", 400),
        ("GET", "/jobs?pageToken=nonsense", 400),
        ("GET", "/jobs?state=NO_STATE", 400),
        ("GET", "/jobs?nonsense=1", 400),
        ("GET", "/jobs?createdAfter=yesterday", 400),
        ("GET", "/jobs?label=novalue", 400),
        ("GET", "/search", 400),
        ("GET", "/search?query=", 400),
        ("GET", f"/search?query={'x' * 257}", 400),
        ("GET", "/jobs/nobody?nonsense=1", 400),
        ("GET", "/jobs/nobody/stdout?nonsense=1", 400),
        ("PUT", f"/tasks/{TASK}/jobs/-bad", 400),
    ],
)
def test_wrong_paths_ids_and_queries(farm: UpFarm, rest: Rest, method: str, path: str, status: int) -> None:
    answer = rest.call(method, path, GOOD if method == "PUT" else None)
    refused(answer, status)
    if status == 405:
        assert answer.headers["Allow"]


def test_a_batch_refuses_only_what_is_wrong(farm: UpFarm, rest: Rest) -> None:
    """None of these is good: wrong items of a good batch are in test_batch."""
    jobs = [{"taskId": TASK, "spec": {**GOOD, "retries": -1}}, {"taskId": "-", "spec": GOOD}, {"taskId": TASK}, 5]
    results = rest.post("/batch", {"jobs": jobs})["results"]
    assert [result["index"] for result in results] == [0, 1, 2, 3]
    assert all(result["error"]["code"] == "INVALID_ARGUMENT" for result in results)
    bodies: list[dict[str, Any]] = [{"jobs": []}, {}, {"jobs": {}}, {"nonsense": []}]
    for body in bodies:
        refused(rest.call("POST", "/batch", body), 400)


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        (spec_pb2.JobSpec(), "spec.image"),
        (spec_pb2.JobSpec(image="x", retries=5000), "spec.retries"),
        (spec_pb2.JobSpec(image="x", command=["a\0"]), "spec.command[0]"),
        (spec_pb2.JobSpec(image="x", cron="* * * *"), "spec.cron"),
        (spec_pb2.JobSpec(image="x", cron="@daily", time_zone="Mars/Olympus"), "spec.timeZone"),
        (spec_pb2.JobSpec(image="x", cron="61 * * * *", time_zone="Mars/Olympus"), "spec.cron"),
        (spec_pb2.JobSpec(image="x", cron="61 * * * *", time_zone="Mars/Olympus"), "spec.timeZone"),
        (spec_pb2.JobSpec(image="x", max_runs=1), "spec.maxRuns"),
        (spec_pb2.JobSpec(image="x", agent_labels={"-bad": "x"}), 'spec.agentLabels["-bad"]'),
        (spec_pb2.JobSpec(image="x", envs={"EASYQ_X": "1"}), 'spec.envs["EASYQ_X"]'),
    ],
)
def test_the_same_by_grpc(farm: UpFarm, spec: spec_pb2.JobSpec, field: str) -> None:
    code, violations = _create(farm, job_service_pb2.CreateJobRequest(task_id=TASK, spec=spec))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert field in violations


def test_unknown_fields_by_grpc(farm: UpFarm) -> None:
    request = job_service_pb2.CreateJobRequest(task_id=TASK, spec=spec_pb2.JobSpec(image="x"))
    request.spec.MergeFromString(b"\xb8\x7d\x01")  # field 2007, a varint
    code, _ = _create(farm, request)
    assert code == grpc.StatusCode.INVALID_ARGUMENT


def test_three_hundred_wrong_fields_by_grpc(farm: UpFarm) -> None:
    """Answers over 16 KiB of metadata would come back as RESOURCE_EXHAUSTED."""
    spec = spec_pb2.JobSpec(image="x", labels={f"-{'x' * 100}{number}": "v" for number in range(60)})
    spec.command.extend(["\0"] * 300)
    code, violations = _create(farm, job_service_pb2.CreateJobRequest(task_id=TASK, spec=spec))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert 0 < len(violations) <= 16


def _create(farm: UpFarm, request: job_service_pb2.CreateJobRequest) -> tuple[grpc.StatusCode, list[str]]:
    """The code of the refusal and the fields that it names."""
    with grpc.insecure_channel(farm.grpc_address) as channel, pytest.raises(grpc.RpcError) as caught:
        JobServiceStub(channel).CreateJob(request, timeout=10)
    metadata: dict[str, Any] = dict(caught.value.trailing_metadata())  # type: ignore[arg-type]
    status = status_pb2.Status.FromString(metadata["grpc-status-details-bin"])
    bad, info = error_details_pb2.BadRequest(), error_details_pb2.ErrorInfo()
    for detail in status.details:
        detail.Unpack(bad)
        detail.Unpack(info)
    assert info.domain == "easyq"
    return caught.value.code(), [violation.field for violation in bad.field_violations]
