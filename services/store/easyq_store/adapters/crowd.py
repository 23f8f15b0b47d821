"""How much a database may have under way, however slow it is: what it doesn't get through must not gather in memory."""

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

from easyq_chassis.errors import Unavailable

R = TypeVar("R")

# Plans under way. The largest batches of all gateways together stay below it; about 20 KB each with MongoDB.
MOST_PLANS = 10_000
# Of these, such as nobody waits for any more.
MOST_LEFT = 1_000
# Seconds until those who are refused should come again.
_COME_AGAIN = 1.0


class Crowd:
    """Counts plans under way, and those of them whose callers have left while they go on."""

    def __init__(self, *, most: int = MOST_PLANS, most_left: int = MOST_LEFT) -> None:
        self._most = most
        self._most_left = most_left
        self.plans = 0
        self.left = 0
        # Held here, since nobody else may hold them.
        self._running: set[asyncio.Task[Any]] = set()

    def refusal(self, count: int) -> Unavailable | None:
        """Why so many more plans are not begun now; None: they may be. A single crowd of more comes in alone."""
        if self.left < self._most_left and (not self.plans or self.plans + count <= self._most):
            return None
        message = f"the database does not keep up: {self.plans} plans are under way, {self.left} of callers that left"
        return Unavailable(message, retry_after=_COME_AGAIN)

    async def to_its_end(self, work: Coroutine[Any, Any, R], count: int) -> R:
        """Runs work of so many plans, to its end also where its caller is cancelled meanwhile."""
        task = asyncio.create_task(work)
        self._running.add(task)
        self.plans += count
        left = 0

        def ended(_: asyncio.Task[R]) -> None:
            self._running.discard(task)
            self.plans -= count
            self.left -= left
            if not task.cancelled():
                # Looked at, so that asyncio doesn't complain where the caller has gone.
                task.exception()

        task.add_done_callback(ended)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.done():
                left = count
                self.left += count
            raise

    async def with_its_caller(self, work: Awaitable[R], count: int) -> R:
        """Runs work of so many plans, as long as its caller does."""
        self.plans += count
        try:
            return await work
        finally:
            self.plans -= count
