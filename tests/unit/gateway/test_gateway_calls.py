"""Who is away, and who is only slow: what is said where patience ends."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from easyq_chassis.errors import Unavailable
from easyq_gateway.adapters import calls
from easyq_gateway.adapters.calls import Silent, patiently

AWAY = r"the store can't be reached now \(it restarts\)"
SLOW = "the store did not answer in time"


def attempts(*outcomes: Exception) -> Callable[[float], Awaitable[None]]:
    """They end so, one after the other; those after them take for ever."""
    left = iter(outcomes)

    async def attempt(_: float) -> None:
        if (outcome := next(left, None)) is not None:
            raise outcome
        await asyncio.Event().wait()

    return attempt


@pytest.mark.parametrize(
    ("outcomes", "said"),
    [
        ([], SLOW),
        ([Silent("no answer")], SLOW),
        # The last one begins too late to find out that nobody is there.
        ([Unavailable("it restarts")], AWAY),
    ],
)
async def test_what_is_said_of_one_who_does_not_answer(outcomes: list[Exception], said: str) -> None:
    with pytest.raises(Unavailable, match=said) as told:
        await patiently("store", attempts(*outcomes), patience=0.2)
    assert told.value.retry_after == 2.0


async def test_who_was_away_and_then_took_the_connection_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "_KNOCK", 0)
    with pytest.raises(Unavailable, match=SLOW):
        await patiently("store", attempts(Unavailable("it restarts")), patience=2)


async def test_who_is_there_again_in_time_is_not_told() -> None:
    async def attempt(left: float) -> float:
        if left > 59.9:
            raise Unavailable("it restarts")
        return left

    assert 0 < await patiently("store", attempt, patience=60) <= 59.9
