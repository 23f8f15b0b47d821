"""The store's deliveries over gRPC."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc.aio

from easyq.v1 import notification_service_pb2
from easyq_chassis.errors import NotFound
from easyq_gateway.adapters.calls import patiently, unary, without_echo
from easyq_internal.store.v1 import delivery_store_pb2_grpc


class GrpcDeliveries:
    """`Deliveries`: calls are repeated for `patience` seconds while the store is away."""

    def __init__(self, channel: grpc.aio.Channel, *, patience: float) -> None:
        self._stub: Any = delivery_store_pb2_grpc.DeliveryStoreServiceStub(channel)
        self._patience = patience

    async def list_deliveries(
        self, request: notification_service_pb2.ListDeliveriesRequest
    ) -> notification_service_pb2.ListDeliveriesResponse:
        page: notification_service_pb2.ListDeliveriesResponse = await self._call(self._stub.ListDeliveries, request)
        return page

    async def resend_delivery(
        self, request: notification_service_pb2.ResendDeliveryRequest
    ) -> notification_service_pb2.ResendDeliveryResponse:
        answer: notification_service_pb2.ResendDeliveryResponse = await self._call(self._stub.ResendDelivery, request)
        return answer

    async def _call(self, call: Callable[..., Any], request: Any) -> Any:
        try:
            return await patiently("store", lambda left: unary(call, request, timeout=left), patience=self._patience)
        except NotFound as error:
            raise without_echo(error) from error
