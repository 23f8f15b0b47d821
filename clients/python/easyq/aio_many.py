"""`AsyncClient.submit_many`: what `easyq.many` does, on asyncio."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from typing import Any

import grpc.aio

from easyq import _rpc
from easyq.backlog import Backlog, Submittable, Submitted, to_item
from easyq.errors import EasyQError
from easyq.outage import PAUSES, Outage
from easyq.v1.job_service_pb2 import SubmitJobsRequest


class AsyncManySubmitter:
    """As `easyq.many.ManySubmitter`; `jobs` may also be an asynchronous iterable."""

    def __init__(
        self,
        jobs: Iterable[Submittable] | AsyncIterable[Submittable],
        *,
        task: str,
        most: int,
        patience: float,
        open_stream: Callable[[AsyncIterator[SubmitJobsRequest]], Any],
        server: str,
    ) -> None:
        self._jobs = jobs
        self._task = task
        self._patience = patience
        self._open = open_stream
        self._server = server
        self._backlog = Backlog(most=most)
        self._changed = asyncio.Condition()
        self._stream = 0
        self._failure: Exception | None = None

    async def results(self) -> AsyncIterator[Submitted]:
        """The answers, in the order of the jobs."""
        taking = asyncio.create_task(self._take())
        outage = Outage(self._patience)
        try:
            while not await self._is_done():
                try:
                    async for result in self._one_stream():
                        outage.over()
                        yield result
                    # Its end is either ours, or that of a server that stops.
                    await asyncio.sleep(0 if self._backlog.done else PAUSES[0])
                except EasyQError as error:
                    outage.met(error)
                    await asyncio.sleep(outage.pause)
            if self._failure is not None:
                raise self._failure
        finally:
            taking.cancel()
            await asyncio.gather(taking, return_exceptions=True)

    async def _is_done(self) -> bool:
        async with self._changed:
            await self._changed.wait_for(lambda: self._backlog.done or self._backlog.waits)
            return self._backlog.done

    async def _take(self) -> None:
        try:
            async for job in _each(self._jobs):
                item = to_item(job, task=self._task, key=uuid.uuid4().hex)
                async with self._changed:
                    await self._changed.wait_for(lambda: not self._backlog.full)
                    self._backlog.add(item)
                    self._changed.notify_all()
        except Exception as error:  # noqa: BLE001 - raised again where the answers are read
            self._failure = error
        finally:
            self._backlog.closed = True
            async with self._changed:
                self._changed.notify_all()

    async def _one_stream(self) -> AsyncIterator[Submitted]:
        self._stream += 1
        self._backlog.rewind()
        call = self._open(self._requests(self._stream))
        try:
            async for response in call:
                async with self._changed:
                    result = self._backlog.accept(response.result)
                    self._changed.notify_all()
                yield result
        except grpc.aio.AioRpcError as error:
            raise _rpc.to_error(error, self._server) from error
        finally:
            self._stream += 1
            call.cancel()
            async with self._changed:
                self._changed.notify_all()

    async def _requests(self, number: int) -> AsyncIterator[SubmitJobsRequest]:
        """What goes into stream `number`; gRPC may still read it after the stream has broken."""
        while True:
            async with self._changed:
                request: SubmitJobsRequest | None = None
                while request is None:
                    if self._stream != number:
                        return
                    request = self._backlog.next()
                    if request is None:
                        if self._backlog.closed:
                            return
                        await self._changed.wait()
            yield request


async def _each(jobs: Iterable[Submittable] | AsyncIterable[Submittable]) -> AsyncIterator[Submittable]:
    if isinstance(jobs, AsyncIterable):
        async for job in jobs:
            yield job
    else:
        for job in jobs:
            yield job
            # A long input without a pause in it leaves others their turn.
            await asyncio.sleep(0)
