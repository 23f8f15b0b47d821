"""The public gRPC service of notifications."""

from __future__ import annotations

from typing import Any, TypeAlias

import grpc.aio

from easyq.v1 import notification_service_pb2, notification_service_pb2_grpc
from easyq_gateway.usecases.notifications import Notifications

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class NotificationServicer(notification_service_pb2_grpc.NotificationServiceServicer):
    """easyq.v1.NotificationService."""

    def __init__(self, *, notifications: Notifications) -> None:
        self._notifications = notifications

    async def ListDeliveries(
        self, request: notification_service_pb2.ListDeliveriesRequest, context: Context
    ) -> notification_service_pb2.ListDeliveriesResponse:
        return await self._notifications.list_deliveries(request)

    async def ResendDelivery(
        self, request: notification_service_pb2.ResendDeliveryRequest, context: Context
    ) -> notification_service_pb2.ResendDeliveryResponse:
        return await self._notifications.resend(request)
