"""Waiting for the first of several things."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def first_of(*things: Coroutine[Any, Any, object], timeout: float | None = None) -> None:
    """Returns as soon as one of them ends, or after `timeout` seconds; the others are cancelled.

    What the ended one raised is raised.
    """
    tasks = [asyncio.ensure_future(thing) for thing in things]
    try:
        done, _ = await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for task in done:
        task.result()


class Changes:
    """A value of somebody's has changed: wakes all that wait, each time."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def announce(self) -> None:
        """Wakes everybody who waits now."""
        self._event.set()
        self._event = asyncio.Event()

    def wait(self) -> Coroutine[Any, Any, object]:
        """Ends at the next announcement from this call on, whenever it is awaited."""
        return self._event.wait()
