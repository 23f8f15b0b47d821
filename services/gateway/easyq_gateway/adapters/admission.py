"""Handing new jobs on, to the store or to a scheduler: both take them the same way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import grpc.aio

from easyq_chassis.batching import MicroBatcher
from easyq_chassis.errors import EasyQError, InvalidArgument, Unavailable
from easyq_chassis.outages import neighbour
from easyq_gateway.adapters.calls import Silent, patiently, unary
from easyq_gateway.convert import below_spec, error_of_item
from easyq_internal.scheduler.v1 import scheduler_pb2, scheduler_pb2_grpc
from easyq_internal.store.v1 import job_store_pb2

T = TypeVar("T")

_WAKE_TIMEOUT = 1.0
_SCHEDULER = neighbour("scheduler")


class GrpcAdmission:
    """`Admission` at one server. `stub` has `Submit` and `PutJob`."""

    def __init__(self, name: str, stub: Any, *, patience: float) -> None:
        self._name = name
        self._patience = patience
        self._put = stub.PutJob
        self._batcher: MicroBatcher[job_store_pb2.NewJob, job_store_pb2.SubmitResult] = MicroBatcher(
            stub.Submit,
            job_store_pb2.SubmitRequest,
            size=lambda job: job.ByteSize(),
        )

    async def submit(self, job: job_store_pb2.NewJob) -> job_store_pb2.SubmitAccepted:
        return await patiently(self._name, lambda _: self.submit_once(job), patience=self._patience)

    async def put_job(self, request: job_store_pb2.PutJobRequest) -> job_store_pb2.PutJobResponse:
        # With a revision too: the store knows an attempt that raised it by its execution id.
        return await patiently(self._name, lambda left: self.put_once(request, left), patience=self._patience)

    async def submit_once(self, job: job_store_pb2.NewJob) -> job_store_pb2.SubmitAccepted:
        """One attempt: the answer of the batch that the job travels with."""
        result = await self._batcher.call(job)
        if result.WhichOneof("result") == "error":
            raise error_of_item(result.error)
        return result.accepted

    async def put_once(self, request: job_store_pb2.PutJobRequest, timeout: float) -> job_store_pb2.PutJobResponse:
        """One attempt."""
        response: job_store_pb2.PutJobResponse = await unary(self._put, request, timeout=timeout)
        return response

    async def close(self) -> None:
        """Ends the stream of batches."""
        await self._batcher.close()


class GrpcScheduler(GrpcAdmission):
    """One scheduler."""

    def __init__(self, channel: grpc.aio.Channel, *, patience: float) -> None:
        self._stub: Any = scheduler_pb2_grpc.SchedulerServiceStub(channel)
        super().__init__("scheduler", self._stub, patience=patience)

    async def put_once(self, request: job_store_pb2.PutJobRequest, timeout: float) -> job_store_pb2.PutJobResponse:
        try:
            return await super().put_once(request, timeout)
        except InvalidArgument as error:
            raise InvalidArgument(error.message, reason=error.reason, fields=below_spec(error.fields)) from error

    async def preview_once(
        self, request: scheduler_pb2.PreviewScheduleRequest, timeout: float
    ) -> scheduler_pb2.PreviewScheduleResponse:
        """One attempt."""
        answer: scheduler_pb2.PreviewScheduleResponse = await unary(
            self._stub.PreviewSchedule, request, timeout=timeout
        )
        return answer

    async def wake(self) -> None:
        """Wakes it, if it is there."""
        with suppress(EasyQError):
            await unary(self._stub.Wake, scheduler_pb2.WakeRequest(), timeout=_WAKE_TIMEOUT)


class Schedulers:
    """`Scheduler` at any of several schedulers: the first that answers, and that one from then on."""

    def __init__(self, channels: Sequence[grpc.aio.Channel], *, patience: float) -> None:
        self._patience = patience
        self._each = [GrpcScheduler(channel, patience=patience) for channel in channels]
        self._preferred = 0
        self._waking: set[asyncio.Task[None]] = set()

    async def preview(self, request: scheduler_pb2.PreviewScheduleRequest) -> scheduler_pb2.PreviewScheduleResponse:
        return await self._any(lambda one, left: one.preview_once(request, left))

    def wake(self) -> None:
        for one in self._each:
            task = asyncio.create_task(one.wake())
            self._waking.add(task)
            task.add_done_callback(self._waking.discard)

    async def submit(self, job: job_store_pb2.NewJob) -> job_store_pb2.SubmitAccepted:
        return await self._any(lambda one, _: one.submit_once(job))

    async def put_job(self, request: job_store_pb2.PutJobRequest) -> job_store_pb2.PutJobResponse:
        return await self._any(lambda one, left: one.put_once(request, left))

    async def close(self) -> None:
        """Ends the streams of batches."""
        for task in self._waking:
            task.cancel()
        await asyncio.gather(*self._waking, return_exceptions=True)
        for one in self._each:
            await one.close()

    async def _any(self, attempt: Callable[[GrpcScheduler, float], Awaitable[T]]) -> T:
        return await patiently(
            "scheduler", lambda left: self._each_once(attempt, left), patience=self._patience, neighbour=_SCHEDULER
        )

    async def _each_once(self, attempt: Callable[[GrpcScheduler, float], Awaitable[T]], left: float) -> T:
        # A scheduler that hangs must leave time for the others.
        share = left / len(self._each)
        last: Unavailable = Silent("it did not answer in time")
        for _ in self._each:
            try:
                async with asyncio.timeout(share):
                    return await attempt(self._each[self._preferred], share)
            except Unavailable as error:
                last = error
            except TimeoutError:
                last = Silent("it did not answer in time")
            self._preferred = (self._preferred + 1) % len(self._each)
        raise last
