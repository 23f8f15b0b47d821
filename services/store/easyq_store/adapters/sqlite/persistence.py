"""A SQLite file as the store's database."""

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from easyq_chassis.errors import EasyQError, Unavailable
from easyq_chassis.metrics import REGISTRY
from easyq_store.adapters.sqlite.connect import connect
from easyq_store.adapters.sqlite.disk import Disk, free, full, is_full
from easyq_store.adapters.sqlite.errors import translated
from easyq_store.adapters.sqlite.lock import FileLock
from easyq_store.adapters.sqlite.reads import SqliteReads
from easyq_store.adapters.sqlite.schema import MIGRATIONS, bring_forward
from easyq_store.adapters.sqlite.writer import Writer
from easyq_store.ports import Plan

R = TypeVar("R")

_FREE = REGISTRY.gauge(
    "easyq.store.disk.free", "Bytes free on the disk of the database's file.", unit="By", labels=("folder",)
)


class SqlitePersistence:
    """`easyq_store.ports.Persistence` on one file, which one process holds at a time."""

    def __init__(self, path: Path, *, migrations: Sequence[str] = MIGRATIONS) -> None:
        self._path = path
        self._migrations = migrations
        self._lock = FileLock(path.with_name(path.name + ".lock"))
        self._writer: Writer | None = None
        self._reads: SqliteReads | None = None
        self._unwatch: Callable[[], None] = _nothing

    @property
    def reads(self) -> SqliteReads:
        if self._reads is None:
            raise Unavailable("the database is not open")
        return self._reads

    async def open(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock.acquire()
            # Environments of jobs hold secrets. SQLite gives its further files the permissions of this one.
            self._path.touch(mode=0o600)
        except OSError as error:
            self._lock.release()
            if is_full(self._path, error):
                raise full(self._path) from error
            raise Unavailable(f"the folder of the database can't be used: {error}") from error
        try:
            connection = connect(self._path, writes=True)
            bring_forward(connection, self._migrations)
            writer = Writer(connection, Disk(self._path))
        except EasyQError:
            self._lock.release()
            raise
        except sqlite3.Error as error:
            self._lock.release()
            raise (full(self._path) if is_full(self._path, error) else translated(error)) from error
        writer.start()
        self._unwatch = _FREE.watch(self._room)
        self._connection = connection
        self._writer = writer
        self._reads = SqliteReads(self._path, lambda: writer.last_seq)

    async def close(self) -> None:
        writer, self._writer = self._writer, None
        reads, self._reads = self._reads, None
        if writer is None or reads is None:
            return
        self._unwatch()
        await writer.stop()
        reads.close()
        self._connection.close()
        self._lock.release()

    def _room(self) -> dict[tuple[str, ...], float]:
        return {(str(self._path.parent),): free(self._path)}

    async def run(self, plan: Plan[R]) -> R:
        (result,) = await self.run_all([plan])
        if isinstance(result, EasyQError):
            raise result
        return result

    async def run_all(self, plans: Sequence[Plan[R]]) -> list[R | EasyQError]:
        if self._writer is None:
            raise Unavailable("the database is not open")
        return await self._writer.run_all(plans)


def _nothing() -> None:
    """There is no gauge yet."""
