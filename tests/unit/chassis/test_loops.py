import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest
from structlog.testing import capture_logs

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
    await asyncio.wait_for(done.wait(), 5)
    await loop.stop()


async def test_a_wake_cuts_the_wait_short() -> None:
    run_once, done = _counting(2)
    loop = Loop("test", run_once, interval=3600)
    loop.start()
    await asyncio.sleep(0)
    loop.wake()
    await asyncio.wait_for(done.wait(), 5)
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
    await asyncio.wait_for(twice.wait(), 5)
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
    await asyncio.wait_for(done.wait(), 5)
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
    await asyncio.wait_for(started.wait(), 5)
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
    await asyncio.wait_for(loop.stop(), 5)


@pytest.mark.parametrize(
    ("error", "traced"),
    [(Unavailable("away"), False), (DeadlineExceeded("too slow"), False), (ValueError("ours"), True)],
)
async def test_only_a_fault_of_ours_is_told_with_its_stack(error: Exception, traced: bool) -> None:
    again = asyncio.Event()
    failed = False

    async def run_once() -> None:
        nonlocal failed
        if not failed:
            failed = True
            raise error
        again.set()

    loop = Loop("test", run_once, interval=3600)
    with capture_logs() as lines:
        loop.start()
        await asyncio.wait_for(again.wait(), 5)
        await loop.stop()
    [line] = [line for line in lines if line["event"] == "loop_failed"]
    assert line["exc_info"] is traced
