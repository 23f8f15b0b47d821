"""Who is stalled: a reader that takes nothing, not one that takes little."""

import asyncio
import gc
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from easyq_gateway.rest import pace
from tests.support.waiting import eventually


class Wire:
    """A transport whose buffer holds what was written and was not taken yet."""

    def __init__(self) -> None:
        self.unsent = 0
        self.aborted = False
        self.room = asyncio.Event()
        self.request: Any = SimpleNamespace(transport=self)

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def abort(self) -> None:
        self.aborted = True

    async def write(self, size: int) -> None:
        self.unsent += size
        await self.room.wait()


async def test_a_reader_that_takes_little_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "STALLED", 0.05)
    wire = Wire()
    sending = asyncio.create_task(pace.taken(wire.request, wire.write(10)))
    wait = asyncio.wait

    async def waiting(*arguments: Any, **options: Any) -> Any:
        # Within each time a byte is taken.
        wire.unsent -= 1
        if wire.unsent == 4:
            wire.room.set()
        return await wait(*arguments, **options)

    monkeypatch.setattr(asyncio, "wait", waiting)
    await sending
    assert wire.unsent == 4
    assert not wire.aborted


async def test_a_reader_that_takes_nothing_is_stalled_and_dropped_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "STALLED", 0.05)
    monkeypatch.setattr(pace, "_KEPT", 0.0)
    wire = Wire()
    with pytest.raises(pace.Stalled):
        await pace.taken(wire.request, wire.write(10))
    await eventually(lambda: wire.aborted)


async def test_a_reader_that_has_gone() -> None:
    wire = Wire()
    wire.request.transport = None
    with pytest.raises(ConnectionResetError):
        await pace.taken(wire.request, wire.write(1))


async def test_pauses_between_events() -> None:
    more = asyncio.Event()

    async def events() -> AsyncIterator[int]:
        yield 1
        await more.wait()
        yield 2

    seen: list[int | None] = []
    async for event in pace.with_pauses(events(), 0.01):
        seen.append(event)
        if seen.count(None) == 2:
            more.set()
    assert (seen[0], seen[-1]) == (1, 2)
    assert seen.count(None) >= 2


async def test_a_reader_that_leaves_as_the_events_end_leaves_no_error_behind() -> None:
    over = asyncio.Event()

    async def events() -> AsyncIterator[int]:
        await over.wait()
        for number in range(0):
            yield number

    lost: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: lost.append(context))
    paced = pace.with_pauses(events(), 0.01)
    assert await anext(paced) is None
    over.set()
    # The end is there now, and nobody has taken it.
    for _ in range(3):
        await asyncio.sleep(0)
    await paced.aclose()
    del paced
    gc.collect()
    assert lost == []
