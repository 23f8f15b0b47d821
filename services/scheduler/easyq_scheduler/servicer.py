"""The scheduler's gRPC face."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc.aio

from easyq_chassis.batching import answer_batches
from easyq_chassis.channel import remaining_deadline
from easyq_chassis.clock import Clock
from easyq_internal.scheduler.v1.scheduler_pb2 import (
    PreviewScheduleRequest,
    PreviewScheduleResponse,
    WakeRequest,
    WakeResponse,
)
from easyq_internal.scheduler.v1.scheduler_pb2_grpc import SchedulerServiceServicer
from easyq_internal.store.v1.job_store_pb2 import PutJobRequest, PutJobResponse, SubmitRequest, SubmitResponse
from easyq_scheduler.usecases.admitting import Admission
from easyq_scheduler.usecases.recurring import preview_schedule

Context = grpc.aio.ServicerContext[Any, Any]


class SchedulerServicer(SchedulerServiceServicer):
    """Decodes, calls, encodes."""

    def __init__(self, *, admission: Admission, wake: Callable[[], None], clock: Clock, call_timeout: float) -> None:
        self._clock = clock
        self._admission = admission
        self._wake = wake
        self._call_timeout = call_timeout

    def Submit(self, request_iterator: AsyncIterator[SubmitRequest], context: Context) -> AsyncIterator[SubmitResponse]:
        return answer_batches(request_iterator, self._admission.submit, SubmitResponse)

    async def PutJob(self, request: PutJobRequest, context: Context) -> PutJobResponse:
        return await self._admission.put(request, remaining_deadline(context, self._call_timeout))

    async def PreviewSchedule(self, request: PreviewScheduleRequest, context: Context) -> PreviewScheduleResponse:
        return preview_schedule(request, self._clock.now_ms())

    async def Wake(self, request: WakeRequest, context: Context) -> WakeResponse:
        self._wake()
        return WakeResponse()
