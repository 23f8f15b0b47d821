"""Deliveries of notifications over gRPC: decode, call, encode."""

from typing import Any

import grpc.aio

from easyq.v1.notification_service_pb2 import (
    ListDeliveriesRequest,
    ListDeliveriesResponse,
    ResendDeliveryRequest,
    ResendDeliveryResponse,
)
from easyq_internal.store.v1 import delivery_store_pb2 as pb
from easyq_internal.store.v1.delivery_store_pb2_grpc import DeliveryStoreServiceServicer
from easyq_store.convert import basics, jobs, notices
from easyq_store.usecases import deliveries
from easyq_store.usecases.context import Context

Call = grpc.aio.ServicerContext[Any, Any]


class DeliveryStoreServicer(DeliveryStoreServiceServicer):
    """Notifications for who sends them, and for who looks at them."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    async def ClaimDeliveries(self, request: pb.ClaimDeliveriesRequest, context: Call) -> pb.ClaimDeliveriesResponse:
        claims = await deliveries.claim(self._ctx, notices.wish(request))
        items = [notices.claimed(item) for item in claims.items]
        return pb.ClaimDeliveriesResponse(items=items, next_in=basics.duration(claims.next_in_ms))

    async def RecordDelivery(self, request: pb.RecordDeliveryRequest, context: Call) -> pb.RecordDeliveryResponse:
        await deliveries.record(self._ctx, request.delivery_id, request.attempt, notices.sent(request))
        return pb.RecordDeliveryResponse()

    async def ListDeliveries(self, request: ListDeliveriesRequest, context: Call) -> ListDeliveriesResponse:
        size = jobs.page_size(request.page_size)
        found = await deliveries.list_deliveries(self._ctx, request.task_id, request.job_id, request.page_token, size)
        return notices.page(*found)

    async def ResendDelivery(self, request: ResendDeliveryRequest, context: Call) -> ResendDeliveryResponse:
        record = await deliveries.resend(self._ctx, request.task_id, request.job_id, request.delivery_id)
        return ResendDeliveryResponse(delivery=notices.delivery(record))
