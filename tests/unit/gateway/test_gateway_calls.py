"""How long a service that is away is waited for, and what is said of it at last."""

import asyncio

import pytest

from easyq_chassis.errors import Unavailable
from easyq_gateway.adapters.calls import patiently


@pytest.fixture
def without_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine, there is time for another attempt."""
    monkeypatch.setattr("easyq_gateway.adapters.calls._FIRST_PAUSE", 0.0)


@pytest.mark.usefixtures("without_pause")
async def test_the_last_attempt_gets_too_little_time_to_tell_anything() -> None:
    """What was heard before is what is said."""
    attempts = 0

    async def attempt(_left: float) -> None:
        nonlocal attempts
        attempts += 1
        if attempts > 1:
            await asyncio.Event().wait()
        raise Unavailable("it is being moved")

    with pytest.raises(Unavailable, match=r"^the store can't be reached now \(it is being moved\)$"):
        await patiently("store", attempt, patience=0.1)
    assert attempts == 2


async def test_a_service_that_says_nothing_in_all_the_time() -> None:
    async def attempt(_left: float) -> None:
        await asyncio.Event().wait()

    with pytest.raises(Unavailable, match=r"^the store did not answer in time"):
        await patiently("store", attempt, patience=0.05)


@pytest.mark.usefixtures("without_pause")
async def test_a_service_that_comes_back_and_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("easyq_gateway.adapters.calls._A_MOMENT", 0.01)
    attempts = 0

    async def attempt(_left: float) -> None:
        nonlocal attempts
        attempts += 1
        if attempts > 1:
            await asyncio.Event().wait()
        raise Unavailable("it is being moved")

    with pytest.raises(Unavailable, match=r"^the store did not answer in time"):
        await patiently("store", attempt, patience=0.2)
