"""Faults of the gateway's own are told to error handlers; its answers to callers, and faults of others, are not."""

import json
from collections.abc import Iterator
from typing import Any

import grpc.aio
import pytest

from easyq.v1 import job_service_pb2 as api
from easyq.v1.job_service_pb2_grpc import JobServiceStub
from easyq_chassis import error_reports
from easyq_gateway.config import GatewaySettings
from easyq_gateway.usecases.presenting import Presenter
from tests.integration.gateway.conftest import Client
from tests.support.sentry import Sentry, sentry
from tests.support.waiting import eventually

CANARY = "c4n4ry0a1b2c3d"


@pytest.fixture
def server() -> Iterator[Sentry]:
    with sentry() as made:
        error_reports.configure("gateway", GatewaySettings.model_validate({"sentry_dsn": made.dsn}))
        yield made
        error_reports.close(5)


async def test_faults_are_told_with_route_and_ids(
    server: Sentry, gateway: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError(f"{{'envs': {{'API_TOKEN': '{CANARY}'}}}}")

    job = await gateway.enqueue(envs={"API_TOKEN": CANARY})
    monkeypatch.setattr(Presenter, "job", broken)
    monkeypatch.setattr(gateway.store, "task", broken)
    # None of it is a fault of the gateway's: a wrong request, what there is not, a fault of the store's.
    assert (await gateway.call("POST", "/tasks/mail", {"image": 3})).status == 400
    assert (await gateway.call("GET", "/nothing")).status == 404
    assert (await gateway.call("GET", "/tasks/x")).status == 500
    by_task, by_job = f"/tasks/mail/jobs/{job['jobId']}", f"/jobs/{job['jobId']}"
    for path in (by_task, by_job):
        assert (await gateway.call("GET", path, cookie=f"token={CANARY}")).status == 500
    with pytest.raises(grpc.aio.AioRpcError):
        await JobServiceStub(gateway.channel).GetJob(api.GetJobRequest(task_id="mail", job_id=job["jobId"]))
    # The store is a fake in this process, whose fault is told by the same reporter.
    await eventually(lambda: len({event["transaction"] for event in server.events}) >= 4, 60)

    events = {event["transaction"]: event for event in server.events}
    ids = {"task": "mail", "job": job["jobId"]}
    assert ids.items() <= events["GET /tasks/{task_id}/jobs/{job_id}"]["tags"].items()
    assert events["GET /jobs/{job_id}"]["tags"]["job"] == job["jobId"]
    assert ids.items() <= events["/easyq.v1.JobService/GetJob"]["tags"].items()
    assert any("store.v1" in place for place in events)
    assert CANARY not in json.dumps(server.events)
    assert CANARY.encode() not in server.texts()
