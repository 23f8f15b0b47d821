"""The suite of the port MatchIndex, on the fake, on Redis and on Valkey."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from easyq_chassis.errors import Unavailable
from easyq_dispatcher.domain.breakers import Kind
from easyq_dispatcher.domain.needs import Needs
from easyq_dispatcher.domain.records import Head, Released, Taking
from easyq_dispatcher.ports import Changes, Gone, MatchIndex, Question, StaleIndex, TaskCount, TaskHeads
from tests.contract.dispatcher.index_backends import Backend, backend, fill, head, heads, held, ids, ready, rules, seat
from tests.support.waiting import eventually

__all__ = ["backend"]


async def running(index: MatchIndex, generation: int = 1) -> dict[str, int]:
    return (await index.survey(generation, Question())).running


# --------------------------------------------------------------------------------------------------------- generations
async def test_an_empty_server_holds_nothing(backend: Backend) -> None:
    index = backend.index()
    assert (await index.look()).generation is None
    for call in all_calls(index):
        with pytest.raises(StaleIndex):
            await call()


def all_calls(index: MatchIndex, generation: int = 1) -> list[Callable[[], Awaitable[Any]]]:
    return [
        lambda: index.take(generation, [seat()]),
        lambda: index.settle(generation, Changes(ready=[head(1)])),
        lambda: index.refill(generation, [TaskHeads(task_id="t", heads=[head(1)], complete=True, version="")]),
        lambda: index.adopt(generation, [held(1)]),
        lambda: index.places(generation),
        lambda: index.overdue(generation, 0),
        lambda: index.survey(generation, Question()),
    ]


async def test_a_filling_holds_once_it_is_published(backend: Backend) -> None:
    index = backend.index()
    await index.begin(1)
    await index.load(1, [held(1), held(2)])
    assert (await index.look()).generation is None
    await index.publish(1)
    found = await index.look()
    assert (found.generation, found.ours, found.rebuilder) == (1, True, "")
    assert await running(index) == {"default": 2}


async def test_only_the_generation_that_holds_is_served(backend: Backend) -> None:
    index = await backend.filled(generation=2)
    for generation in (1, 3):
        for call in all_calls(index, generation):
            with pytest.raises(StaleIndex):
                await call()


async def test_a_flushed_server_holds_nothing(backend: Backend) -> None:
    index = await backend.filled()
    backend.flush()
    assert (await index.look()).generation is None
    for call in all_calls(index):
        with pytest.raises(StaleIndex):
            await call()


async def test_a_server_that_started_again_with_its_data_holds_nothing(backend: Backend) -> None:
    index = await backend.filled()
    await ready(index, head(1))
    backend.restart()
    index = backend.index()
    assert (await index.look()).generation is None
    for call in all_calls(index):
        with pytest.raises(StaleIndex):
            await call()


async def test_a_filling_interrupted_by_a_flush_is_not_published(backend: Backend) -> None:
    index = backend.index()
    await index.begin(1)
    await index.load(1, [held(1)])
    backend.flush()
    with pytest.raises(StaleIndex):
        await index.load(1, [held(2)])
    with pytest.raises(StaleIndex):
        await index.publish(1)


async def test_a_new_filling_has_nothing_of_the_old_ones(backend: Backend) -> None:
    index = await backend.filled(held=[held(1)])
    await ready(index, head(2))
    await fill(index, 2)
    await index.sweep(2)
    assert await running(index, 2) == {"default": 0}
    assert ids(await index.take(2, [seat(5)])) == []


async def test_a_filling_begins_empty_even_where_its_number_was_used(backend: Backend) -> None:
    index = await backend.filled(generation=5, held=[held(1)])
    await ready(index, head(2), generation=5)
    await fill(index, 5)
    assert await index.places(5) == []
    assert ids(await index.take(5, [seat(5)])) == []


async def test_an_older_filling_holds_no_longer_once_a_newer_one_begins(backend: Backend) -> None:
    index, slow = await backend.filled(generation=2), backend.index(dispatcher="slow")
    await slow.begin(1)
    assert await running(index, 2) == {"default": 0}
    await slow.begin(3)
    assert (await index.look()).generation is None
    for call in all_calls(index, 2):
        with pytest.raises(StaleIndex):
            await call()


async def test_sweeping_leaves_what_is_being_filled(backend: Backend) -> None:
    index, other = await backend.filled(), backend.index(dispatcher="d2")
    await other.begin(2)
    await index.sweep(1)
    await other.load(2, [held(1)])
    await other.publish(2)
    assert await running(other, 2) == {"default": 1}


async def test_other_rules_are_noticed_and_refused(backend: Backend) -> None:
    await backend.filled(rules(limits=["t=1"]))
    other = backend.index(rules(limits=["t=2"]), dispatcher="d2")
    found = await other.look()
    assert (found.generation, found.ours) == (1, False)
    with pytest.raises(StaleIndex):
        await other.take(1, [seat()])


async def test_one_dispatcher_at_a_time_rebuilds(backend: Backend) -> None:
    one, two = backend.index(), backend.index(dispatcher="d2")
    assert await one.claim_rebuild(30)
    assert await one.claim_rebuild(30)
    assert not await two.claim_rebuild(30)
    assert (await two.look()).rebuilder == "d1"
    assert (await one.look()).rebuilder == ""
    await one.begin(1)
    await one.publish(1)
    assert await two.claim_rebuild(0.05)
    await eventually(lambda: one.claim_rebuild(30))


async def test_a_server_that_is_away_is_told(backend: Backend) -> None:
    index = await backend.filled()
    backend.stop()
    reset = partial(index.reset_breaker, Kind.HOST, "a")
    calls: list[Callable[[], Awaitable[Any]]] = [index.look, reset, *all_calls(index)]
    calls += [partial(index.claim_rebuild, 1), partial(index.sweep, 1)]
    for call in calls:
        with pytest.raises(Unavailable):
            await call()


# --------------------------------------------------------------------------------------------------------------- takes
async def test_a_taking_names_all_that_the_store_needs(backend: Backend) -> None:
    index = await backend.filled()
    it = Head(execution_id="x", task_id="t", priority=-7, queue_seq=2**44, epoch=41)
    await ready(index, it)
    taking = (await index.take(1, [seat(agent="a b")])).items[0]
    assert (taking.head, taking.agent_id, taking.session, taking.pool) == (it, "a b", 7, "default")
    assert taking.token


async def test_no_more_than_the_slots(backend: Backend) -> None:
    index = await backend.filled(held=[held(1)])
    await ready(index, *heads(5, first=2))
    takings = await index.take(1, [seat(3)])
    assert ids(takings) == ["t-2", "t-3"]
    assert takings.rooms == [0]
    assert ids(await index.take(1, [seat(3)])) == []


async def test_no_more_than_the_pools_maximum(backend: Backend) -> None:
    index = await backend.filled(rules(pools=["mail=mail-.*:2"]))
    await ready(index, *heads(3, "mail-a"), *heads(3, "other"))
    takings = await index.take(1, [seat(10, pools=("mail", "default"))])
    assert Counter(item.pool for item in takings.items) == {"mail": 2, "default": 3}
    await index.settle(1, Changes(released=[Released(execution_id="mail-a-1", epoch=2)]))
    assert ids(await index.take(1, [seat(10, pools=("mail", "default"))])) == ["mail-a-3"]


async def test_no_more_than_any_limit(backend: Backend) -> None:
    index = await backend.filled(rules(limits=["a.*=3", "ab.*=1"]))
    await ready(index, *heads(5, "ab"), *heads(5, "ac"), *heads(5, "b"))
    takings = await index.take(1, [seat(20)])
    assert Counter(item.head.task_id for item in takings.items) == {"ab": 1, "ac": 2, "b": 5}
    survey = await index.survey(1, Question(agents=["a"]))
    assert (survey.limits, survey.agents) == ([3, 1], {"a": 8})


async def test_a_limit_of_zero_holds_its_tasks_back(backend: Backend) -> None:
    index = await backend.filled(rules(limits=["paused=0"]))
    await ready(index, *heads(2, "paused"))
    assert ids(await index.take(1, [seat(5)])) == []


async def test_two_dispatchers_never_exceed_a_limit(backend: Backend) -> None:
    matching = rules(limits=[".*=5"])
    one, two = await backend.filled(matching), backend.index(matching, dispatcher="d2")
    await ready(one, *heads(40))

    async def turn(index: MatchIndex, agent: str) -> list[Taking]:
        takings = list((await index.take(1, [seat(40, agent)])).items)
        gone = Changes(released=[Released(execution_id=item.head.execution_id, epoch=2) for item in takings])
        assert (await index.survey(1, Question())).limits[0] <= 5
        await index.settle(1, gone)
        return takings

    done: list[str] = []
    while len(done) < 40:
        for takings in await asyncio.gather(turn(one, "a"), turn(two, "b"), turn(one, "c")):
            done += ids(takings)
    assert sorted(done) == sorted(ids_of(heads(40)))


def ids_of(items: Sequence[Head]) -> list[str]:
    return [item.execution_id for item in items]


async def test_an_agent_is_served_from_its_pools_only(backend: Backend) -> None:
    index = await backend.filled(rules(pools=["mail=mail-.*", "gpu=gpu-.*"]))
    await ready(index, head(1, "mail-a"), head(1, "gpu-a"), head(1, "rest"))
    assert ids(await index.take(1, [seat(9, pools=("gpu", "unknown"))])) == ["gpu-a-1"]
    assert ids(await index.take(1, [seat(9, "b", pools=("default",))])) == ["rest-1"]


async def test_an_agents_pools_take_turns(backend: Backend) -> None:
    index = await backend.filled(rules(pools=["mail=mail-.*"]))
    await ready(index, *heads(10, "mail-a"), *heads(10, "rest"))
    got: list[Taking] = []
    for slots in (2, 4, 6):
        got += (await index.take(1, [seat(slots, pools=("mail", "default"))])).items
    assert Counter(item.pool for item in got) == {"mail": 3, "default": 3}


async def test_work_spreads_over_agents(backend: Backend) -> None:
    index = await backend.filled()
    await ready(index, *heads(4))
    takings = await index.take(1, [seat(4, "a"), seat(4, "b")])
    assert Counter(item.agent_id for item in takings.items) == {"a": 2, "b": 2}
    assert takings.rooms == [2, 2]


# --------------------------------------------------------------------------------------------------------------- order
async def test_within_a_task_by_priority_then_first_in_first_out(backend: Backend) -> None:
    index = await backend.filled()
    await ready(index, head(3), head(1), head(4, priority=100), head(2), head(5, priority=-100), head(6, priority=1))
    assert ids(await index.take(1, [seat(9)])) == ["t-4", "t-6", "t-1", "t-2", "t-3", "t-5"]


async def test_tasks_of_a_pool_take_turns(backend: Backend) -> None:
    """A flood in one task does not hold up the next (kubernetes-sigs/kueue#8309, sidekiq/sidekiq#4208)."""
    index = await backend.filled()
    await ready(index, *heads(500, "flood"))
    await ready(index, *heads(3, "a"), *heads(2, "b"))
    assert ids(await index.take(1, [seat(8)])) == [
        "flood-1", "a-1", "b-1", "flood-2", "a-2", "b-2", "flood-3", "a-3",
    ]  # fmt: skip
    assert ids(await index.take(1, [seat(10)])) == ["flood-4", "flood-5"]


async def test_turns_go_on_from_call_to_call(backend: Backend) -> None:
    index = await backend.filled()
    await ready(index, *heads(5, "a"), *heads(5, "b"))
    got: list[str] = []
    for slots in range(1, 7):
        got += ids(await index.take(1, [seat(slots)]))
    assert got == ["a-1", "b-1", "a-2", "b-2", "a-3", "b-3"]


async def test_a_task_at_its_limit_does_not_block_others(backend: Backend) -> None:
    """No head-of-line blocking (hashicorp/nomad#5323)."""
    index = await backend.filled(rules(limits=["slow=1"]))
    await ready(index, *heads(50, "slow"), *heads(3, "quick"))
    assert ids(await index.take(1, [seat(10)])) == ["slow-1", "quick-1", "quick-2", "quick-3"]
    await index.settle(1, Changes(released=[Released(execution_id="slow-1", epoch=2)]))
    assert ids(await index.take(1, [seat(10)])) == ["slow-2"]


async def test_a_freed_place_goes_to_the_task_that_waited_longest(backend: Backend) -> None:
    index = await backend.filled(rules(limits=[".*=1"]))
    await ready(index, *heads(9, "a"), *heads(9, "b"), *heads(9, "c"))
    got: list[str] = []
    for _ in range(6):
        taken = ids(await index.take(1, [seat(5)]))
        got += taken
        await index.settle(1, Changes(released=[Released(execution_id=name, epoch=2) for name in taken]))
    assert got == ["a-1", "b-1", "c-1", "a-2", "b-2", "c-2"]


async def test_a_freed_place_is_not_lost_to_a_task_that_meets_another_limit(backend: Backend) -> None:
    index = await backend.filled(rules(limits=[".*=2", "a.*=1"]))
    await ready(index, head(1, "a1"), head(1, "a2"), head(1, "a3"))
    assert len(ids(await index.take(1, [seat(9)]))) == 1
    await ready(index, head(1, "b1"))
    assert ids(await index.take(1, [seat(9)])) == ["b1-1"]
    await ready(index, head(1, "a4"), head(1, "c1"), head(1, "c2"))
    assert ids(await index.take(1, [seat(9)])) == []
    await index.settle(1, Changes(released=[Released(execution_id="b1-1", epoch=2)]))
    assert ids(await index.take(1, [seat(9)])) == ["c1-1"]


async def test_a_freed_place_reaches_every_pool(backend: Backend) -> None:
    index = await backend.filled(rules(pools=["mail=mail-.*"], limits=[".*=1"]))
    await ready(index, head(1, "mail-a"), head(2, "mail-a"), head(1, "rest"), head(2, "rest"))
    first = ids(await index.take(1, [seat(9, pools=("mail", "default"))]))
    assert len(first) == 1
    await index.settle(1, Changes(released=[Released(execution_id=first[0], epoch=2)]))
    # Whichever pool comes first in line: an agent of either finds work.
    for pool in ("default", "mail"):
        got = ids(await index.take(1, [seat(9, f"agent-{pool}", pools=(pool,))]))
        assert len(got) == 1
        await index.settle(1, Changes(released=[Released(execution_id=got[0], epoch=2)]))


async def test_many_tasks_at_one_limit(backend: Backend) -> None:
    matching = rules(limits=["t.*=10"])
    index = await backend.filled(matching)
    tasks = [f"t{number}" for number in range(300)]
    for start in range(0, 300, 100):
        await ready(index, *(item for task in tasks[start : start + 100] for item in heads(2, task)))
    got: list[str] = []
    while len(got) < 600:
        taken = ids(await index.take(1, [seat(50)]))
        assert len(taken) == 10
        got += taken
        await index.settle(1, Changes(released=[Released(execution_id=name, epoch=2) for name in taken]))
    assert len(set(got)) == 600
    # Every task had its first turn before any had its second.
    assert {name.rpartition("-")[2] for name in got[:300]} == {"1"}


async def test_a_given_back_head_keeps_its_place(backend: Backend) -> None:
    index = await backend.filled()
    await ready(index, *heads(3))
    assert ids(await index.take(1, [seat(1)])) == ["t-1"]
    await index.settle(1, Changes(released=[Released(execution_id="t-1", epoch=2)], ready=[head(1, epoch=2)]))
    taken = await index.take(1, [seat(2)])
    assert ids(taken) == ["t-1", "t-2"]
    assert taken.items[0].head.epoch == 2


# ------------------------------------------------------------------------------------------------------------- releases
async def test_a_release_of_an_older_epoch_frees_nothing(backend: Backend) -> None:
    index = await backend.filled()
    await ready(index, head(1, epoch=5))
    await index.take(1, [seat()])
    await index.settle(1, Changes(released=[Released(execution_id="t-1", epoch=5)]))
    assert await running(index) == {"default": 1}
    await index.settle(1, Changes(released=[Released(execution_id="t-1", epoch=6)] * 2))
    assert await running(index) == {"default": 0}


async def test_a_repeated_release_does_not_touch_the_next_take(backend: Backend) -> None:
    index = await backend.filled()
    await ready(index, head(1, epoch=1))
    await index.take(1, [seat()])
    given_back = Changes(released=[Released(execution_id="t-1", epoch=2)], ready=[head(1, epoch=2)])
    await index.settle(1, given_back)
    await index.take(1, [seat()])
    await index.settle(1, given_back)
    assert await running(index) == {"default": 1}


async def test_a_drop_counts_for_its_own_take_only(backend: Backend) -> None:
    index = await backend.filled()
    await ready(index, head(1))
    first = (await index.take(1, [seat()])).items[0]
    drop = Changes(dropped=[("t-1", first.token)], ready=[head(1)])
    await index.settle(1, drop)
    second = (await index.take(1, [seat()])).items[0]
    assert second.token != first.token
    await index.settle(1, drop)
    assert await running(index) == {"default": 1}


async def test_places_loaded_from_the_store_are_freed_by_their_reports(backend: Backend) -> None:
    index = await backend.filled(rules(limits=["t=1"]), held=[held(1, epoch=9)])
    assert (await index.survey(1, Question())).limits == [1]
    await index.settle(1, Changes(released=[Released(execution_id="t-1", epoch=8)]))
    assert (await index.survey(1, Question())).limits == [1]
    await index.settle(1, Changes(released=[Released(execution_id="t-1", epoch=9)]))
    assert (await index.survey(1, Question())).limits == [0]


async def test_a_held_execution_of_a_pool_that_is_gone_counts_in_its_tasks_pool(backend: Backend) -> None:
    index = await backend.filled(rules(pools=["mail=t:5"]), held=[held(1, pool="old"), held(2, pool="default")])
    assert await running(index) == {"mail": 1, "default": 1}


# ----------------------------------------------------------------------------------------------------------- old news
async def test_a_head_of_an_execution_that_counts_is_ignored(backend: Backend) -> None:
    index = await backend.filled()
    await ready(index, head(1), head(2))
    await index.take(1, [seat()])
    await ready(index, head(1), head(2))
    assert (await index.survey(1, Question())).ready == {"default": 1}
    assert ids(await index.take(1, [seat(5)])) == ["t-2"]


async def test_a_head_that_began_to_count_elsewhere_is_skipped(backend: Backend) -> None:
    index = await backend.filled()
    await ready(index, head(1), head(2))
    await index.adopt(1, [held(1, agent="b")])
    assert ids(await index.take(1, [seat(5)])) == ["t-2"]
    assert (await index.survey(1, Question())).ready == {"default": 0}


async def test_repeated_heads_are_one_and_the_newest_epoch_holds(backend: Backend) -> None:
    index = await backend.filled()
    for item in (head(1, epoch=2), head(1, epoch=3), head(1, priority=9, epoch=1), head(2, epoch=3)):
        await ready(index, item)
    takings = (await index.take(1, [seat(5)])).items
    assert [item.head for item in takings] == [head(1, epoch=3), head(2, epoch=3)]


async def test_a_changed_priority_changes_the_place(backend: Backend) -> None:
    index = await backend.filled()
    await ready(index, head(1), head(2), head(2, priority=5))
    assert ids(await index.take(1, [seat(5)])) == ["t-2", "t-1"]


# ------------------------------------------------------------------------------------------------------ orphaned takes
async def test_takes_are_overdue_until_confirmed(backend: Backend) -> None:
    index = await backend.filled(held=[held(9)])
    await ready(index, head(1), head(2))
    one, two = (await index.take(1, [seat(5)])).items
    assert {place.execution_id for place in await index.overdue(1, 0)} == {"t-1", "t-2"}
    assert list(await index.overdue(1, 60_000)) == []
    await index.settle(1, Changes(confirmed=[("t-1", one.token), ("t-2", "another")]))
    assert [place.execution_id for place in await index.overdue(1, 0)] == ["t-2"]
    places = {place.execution_id: place for place in await index.places(1)}
    assert {name: place.confirmed for name, place in places.items()} == {"t-1": True, "t-2": False, "t-9": True}
    assert (places["t-2"].token, places["t-2"].agent_id) == (two.token, "a")
    await index.settle(1, Changes(dropped=[("t-2", two.token)]))
    assert list(await index.overdue(1, 0)) == []


async def test_adopted_executions_count_once_and_are_looked_after(backend: Backend) -> None:
    index = await backend.filled(rules(limits=["t=3"]), held=[held(1)])
    await index.adopt(1, [held(1), held(2, agent="b")])
    await index.adopt(1, [held(2, agent="b")])
    survey = await index.survey(1, Question(agents=["a", "b"]))
    assert (survey.limits, survey.agents) == ([2], {"a": 1, "b": 1})
    assert [place.execution_id for place in await index.overdue(1, 0)] == ["t-2"]


# ----------------------------------------------------------------------------------------------------------- truncation
async def test_a_task_keeps_its_first_thousand_heads(backend: Backend) -> None:
    index = await backend.filled()
    for start in range(1, 1201, 300):
        await ready(index, *reversed(heads(300, first=start)))
    survey = await index.survey(
        1, Question(tasks=["t", "none"], positions=[("t-1", "t"), ("t-1000", "t"), ("t-1001", "t")])
    )
    assert survey.tasks["t"].heads == 1000
    assert survey.tasks["t"].version != ""
    assert survey.tasks["none"] == TaskCount(heads=0, aside=0, version="")
    assert {name: waiter.position for name, waiter in survey.positions.items()} == {"t-1": 1, "t-1000": 1000}
    assert survey.ready == {"default": 1000}


async def test_what_the_store_has_more_of_is_not_overtaken(backend: Backend) -> None:
    index = await backend.filled()
    page = TaskHeads(task_id="t", heads=heads(170), complete=False, version="")
    await index.refill(1, [page])
    low = await index.settle(1, Changes(ready=[head(9_000), head(8_000, priority=1)]))
    assert low == []
    takings = await index.take(1, [seat(100)])
    assert ids(takings)[:2] == ["t-8000", "t-1"]
    assert [item.task_id for item in takings.low] == ["t"]
    survey = await index.survey(1, Question(low=True, positions=[("t-9000", "t")]))
    assert survey.low == takings.low
    assert survey.positions == {}
    rest: list[str] = []
    while len(rest) < 139:
        rest += ids(await index.take(1, [seat(100 + len(rest) + 100)]))
    # With nothing left it still takes in nothing that would overtake, and asks to be refilled.
    assert [item.task_id for item in await index.settle(1, Changes(ready=[head(9_001)]))] == ["t"]
    version = (await index.survey(1, Question(tasks=["t"]))).tasks["t"].version
    await index.refill(1, [TaskHeads(task_id="t", heads=heads(3, first=301), complete=True, version=version)])
    await ready(index, head(9_001))
    assert ids(await index.take(1, [seat(999)])) == ["t-301", "t-302", "t-303", "t-9001"]


async def test_a_head_refused_while_the_store_was_read_keeps_the_task_truncated(backend: Backend) -> None:
    index = await backend.filled()
    await index.refill(1, [TaskHeads(task_id="t", heads=heads(2), complete=False, version="")])
    version = (await index.survey(1, Question(tasks=["t"]))).tasks["t"].version
    await ready(index, head(50))
    await index.refill(1, [TaskHeads(task_id="t", heads=heads(2), complete=True, version=version)])
    survey = await index.survey(1, Question(tasks=["t"], low=True))
    assert [item.task_id for item in survey.low] == ["t"]
    newer = survey.tasks["t"].version
    await index.refill(1, [TaskHeads(task_id="t", heads=[*heads(2), head(50)], complete=True, version=newer)])
    assert (await index.survey(1, Question(tasks=["t"], low=True))).low == []
    assert ids(await index.take(1, [seat(9)])) == ["t-1", "t-2", "t-50"]


async def test_refilling_several_tasks(backend: Backend) -> None:
    index = await backend.filled(rules(limits=["b=0"]))
    pages = [TaskHeads(task_id=task, heads=heads(2, task), complete=True, version="") for task in ("a", "b", "c")]
    await index.refill(1, pages)
    await index.refill(1, pages)
    assert ids(await index.take(1, [seat(9)])) == ["a-1", "c-1", "a-2", "c-2"]


# ---------------------------------------------------------------------------------------------------------------- wakes
async def test_others_learn_of_work(backend: Backend) -> None:
    index, other = await backend.filled(), backend.index(dispatcher="d2")
    wakes = other.wakes()
    waiting = asyncio.ensure_future(anext(wakes))
    async with asyncio.timeout(30):
        number = 0
        while not waiting.done():  # the subscription may take a moment to stand
            number += 1
            await ready(index, head(number))
            await index.take(1, [seat(1_000)])
            await asyncio.sleep(0.01)
    await wakes.aclose()  # type: ignore[attr-defined]


def test_replacing_a_head_changes_its_score() -> None:
    one = head(5)
    assert (
        replace(one, priority=1).score < one.score < replace(one, queue_seq=6).score < replace(one, priority=-1).score
    )


async def test_heads_that_wait_no_more_are_taken_out(backend: Backend) -> None:
    index = await backend.filled(rules(limits=["t=0"]))
    needs = Needs(cpu_millis=500)
    await ready(index, head(1), head(2, image="i:1"), head(3, needs=needs), head(4, epoch=5), head(1, "other"))
    seen = await index.survey(1, Question(heads=["t", "none"]))
    assert seen.heads == {"t": {"t-1": 1, "t-2": 1, "t-3": 1, "t-4": 5}, "none": {}}
    assert sorted(await index.tasks(1)) == ["other", "t"]
    assert await index.tasks(2) == []
    gone = [Gone(execution_id=f"t-{number}", task_id="t", epoch=1) for number in range(1, 6)]
    for _ in range(2):
        await index.settle(1, Changes(gone=gone))
        # The fourth is known under another epoch: it has come back since.
        seen = await index.survey(1, Question(heads=["t"]))
        assert (seen.ready, seen.heads) == ({"default": 2}, {"t": {"t-4": 5}})
    assert ids(await index.take(1, [seat(9)])) == ["other-1"]
    await ready(index, head(1))
    assert (await index.survey(1, Question())).ready == {"default": 2}
