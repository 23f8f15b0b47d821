"""News for dispatchers: quick where they listen, lost where they don't."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import grpc.aio

from easyq_chassis.logs import get_logger
from easyq_internal.dispatcher.v1.dispatcher_pb2 import NotifyRequest
from easyq_internal.dispatcher.v1.dispatcher_pb2_grpc import DispatcherServiceStub
from easyq_internal.store.v1.job_store_pb2 import StopHint
from easyq_internal.store.v1.records_pb2 import Head

log = get_logger()

# Beyond this the oldest are dropped: the dispatcher's own reconcile finds them, and memory stays bounded.
MOST_WAITING = 5_000
_PATIENCE = 2.0
_PAUSE = 0.5


class GrpcReadyNews:
    """`ReadyNews` to every dispatcher, each over a line of its own, so that a slow one delays nobody."""

    def __init__(self, channels: dict[str, grpc.aio.Channel]) -> None:
        """`channels` by address."""
        self._lines = [_Line(address, DispatcherServiceStub(channel).Notify) for address, channel in channels.items()]

    def announce(self, heads: Sequence[Head], stops: Sequence[StopHint] = ()) -> None:
        if heads or stops:
            for line in self._lines:
                line.put(heads, stops)

    async def close(self) -> None:
        """Ends the streams; what was not sent yet is dropped."""
        await asyncio.gather(*(line.close() for line in self._lines))


class _Line:
    """One dispatcher's stream: one batch under way, those that come meanwhile go together."""

    def __init__(self, address: str, notify: Callable[[], Any]) -> None:
        self._address = address
        self._notify = notify
        self._waiting: deque[Head] = deque(maxlen=MOST_WAITING)
        self._stops: deque[StopHint] = deque(maxlen=MOST_WAITING)
        self._arrived = asyncio.Event()
        self._batch = 0
        self._task: asyncio.Task[None] | None = None

    def put(self, heads: Sequence[Head], stops: Sequence[StopHint]) -> None:
        self._waiting.extend(heads)
        self._stops.extend(stops)
        self._arrived.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"notify:{self._address}")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                await self._talk(self._notify())
            except (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError, TimeoutError) as error:
                log.debug("news_lost", dispatcher=self._address, dropped=len(self._waiting), error=repr(error))
            # Stale news helps nobody, and the reconcile has it by now.
            self._waiting.clear()
            self._stops.clear()
            self._arrived.clear()
            await asyncio.sleep(_PAUSE)
            await self._arrived.wait()

    async def _talk(self, call: Any) -> None:
        try:
            while True:
                await self._arrived.wait()
                self._arrived.clear()
                heads, self._waiting = self._waiting, deque(maxlen=MOST_WAITING)
                stops, self._stops = self._stops, deque(maxlen=MOST_WAITING)
                self._batch += 1
                async with asyncio.timeout(_PATIENCE):
                    await call.write(NotifyRequest(batch=self._batch, ready=heads, stops=stops))
                    if await call.read() is grpc.aio.EOF:
                        return
        finally:
            call.cancel()
