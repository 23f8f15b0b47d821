"""Sending at the reader's pace: how long one may take nothing, and what is sent while there is nothing to send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from typing import TypeVar

from aiohttp import web

T = TypeVar("T")

#: A reader that takes nothing for so many seconds is let go, or it would hold its place for ever.
STALLED = 60.0
#: Seconds of silence after which a sign of life is sent, before which proxies don't close a connection.
QUIET = 15.0
# Seconds for which a connection is kept whose reader has not taken all yet.
_KEPT = 60.0


class Stalled(Exception):
    """The reader takes nothing."""

    def __init__(self) -> None:
        super().__init__(f"the reader took nothing for {STALLED:g} s")


async def taken(request: web.BaseRequest, writing: Awaitable[None]) -> None:
    """Waits until something written is taken, as long as any of it is. Raises `Stalled`, `ConnectionError`."""
    task = asyncio.ensure_future(writing)
    try:
        # It is written in the task's first step; what waits behind that is the taking.
        await asyncio.sleep(0)
        before = _unsent(request)
        while not (await asyncio.wait({task}, timeout=STALLED))[0]:
            unsent = _unsent(request)
            if unsent >= before:
                drop_later(request)
                raise Stalled
            before = unsent
        task.result()
    finally:
        task.cancel()


async def end(request: web.BaseRequest, response: web.StreamResponse) -> None:
    """Ends an answer, which waits for its reader as any writing does. Raises `ConnectionError`."""
    try:
        await taken(request, response.write_eof())
    except Stalled as error:
        raise ConnectionResetError("the answer was cut off") from error


def drop_later(request: web.BaseRequest) -> None:
    """What was not taken may be taken later, with the end behind it; but it is not kept for ever.

    Only for connections that end with this request: closing one waits for its reader, without a bound.
    """
    if request.transport is not None:
        asyncio.get_running_loop().call_later(_KEPT, request.transport.abort)


def _unsent(request: web.BaseRequest) -> int:
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the reader has gone")
    return transport.get_write_buffer_size()


async def with_pauses(events: AsyncIterator[T], quiet: float) -> AsyncGenerator[T | None]:
    """The same events, and None after each `quiet` seconds without one."""
    following: asyncio.Future[T] | None = None
    try:
        while True:
            following = asyncio.ensure_future(anext(events))
            while not (await asyncio.wait({following}, timeout=quiet))[0]:
                yield None
            try:
                event = following.result()
            except StopAsyncIteration:
                return
            yield event
    finally:
        if following is not None:
            following.cancel()
            # Also where it has ended meanwhile: an end that nobody looked at is logged as an error.
            await asyncio.gather(following, return_exceptions=True)
