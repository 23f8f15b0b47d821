"""The store over gRPC: jobs in micro-batches on one stream, the rest as calls."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import TypeVar

import grpc.aio

from easyq_chassis.batching import MicroBatcher
from easyq_chassis.outages import asking, neighbour
from easyq_chassis.status import from_rpc_error
from easyq_chassis.tracing import current
from easyq_internal.store.v1.job_store_pb2 import (
    NewJob,
    PutJobRequest,
    PutJobResponse,
    SubmitRequest,
    SubmitResult,
)
from easyq_internal.store.v1.job_store_pb2_grpc import JobStoreServiceStub
from easyq_internal.store.v1.records_pb2 import Head
from easyq_internal.store.v1.time_store_pb2 import (
    DueExecution,
    ExpireWaitingRequest,
    ExpireWaitingResponse,
    FireRequest,
    FireSchedulesRequest,
    FireSchedulesResponse,
    ListDueRequest,
    ListDueResponse,
    ListDueSchedulesRequest,
    ListDueSchedulesResponse,
    ScheduleDecision,
)
from easyq_internal.store.v1.time_store_pb2_grpc import TimeStoreServiceStub

Answer = TypeVar("Answer")

_STORE = neighbour("store")
# Seconds that a call must have had: some have only what their caller still waits.
_A_MOMENT = 1.0

#: What may be repeated while the store is UNAVAILABLE: each is a question, a compare-and-set, or known by its ids.
IDEMPOTENT = ("easyq_internal.store.v1.TimeStoreService", "easyq_internal.store.v1.JobStoreService/PutJob")


class GrpcJobSink:
    """`JobSink` over a channel to the store."""

    def __init__(self, channel: grpc.aio.Channel, *, timeout: float) -> None:
        self._stub = JobStoreServiceStub(channel)
        self._batcher: MicroBatcher[NewJob, SubmitResult] = MicroBatcher(
            self._stub.Submit, SubmitRequest, size=NewJob.ByteSize, timeout=timeout, neighbour=_STORE
        )

    async def submit(self, job: NewJob) -> SubmitResult:
        return await self._batcher.call(job)

    async def put(self, request: PutJobRequest, timeout: float) -> PutJobResponse:
        return await _answer(self._stub.PutJob(request, timeout=timeout, metadata=current.metadata()))

    async def close(self) -> None:
        """Ends the stream; submits that still wait raise Unavailable."""
        await self._batcher.close()


class GrpcTimeStore:
    """`TimeStore` over a channel to the store."""

    def __init__(self, channel: grpc.aio.Channel, *, timeout: float) -> None:
        self._stub = TimeStoreServiceStub(channel)
        self._timeout = timeout

    async def list_due(self, limit: int) -> ListDueResponse:
        return await _answer(self._stub.ListDue(ListDueRequest(limit=limit), timeout=self._timeout))

    async def fire(self, items: Sequence[DueExecution]) -> Sequence[Head]:
        response = await _answer(self._stub.Fire(FireRequest(items=items), timeout=self._timeout))
        return response.ready

    async def list_due_schedules(self, limit: int) -> ListDueSchedulesResponse:
        request = ListDueSchedulesRequest(limit=limit)
        return await _answer(self._stub.ListDueSchedules(request, timeout=self._timeout))

    async def fire_schedules(self, decisions: Sequence[ScheduleDecision]) -> FireSchedulesResponse:
        request = FireSchedulesRequest(items=decisions)
        return await _answer(self._stub.FireSchedules(request, timeout=self._timeout))

    async def expire_waiting(self, limit: int) -> ExpireWaitingResponse:
        request = ExpireWaitingRequest(limit=limit)
        return await _answer(self._stub.ExpireWaiting(request, timeout=self._timeout))


async def _answer(call: Awaitable[Answer]) -> Answer:
    with asking(_STORE, least=_A_MOMENT):
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
