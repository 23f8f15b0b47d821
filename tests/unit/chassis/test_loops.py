import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from easyq_chassis import outages
from easyq_chassis.errors import DeadlineExceeded, Unavailable
from easyq_chassis.loops import Loop


def _counting(until: int, delay: float | None = 3600.0) -> tuple[Callable[[], Awaitable[float | None]], asyncio.Event]:
    runs, done = 0, asyncio.Event()

    async def run_once() -> float | None:
        nonlocal runs
        runs += 1
        if runs >= until:
            done.set()
        return delay

    return run_once, done


async def test_runs_at_once_and_again_after_what_a_run_asks_for() -> None:
    run_once, done = _counting(3, delay=0)
    loop = Loop("test", run_once, interval=3600)
    loop.start()
    await asyncio.wait_for(done.wait(), 30)
    await loop.stop()


async def test_a_wake_cuts_the_wait_short() -> None:
    run_once, done = _counting(2)
    loop = Loop("test", run_once, interval=3600)
    loop.start()
    await asyncio.sleep(0)
    loop.wake()
    await asyncio.wait_for(done.wait(), 30)
    await loop.stop()


async def test_a_wake_during_a_run_is_not_lost() -> None:
    runs, twice = 0, asyncio.Event()

    async def run_once() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            loop.wake()
        else:
            twice.set()

    loop = Loop("test", run_once, interval=3600)
    loop.start()
    await asyncio.wait_for(twice.wait(), 30)
    await loop.stop()


async def test_outlives_errors() -> None:
    runs, done = 0, asyncio.Event()

    async def run_once() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise ValueError("once")
        done.set()

    loop = Loop("test", run_once, interval=3600)
    loop.start()
    await asyncio.wait_for(done.wait(), 30)
    await loop.stop()


async def test_stop_cancels_a_run_under_way() -> None:
    cancelled, started = asyncio.Event(), asyncio.Event()

    async def run_once() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    loop = Loop("test", run_once, interval=1)
    loop.start()
    await asyncio.wait_for(started.wait(), 30)
    await loop.stop()
    assert cancelled.is_set()


async def test_stops_although_a_run_swallows_the_cancellation() -> None:
    waiting = asyncio.Event()

    async def run_once() -> None:
        waiting.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    loop = Loop("test", run_once, interval=3600)
    loop.start()
    await waiting.wait()
    await asyncio.wait_for(loop.stop(), 30)


async def _told_of(failures: list[Exception], monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is logged where a loop fails so, one run after the other, and then works."""
    monkeypatch.setattr("easyq_chassis.loops._FIRST_BACKOFF", 0.001)
    again = asyncio.Event()

    async def run_once() -> None:
        if failures:
            raise failures.pop(0)
        again.set()

    loop = Loop("test", run_once, interval=3600)
    with capture_logs() as lines:
        loop.start()
        await asyncio.wait_for(again.wait(), 30)
        await loop.stop()
    return lines


async def test_a_fault_of_ours_is_told_with_its_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    failed, recovered = await _told_of([ValueError("ours")], monkeypatch)
    assert (failed["event"], failed["exc_info"], failed["failures"]) == ("loop_failed", True, 1)
    assert recovered["event"] == "loop_recovered"


@pytest.mark.parametrize("error", [Unavailable("away"), DeadlineExceeded("too slow")])
async def test_what_goes_on_failing_is_told_without_one(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await _told_of([error] * 2, monkeypatch) == []
    lines = await _told_of([error] * 3, monkeypatch)
    assert [line["event"] for line in lines] == ["loop_failed", "loop_recovered"]
    assert not lines[0].get("exc_info")


async def test_of_a_neighbour_that_is_away_others_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    store = outages.Neighbour("store")
    monkeypatch.setattr(outages, "_neighbours", {"store": store})
    store.failed("away")
    assert await _told_of([Unavailable("away")] * 5, monkeypatch) == []
