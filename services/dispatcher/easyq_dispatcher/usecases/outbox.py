"""What waits to be sent to one agent: things of one kind go together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence

from easyq_chassis.errors import EasyQError
from easyq_dispatcher.messages import Orders, Outgoing, Results, Runs
from easyq_internal.store.v1.records_pb2 import Assignment, Directive, ReportResult


class Outbox:
    """Filled by many, emptied by the agent's stream. Ends when closed, with an error if it was closed with one."""

    def __init__(self) -> None:
        self._runs: list[Assignment] = []
        self._results: list[ReportResult] = []
        self._orders: list[Directive] = []
        self._others: deque[Outgoing] = deque()
        self._filled = asyncio.Event()
        self._closed = False
        self._error: EasyQError | None = None

    def runs(self, items: Sequence[Assignment]) -> None:
        """Adds executions to run."""
        self._runs += items
        self._filled.set()

    def results(self, items: Sequence[ReportResult]) -> None:
        """Adds answers to reports."""
        self._results += items
        self._filled.set()

    def orders(self, items: Sequence[Directive]) -> None:
        """Adds directives out of turn."""
        self._orders += items
        self._filled.set()

    def put(self, message: Outgoing) -> None:
        """Adds a message that stands alone."""
        self._others.append(message)
        self._filled.set()

    def close(self, error: EasyQError | None = None) -> None:
        """Lets the stream end after what is in it; the first error given is the stream's status."""
        if not self._closed:
            self._closed, self._error = True, error
            self._filled.set()

    async def messages(self) -> AsyncGenerator[Outgoing]:
        """Yields what comes until it is closed and empty. Raises the error that it was closed with, at once."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            if self._error:
                raise self._error
            for message in self._drain():
                yield message
            if self._closed and not self._has_more():
                if self._error:
                    raise self._error
                return

    def _drain(self) -> list[Outgoing]:
        drained: list[Outgoing] = []
        # Runs first: they are what somebody waits for. What stands alone comes last, since a farewell is the last word.
        if self._runs:
            drained.append(Runs(items=self._runs))
        if self._results:
            drained.append(Results(items=self._results))
        if self._orders:
            drained.append(Orders(items=self._orders))
        drained += self._others
        self._runs, self._results, self._orders = [], [], []
        self._others.clear()
        return drained

    def _has_more(self) -> bool:
        return bool(self._runs or self._results or self._orders or self._others)
