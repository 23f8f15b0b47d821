"""What plans that run beside each other share: round trips, and turns at a record."""

import asyncio
from collections.abc import Sequence

import pytest

from easyq_chassis.errors import Unavailable
from easyq_store.adapters.mongo_together import Together, Turns


class Rounds:
    """A server that answers a round once it is let."""

    def __init__(self, most: int = 3) -> None:
        self.seen: list[list[int]] = []
        self.let = asyncio.Semaphore(0)
        self.together: Together[int, int] = Together(self._run, most)

    async def _run(self, items: Sequence[int]) -> Sequence[int | Exception]:
        self.seen.append(list(items))
        await self.let.acquire()
        if 13 in items:
            raise Unavailable("the whole round is lost")
        return [Unavailable("odd") if item == 7 else item * 10 for item in items]

    async def call(self, *items: int) -> list[asyncio.Task[int]]:
        tasks = [asyncio.create_task(self.together.call(item)) for item in items]
        # Each has run up to its wait.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return tasks


async def test_the_first_goes_at_once_and_those_that_come_meanwhile_go_together() -> None:
    rounds = Rounds()
    first = await rounds.call(1)
    others = await rounds.call(2, 3, 4, 5)
    assert rounds.seen == [[1]]
    for _ in range(3):
        rounds.let.release()
    assert await asyncio.gather(*first, *others) == [10, 20, 30, 40, 50]
    assert rounds.seen == [[1], [2, 3, 4], [5]]
    again = await rounds.call(6)
    rounds.let.release()
    assert await again[0] == 60


async def test_an_error_is_its_items_or_its_rounds() -> None:
    rounds = Rounds()
    tasks = await rounds.call(1)
    tasks += await rounds.call(7, 2)
    for _ in range(2):
        rounds.let.release()
    one, odd, two = await asyncio.gather(*tasks, return_exceptions=True)
    assert (one, two) == (10, 20)
    assert isinstance(odd, Unavailable)
    assert odd.message == "odd"
    tasks = await rounds.call(13)
    tasks += await rounds.call(14)
    for _ in range(2):
        rounds.let.release()
    lost, after = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(lost, Unavailable)
    assert after == 140


async def test_one_who_gives_up_does_not_disturb_the_others() -> None:
    rounds = Rounds()
    tasks = await rounds.call(1)
    tasks += await rounds.call(2, 3)
    tasks[0].cancel()
    tasks[1].cancel()
    for _ in range(2):
        rounds.let.release()
    assert await tasks[2] == 30
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]


async def test_turns_at_one_key_are_taken_one_by_one() -> None:
    turns = Turns()
    order: list[str] = []

    async def use(key: str, name: str, until: asyncio.Event) -> None:
        async with turns.at(key):
            order.append(f"{name} in")
            await until.wait()
            order.append(f"{name} out")

    first_may_go, other_may_go = asyncio.Event(), asyncio.Event()
    other_may_go.set()
    first = asyncio.create_task(use("a", "first", first_may_go))
    second = asyncio.create_task(use("a", "second", other_may_go))
    # Both have run up to their waits.
    await asyncio.sleep(0)
    await use("b", "other", other_may_go)
    assert order == ["first in", "other in", "other out"]
    first_may_go.set()
    await asyncio.gather(first, second)
    assert order[3:] == ["first out", "second in", "second out"]


async def test_a_turn_that_failed_or_was_given_up_is_over() -> None:
    turns = Turns()
    with pytest.raises(ValueError, match="no"):
        async with turns.at("a"):
            raise ValueError("no")
    async with turns.at("a"):
        waiting = asyncio.create_task(turns.at("a").__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    async with asyncio.timeout(30), turns.at("a"):
        pass
