"""A MongoDB that takes bytes and answers none: what is asked of it meanwhile must not gather."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from easyq_chassis.errors import Unavailable
from easyq_store.adapters.crowd import Crowd
from easyq_store.adapters.mongo import MongoPersistence
from easyq_store.adapters.observed import ObservedPersistence
from easyq_store.ports import Steps
from easyq_store.usecases.feed import Feed
from tests.chaos.nemesis.proxy import Network
from tests.support.ferretdb import FerretDB
from tests.support.store_records import T0, job
from tests.support.waiting import eventually

CALLERS = 1_000
MOST_LEFT = 40


@pytest.fixture
async def network() -> AsyncIterator[Network]:
    made = Network()
    yield made
    made.heal()
    made.close()


async def test_it_answers_nothing_and_callers_come_and_leave(
    ferretdb: FerretDB, mongo_url: str, network: Network
) -> None:
    address = ferretdb.url.removeprefix("mongodb://").rstrip("/").rpartition("@")[2]
    inner = MongoPersistence(mongo_url.replace(address, network.between("mongo", address)))
    feed, crowd = Feed(now=lambda: T0, new_boot=lambda: "boot"), Crowd(most=200, most_left=MOST_LEFT)
    store = ObservedPersistence(inner, feed, crowd=crowd)
    await store.open()
    refused = most = 0

    async def ask(number: int) -> None:
        async def plan(steps: Steps) -> None:
            await steps.insert_job(job(f"job-{number}"))

        nonlocal refused
        try:
            async with asyncio.timeout(0.02):
                await store.run(plan)
        except Unavailable:
            refused += 1
        except TimeoutError:
            pass

    with feed.read():
        network.cut("mongo", "down")
        for first in range(0, CALLERS, 10):
            await asyncio.gather(*(ask(number) for number in range(first, first + 10)))
            most = max(most, crowd.plans)
        # Of those that came together with the last that was let in, all may have left.
        assert MOST_LEFT <= most < MOST_LEFT + 10
        assert refused > CALLERS - MOST_LEFT - 10
        network.heal("mongo")
        await eventually(lambda: not crowd.plans, timeout=30)
        assert crowd.left == 0
        await ask(CALLERS)
    feed.close()
    await store.close()
