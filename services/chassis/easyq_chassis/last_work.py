"""Blocking work at the end of a process, for which nobody waits longer than so many seconds."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress


async def do_last(name: str, work: Callable[[], object], *, seconds: float) -> None:
    """Returns when `work` has ended, whatever it raises, or after `seconds`.

    It is done by a daemon thread: for one of an executor, as `asyncio.to_thread` has it, the end of the event loop, and
    then that of the process, would wait all the same.
    """
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def run() -> None:
        try:
            with suppress(Exception):
                work()
        finally:
            # After those seconds there may be no loop any more.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(done.set)

    threading.Thread(target=run, name=name, daemon=True).start()
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await done.wait()
