"""How long the request at hand may still take, for calls made on its behalf."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar

from easyq_chassis.errors import DeadlineExceeded

_limit: ContextVar[asyncio.Timeout | None] = ContextVar("easyq_gateway_deadline", default=None)


@asynccontextmanager
async def within(seconds: float) -> AsyncIterator[None]:
    """Limits what is done inside. Raises `DeadlineExceeded` when the time is over."""
    limit = asyncio.timeout(seconds)
    token = _limit.set(limit)
    try:
        async with limit:
            yield
    except TimeoutError as error:
        raise DeadlineExceeded(
            f"the request took longer than {seconds:g} s; whether it took effect is not known (asking again is safe "
            "where an id or an idempotency key was given)"
        ) from error
    finally:
        _limit.reset(token)


def remaining(most: float) -> float:
    """Returns the seconds left to the request at hand, at most `most`."""
    ends = _ends()
    return most if ends is None else max(0.0, min(most, ends - asyncio.get_running_loop().time()))


def extend(seconds: float) -> None:
    """Gives the request at hand so much more time: it asked to wait."""
    limit, ends = _limit.get(), _ends()
    if limit is not None and ends is not None:
        limit.reschedule(ends + seconds)


def _ends() -> float | None:
    limit = _limit.get()
    return None if limit is None else limit.when()
