"""Micro-batches on long streams: the first goes at once, those that come meanwhile go together.

A batched call is a bidirectional stream of ``Request{batch, items}`` and ``Response{batch, results}``, with one batch
under way at a time. So a lone call waits for nobody, and under load the batches grow by themselves.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

import grpc
import grpc.aio

from easyq_chassis.errors import EasyQError, Internal, Unavailable
from easyq_chassis.metrics.registry import REGISTRY
from easyq_chassis.outages import OUTAGES, Neighbour
from easyq_chassis.status import from_rpc_error

Item = TypeVar("Item")
Result = TypeVar("Result")

_SERVED = REGISTRY.histogram(
    "easyq.rpc.server.batch.duration", "How long a micro-batch took here, by its message.", labels=("batch",)
)
_ASKED = REGISTRY.histogram(
    "easyq.rpc.client.batch.duration",
    "How long a micro-batch took until its answer, by its message; failed ones as well.",
    labels=("batch", "error.type"),
)
_ITEMS = REGISTRY.counter(
    "easyq.rpc.client.batch.items", "What was sent in micro-batches.", unit="{item}", labels=("batch",)
)


class MicroBatcher(Generic[Item, Result]):
    """The client's end of a batched call. Safe to be used by many tasks of one event loop.

    ``stub`` is the stream-stream method of a stub, ``request`` builds its request from ``batch`` and ``items``;
    responses need ``results``, one for each item and in their order. ``size`` tells an item's weight in bytes where
    batches must be bounded by it. ``neighbour`` is told whether it answers.
    """

    def __init__(
        self,
        stub: Callable[[], Any],
        request: Callable[..., Any],
        *,
        most_items: int = 500,
        most_bytes: int = 2 * 1024 * 1024,
        size: Callable[[Item], int] | None = None,
        timeout: float = 30.0,
        neighbour: Neighbour | None = None,
    ) -> None:
        self._stub = stub
        self._request = request
        self._most_items = most_items
        self._most_bytes = most_bytes
        self._size = size
        self._timeout = timeout
        self._neighbour = neighbour
        self._pending: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._arrived = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._call: Any = None
        self._batch = 0
        self._name = message_name(request)
        self._closed = False

    async def call(self, item: Item) -> Result:
        """Sends the item with the next batch and returns its result.

        Raises ``Unavailable`` when the stream broke or stayed silent: whether the item took effect is then unknown,
        and the caller may repeat it where that is harmless. Other errors are the server's for the whole batch.
        """
        if self._closed:
            raise Unavailable("the connection is closed")
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._pending.append((item, future))
        self._arrived.set()
        if self._worker is None:
            self._worker = asyncio.create_task(self._work(), name="micro-batcher")
        return await future

    async def close(self) -> None:
        """Ends the stream; calls that still wait raise ``Unavailable``."""
        self._closed = True
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        self._drop_call()
        self._fail(self._take_all(), Unavailable("the connection is closed"))

    async def _work(self) -> None:
        while True:
            await self._arrived.wait()
            taken = self._take()
            if taken:
                await self._exchange(taken)

    def _take(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        taken: list[tuple[Item, asyncio.Future[Result]]] = []
        weight = 0
        while self._pending and len(taken) < self._most_items:
            item, future = self._pending[0]
            if future.done():  # its caller has gone
                self._pending.popleft()
                continue
            weight += self._size(item) if self._size else 0
            if taken and weight > self._most_bytes:
                break
            taken.append(self._pending.popleft())
        if not self._pending:
            self._arrived.clear()
        return taken

    def _take_all(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        taken, self._pending = list(self._pending), deque()
        return taken

    async def _exchange(self, taken: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        self._batch += 1
        began, asked = time.perf_counter(), time.monotonic()
        _ITEMS.add(len(taken), self._name)
        try:
            if self._call is None:
                self._call = self._stub()
            async with asyncio.timeout(self._timeout):
                await self._call.write(self._request(batch=self._batch, items=[item for item, _ in taken]))
                response = await self._call.read()
            if response is grpc.aio.EOF or response.batch != self._batch:
                raise await self._why_ended()
            if len(response.results) != len(taken):
                raise Internal(f"{len(taken)} items were answered with {len(response.results)} results")
        except asyncio.CancelledError:
            self._drop_call()
            self._fail(taken, Unavailable("the connection is closed"))
            raise
        except Exception as error:  # noqa: BLE001 - every waiter learns of it; the next batch opens a new stream
            failure = await self._translate(error)
            _ASKED.record(time.perf_counter() - began, self._name, type(failure).__name__)
            self._note(failure, asked)
            self._drop_call()
            self._fail(taken, failure)
            return
        _ASKED.record(time.perf_counter() - began, self._name, "")
        self._note(None, asked)
        for (_, future), result in zip(taken, response.results, strict=True):
            if not future.done():
                future.set_result(result)

    def _note(self, failure: EasyQError | None, asked: float) -> None:
        if self._neighbour is None:
            return
        if isinstance(failure, OUTAGES):
            self._neighbour.failed(failure.message, asked=asked)
        else:
            self._neighbour.answered()

    async def _why_ended(self) -> EasyQError:
        code = await self._call.code()
        details = await self._call.details()
        return Unavailable(f"the stream ended: {code.name if code else 'closed'} {details or ''}".strip())

    async def _translate(self, error: Exception) -> EasyQError:
        if isinstance(error, EasyQError):
            return error
        if isinstance(error, grpc.aio.AioRpcError):
            if error.code() is grpc.StatusCode.INTERNAL and not error.trailing_metadata():
                # gRPC's own word for a write on a stream that broke just then; a server's error comes with details.
                return Unavailable(f"the stream broke: {error.details()}")
            return from_rpc_error(error)
        if isinstance(error, TimeoutError):
            return Unavailable("the service stayed silent")
        if isinstance(error, asyncio.InvalidStateError | grpc.aio.UsageError):
            return await self._why_ended()
        return Unavailable(f"the call failed: {error!r}")

    def _drop_call(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    @staticmethod
    def _fail(taken: list[tuple[Item, asyncio.Future[Result]]], error: EasyQError) -> None:
        for _, future in taken:
            if not future.done():
                each = type(error)(error.message, reason=error.reason, retry_after=error.retry_after)
                each.__cause__ = error.__cause__
                future.set_exception(each)


async def answer_batches(
    requests: AsyncIterator[Any],
    handle: Callable[[Sequence[Any]], Awaitable[Sequence[Any]]],
    response: Callable[..., Any],
) -> AsyncIterator[Any]:
    """The server's end: handles one batch after the other, and yields ``response(batch=…, results=…)`` for each.

    ``handle`` returns one result for each item, in their order.
    """
    name = message_name(response)
    async for request in requests:
        began = time.perf_counter()
        results = await handle(request.items)
        _SERVED.record(time.perf_counter() - began, name)
        yield response(batch=request.batch, results=results)


def message_name(message: Any) -> str:
    """What a batch is called: the name of its message without what it has as one (`Submit`)."""
    name = str(getattr(message, "__name__", type(message).__name__))
    return name.removesuffix("Request").removesuffix("Response")
