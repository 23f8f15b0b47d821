"""A database that gets nothing done: what is asked of it is bounded, and what is beyond that is refused."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from easyq_chassis.errors import EasyQError, Unavailable
from easyq_store.adapters.crowd import Crowd
from easyq_store.adapters.observed import ObservedPersistence
from easyq_store.ports import Steps
from easyq_store.usecases.feed import Feed
from tests.fakes.store import FakePersistence
from tests.support.store_records import T0, job
from tests.support.waiting import eventually


class Stuck:
    """A watched database whose writes wait until it is freed."""

    def __init__(self, *, most: int, most_left: int) -> None:
        self.fake = FakePersistence(atomic=False)
        self.feed = Feed(now=lambda: T0, new_boot=lambda: "boot")
        self.crowd = Crowd(most=most, most_left=most_left)
        self.store = ObservedPersistence(self.fake, self.feed, crowd=self.crowd)
        self.freed = asyncio.Event()
        self.begun = 0

        async def between(_: str) -> None:
            self.begun += 1
            await self.freed.wait()

        self.fake.between = between

    def ask(self, number: int) -> asyncio.Task[object]:
        async def plan(steps: Steps) -> object:
            return await steps.insert_job(job(f"job-{number}"))

        return asyncio.create_task(self.store.run(plan))


@pytest.fixture
async def stuck() -> AsyncIterator[Stuck]:
    made = Stuck(most=50, most_left=20)
    await made.fake.open()
    yield made
    made.freed.set()
    made.feed.close()


async def test_plans_whose_callers_left_are_bounded(stuck: Stuck) -> None:
    """500 callers that come one after the other and leave."""
    with stuck.feed.read():
        refused = 0
        for number in range(500):
            asked = stuck.ask(number)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            if asked.done():
                assert isinstance(asked.exception(), Unavailable)
                refused += 1
            asked.cancel()
            await asyncio.wait([asked])
        assert (stuck.begun, refused, stuck.crowd.plans, stuck.crowd.left) == (20, 480, 20, 20)
        stuck.freed.set()
        await eventually(lambda: not stuck.crowd.plans)
        # What was begun is written, and told; then all goes on.
        await stuck.ask(500)
        assert len(stuck.fake.tables.jobs) == 21
        assert (stuck.crowd.plans, stuck.crowd.left) == (0, 0)
        assert len(stuck.feed.ring.after(0, 1000)) == 21


@pytest.mark.parametrize("watched", [False, True])
async def test_plans_under_way_are_bounded(stuck: Stuck, watched: bool) -> None:
    if watched:
        stuck.feed.read().__enter__()
    asked = [stuck.ask(number) for number in range(60)]
    await eventually(lambda: sum(one.done() for one in asked) == 10)
    waiting = [one for one in asked if not one.done()]
    assert (len(waiting), stuck.crowd.plans) == (50, 50)
    for one in set(asked) - set(waiting):
        refusal = one.exception()
        assert isinstance(refusal, Unavailable)
        assert refusal.retry_after == 1.0
    stuck.freed.set()
    await asyncio.gather(*waiting)
    assert (stuck.crowd.plans, len(stuck.fake.tables.jobs)) == (0, 50)


async def test_callers_that_leave_an_unwatched_database_take_their_plans_along(stuck: Stuck) -> None:
    for number in range(100):
        asked = stuck.ask(number)
        await asyncio.sleep(0)
        asked.cancel()
        await asyncio.wait([asked])
    assert (stuck.crowd.plans, stuck.crowd.left) == (0, 0)


async def test_of_many_each_is_told(stuck: Stuck) -> None:
    async def plan(steps: Steps) -> str:
        return "done"

    waiting = [stuck.ask(number) for number in range(45)]
    await asyncio.sleep(0)
    results = await stuck.store.run_all([plan] * 6)
    assert [type(result) for result in results] == [Unavailable] * 6
    assert await stuck.store.run_all([plan] * 5) == ["done"] * 5
    stuck.freed.set()
    await asyncio.gather(*waiting)
    # More at once than are ever allowed: alone they are.
    assert not any(isinstance(result, EasyQError) for result in await stuck.store.run_all([plan] * 60))
