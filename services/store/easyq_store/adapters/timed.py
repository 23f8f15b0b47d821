"""Any database, with the time that it takes measured. No use case knows of it."""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar, cast

from easyq_chassis.errors import EasyQError, Unavailable
from easyq_chassis.metrics import REGISTRY, Registry
from easyq_chassis.metrics.databases import databases
from easyq_chassis.outages import neighbour
from easyq_store.ports import Persistence, Plan, Reads

R = TypeVar("R")


class TimedPersistence:
    """`easyq_store.ports.Persistence` around another one. `system`: sqlite or mongodb."""

    def __init__(self, inner: Persistence, system: str, registry: Registry = REGISTRY) -> None:
        self._inner = inner
        self._system = system
        self._durations = databases(registry)
        self._database = neighbour("database")
        self._reads = cast("Reads", _TimedReads(inner, self._read))

    @property
    def reads(self) -> Reads:
        return self._reads

    async def open(self) -> None:
        await self._inner.open()

    async def close(self) -> None:
        await self._inner.close()

    async def run(self, plan: Plan[R]) -> R:
        result = await self._timed(_name(plan), self._inner.run(plan))
        self._database.answered()
        return result

    async def run_all(self, plans: Sequence[Plan[R]]) -> list[R | EasyQError]:
        return await self._timed(_name(plans[0]), self._inner.run_all(plans)) if plans else []

    async def _read(self, name: str, work: Awaitable[R]) -> R:
        asked = time.monotonic()
        try:
            found = await self._timed(name, work)
        except Unavailable as error:
            # Of a plan it may be the plan's own word.
            self._database.failed(error.message, asked=asked)
            raise
        self._database.answered()
        return found

    async def _timed(self, name: str, work: Awaitable[R]) -> R:
        began = time.perf_counter()
        problem = ""
        try:
            return await work
        except BaseException as error:
            problem = type(error).__name__
            raise
        finally:
            self._durations.record(time.perf_counter() - began, self._system, name, problem)


class _TimedReads:
    """`Reads`, each method measured."""

    def __init__(self, inner: Persistence, timed: Callable[[str, Awaitable[Any]], Awaitable[Any]]) -> None:
        self._inner = inner
        self._timed = timed

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        if name.startswith("_"):
            raise AttributeError(name)
        inner, timed = self._inner, self._timed

        def measured(*arguments: Any, **named: Any) -> Awaitable[Any]:
            return timed(name, getattr(inner.reads, name)(*arguments, **named))

        # Found at once from now on.
        setattr(self, name, measured)
        return measured


def _name(plan: Any) -> str:
    """A plan is called after the use case that it is of: `submit`, `assign`, `report`."""
    return str(getattr(plan, "func", plan).__module__).rpartition(".")[2]
