"""The process dies between any two writes on MongoDB: the flows of the unit suite, on the real adapter."""

from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, cast

import pymongo
import pytest

from easyq_chassis.errors import EasyQError
from easyq_store.adapters.mongo import MongoPersistence
from easyq_store.adapters.mongo_documents import AGENTS, EXECUTIONS, JOBS
from easyq_store.adapters.mongo_reads import MongoReads
from easyq_store.adapters.mongo_writes import MongoWrites
from easyq_store.domain.records import Job, LogChunk
from easyq_store.domain.states import Stream
from easyq_store.ports import Plan, Steps
from tests.fakes.store import FakePersistence, Tables
from tests.support.store_world import Crash, World
from tests.unit.store.test_store_crashes import FLOWS, Flow, again, image, settled

WRITES = {
    *("insert_job", "change_job", "keep_spec", "insert_execution", "change_execution", "next_seq"),
    *("insert_agent", "change_agent", "raise_generation", "insert_chunk", "raise_clock"),
}
# One for each way in which plans go on; all of them run on the fake.
NAMES = {"submit by key", "put waiting", "put ended", "stop waiting", "assign", "succeed", "fail and retry", "lose"}


class Interrupted:
    """Steps, with a look at the test before each write."""

    def __init__(self, steps: Steps, between: Callable[[str], Awaitable[None]]) -> None:
        self._steps = steps
        self._between = between

    def __getattr__(self, name: str) -> Any:
        step = getattr(self._steps, name)
        if name not in WRITES:
            return step

        async def write(*arguments: Any) -> Any:
            await self._between(name)
            return await step(*arguments)

        return write


class MongoStore:
    """MongoDB in the shape that `World` knows of the fake: with `tables` to look into, and `between`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(url)
        self._persistence = MongoPersistence(url)
        self.between: Callable[[str], Awaitable[None]] = _nothing

    async def begin(self) -> None:
        """Opens an empty database."""
        await self._persistence.close()
        database = self._client.get_default_database()
        for name in database.list_collection_names():
            database[name].delete_many({})
        self.between = _nothing
        await self._persistence.open()

    async def end(self) -> None:
        await self._persistence.close()
        self._client.close()

    @property
    def reads(self) -> MongoReads:
        return self._persistence.reads

    async def run(self, plan: Plan[Any]) -> Any:
        return await self._persistence.run(self._interrupted(plan))

    async def run_all(self, plans: Sequence[Plan[Any]]) -> list[Any | EasyQError]:
        return await self._persistence.run_all([self._interrupted(plan) for plan in plans])

    def _interrupted(self, plan: Plan[Any]) -> Plan[Any]:
        return lambda steps: plan(cast("Steps", Interrupted(steps, self.between)))

    @property
    def tables(self) -> Tables:
        """All that is stored."""
        database = self._client.get_default_database()
        counters = {found["_id"]: found.get("value", 0) for found in database.meta.find()}
        chunks: dict[tuple[str, Stream], list[LogChunk]] = defaultdict(list)
        for found in database.chunks.find().sort("_id"):
            execution_id, stream, offset = found["_id"].split(":")
            chunk = LogChunk(
                execution_id=execution_id,
                stream=Stream(int(stream)),
                offset=int(offset),
                data=found["data"],
                at=found["at"],
            )
            chunks[execution_id, chunk.stream].append(chunk)
        return Tables(
            jobs={found["_id"]: JOBS.decode(found) for found in database.jobs.find()},
            executions={found["_id"]: EXECUTIONS.decode(found) for found in database.executions.find()},
            agents={found["_id"]: AGENTS.decode(found) for found in database.agents.find()},
            chunks=dict(chunks),
            generation=counters["generation"],
            clock=counters["clock"],
            last_seq=counters["queueSeq"],
        )


async def _nothing(_: str) -> None:
    return None


@pytest.fixture
async def mongo_store(mongo_url: str) -> AsyncIterator[MongoStore]:
    made = MongoStore(mongo_url)
    yield made
    await made.end()


async def prepared(flow: Flow, store: MongoStore) -> World:
    await store.begin()
    world = World(store=cast("FakePersistence", store))
    await flow.prepare(world)
    return world


@pytest.mark.parametrize("flow", [f for f in FLOWS if f.name in NAMES], ids=lambda flow: str(flow.name))
async def test_a_crash_between_any_two_writes_is_healed_on_mongodb(flow: Flow, mongo_store: MongoStore) -> None:
    world = await prepared(flow, mongo_store)
    total = 0

    async def count(_: str) -> None:
        nonlocal total
        total += 1

    mongo_store.between = count
    await flow.act(world)
    mongo_store.between = _nothing
    await settled(world)
    after = image(world)
    assert total >= 2
    for number in range(total):
        world = await prepared(flow, mongo_store)
        world.crash_at(number)
        with pytest.raises(Crash):
            await flow.act(world)
        world.recover()
        await settled(world)
        await again(flow, world)
        await settled(world)
        assert image(world) == after, f"after a crash before write {number} of {total}"
        assert [task.job_count for task in await world.ctx.store.reads.list_tasks("", 10)] == [1]


async def test_a_task_is_made_known_by_the_sweep_if_its_job_was_all_there_was_time_for(
    mongo_store: MongoStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await prepared(Flow(name="", prepare=_nothing_at_all, act=_nothing_at_all), mongo_store)

    async def die(_self: MongoWrites, _job: Job, *, new: bool) -> None:
        raise Crash

    monkeypatch.setattr(MongoWrites, "make_task_known", die)
    with pytest.raises(Crash):
        await world.submit()
    monkeypatch.undo()
    assert await mongo_store.reads.list_tasks("", 10) == []
    world.recover()
    await settled(world)
    assert [task.task_id for task in await mongo_store.reads.list_tasks("", 10)] == ["mail"]
    assert world.states() == "QUEUED QUEUED"


async def _nothing_at_all(_: World) -> None:
    return None
