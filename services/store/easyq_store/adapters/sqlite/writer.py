"""The one writer: runs plans in the order in which they came and commits many of them together.

It has a thread of its own, so that neither the disk nor a long plan holds up the event loop. All plans that come while
one commit is under way go with the next: the first waits for nobody, and under load the commits grow by themselves.

A plan that fails is undone alone. Few do, so a transaction begins without the savepoints that this takes (a tenth of
what a plan costs); where one fails after all, the transaction is run again with a savepoint for each plan, and so are
the next ones.
"""

import asyncio
import contextlib
import sqlite3
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from easyq_chassis.errors import EasyQError, Internal, Unavailable
from easyq_chassis.logs import get_logger
from easyq_store.adapters.sqlite.disk import Disk
from easyq_store.adapters.sqlite.errors import translated
from easyq_store.adapters.sqlite.lookups import Tables
from easyq_store.adapters.sqlite.steps import SET_META, Places, SqliteSteps
from easyq_store.adapters.sqlite.tally import Tally
from easyq_store.failures import DiskFull
from easyq_store.ports import Plan

R = TypeVar("R")


class _NotUndone(Exception):
    """A plan failed that has no savepoint to go back to."""


# Plans in one transaction, after which those who came first get their answers.
_AT_ONCE = 500
# Places in line that are set aside on disk at a time, and how many of them a transaction must find there.
_SET_ASIDE = 100_000
_AT_LEAST = 10_000
# Transactions with savepoints after one that had to be run again: whoever sends a plan that fails may send more.
_WARY = 50


@dataclass(frozen=True, slots=True)
class _Order:
    plans: Sequence[Plan[Any]]
    answer: asyncio.Future[list[Any]]


