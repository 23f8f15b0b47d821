"""Large bodies and answers: few at once, and never in the way of small ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from easyq_gateway.gate import Gate

T = TypeVar("T")

#: Bodies above this count as large while they are read.
LARGE_BODY = 1024 * 1024
# Work on more than this is done beside the event loop, so that it holds up nobody; not too much of it at once, since
# a tree of small values takes many times the memory of its text.
_LARGE_WORK = 128 * 1024
_WORK_AT_ONCE = 2


class Large:
    """Shared by all that serve one address: at most `most_bodies` large bodies are held at a time."""

    def __init__(self, most_bodies: int) -> None:
        self._bodies = Gate(most_bodies, "large bodies")
        self._work = asyncio.Semaphore(_WORK_AT_ONCE)

    @contextmanager
    def body(self, length: int | None, most: int) -> Iterator[None]:
        """Counts a body of `length` bytes (None: not known, up to `most`) while it is held, if it is a large one.

        Raises `ResourceExhausted` where too many are.
        """
        if (most if length is None else length) <= LARGE_BODY:
            yield
            return
        with self._bodies.entered():
            yield

    async def run(self, work: Callable[[], T], *, size: int) -> T:
        """Does `work` on `size` bytes: at once where they are few, else in a thread."""
        if size < _LARGE_WORK:
            return work()
        async with self._work:
            return await asyncio.to_thread(work)
