"""What plans write is told when it is durable: all of it, once, in order, whatever becomes of plan or caller."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from easyq_chassis.errors import Aborted, Unavailable
from easyq_store.adapters.observed import ObservedPersistence
from easyq_store.adapters.sqlite import SqlitePersistence
from easyq_store.domain.changes import How, Kind
from easyq_store.domain.records import evolve
from easyq_store.domain.states import ExecutionState, JobState
from easyq_store.ports import Steps
from easyq_store.usecases.feed import Feed, Reader
from tests.fakes.store import FakePersistence
from tests.support.store_records import T0, agent, execution, job


class Watched:
    """A fake database that is watched."""

    def __init__(self, *, atomic: bool) -> None:
        self.fake = FakePersistence(atomic=atomic)
        self.feed = Feed(now=lambda: T0, new_boot=lambda: "boot")
        self.store = ObservedPersistence(self.fake, self.feed)

    def told(self) -> list[tuple[str, str, str]]:
        """All changes so far: kind, how, id and state."""
        return [
            (each.kind.name, each.how.name, f"{each.execution_id or each.job_id or each.agent_id}:{each.state}")
            for each in self.feed.ring.after(0, 1000)
        ]


@pytest.fixture(params=["atomic", "in-steps"])
async def watched(request: pytest.FixtureRequest) -> AsyncIterator[Watched]:
    made = Watched(atomic=request.param == "atomic")
    await made.fake.open()
    with made.feed.read():
        yield made
    made.feed.close()


async def enqueue(steps: Steps) -> None:
    await steps.insert_job(job())
    await steps.insert_execution(execution())


async def test_every_kind_of_write(watched: Watched) -> None:
    async def change(steps: Steps) -> None:
        await steps.change_execution("job-1-1", lambda old: evolve(old, state=ExecutionState.SUCCEEDED))
        await steps.change_job("job-1", lambda old: evolve(old, state=JobState.SUCCEEDED))
        await steps.insert_agent(agent())

    async def delete(steps: Steps) -> None:
        ended, of = await steps.get_execution("job-1-1"), await steps.get_job("job-1")
        assert ended
        assert of
        assert await steps.delete_execution(ended)
        assert await steps.delete_job(of)

    for plan in (enqueue, change, delete):
        await watched.store.run(plan)
    assert watched.told() == [
        ("JOB", "CREATED", "job-1:QUEUED"),
        ("EXECUTION", "CREATED", "job-1-1:QUEUED"),
        ("EXECUTION", "CHANGED", "job-1-1:SUCCEEDED"),
        ("JOB", "CHANGED", "job-1:SUCCEEDED"),
        ("AGENT", "CREATED", "host-a:LIVE"),
        ("EXECUTION", "DELETED", "job-1-1:SUCCEEDED"),
        ("JOB", "DELETED", "job-1:SUCCEEDED"),
    ]


async def test_what_was_not_written_is_not_told(watched: Watched) -> None:
    await watched.store.run(enqueue)
    known = watched.told()

    async def nothing(steps: Steps) -> None:
        await steps.insert_job(job())
        await steps.insert_execution(execution())
        await steps.change_job("job-1", lambda old: old)
        await steps.change_job("job-1", lambda old: evolve(old, projected_write=7))
        await steps.change_job("unknown", lambda old: evolve(old, attempts=9))
        await steps.delete_job(job(write_no=77))

    await watched.store.run(nothing)
    assert watched.told() == known


async def test_a_plan_that_fails_tells_what_is_kept_of_it(watched: Watched) -> None:
    async def fails(steps: Steps) -> None:
        await steps.insert_job(job())
        raise Aborted("no")

    results = await watched.store.run_all([fails])
    assert isinstance(results[0], Aborted)
    kept = await watched.store.reads.get_job("job-1") is not None
    assert watched.told() == ([("JOB", "CREATED", "job-1:QUEUED")] if kept else [])
    assert kept is not watched.fake.atomic


async def test_a_plan_that_is_run_again_is_told_once() -> None:
    watched = Watched(atomic=True)
    await watched.fake.open()
    with watched.feed.read():
        runs = 0

        async def plan(steps: Steps) -> None:
            nonlocal runs
            runs += 1
            await steps.insert_job(job(f"run-{runs}"))

        class Twice(FakePersistence):
            async def run(self, plan):  # type: ignore[no-untyped-def]
                await super().run(plan)
                self.tables.jobs.clear()
                return await super().run(plan)

        await ObservedPersistence(Twice(atomic=True), watched.feed).run(plan)
    assert watched.told() == [("JOB", "CREATED", "run-2:QUEUED")]
    watched.feed.close()


async def test_a_caller_that_goes_away_leaves_nothing_untold() -> None:
    watched = Watched(atomic=False)
    await watched.fake.open()
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def between(_: str) -> None:
        entered.set()
        await go_on.wait()

    watched.fake.between = between
    with watched.feed.read() as reader:
        await reader.begin(watched.store.ready)
        caller = asyncio.create_task(watched.store.run(enqueue))
        await entered.wait()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        go_on.set()
        batch = await asyncio.wait_for(reader.next(), 30)
    assert batch is not None
    assert [each.how for each in batch.changes] == [How.CREATED, How.CREATED]
    watched.feed.close()


async def test_what_a_slow_plan_wrote_is_not_told_after_what_came_later() -> None:
    """Where plans go step by step, one that goes on for a while may hand on its notes after a later one."""
    watched = Watched(atomic=False)
    await watched.fake.open()
    await watched.store.run(enqueue)
    written, go_on = asyncio.Event(), asyncio.Event()

    async def slow(steps: Steps) -> None:
        await steps.change_job("job-1", lambda old: evolve(old, state=JobState.RUNNING))
        await steps.change_execution("job-1-1", lambda old: evolve(old, state=ExecutionState.RUNNING))
        written.set()
        await go_on.wait()

    async def quick(steps: Steps) -> None:
        await steps.change_execution("job-1-1", lambda old: evolve(old, state=ExecutionState.SUCCEEDED))

    async def anew(steps: Steps) -> None:
        ended = await steps.get_execution("job-1-1")
        assert ended
        assert await steps.delete_execution(ended)
        assert await steps.insert_execution(execution(created_at=T0 + 1))

    with watched.feed.read():
        going_on = asyncio.create_task(watched.store.run(slow))
        await written.wait()
        await watched.store.run(quick)
        go_on.set()
        await going_on
        await watched.store.run(anew)
    assert watched.told() == [
        ("EXECUTION", "CHANGED", "job-1-1:SUCCEEDED"),
        ("JOB", "CHANGED", "job-1:RUNNING"),
        ("EXECUTION", "DELETED", "job-1-1:SUCCEEDED"),
        ("EXECUTION", "CREATED", "job-1-1:QUEUED"),
    ]
    watched.feed.close()


async def test_on_sqlite_too(tmp_path: Path) -> None:
    inner, feed = SqlitePersistence(tmp_path / "store.db"), Feed(now=lambda: T0, new_boot=lambda: "boot")
    store = ObservedPersistence(inner, feed)
    await store.open()
    with feed.read() as reader:
        await reader.begin(store.ready)
        caller = asyncio.create_task(store.run(enqueue))
        # It has ordered its plan, and does not wait for the commit.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        caller.cancel()
        await asyncio.wait([caller])
        batch = await asyncio.wait_for(reader.next(), 30)
        assert batch is not None
        assert [each.kind for each in batch.changes] == [Kind.JOB, Kind.EXECUTION]
        assert await store.reads.get_job("job-1") is not None
    feed.close()
    await store.close()


async def test_a_write_whose_outcome_is_unknown_is_a_gap() -> None:
    watched = Watched(atomic=False)
    await watched.fake.open()

    async def away(_: str) -> None:
        raise Unavailable("gone")

    with watched.feed.read():
        watched.fake.between = away
        with pytest.raises(Unavailable):
            await watched.store.run(enqueue)
        assert [each.kind for each in watched.feed.ring.after(0, 9)] == [Kind.GAP]
    watched.feed.close()


async def test_a_watch_waits_for_plans_that_began_before_it() -> None:
    watched = Watched(atomic=False)
    await watched.fake.open()
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def between(_: str) -> None:
        entered.set()
        await go_on.wait()

    watched.fake.between = between
    caller = asyncio.create_task(watched.store.run(enqueue))
    await entered.wait()
    with watched.feed.read() as reader:
        beginning = asyncio.create_task(_begin(reader, watched))
        await asyncio.sleep(0)
        assert not beginning.done()
        go_on.set()
        await caller
        # What it wrote can be read by whoever begins now.
        await beginning
        assert await watched.store.reads.get_job("job-1") is not None
        assert watched.told() == []
    watched.feed.close()


async def _begin(reader: Reader, watched: Watched) -> None:
    await reader.begin(watched.store.ready)


async def test_nobody_watches_nothing_is_noted() -> None:
    watched = Watched(atomic=True)
    await watched.fake.open()
    await watched.store.run(enqueue)
    await watched.store.run_all([enqueue])
    assert watched.feed.ring.head == 0
