"""Two store processes on one MongoDB database: each promise of a step holds between them."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import pytest
from pymongo.asynchronous.collection import AsyncCollection

from easyq_store.adapters.mongo import MongoPersistence
from easyq_store.domain.records import Execution, Job
from easyq_store.domain.states import ExecutionState, JobState
from easyq_store.ports import Inserted, JobFilter, Place, Plan, Steps
from tests.support.store_records import T0, agent, chunk, execution, job

R = TypeVar("R")
Pair = tuple[MongoPersistence, MongoPersistence]


@pytest.fixture
async def pair(mongo_url: str) -> AsyncIterator[Pair]:
    """The same database opened twice, with nothing in common in this process."""
    one, other = MongoPersistence(mongo_url), MongoPersistence(mongo_url)
    await asyncio.gather(one.open(), other.open())
    yield one, other
    await one.close()
    await other.close()


async def race(pair: Pair, plans: list[Plan[R]]) -> list[R]:
    """Runs every other plan on the one and on the other, all beside each other."""
    return list(await asyncio.gather(*(pair[n % 2].run(plan) for n, plan in enumerate(plans))))


async def test_an_execution_is_assigned_once(pair: Pair) -> None:
    await pair[0].run(lambda steps: steps.insert_execution(execution()))
    winners: list[str] = []

    def claim(name: str) -> Plan[None]:
        async def plan(steps: Steps) -> None:
            mine = False

            def decide(old: Execution) -> Execution:
                nonlocal mine
                mine = old.state is ExecutionState.QUEUED
                return replace(old, state=ExecutionState.ASSIGNED, agent_id=name, epoch=old.epoch + 1) if mine else old

            await steps.change_execution("job-1-1", decide)
            if mine:
                winners.append(name)

        return plan

    await race(pair, [claim(f"agent-{n}") for n in range(40)])
    assert len(winners) == 1
    stored = await pair[1].reads.get_execution("job-1-1")
    assert stored is not None
    assert (stored.agent_id, stored.epoch, stored.write_no) == (winners[0], 1, 2)


async def test_no_change_is_lost(pair: Pair) -> None:
    async def one_more(steps: Steps) -> Job | None:
        return await steps.change_job("job-1", lambda old: replace(old, attempts=old.attempts + 1))

    await pair[0].run(lambda steps: steps.insert_job(job(attempts=0)))
    seen = await race(pair, [one_more] * 60)
    assert sorted(found.attempts for found in seen if found) == list(range(1, 61))
    assert await pair[0].reads.get_job("job-1") == replace(job(), attempts=60, write_no=61)


async def test_a_plan_whose_record_was_changed_by_another_process_decides_on_what_is_stored(pair: Pair) -> None:
    one, other = pair

    async def plan(steps: Steps) -> Job | None:
        await steps.insert_job(job())
        # Between two steps of this plan, which remembers what it wrote.
        await other.run(lambda theirs: theirs.change_job("job-1", lambda old: replace(old, stop_requested_at=T0)))
        unchanged = await steps.change_job("job-1", lambda old: old)
        assert unchanged is not None
        assert unchanged.stop_requested_at == T0
        return await steps.change_job("job-1", lambda old: replace(old, state=JobState.STOPPED))

    assert await one.run(plan) == replace(job(), stop_requested_at=T0, state=JobState.STOPPED, write_no=3)


async def test_a_hundred_inserts_with_one_idempotency_key_make_one_job(pair: Pair) -> None:
    def insert(n: int) -> Plan[Inserted]:
        return lambda steps: steps.insert_job(job(f"j{n}", idempotency_key="k"))

    outcomes = await race(pair, [insert(n) for n in range(100)])
    assert Counter(outcomes) == {Inserted.DONE: 1, Inserted.KEY_TAKEN: 99}
    winner = await pair[0].reads.job_by_key("mail", "k")
    assert winner is not None
    assert winner.job_id == f"j{outcomes.index(Inserted.DONE)}"
    assert await pair[1].reads.count_jobs("mail") == {JobState.QUEUED: 1}


async def test_one_id_and_one_attempt_are_inserted_once(pair: Pair) -> None:
    def insert_job(n: int) -> Plan[Inserted]:
        return lambda steps: steps.insert_job(job("same", image=f"image-{n}"))

    def insert_execution(n: int) -> Plan[bool]:
        return lambda steps: steps.insert_execution(execution(f"job-1-{n}", attempt=2))

    assert Counter(await race(pair, [insert_job(n) for n in range(30)])) == {Inserted.DONE: 1, Inserted.ID_TAKEN: 29}
    assert sum(await race(pair, [insert_execution(n) for n in range(30)])) == 1
    assert len(await pair[0].reads.executions_of("job-1", 10)) == 1


async def test_places_in_line_are_unique_and_grow_for_each(pair: Pair) -> None:
    async def three(steps: Steps) -> list[int]:
        return [await steps.next_seq() for _ in range(3)]

    given = await race(pair, [three] * 80)
    assert all(places == sorted(places) for places in given)
    assert sorted(place for places in given for place in places) == list(range(1, 241))
    assert await pair[0].reads.last_seq() == 240
    later = await pair[1].run(lambda steps: steps.next_seq())
    assert later == 241


async def test_a_place_asked_for_later_is_higher_whichever_process_is_asked(pair: Pair) -> None:
    given = [await pair[n % 2].run(lambda steps: steps.next_seq()) for n in range(10)]
    assert given == sorted(set(given))


async def test_one_raises_the_generation_and_all_see_the_highest_clock(pair: Pair) -> None:
    assert sum(await race(pair, [lambda steps: steps.raise_generation(0)] * 20)) == 1
    assert await pair[0].reads.generation() == 1

    def raise_to(mark: int) -> Plan[int]:
        return lambda steps: steps.raise_clock(mark)

    held = await race(pair, [raise_to(T0 + n) for n in range(40)])
    assert all(mark >= T0 + n for n, mark in enumerate(held))
    assert await pair[1].run(raise_to(0)) == T0 + 39


async def test_agents_and_chunks_are_inserted_once(pair: Pair) -> None:
    assert sum(await race(pair, [lambda steps: steps.insert_agent(agent())] * 20)) == 1
    assert sum(await race(pair, [lambda steps: steps.insert_chunk(chunk(b"abc"))] * 20)) == 1


async def test_a_new_task_is_made_once_by_many(pair: Pair) -> None:
    def insert(n: int) -> Plan[Inserted]:
        return lambda steps: steps.insert_job(job(f"j{n}"))

    await race(pair, [insert(n) for n in range(40)])
    (task,) = await pair[0].reads.list_tasks("", 10)
    assert (task.task_id, task.job_count) == ("mail", 40)


async def test_many_processes_may_start_on_an_empty_database_at_once(mongo_url: str) -> None:
    many = [MongoPersistence(mongo_url) for _ in range(5)]
    await asyncio.gather(*(one.open() for one in many))
    given = await asyncio.gather(*(one.run(lambda steps: steps.next_seq()) for one in many))
    assert sorted(given) == [1, 2, 3, 4, 5]
    await asyncio.gather(*(one.close() for one in many))


async def test_a_page_tells_nothing_twice_and_leaves_out_nothing(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever comes and goes while it is looked for where the page ends."""
    one, other = pair
    for number in range(8):
        made = job(
            f"n{number}", created_at=T0 + number, state=JobState.SUCCEEDED if number in {3, 4, 5} else JobState.QUEUED
        )
        await one.run(partial(_insert, made))
    find_one, happen = AsyncCollection.find_one, list[Plan[Any]]()

    async def found_after_all(collection: Any, where: Any, *more: Any, **options: Any) -> Any:
        if "skip" in options and happen:
            await other.run(happen.pop())
        return await find_one(collection, where, *more, **options)

    monkeypatch.setattr(AsyncCollection, "find_one", found_after_all)

    async def pages(where: JobFilter) -> list[str]:
        names: list[str] = []
        after: Place | None = None
        while True:
            page = await one.reads.list_jobs(where, after, 4, examine=4)
            names += [found.job_id for found in page]
            after = page.stopped
            if after is None:
                return names

    happen.append(lambda steps: steps.insert_job(job("n8", created_at=T0 + 8)))
    assert await pages(JobFilter(ended_from=T0)) == ["n5", "n4", "n3"]
    assert not happen
    gone = await one.reads.get_job("n0")
    assert gone is not None
    happen.append(lambda steps: steps.delete_job(gone))
    assert await pages(JobFilter(ended_from=T0, oldest=True)) == ["n3", "n4", "n5"]
    assert not happen


async def _insert(made: Job, steps: Steps) -> Inserted:
    return await steps.insert_job(made)
