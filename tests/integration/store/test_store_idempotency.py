"""Idempotency keys under load (hashicorp/nomad#26690), on both databases, over sockets."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from easyq.v1.execution_service_pb2 import ListExecutionsRequest
from easyq.v1.job_service_pb2 import ListJobsRequest
from easyq_chassis.channel import open_channel
from easyq_internal.store.v1 import job_store_pb2 as job_pb
from easyq_store.app import App
from easyq_store.config import StoreSettings
from tests.integration.store.conftest import Client, new_job

CALLERS = 8
CALLS = 1_000


@pytest.fixture(params=["sqlite", "mongo"])
async def address(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """Where a store on that database serves."""
    database = f"sqlite:///{tmp_path}/store.db" if request.param == "sqlite" else request.getfixturevalue("mongo_url")
    app = App(StoreSettings.model_validate({"listen": "127.0.0.1:0", "database": database}))
    await app.start()
    yield app.address
    await app.stop()


@pytest.fixture
async def callers(address: str) -> AsyncIterator[list[Client]]:
    """Clients with connections of their own, as of several gateways."""
    made = [Client(open_channel(address)) for _ in range(CALLERS)]
    yield made
    for client in made:
        await client.close()


@pytest.mark.parametrize("cron", ["", "@daily"], ids=["plain", "recurring"])
async def test_a_thousand_concurrent_submits_of_one_key_make_one_job(callers: list[Client], cron: str) -> None:
    spec = {"cron": cron} if cron else {}
    asked = [new_job(key="once", command=[str(number % 2)], **spec) for number in range(CALLS)]
    results = await asyncio.gather(*(callers[number % CALLERS].submit.call(asked[number]) for number in range(CALLS)))
    accepted = [result.accepted for result in results if result.HasField("accepted")]
    assert len(accepted) == CALLS, next(result for result in results if result.HasField("error"))
    (job_id,) = {each.job_id for each in accepted}
    (execution_id,) = {each.execution_id for each in accepted}
    first = next(job for job in asked if job.job_id == job_id)
    assert execution_id == ("" if cron else first.execution_id)
    # All but the one that made it are told what is stored, so that another spec can be refused.
    assert len([each for each in accepted if each.replayed_spec == first.spec]) == CALLS - 1
    page = await callers[0].jobs.ListJobs(ListJobsRequest())
    assert [job.job_id for job in page.items] == [job_id]
    executions = await callers[0].jobs.ListExecutions(ListExecutionsRequest())
    assert len(executions.items) == (0 if cron else 1)
    counted = await callers[0].jobs.CountJobs(job_pb.CountJobsRequest())
    assert sum(state.count for state in counted.counts) == 1
