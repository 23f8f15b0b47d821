"""Tells readers in this process that something happened. May miss; a slow poll is the guarantee."""

import asyncio
from collections import defaultdict
from types import TracebackType


class News:
    """Wakes those who wait for news of an execution or a job, by its id."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = defaultdict(set)

    def tell(self, *ids: str) -> None:
        """Wakes everyone who listens to one of the ids."""
        for id_ in ids:
            for event in self._waiting.get(id_, ()):
                event.set()

    def listen(self, *ids: str) -> "Listener":
        """A listener to these ids, for use in a `with` block."""
        return Listener(self._waiting, ids)


class Listener:
    """Listens from when it is entered, so that nothing told between a look and a wait is missed."""

    def __init__(self, waiting: dict[str, set[asyncio.Event]], ids: tuple[str, ...]) -> None:
        self._waiting = waiting
        self._ids = ids
        self._event = asyncio.Event()

    def __enter__(self) -> "Listener":
        for id_ in self._ids:
            self._waiting[id_].add(self._event)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for id_ in self._ids:
            listeners = self._waiting[id_]
            listeners.discard(self._event)
            if not listeners:
                del self._waiting[id_]

    def look(self) -> None:
        """Forgets what was told so far: call it before looking for oneself."""
        self._event.clear()

    async def wait(self, seconds: float) -> None:
        """Returns when something is told after the last `look`, or after this many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return
