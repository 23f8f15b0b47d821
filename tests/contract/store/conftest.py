"""Every backend of the store's persistence port. A test that takes `store` runs once on each."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol

import pytest

from easyq_store.adapters.observed import ObservedPersistence
from easyq_store.ports import Persistence
from easyq_store.usecases.feed import Feed
from easyq_store.usecases.stats import Statistics
from tests.fakes.store import FakePersistence


class Backend(Protocol):
    """Opens the same database each time it is called (one after the other), and closes it at the end."""

    def __call__(self) -> AbstractAsyncContextManager[Persistence]: ...


def fake(*, atomic: bool) -> Backend:
    kept = FakePersistence(atomic=atomic)

    @asynccontextmanager
    async def opened() -> AsyncIterator[Persistence]:
        kept.away = False
        await kept.open()
        yield kept
        await kept.close()

    return opened


def sqlite(folder: Path) -> Backend:
    from easyq_store.adapters.sqlite import SqlitePersistence

    @asynccontextmanager
    async def opened() -> AsyncIterator[Persistence]:
        persistence = SqlitePersistence(folder / "store.db")
        await persistence.open()
        yield persistence
        await persistence.close()

    return opened


def mongo(url: str) -> Backend:
    from easyq_store.adapters.mongo import MongoPersistence

    @asynccontextmanager
    async def opened() -> AsyncIterator[Persistence]:
        persistence = MongoPersistence(url)
        await persistence.open()
        yield persistence
        await persistence.close()

    return opened


def watched(inner: Backend) -> Backend:
    """The same while somebody watches what is written."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Persistence]:
        feed = Feed(now=lambda: 0, new_boot=lambda: "boot")
        async with inner() as persistence:
            with feed.read():
                yield ObservedPersistence(persistence, feed)
            feed.close()

    return opened


def counted(inner: Backend) -> Backend:
    """The same while nobody watches, and what is written is counted."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Persistence]:
        feed = Feed(now=lambda: 0, new_boot=lambda: "boot")
        async with inner() as persistence:
            yield ObservedPersistence(persistence, feed, count=Statistics(lambda: 0).take)

    return opened


@pytest.fixture(params=["fake", "fake-in-steps", "sqlite", "sqlite-watched", "sqlite-counted", "mongo"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """The database of this test, closed."""
    match request.param:
        case "fake":
            return fake(atomic=True)
        case "fake-in-steps":
            return fake(atomic=False)
        case "sqlite":
            return sqlite(tmp_path)
        case "sqlite-watched":
            return watched(sqlite(tmp_path))
        case "sqlite-counted":
            return counted(sqlite(tmp_path))
        case "mongo":
            return mongo(request.getfixturevalue("mongo_url"))
        case other:
            raise AssertionError(other)


@pytest.fixture
async def store(backend: Backend) -> AsyncIterator[Persistence]:
    """The database of this test, opened and empty."""
    async with backend() as persistence:
        yield persistence
