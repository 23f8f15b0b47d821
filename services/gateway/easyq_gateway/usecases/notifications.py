"""Deliveries of a job's notifications: looked at, and sent again."""

from __future__ import annotations

from collections.abc import Sequence

from easyq.v1 import notification_service_pb2
from easyq_gateway import convert_receivers
from easyq_gateway.domain.problems import Problem
from easyq_gateway.domain.redaction import Redactor
from easyq_gateway.http_rules import Links
from easyq_gateway.ports import Deliveries
from easyq_gateway.usecases.checking import Checker


class Notifications:
    """NotificationService. Unknown ids raise `NotFound`."""

    def __init__(self, *, checker: Checker, deliveries: Deliveries, redactor: Redactor, links: Links) -> None:
        self._checker = checker
        self._deliveries = deliveries
        self._redactor = redactor
        self._links = links

    async def list_deliveries(
        self, request: notification_service_pb2.ListDeliveriesRequest, found: Sequence[Problem] = ()
    ) -> notification_service_pb2.ListDeliveriesResponse:
        """ListDeliveries: a page, newest first."""
        self._checker.require(request, found)
        page = await self._deliveries.list_deliveries(request)
        convert_receivers.redact_deliveries(page.items, self._redactor)
        page.next_url = self._links.next_page(request, page.next_page_token)
        return page

    async def resend(
        self, request: notification_service_pb2.ResendDeliveryRequest, found: Sequence[Problem] = ()
    ) -> notification_service_pb2.ResendDeliveryResponse:
        """ResendDelivery. A repeat is harmless."""
        self._checker.require(request, found)
        answer = await self._deliveries.resend_delivery(request)
        convert_receivers.redact_deliveries([answer.delivery], self._redactor)
        return answer
