"""Schedules, statistics and deliveries by both clients, against a gateway on a socket."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

import easyq
from easyq.aio import AsyncClient
from easyq.client import Client
from easyq.spec import job_spec
from easyq.v1.farm_service_pb2 import Breaker, LimitStatus, PoolStatus
from easyq.v1.notification_service_pb2 import Delivery
from easyq.v1.task_service_pb2 import TaskQueue
from tests.fakes.public_farm import FakeFarm, fake_farm

Call = Callable[..., Any]


@pytest.fixture
def farm() -> Iterator[FakeFarm]:
    with fake_farm() as made:
        yield made


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest, farm: FakeFarm) -> Call:
    """A method by its name, of either client; what it gives bit by bit as a list."""

    def sync(name: str, *arguments: Any, **options: Any) -> Any:
        with Client(farm.address) as client:
            found = getattr(client, name)(*arguments, **options)
            return list(found) if isinstance(found, Iterator) else found

    def by_asyncio(name: str, *arguments: Any, **options: Any) -> Any:
        async def run() -> Any:
            async with AsyncClient(farm.address) as client:
                found = getattr(client, name)(*arguments, **options)
                return [one async for one in found] if isinstance(found, AsyncIterator) else await found

        return asyncio.run(run())

    return sync if request.param == "sync" else by_asyncio


def test_a_schedule_is_made_replaced_and_read(farm: FakeFarm, call: Call) -> None:
    made = call("schedule", "nightly", job_spec("i", "a", cron="0 3 * * *"), task="reports", coming=3)
    assert (made.job_id, len(made.next_fires)) == ("nightly", 3)
    assert [(job.job_id, job.request.task_id) for job in farm.jobs] == [("nightly", "reports")]
    call("schedule", "nightly", job_spec("i", "b", cron="0 3 * * *"), task="reports")
    assert [list(job.message.spec.command) for job in farm.jobs] == [["b"]]
    assert len(call("schedule", "nightly").next_fires) == 10
    with pytest.raises(ValueError, match="needs a spec with a cron"):
        call("schedule", "nightly", job_spec("i"))
    with pytest.raises(easyq.NotFound):
        call("schedule", "weekly")


def test_statistics_of_the_farm_and_of_a_task(farm: FakeFarm, call: Call) -> None:
    farm.put("j", task="reports")
    farm.counted.total.jobs = 7
    assert call("stats").total.jobs == 7
    assert [field.name for field, _ in farm.asked[-1].ListFields()] == []
    begin = datetime(2026, 11, 26, tzinfo=UTC)
    assert call("stats", "reports", since=begin, until="10m", step="1h").task_id == "reports"
    asked = farm.asked[-1]
    assert (asked.from_time.ToDatetime(UTC), asked.step.seconds) == (begin, 3600)
    assert 600 <= time.time() - asked.to_time.seconds < 660
    with pytest.raises(easyq.NotFound):
        call("stats", "nobody")
    with pytest.raises(ValueError, match="is not a duration"):
        call("stats", since="yesterday")


def test_deliveries_page_after_page_and_again(farm: FakeFarm, call: Call) -> None:
    farm.put("j")
    farm.put("other")
    farm.page = 2
    farm.told = [Delivery(job_id="j", delivery_id=str(number), state=Delivery.FAILED) for number in range(5)]
    assert [one.delivery_id for one in call("deliveries", "j")] == ["0", "1", "2", "3", "4"]
    assert call("deliveries", "other") == []
    assert call("resend", "j", "3").state == Delivery.PENDING
    with pytest.raises(easyq.NotFound):
        call("resend", "other", "3")
    with pytest.raises(easyq.NotFound):
        call("deliveries", "nobody")


def test_queues_page_after_page(farm: FakeFarm, call: Call) -> None:
    assert call("queues") == []
    farm.queues = [TaskQueue(task_id=str(number), queued=number) for number in range(5)]
    assert [(one.task_id, one.queued) for one in call("queues")] == [(str(number), number) for number in range(5)]


def test_what_matches_jobs_with_hosts_and_what_of_it_is_not_known(farm: FakeFarm, call: Call) -> None:
    farm.pools.append(PoolStatus(name="default"))
    farm.limits.append(LimitStatus(pattern="a"))
    farm.shut.append(Breaker(subject="i"))
    for field in ("jobs", "pools.ready", "limits.running", "breakers"):
        farm.health.unknown.add(field=field)
    pools, limits, breakers = call("matching")
    assert [one.items for one in (pools, limits, breakers)] == [farm.pools, farm.limits, farm.shut]
    unknown = [[one.field for one in told.unknown] for told in (pools, limits, breakers)]
    assert unknown == [["pools.ready"], ["limits.running"], ["breakers"]]
