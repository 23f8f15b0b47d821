"""PUT: created, replaced, guarded by a revision; a marker keeps what is stored."""

from typing import Any

import pytest

from easyq.v1 import job_service_pb2 as api
from easyq.v1.job_service_pb2_grpc import JobServiceStub
from easyq.v1.spec_pb2 import JobSpec
from easyq_gateway.adapters.store import GrpcJobStore
from easyq_internal.store.v1.job_store_pb2 import NewJob, PutJobRequest
from tests.integration.gateway.conftest import SPEC, Client

URL = "/tasks/mail/jobs/nightly"


async def put(gateway: Client, query: str = "", **spec: Any) -> Any:
    answer = await gateway.call("PUT", URL + query, {**SPEC, **spec})
    assert answer.status == 200, answer
    return answer.json


async def test_created_then_replaced(gateway: Client) -> None:
    first = await put(gateway)
    assert (first["created"], first["job"]["revision"], first["job"]["jobId"]) == (True, 1, "nightly")
    same = await put(gateway)
    assert (same["created"], same["job"]["revision"]) == (False, 1)
    second = await put(gateway, image="busybox:2")
    assert (second["created"], second["job"]["revision"]) == (False, 2)
    assert second["job"]["spec"]["image"] == "busybox:2"
    assert (await gateway.get(URL))["revision"] == 2


async def test_what_was_shown_can_be_put(gateway: Client) -> None:
    first = await put(gateway, envs={"TOKEN": "t", "A": "1"}, metadata={"x": [1]}, backoff={"min": "2s"})
    again = await gateway.call("PUT", URL, first["job"]["spec"])
    assert (again.status, again.json["job"]["revision"]) == (200, 1)


@pytest.mark.parametrize(("revision", "status"), [(1, 200), (2, 409), (7, 409)])
async def test_a_revision_must_match(gateway: Client, revision: int, status: int) -> None:
    await put(gateway)
    answer = await gateway.call("PUT", f"{URL}?revision={revision}", {**SPEC, "image": "busybox:2"})
    assert answer.status == status
    if status == 409:
        assert (answer.error["code"], answer.error["reason"]) == ("ABORTED", "REVISION_MISMATCH")


async def test_an_id_belongs_to_one_task(gateway: Client) -> None:
    await put(gateway)
    answer = await gateway.call("PUT", "/tasks/other/jobs/nightly", SPEC)
    assert (answer.status, answer.error["code"], answer.error["reason"]) == (409, "FAILED_PRECONDITION", "JOB_EXISTS")


async def test_with_a_time_it_goes_to_a_scheduler(gateway: Client) -> None:
    await put(gateway, startIn="1h")
    assert gateway.behind.schedulers[0].admitted == ["nightly"]


async def test_a_marker_keeps_what_is_stored(gateway: Client) -> None:
    await put(gateway, envs={"TOKEN": "old", "URL": "x://u:p@h", "A": "1"})
    shown = await put(gateway, envs={"TOKEN": "[redacted]", "URL": "x://u:[redacted]@h", "A": "2"})
    assert shown["job"]["spec"]["envs"] == {"TOKEN": "[redacted]", "URL": "x://u:[redacted]@h", "A": "2"}
    stored = gateway.store.jobs["nightly"].spec.envs
    assert dict(stored) == {"TOKEN": "old", "URL": "x://u:p@h", "A": "2"}


async def test_a_marker_for_which_nothing_is_stored(gateway: Client) -> None:
    envs = {"TOKEN": "[redacted]"}
    for stored in (False, True):
        if stored:
            await put(gateway, envs={"A": "1"})
        answer = await gateway.call("PUT", URL, {**SPEC, "envs": envs})
        assert (answer.status, list(answer.fields)) == (400, ['spec.envs["TOKEN"]'])
    assert gateway.store.jobs["nightly"].revision == 1


async def test_a_marker_keeps_what_is_stored_at_that_moment(gateway: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another PUT between reading the stored value and writing it must not be undone."""
    await put(gateway, envs={"TOKEN": "first"})
    get_job = GrpcJobStore.get_job
    raced: list[bool] = []

    async def read_then_race(self: GrpcJobStore, request: Any) -> Any:
        job = await get_job(self, request)
        if not raced:
            raced.append(True)
            spec = JobSpec()
            spec.CopyFrom(job.spec)
            spec.envs["TOKEN"] = "second"
            gateway.store.put(PutJobRequest(job=NewJob(task_id="mail", job_id="nightly", spec=spec)))
        return job

    monkeypatch.setattr(GrpcJobStore, "get_job", read_then_race)
    await put(gateway, image="busybox:9", envs={"TOKEN": "[redacted]"})
    assert raced
    job = gateway.store.jobs["nightly"]
    assert (job.spec.image, job.spec.envs["TOKEN"], job.revision) == ("busybox:9", "second", 3)


async def test_by_grpc(gateway: Client) -> None:
    stub: Any = JobServiceStub(gateway.channel)
    request = api.PutJobRequest(task_id="mail", job_id="nightly", spec=JobSpec(image="a", envs={"TOKEN": "t"}))
    answer = await stub.PutJob(request)
    assert answer.created
    assert dict(answer.job.spec.envs) == {"TOKEN": "[redacted]"}


async def test_what_the_scheduler_refuses_itself_is_named_as_all_else(gateway: Client) -> None:
    gateway.behind.schedulers[0].refuses = "startAt"
    answer = await gateway.call("PUT", URL, {**SPEC, "startAt": 2_000_000_000})
    assert (answer.status, answer.fields) == (400, {"spec.startAt": "is refused by the test"})
