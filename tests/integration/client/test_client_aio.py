"""The client on asyncio, over a real socket. What it shares with the other one (cursor, outages) is tested there."""

import asyncio
import inspect
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest

from easyq import AsyncClient, Client, errors
from easyq.spec import job_spec
from easyq.v1.farm_service_pb2 import Agent
from easyq.v1.job_pb2 import Job
from easyq.v1.log_service_pb2 import LogChunk
from tests.fakes.public_api import FakeGateway, fake_gateway, status
from tests.support.waiting import eventually


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    with fake_gateway() as made:
        made.agents.append(Agent(agent_id="host-1", state=Agent.LIVE, running=2))
        yield made


@pytest.fixture
async def client(gateway: FakeGateway) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(gateway.address) as made:
        yield made


def test_both_clients_offer_the_same() -> None:
    def of(kind: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(method).parameters)
            for name, method in inspect.getmembers(kind, callable)
            if not name.startswith("_")
        }

    assert of(AsyncClient) == of(Client)


async def test_a_run(gateway: FakeGateway, client: AsyncClient) -> None:
    running = asyncio.create_task(client.run(job_spec("i", "c")))
    await eventually(lambda: gateway.jobs)
    job = gateway.jobs[0]
    job.write(stdout=b"one" * 20, stderr=b"warn")
    job.end("FAILED", 3, retrying=True)
    job.attempt()
    job.write(stdout=b"two")
    job.end("SUCCEEDED", 0)
    result = await asyncio.wait_for(running, 20)
    assert (result.exit_code, result.stdout, result.stderr) == (0, b"one" * 20 + b"two", b"warn")
    assert (await client.get(job.job_id)).execution_count == 2


async def test_output_goes_on_over_breaks_and_restarts(gateway: FakeGateway, client: AsyncClient) -> None:
    gateway.breaks.extend([0, 1, 3, 0])
    breaks: list[errors.EasyQError] = []
    submitted = await client.submit(job_spec("i"))
    seen = bytearray()

    async def follow() -> None:
        async for event in client.logs(submitted.job_id, follow=True, on_break=breaks.append):
            if isinstance(event, LogChunk):
                seen.extend(event.data)

    following = asyncio.create_task(follow())
    job = gateway.job()
    data = os.urandom(500)
    job.write(stdout=data[:300])
    await eventually(lambda: bytes(seen) == data[:300])
    await asyncio.to_thread(gateway.stop)
    gateway.start()
    job.write(stdout=data[300:])
    job.end()
    await asyncio.wait_for(following, 20)
    assert bytes(seen) == data
    assert breaks


async def test_a_server_that_stays_away(gateway: FakeGateway, client: AsyncClient) -> None:
    submitted = await client.submit(job_spec("i"))
    gateway.stop()
    with pytest.raises(errors.Unavailable, match="can't reach EasyQ at 127"):
        await client.get(submitted.job_id)
    with pytest.raises(errors.Unavailable):
        async for _ in client.logs(submitted.job_id, follow=True, patience=0.2):
            pass


async def test_calls_are_repeated_where_that_is_harmless(gateway: FakeGateway, client: AsyncClient) -> None:
    away = status(grpc.StatusCode.UNAVAILABLE, "away", reason="UNAVAILABLE")
    gateway.failures += [away, away]
    job_id = (await client.submit(job_spec("i"))).job_id
    assert len(gateway.jobs) == 1
    calls: list[Any] = [client.trigger, client.retry, client.delete]
    for call in calls:
        gateway.asked.clear()
        gateway.failures.append(away)
        with pytest.raises(errors.Unavailable):
            await call(job_id)
        assert len(gateway.asked) == 1
    gateway.failures.append(status(grpc.StatusCode.INVALID_ARGUMENT, "no", reason="INVALID_FIELDS", fields={"a": "b"}))
    with pytest.raises(errors.InvalidArgument) as error:
        await client.submit(job_spec("i"))
    assert [field.field for field in error.value.fields] == ["a"]


async def test_waiting_has_a_bound(client: AsyncClient) -> None:
    submitted = await client.submit(job_spec("i"))
    with pytest.raises(errors.DeadlineExceeded, match="is still QUEUED"):
        await client.wait(submitted.job_id, timeout=0.1)


async def test_operators(gateway: FakeGateway, client: AsyncClient) -> None:
    assert [agent.agent_id for agent in await client.agents()] == ["host-1"]
    assert (await client.agent("host-1")).running == 2
    assert (await client.status()).version == "1"
    assert (await client.cordon("host-1")).HasField("cordoned_at")
    assert not (await client.uncordon("host-1")).HasField("cordoned_at")
    assert (await client.drain("host-1", deadline=600)).drain_deadline.seconds == 1_900_000_600
    assert (await client.declare_dead("host-1")).lost == 2
    with pytest.raises(errors.NotFound):
        await client.cordon("host-2")
    job_id = (await client.submit(job_spec("i", cron="@daily"))).job_id
    assert (await client.pause(job_id)).state == Job.PAUSED
    assert (await client.explain(job_id)).state == Job.PAUSED
    assert (await client.resume(job_id)).state == Job.ACTIVE
    assert len((await client.schedule(job_id, coming=2)).next_fires) == 2
    with pytest.raises(ValueError, match="needs a spec with a cron"):
        await client.schedule(job_id, job_spec("i"))
    assert (await client.trigger(job_id)).execution_id == (await client.retry(job_id)).execution_id == "e"
    assert (await client.delete(job_id, force=True)).stopping
    assert (await client.stop(job_id)).job.job_id == job_id
