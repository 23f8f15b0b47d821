"""What plans that run beside each other in one process share: turns at a record, and round trips."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Turns:
    """One at a time for each key. For thrift only: between processes, compare-and-set is what holds."""

    def __init__(self) -> None:
        self._locks: dict[Hashable, asyncio.Lock] = {}
        self._users: Counter[Hashable] = Counter()

    @asynccontextmanager
    async def at(self, key: Hashable) -> AsyncIterator[None]:
        """Waits for the key's turn and keeps it."""
        lock = self._locks.setdefault(key, asyncio.Lock())
        self._users[key] += 1
        try:
            async with lock:
                yield
        finally:
            self._users[key] -= 1
            if not self._users[key]:
                del self._users[key], self._locks[key]


class Together(Generic[Item, Result]):
    """Calls that come while one is under way go together in the next: the first waits for nobody.

    `run` gets their items, at most `most`, and returns one result or error for each; what it raises is the answer
    to all of them. A caller that is cancelled gives up its answer only: its item may take effect.
    """

    def __init__(self, run: Callable[[Sequence[Item]], Awaitable[Sequence[Result | Exception]]], most: int) -> None:
        self._run = run
        self._most = most
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._task: asyncio.Task[None] | None = None

    async def call(self, item: Item) -> Result:
        """The item's own result. Errors: its own, or its round's."""
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        if self._task is None:
            self._task = asyncio.create_task(self._rounds())
        return await answer

    async def _rounds(self) -> None:
        try:
            while self._waiting:
                calls, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
                results = await self._round([item for item, _ in calls])
                for (_, answer), result in zip(calls, results, strict=True):
                    if answer.done():
                        continue
                    if isinstance(result, Exception):
                        answer.set_exception(result)
                    else:
                        answer.set_result(result)
        finally:
            self._task = None

    async def _round(self, items: Sequence[Item]) -> Sequence[Result | Exception]:
        try:
            return await self._run(items)
        except Exception as error:  # noqa: BLE001 - each caller raises it
            return [error] * len(items)
