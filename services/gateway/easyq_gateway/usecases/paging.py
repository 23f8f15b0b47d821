"""Calls that go through many pages of the store within one request."""

from __future__ import annotations

import asyncio

from easyq_chassis.errors import DeadlineExceeded
from easyq_gateway import deadline

#: Jobs that the store looks at in one call.
PAGE = 500
_FOREVER = 1e9
_LEAST = 0.5


class TimeLeft:
    """Ends a loop over pages while there is time to say how far it came."""

    def __init__(self) -> None:
        self._began = asyncio.get_running_loop().time()
        self._slowest = 0.0

    def require(self, done: str) -> None:
        """Called after each page. Raises `DeadlineExceeded` with `done` where another one may come too late."""
        now = asyncio.get_running_loop().time()
        self._slowest, self._began = max(self._slowest, now - self._began), now
        if deadline.remaining(_FOREVER) < max(_LEAST, 2 * self._slowest):
            raise DeadlineExceeded(f"{done}, and there are more: the same call again goes on with them")
