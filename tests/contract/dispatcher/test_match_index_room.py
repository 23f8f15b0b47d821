"""The suite of the port MatchIndex, second part: what heads ask for and hosts offer, and weights."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from easyq_dispatcher.domain.needs import ALL_GPUS, Needs, Offer
from easyq_dispatcher.domain.records import Released
from easyq_dispatcher.ports import Changes, MatchIndex, Question, TaskHeads
from tests.contract.dispatcher.index_backends import Backend, backend, fill, head, heads, held, ids, ready, rules, seat

__all__ = ["backend"]

HALF = Needs(cpu_millis=2_000, memory=4 << 30)
BIG = Needs(cpu_millis=4_000)
SMALL = Needs(cpu_millis=1_000)
HOST = Offer(cpu_millis=4_000, memory=64 << 30, gpus=2)
GPU_LABEL = (("gpu", "a100"),)


async def release(index: MatchIndex, *names: str, generation: int = 1) -> None:
    await index.settle(generation, Changes(released=[Released(execution_id=name, epoch=2) for name in names]))


# ---------------------------------------------------------------------------------------------------------------- room
async def test_what_is_asked_for_is_told_with_the_taking(backend: Backend) -> None:
    index = await backend.filled()
    asked = Needs(cpu_millis=1_500, memory=1 << 40, gpus=1, labels=(("a\n\u00e9", 'b"'), ("z", "")))
    it = head(1, needs=asked, image="registry:5000/a/b@sha256:0")
    await ready(index, it)
    assert [item.head for item in (await index.take(1, [seat(labels=asked.labels)])).items] == [it]


async def test_no_more_than_a_host_has(backend: Backend) -> None:
    index = await backend.filled()
    await ready(index, *heads(5, needs=HALF))
    assert ids(await index.take(1, [seat(9, offer=HOST)])) == ["t-1", "t-2"]
    used = (await index.survey(1, Question(agents=["a"]))).used["a"]
    assert used == Offer(cpu_millis=4_000, memory=8 << 30)
    assert ids(await index.take(1, [seat(9, offer=HOST)])) == []
    await release(index, "t-1")
    assert ids(await index.take(1, [seat(9, offer=HOST)])) == ["t-3"]
    await release(index, "t-2", "t-3")
    assert (await index.survey(1, Question(agents=["a"]))).used["a"] == Offer()


@pytest.mark.parametrize("gone", ["drop", "release twice"])
async def test_room_is_given_back_once(gone: str, backend: Backend) -> None:
    index = await backend.filled()
    await ready(index, *heads(2, needs=HALF))
    taken = (await index.take(1, [seat(9, offer=HOST)])).items[0]
    if gone == "drop":
        for _ in range(2):
            await index.settle(1, Changes(dropped=[("t-1", taken.token)]))
    else:
        for _ in range(2):
            await release(index, "t-1")
    assert (await index.survey(1, Question(agents=["a"]))).used["a"].cpu_millis == 2_000


async def test_room_is_counted_again_after_a_flush(backend: Backend) -> None:
    index = await backend.filled(held=[held(1, needs=HALF), held(2, needs=Needs(gpus=ALL_GPUS))])
    used = (await index.survey(1, Question(agents=["a"]))).used["a"]
    assert (used.cpu_millis, used.memory, used.whole_gpus) == (2_000, 4 << 30, 1)
    backend.flush()
    await fill(index, 2, [held(1, needs=HALF)])
    await ready(index, *heads(3, first=5, needs=HALF), generation=2)
    assert ids(await index.take(2, [seat(9, offer=HOST)])) == ["t-5"]
    await release(index, "t-1", generation=2)
    assert ids(await index.take(2, [seat(9, offer=HOST)])) == ["t-6"]


async def test_adopted_executions_use_room(backend: Backend) -> None:
    index = await backend.filled()
    await index.adopt(1, [held(1, needs=BIG)])
    await ready(index, head(2, needs=SMALL), head(3))
    assert ids(await index.take(1, [seat(9, offer=HOST)])) == ["t-3"]


@pytest.mark.parametrize(
    ("asked", "offer", "fits"),
    [
        (Needs(cpu_millis=4_000), HOST, True),
        (Needs(cpu_millis=4_001), HOST, False),
        (Needs(memory=(64 << 30) + 1), HOST, False),
        (Needs(gpus=2), HOST, True),
        (Needs(gpus=3), HOST, False),
        (Needs(gpus=ALL_GPUS), HOST, True),
        (Needs(gpus=ALL_GPUS), replace(HOST, gpus=0), False),
        (Needs(gpus=1), replace(HOST, gpus=0), False),
        # Nothing is known of this host, so that everything may fit.
        (Needs(cpu_millis=99_000, memory=1 << 50, gpus=9), Offer(), True),
        (Needs(gpus=ALL_GPUS), Offer(), True),
        (Needs(memory=1 << 50), Offer(cpu_millis=1_000), True),
    ],
)
async def test_what_fits(asked: Needs, offer: Offer, fits: bool, backend: Backend) -> None:
    index = await backend.filled()
    await ready(index, head(1, needs=asked))
    assert bool(ids(await index.take(1, [seat(9, offer=offer)]))) is fits


async def test_all_gpus_are_all(backend: Backend) -> None:
    index = await backend.filled()
    one, whole = Needs(gpus=1), Needs(gpus=ALL_GPUS)
    await ready(index, head(1, "one", needs=one))
    assert ids(await index.take(1, [seat(9, offer=HOST)])) == ["one-1"]
    await ready(index, head(2, "whole", needs=whole))
    assert ids(await index.take(1, [seat(9, offer=HOST)])) == []
    await release(index, "one-1")
    assert ids(await index.take(1, [seat(9, offer=HOST)])) == ["whole-2"]
    await ready(index, head(3, "one", needs=one), head(4, "whole", needs=whole))
    assert ids(await index.take(1, [seat(9, offer=HOST)])) == []
    await release(index, "whole-2")
    assert ids(await index.take(1, [seat(9, offer=HOST)])) == ["one-3"]


async def test_labels_have_to_be_equal(backend: Backend) -> None:
    index = await backend.filled()
    await ready(index, head(1, needs=Needs(labels=GPU_LABEL)), head(2))
    other = seat(9, "other", labels=(("gpu", "h100"),))
    assert ids(await index.take(1, [other, seat(9, "plain")])) == ["t-2"]
    right = seat(9, "right", labels=(("gpu", "a100"), ("zone", "x")))
    assert ids(await index.take(1, [other, right])) == ["t-1"]


async def test_what_does_not_fit_holds_up_nobody(backend: Backend) -> None:
    """Of its task neither: what asks for something else goes on."""
    index = await backend.filled()
    await ready(index, *heads(3, "t", needs=Needs(cpu_millis=64_000)), *heads(2, "t", 10), *heads(2, "u"))
    assert ids(await index.take(1, [seat(9, offer=HOST)])) == ["t-10", "u-1", "t-11", "u-2"]


async def test_lanes_take_turns_across_what_they_ask_for(backend: Backend) -> None:
    index = await backend.filled()
    await ready(index, *heads(3, "a"), *heads(3, "b", needs=SMALL), *heads(3, "c", needs=Needs(memory=1)))
    got = ids(await index.take(1, [seat(7, offer=Offer())]))
    assert got == ["a-1", "b-1", "c-1", "a-2", "b-2", "c-2", "a-3"]


async def test_limits_and_pools_hold_for_lanes_with_needs(backend: Backend) -> None:
    index = await backend.filled(rules(pools=["mail=m.*:2"], limits=["t=1"]))
    await ready(index, *heads(3, "t", needs=SMALL), *heads(2, "t", 10), *heads(4, "mm", needs=SMALL), *heads(2, "u"))
    it = seat(20, pools=("mail", "default"))
    taken = ids(await index.take(1, [it]))
    assert sorted(taken) == ["mm-1", "mm-2", "t-1", "u-1", "u-2"]
    await release(index, "t-1")
    assert ids(await index.take(1, [it])) == ["t-10"]
    await release(index, "t-10", "mm-1")
    assert sorted(ids(await index.take(1, [it]))) == ["mm-3", "t-2"]
    assert (await index.survey(1, Question())).ready == {"mail": 1, "default": 2}


async def test_a_head_that_asks_for_something_else_now_changes_its_lane(backend: Backend) -> None:
    index = await backend.filled()
    await ready(index, head(1, needs=Needs(cpu_millis=64_000)), head(2, needs=Needs(cpu_millis=64_000)))
    await ready(index, head(1, epoch=2, needs=SMALL), head(2, epoch=2))
    survey = await index.survey(1, Question(positions=[("t-1", "t")], tasks=["t"]))
    assert (survey.ready, survey.tasks["t"].heads) == ({"default": 2}, 2)
    assert survey.positions["t-1"].needs == SMALL
    taken = await index.take(1, [seat(9, offer=HOST)])
    assert sorted(ids(taken)) == ["t-1", "t-2"]
    assert {item.head.needs for item in taken.items} == {SMALL, Needs()}
    assert ids(await index.take(1, [seat(9)])) == []


async def test_positions_count_over_the_lanes_of_a_task(backend: Backend) -> None:
    index = await backend.filled()
    await ready(index, head(1), head(2, needs=SMALL), head(3), head(4, needs=BIG, image="i:1"))
    asked = [(f"t-{number}", "t") for number in range(1, 6)]
    found = (await index.survey(1, Question(positions=asked))).positions
    assert {name: waiter.position for name, waiter in found.items()} == {"t-1": 1, "t-2": 2, "t-3": 3, "t-4": 4}
    assert (found["t-4"].needs, found["t-4"].image) == (BIG, "i:1")


async def test_a_task_with_lanes_keeps_its_first_thousand_heads(backend: Backend) -> None:
    index = await backend.filled()
    for start in range(1, 1_201, 300):
        mixed = [head(number, needs=SMALL if number % 2 else Needs()) for number in range(start, start + 300)]
        await ready(index, *reversed(mixed))
    survey = await index.survey(1, Question(tasks=["t"], positions=[("t-1000", "t"), ("t-1001", "t")]))
    assert survey.tasks["t"].heads == 1000
    assert list(survey.positions) == ["t-1000"]
    assert survey.ready == {"default": 1000}
    await ready(index, head(5_000, needs=BIG))
    assert (await index.survey(1, Question(tasks=["t"]))).tasks["t"].heads == 1000


async def test_refilled_lanes_are_in_line(backend: Backend) -> None:
    index = await backend.filled()
    page = TaskHeads(task_id="t", heads=[head(1, needs=SMALL), head(2)], complete=True, version="")
    await index.refill(1, [page, page])
    assert sorted(ids(await index.take(1, [seat(9)]))) == ["t-1", "t-2"]


async def test_two_dispatchers_never_take_more_than_a_host_has(backend: Backend) -> None:
    one, two = await backend.filled(), backend.index(dispatcher="d2")
    await ready(one, *heads(60, needs=HALF))
    done: list[str] = []
    while len(done) < 60:
        for takings in await asyncio.gather(*(i.take(1, [seat(50, offer=HOST)]) for i in (one, two, one))):
            done += ids(takings)
            used = (await one.survey(1, Question(agents=["a"]))).used["a"]
            assert used.cpu_millis <= HOST.cpu_millis
            await release(one, *ids(takings))
    assert len(set(done)) == 60


# ---------------------------------------------------------------------------------------------------------- starvation
async def test_a_large_head_is_not_starved_by_small_ones(backend: Backend) -> None:
    """Small jobs always fit first; after a while a host is kept free for the large one (kubernetes, nomad)."""
    index = await backend.filled(reserve_after=0.05)
    host = seat(9, offer=HOST)
    await ready(index, *heads(3, "small", needs=SMALL))
    running = ids(await index.take(1, [host]))
    assert len(running) == 3
    await ready(index, head(1, "big", needs=BIG), *heads(50, "small", 10, needs=SMALL), *heads(50, "plain"))
    # Until then it is passed over.
    assert "big-1" not in ids(await index.take(1, [seat(4, offer=HOST)]))
    waiter = (await index.survey(1, Question(positions=[("big-1", "big")]))).positions["big-1"]
    assert waiter.no_room_since_ms is not None
    await asyncio.sleep(0.06)
    for name in running:
        assert ids(await index.take(1, [host])) == []
        await release(index, name)
    places = [place.execution_id for place in await index.places(1) if place.execution_id.startswith("small")]
    await release(index, *places)
    taken = ids(await index.take(1, [host]))
    assert taken[0] == "big-1"
    assert all(name.startswith("plain") for name in taken[1:])


async def test_one_host_is_kept_free_and_the_others_go_on(backend: Backend) -> None:
    index = await backend.filled(reserve_after=0.0)
    seats = [seat(9, "one", offer=HOST), seat(9, "two", offer=HOST)]
    await ready(index, *heads(8, "small", needs=SMALL))
    assert len(ids(await index.take(1, seats))) == 8
    await ready(index, head(1, "big", needs=BIG), *heads(50, "small", 10, needs=SMALL))
    await index.take(1, seats)
    by_host = {name: [p.execution_id for p in await index.places(1) if p.agent_id == name] for name in ("one", "two")}
    # One of each falls free; only the host that is not kept takes again.
    await index.take(1, seats)
    await release(index, by_host["one"][0], by_host["two"][0])
    (other,) = {item.agent_id for item in (await index.take(1, seats)).items}
    kept = "one" if other == "two" else "two"
    await release(index, *by_host[kept][1:])
    taken = await index.take(1, seats)
    assert ("big-1", kept) in [(item.head.execution_id, item.agent_id) for item in taken.items]


async def test_nothing_is_kept_free_for_what_a_limit_holds_back(backend: Backend) -> None:
    index = await backend.filled(rules(limits=["big=0"]), reserve_after=0.0)
    await ready(index, *heads(1, "small", needs=SMALL))
    await index.take(1, [seat(9, offer=HOST)])
    await ready(index, head(1, "big", needs=BIG), *heads(2, "small", 10, needs=SMALL))
    taken = [ids(await index.take(1, [seat(9, offer=HOST)])) for _ in range(3)]
    assert taken == [["small-10", "small-11"], [], []]


async def test_nothing_is_kept_free_once_a_limit_is_full(backend: Backend) -> None:
    index = await backend.filled(rules(limits=["big=1"]), reserve_after=0.0)
    await ready(index, *heads(1, "small", needs=SMALL))
    await index.take(1, [seat(9, offer=HOST)])
    await ready(index, head(1, "big", needs=BIG))
    await index.take(1, [seat(9, offer=HOST)])
    # Another one of its task runs elsewhere now.
    await index.adopt(1, [held(9, "big", agent="b")])
    await ready(index, *heads(2, "small", 10, needs=SMALL))
    assert ids(await index.take(1, [seat(9, offer=HOST)])) == ["small-10", "small-11"]


async def test_what_never_fits_keeps_nothing_free(backend: Backend) -> None:
    index = await backend.filled(reserve_after=0.0)
    await ready(index, head(1, "huge", needs=Needs(cpu_millis=64_000)), *heads(6, "small", needs=SMALL))
    got: list[str] = []
    for slots in (1, 2, 3, 4):
        got += ids(await index.take(1, [seat(slots, offer=HOST)]))
    assert got == ["small-1", "small-2", "small-3", "small-4"]


# ------------------------------------------------------------------------------------------------------------- weights
async def test_a_task_of_weight_takes_so_many_a_turn(backend: Backend) -> None:
    index = await backend.filled(rules(weights=["heavy.*=3", "h.*=9"]))
    await ready(index, *heads(9, "heavy"), *heads(9, "light"))
    got: list[str] = []
    for slots in range(1, 9):
        got += ids(await index.take(1, [seat(slots)]))
    assert [name.split("-")[0] for name in got] == ["heavy"] * 3 + ["light"] + ["heavy"] * 3 + ["light"]
    assert ids(await index.take(1, [seat(13)])) == ["heavy-7", "heavy-8", "heavy-9", "light-3", "light-4"]


async def test_weights_are_part_of_the_rules(backend: Backend) -> None:
    index = await backend.filled(rules(weights=["t=3"]))
    assert (await backend.index(rules(weights=["t=2"])).look()).ours is False
    index.use(rules(weights=["t=2"]), 5)
    assert (await index.look()).ours is False
    await fill(index, 2)
    found = await index.look()
    assert (found.ours, found.version, found.in_use) == (True, 5, True)


# ---------------------------------------------------------------------------------------------------------------- words
async def test_the_head_that_is_next_in_a_pool(backend: Backend) -> None:
    index = await backend.filled(rules(pools=["mail=m.*"], limits=["held=0"]))

    async def fronts() -> dict[str, tuple[str, str]]:
        return (await index.survey(1, Question(fronts=["default", "mail"]))).fronts

    assert await fronts() == {}
    await ready(index, head(1, "held"))
    assert await fronts() == {"default": ("held-1", "held")}
    await ready(index, head(1, "u", needs=SMALL), head(1, "v"), head(1, "mm"))
    await index.take(1, [seat(1, "small", offer=Offer(cpu_millis=1, memory=1), pools=("none",))])
    assert (await fronts())["mail"] == ("mm-1", "mm")
    assert (await fronts())["default"] == ("u-1", "u")