class Writer:
    """Owns the connection that writes."""

    def __init__(self, connection: sqlite3.Connection, disk: Disk) -> None:
        self._connection = connection
        self._disk = disk
        self._tally = Tally()
        self._places = Places()
        tables = Tables(connection)
        self._places.given = self._places.lease = tables.meta("seq")
        self._tables = tables
        self._steps = SqliteSteps(tables, self._tally, self._places)
        self._orders: deque[_Order] = deque()
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sqlite-write")
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        # Transactions that are yet to have savepoints.
        self._wary = 0
        # Highest place in line of all transactions that are committed.
        self.last_seq = self._places.given

    def start(self) -> None:
        """Begins to work."""
        self._task = asyncio.create_task(self._work(), name="sqlite-writer")

    async def stop(self) -> None:
        """Works off what was ordered, then ends."""
        self._closing = True
        self._arrived.set()
        if self._task is not None:
            await self._task
        self._thread.shutdown()

    async def run_all(self, plans: Sequence[Plan[R]]) -> list[R | EasyQError]:
        """Runs plans with the next transaction; durable on return."""
        if self._closing:
            raise Unavailable("the database is being closed")
        if not plans:
            return []
        answer: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._orders.append(_Order(plans, answer))
        self._arrived.set()
        return await answer

    async def _work(self) -> None:
        while True:
            await self._arrived.wait()
            if self._orders:
                await self._transaction()
            elif self._closing:
                return
            else:
                self._arrived.clear()

    async def _transaction(self) -> None:
        taken: list[tuple[_Order, list[Any]]] = []
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._run_and_commit, taken)
        except Exception as error:  # noqa: BLE001 - the writer goes on, and everyone who waits is told
            self._give_up(taken, self._as_ours(error))
        else:
            self.last_seq = self._places.given
            for order, results in taken:
                if not order.answer.done():
                    order.answer.set_result(results)

    def _run_and_commit(self, taken: list[tuple[_Order, list[Any]]]) -> None:
        """One transaction; each order that it took up is put in `taken`, with its results. In the writer's thread."""
        self._disk.require()
        self._begin()
        self._wary -= self._wary > 0
        room = _AT_ONCE
        while self._orders and room > 0:
            order = self._orders.popleft()
            taken.append((order, []))
            try:
                self._run_order(*taken[-1])
            except _NotUndone:
                self._run_again(taken)
            room -= len(order.plans)
        self._tally.write(self._connection)
        self._connection.execute("COMMIT")
        self._disk.wrote()

    def _begin(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._steps.forget()
        if self._places.lease - self._places.given < _AT_LEAST:
            lease = self._places.lease + _SET_ASIDE
            self._connection.execute(SET_META, ("seq", lease))
            self._places.lease = lease

    def _run_order(self, order: _Order, results: list[Any]) -> None:
        run = self._run_guarded if self._wary else self._run
        results.extend(run(plan) for plan in order.plans)

    def _run_again(self, taken: list[tuple[_Order, list[Any]]]) -> None:
        """Undoes the transaction, and runs all that was in it with savepoints."""
        self._wary = _WARY
        self._connection.execute("ROLLBACK")
        self._tally.clear()
        self._places.lease = self._tables.meta("seq")
        self._begin()
        for order, results in taken:
            results.clear()
            self._run_order(order, results)

    def _run(self, plan: Plan[Any]) -> Any:
        try:
            return _run_through(plan, self._steps)
        except Exception as error:
            self._require_room_and_transaction(error)
            raise _NotUndone from error

    def _run_guarded(self, plan: Plan[Any]) -> Any:
        """Runs one plan; returns its result, or the error it ended with, all of its writes undone."""
        mark = self._tally.mark()
        self._connection.execute("SAVEPOINT plan")
        try:
            result = _run_through(plan, self._steps)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the plan's result
            self._require_room_and_transaction(error)
            self._connection.execute("ROLLBACK TO plan")
            self._tally.undo(mark)
            self._steps.forget()
            result = _as_ours(error)
        self._connection.execute("RELEASE plan")
        return result

    def _require_room_and_transaction(self, error: Exception) -> None:
        """Raises where the other plans would fare no better than the one that ended with this error."""
        if isinstance(error, sqlite3.Error) and self._disk.failed(error) is not None:
            # They would find no room either, and the commit least of all.
            raise error
        if not self._connection.in_transaction:
            raise sqlite3.OperationalError(f"the transaction was given up: {error}") from error

    def _give_up(self, taken: list[tuple[_Order, list[Any]]], error: EasyQError) -> None:
        """The transaction failed as a whole: nothing of it is stored."""
        if not isinstance(error, DiskFull):
            get_logger().error("commit_failed", error=error.message, plans=sum(len(o.plans) for o, _ in taken))
        self._tally.clear()
        self._tally.forget_images()
        if self._connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
        if not taken and self._orders:
            # It could not even begin: those that wait are told, instead of waiting for ever.
            taken = [(order, []) for order in self._orders]
            self._orders.clear()
        with contextlib.suppress(sqlite3.Error):
            self._places.lease = self._tables.meta("seq")
        for order, _ in taken:
            if not order.answer.done():
                order.answer.set_exception(error)

    def _as_ours(self, error: Exception) -> EasyQError:
        full = self._disk.failed(error) if isinstance(error, sqlite3.Error) else None
        return full or _as_ours(error)


def _run_through(plan: Plan[Any], steps: SqliteSteps) -> Any:
    """Runs a plan that awaits nothing but its steps, which never wait."""
    running = plan(steps).__await__()
    try:
        next(running)
    except StopIteration as end:
        return end.value
    raise Internal("a plan waited for something else than its steps")


def _as_ours(error: Exception) -> EasyQError:
    if isinstance(error, EasyQError):
        return error
    if isinstance(error, sqlite3.Error):
        return translated(error)
    get_logger().error("plan_failed", error=repr(error), exc_info=error)
    ours = Internal(f"the store failed: {type(error).__name__}")
    ours.__cause__ = error
    return ours
