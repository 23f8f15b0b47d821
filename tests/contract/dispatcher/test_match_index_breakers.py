"""The suite of the port MatchIndex, third part: breakers of hosts and images."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from easyq_dispatcher.domain.breakers import Breaker, Kind, Omen, Patience, Sign
from easyq_dispatcher.domain.needs import Needs
from easyq_dispatcher.domain.records import Released
from easyq_dispatcher.ports import Changes, MatchIndex, Question, TaskHeads
from tests.contract.dispatcher.index_backends import Backend, backend, fill, head, heads, held, ids, ready, rules, seat
from tests.support import eventually

__all__ = ["backend"]

QUICK = Patience(failures=3, wait_ms=60, longest_ms=200)
# Nothing half-opens while such a test runs.
LONG = Patience(failures=3, wait_ms=60_000, longest_ms=600_000)


def omen(name: str, sign: Sign, *, epoch: int = 2, cause: str = "it broke", ms: int = 0) -> Omen:
    return Omen(execution_id=name, epoch=epoch, sign=sign, cause=cause, ms=ms)


async def tell(index: MatchIndex, *omens: Omen, generation: int = 1) -> None:
    """As a report does: the word, and with it the release of what failed."""
    gone = [Released(execution_id=o.execution_id, epoch=o.epoch) for o in omens if o.sign is not Sign.WORKED]
    await index.settle(generation, Changes(omens=omens, released=gone))


async def breakers(index: MatchIndex, generation: int = 1) -> dict[tuple[Kind, str], Breaker]:
    found = (await index.survey(generation, Question(breakers=True))).breakers
    return {(breaker.kind, breaker.subject): breaker for breaker in found}


async def take(index: MatchIndex, *seats: Any) -> list[tuple[str, str]]:
    takings = await index.take(1, seats or [seat(20)])
    return [(item.head.execution_id, item.agent_id) for item in takings.items]


async def fail(index: MatchIndex, sign: Sign, count: int = 3, *, image: str = "bad", agent: str = "a") -> None:
    """So many executions fail, one after the other."""
    for number in range(count):
        name = f"{sign.value.lower()}{number}"
        await ready(index, head(1, name, image=image))
        assert await take(index, seat(20, agent)) == [(f"{name}-1", agent)]
        await tell(index, omen(f"{name}-1", sign))


# --------------------------------------------------------------------------------------------------------------- hosts
async def test_a_host_that_fails_in_a_row_is_given_nothing(backend: Backend) -> None:
    index = await backend.filled(patience=LONG)
    assert not (await index.take(1, [seat()])).troubled
    await fail(index, Sign.HOST, 2)
    assert (await index.take(1, [seat()])).troubled
    counted = (await breakers(index))[Kind.HOST, "a"]
    assert (counted.failures, counted.until_ms, counted.cause) == (2, 0, "it broke")
    await fail(index, Sign.HOST, 1)
    opened = (await breakers(index))[Kind.HOST, "a"]
    assert (opened.failures, opened.wait_ms, opened.until_ms - opened.since_ms) == (3, 60_000, 60_000)
    await ready(index, *heads(2))
    assert await take(index, seat(20, "a"), seat(1, "b")) == [("t-1", "b")]
    assert (await index.take(1, [seat(20, "a")])).rooms == [0]


async def test_a_success_between_failures_closes_the_count(backend: Backend) -> None:
    index = await backend.filled(patience=LONG)
    await fail(index, Sign.HOST, 2)
    await ready(index, head(1, image="good"))
    await take(index)
    await tell(index, omen("t-1", Sign.WORKED))
    assert await breakers(index) == {}
    await fail(index, Sign.HOST, 2)
    assert (await breakers(index))[Kind.HOST, "a"].until_ms == 0


async def test_a_word_counts_once_and_for_its_own_take(backend: Backend) -> None:
    index = await backend.filled(patience=LONG)
    await ready(index, head(1))
    await take(index)
    # Of an older epoch than the assignment's; then twice the same; then of what counts no longer.
    await index.settle(1, Changes(omens=[omen("t-1", Sign.HOST, epoch=1)]))
    assert await breakers(index) == {}
    for _ in range(2):
        await tell(index, omen("t-1", Sign.HOST))
    await index.settle(1, Changes(omens=[omen("unknown", Sign.HOST)]))
    assert (await breakers(index))[Kind.HOST, "a"].failures == 1


async def test_one_probe_at_a_time_tries_a_host(backend: Backend) -> None:
    index = await backend.filled(patience=QUICK)
    await fail(index, Sign.HOST)
    await ready(index, *heads(5))
    probe = await eventually(lambda: take(index))
    assert probe == [("t-1", "a")]
    for _ in range(3):
        assert await take(index) == []
    # It failed: open again, for twice as long.
    await tell(index, omen("t-1", Sign.HOST, cause="again"))
    again = (await breakers(index))[Kind.HOST, "a"]
    assert (again.wait_ms, again.probe, again.cause, again.failures) == (120, "", "again", 4)
    assert await take(index) == []
    probe = await eventually(lambda: take(index))
    assert len(probe) == 1
    # It works: closed, and all of the slots are used.
    await tell(index, omen(probe[0][0], Sign.WORKED))
    assert await breakers(index) == {}
    assert len(await take(index)) == 3


async def test_the_wait_has_an_upper_bound(backend: Backend) -> None:
    index = await backend.filled(patience=Patience(failures=1, wait_ms=10, longest_ms=25))
    await fail(index, Sign.HOST, 1)
    waits = []
    for number in range(4):
        await ready(index, head(number))
        assert await eventually(lambda: take(index))
        await tell(index, omen(f"t-{number}", Sign.HOST))
        waits.append((await breakers(index))[Kind.HOST, "a"].wait_ms)
    assert waits == [20, 25, 25, 25]


async def test_only_the_probe_closes_an_open_breaker(backend: Backend) -> None:
    index = await backend.filled(patience=LONG, held=[held(8), held(9)])
    await fail(index, Sign.HOST)
    await tell(index, omen("t-8", Sign.WORKED))
    opened = (await breakers(index))[Kind.HOST, "a"]
    await tell(index, omen("t-9", Sign.HOST))
    late = (await breakers(index))[Kind.HOST, "a"]
    assert (late.failures, late.until_ms, late.wait_ms) == (4, opened.until_ms, opened.wait_ms)


async def test_a_probe_that_said_nothing_is_followed_by_another(backend: Backend) -> None:
    index = await backend.filled(patience=QUICK)
    await fail(index, Sign.HOST)
    await ready(index, *heads(3))
    assert await eventually(lambda: take(index)) == [("t-1", "a")]
    assert await take(index) == []
    await index.settle(1, Changes(released=[Released(execution_id="t-1", epoch=2)], ready=[head(1, epoch=2)]))
    # Even where another host has it by now.
    assert await take(index, seat(1, "b")) == [("t-1", "b")]
    assert await take(index) == [("t-2", "a")]


@pytest.mark.parametrize("sign", [Sign.HOST, Sign.IMAGE])
async def test_one_that_nobody_tries_any_more_closes_by_itself(sign: Sign, backend: Backend) -> None:
    """The jobs that opened it are gone: no probe will come."""
    index = await backend.filled(patience=replace(QUICK, quiet_ms=150))
    await fail(index, sign)
    await index.settle(1, Changes(repair=True))
    (opened,) = (await breakers(index)).values()
    assert opened.until_ms

    async def is_over() -> bool:
        await index.settle(1, Changes(repair=True))
        return not await breakers(index)

    await eventually(is_over)


async def test_one_whose_probe_is_under_way_does_not_close_by_itself(backend: Backend) -> None:
    index = await backend.filled(patience=replace(QUICK, quiet_ms=1))
    await fail(index, Sign.IMAGE)
    await ready(index, head(1, image="bad"))
    await eventually(lambda: take(index))
    # What closes is not asked for how long it waits; so wait for what is longer.
    await asyncio.sleep(0.2)
    await index.settle(1, Changes(repair=True))
    assert (Kind.IMAGE, "bad") in await breakers(index)


async def test_breakers_are_shared(backend: Backend) -> None:
    one, two = await backend.filled(patience=QUICK), backend.index(dispatcher="d2", patience=QUICK)
    await fail(one, Sign.HOST)
    await ready(one, *heads(4))
    assert await eventually(lambda: take(two)) == [("t-1", "a")]
    assert await take(one) == []
    await tell(one, omen("t-1", Sign.WORKED))
    assert len(await take(two)) == 3


# -------------------------------------------------------------------------------------------------------------- images
async def test_heads_of_a_broken_image_are_set_aside_and_others_go_on(backend: Backend) -> None:
    index = await backend.filled(patience=LONG)
    await fail(index, Sign.IMAGE)
    assert set(await breakers(index)) == {(Kind.IMAGE, "bad")}
    mixed = [head(number, image="good" if number % 3 == 0 else "bad") for number in range(1, 10)]
    await ready(index, *mixed)
    assert [name for name, _ in await take(index, seat(20, "a"), seat(20, "b"))] == ["t-3", "t-6", "t-9"]
    survey = await index.survey(1, Question(tasks=["t"], positions=[("t-1", "t"), ("t-2", "t")]))
    assert (survey.tasks["t"].heads, survey.tasks["t"].aside, survey.ready) == (0, 6, {"default": 6})
    assert survey.positions["t-2"].image == "bad"
    # What comes meanwhile is set aside as well, and its newer words hold.
    await ready(index, head(11, image="bad"), head(1, image="bad", epoch=3))
    assert await take(index) == []
    await index.reset_breaker(Kind.IMAGE, "bad")
    takings = await index.take(1, [seat(20)])
    assert ids(takings) == ["t-1", "t-2", "t-4", "t-5", "t-7", "t-8", "t-11"]
    assert takings.items[0].head == head(1, image="bad", epoch=3)
    assert not (await index.take(1, [seat(20)])).troubled
    assert (await index.survey(1, Question(tasks=["t"]))).tasks["t"].aside == 0


async def test_a_head_that_names_another_image_now_comes_back(backend: Backend) -> None:
    index = await backend.filled(patience=LONG)
    await fail(index, Sign.IMAGE)
    await ready(index, *heads(2, image="bad"))
    assert await take(index) == []
    await ready(index, head(2, image="good", epoch=2))
    assert await take(index) == [("t-2", "a")]
    assert (await index.survey(1, Question(tasks=["t"]))).tasks["t"].aside == 1


async def test_an_image_breaks_wherever_its_pulls_fail(backend: Backend) -> None:
    index = await backend.filled(patience=LONG)
    for number, agent in enumerate("abc"):
        await ready(index, head(number, image="bad"))
        await take(index, seat(1, agent))
        await tell(index, omen(f"t-{number}", Sign.IMAGE))
    found = await breakers(index)
    assert found[Kind.IMAGE, "bad"].until_ms
    assert not any(kind is Kind.HOST for kind, _ in found)


async def test_one_probe_at_a_time_tries_an_image(backend: Backend) -> None:
    index = await backend.filled(rules(limits=["held=0"]), patience=QUICK)
    await fail(index, Sign.IMAGE)
    await ready(index, *heads(3, "held", image="bad"), *heads(3, "t", image="bad"), *heads(3, "u", image="bad"))
    seats = [seat(20, "a"), seat(20, "b")]
    first = await eventually(lambda: take(index, *seats))
    assert len(first) == 1
    for _ in range(3):
        assert await take(index, *seats) == []
    await tell(index, omen(first[0][0], Sign.IMAGE))
    assert (await breakers(index))[Kind.IMAGE, "bad"].wait_ms == 120
    second = await eventually(lambda: take(index, *seats), timeout=5)
    assert len(second) == 1
    await tell(index, omen(second[0][0], Sign.WORKED))
    rest: list[tuple[str, str]] = []
    while more := await take(index, *seats):
        rest += more
    assert len({name for name, _ in rest}) == 4
    assert not any(name.startswith("held") for name, _ in rest)


async def test_a_busy_registry_is_left_alone_for_as_long_as_it_says(backend: Backend) -> None:
    index = await backend.filled(patience=QUICK)
    await ready(index, *heads(3, image="bad"))
    await take(index, seat(1))
    await tell(index, omen("t-1", Sign.BUSY, ms=50_000))
    opened = (await breakers(index))[Kind.IMAGE, "bad"]
    assert opened.until_ms - opened.since_ms == 50_000
    await asyncio.sleep(0.07)
    assert await take(index) == []


async def test_a_busy_registry_that_says_nothing_is_left_alone_for_a_while(backend: Backend) -> None:
    index = await backend.filled(patience=LONG)
    await ready(index, head(1, image="bad"))
    await take(index)
    await tell(index, omen("t-1", Sign.BUSY))
    opened = (await breakers(index))[Kind.IMAGE, "bad"]
    assert opened.until_ms - opened.since_ms == LONG.wait_ms


async def test_heads_set_aside_keep_their_place_and_needs(backend: Backend) -> None:
    index = await backend.filled(patience=LONG)
    await fail(index, Sign.IMAGE)
    asks = Needs(cpu_millis=1)
    await ready(
        index, head(1, image="bad", needs=asks), head(3, image="bad", needs=asks), head(2, image="x", needs=asks)
    )
    assert await take(index) == [("t-2", "a")]
    await ready(index, head(4, image="x", needs=asks))
    await index.reset_breaker(Kind.IMAGE, "bad")
    takings = await index.take(1, [seat(20)])
    assert ids(takings) == ["t-1", "t-3", "t-4"]
    assert takings.items[0].head.needs == asks


async def test_heads_set_aside_leave_room_for_those_behind_them(backend: Backend) -> None:
    index = await backend.filled(patience=LONG)
    await fail(index, Sign.IMAGE)
    await index.refill(1, [TaskHeads(task_id="t", heads=heads(1_000, image="bad"), complete=False, version="")])
    for _ in range(3):
        takings = await index.take(1, [seat(20)])
        assert ids(takings) == []
    (low,) = (await index.survey(1, Question(low=True))).low
    assert (low.task_id, low.aside) == ("t", 1_000)
    more = [*heads(1_000, image="bad"), *heads(5, first=2_000, image="good")]
    await index.refill(1, [TaskHeads(task_id="t", heads=more, complete=True, version=low.version)])
    assert ids(await index.take(1, [seat(20)])) == [f"t-{number}" for number in range(2_000, 2_005)]


async def test_a_broken_host_does_not_try_a_broken_image_for_all(backend: Backend) -> None:
    index = await backend.filled(patience=LONG)
    await fail(index, Sign.HOST, agent="b")
    await fail(index, Sign.IMAGE, agent="a")
    await ready(index, head(1, image="bad"), head(2, image="good"))
    assert await take(index, seat(20, "b")) == []
    assert await take(index, seat(20, "b"), seat(20, "a")) == [("t-2", "a")]


# ------------------------------------------------------------------------------------------------------------ fillings
async def test_breakers_outlive_a_rebuild_and_are_forgotten_after_a_flush(backend: Backend) -> None:
    index = await backend.filled(patience=LONG)
    await fail(index, Sign.HOST)
    await fill(index, 2)
    assert set(await breakers(index, 2)) == {(Kind.HOST, "a")}
    backend.flush()
    await fill(index, 3)
    assert await breakers(index, 3) == {}


async def test_a_breaker_is_reset_by_hand(backend: Backend) -> None:
    index = await backend.filled(patience=LONG)
    await fail(index, Sign.HOST)
    for _ in range(2):
        await index.reset_breaker(Kind.HOST, "a")
    await index.reset_breaker(Kind.IMAGE, "unknown")
    assert await breakers(index) == {}
    await ready(index, head(1))
    assert await take(index) == [("t-1", "a")]


@pytest.mark.parametrize("sign", [Sign.HOST, Sign.IMAGE])
async def test_causes_may_be_any_text(sign: Sign, backend: Backend) -> None:
    index = await backend.filled(patience=LONG)
    await ready(index, head(1, image="bad"))
    await take(index)
    cause = 'line\nline "quoted" \u00e9 \\ \t'
    await tell(index, omen("t-1", sign, cause=cause))
    assert [breaker.cause for breaker in (await breakers(index)).values()] == [cause]
