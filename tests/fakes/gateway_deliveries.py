"""The store's deliveries for a gateway: tests put them in by hand."""

from typing import Any

from easyq.v1.notification_service_pb2 import (
    Delivery,
    ListDeliveriesRequest,
    ListDeliveriesResponse,
    ResendDeliveryRequest,
    ResendDeliveryResponse,
)
from easyq_chassis.errors import NotFound
from easyq_internal.store.v1.delivery_store_pb2_grpc import DeliveryStoreServiceServicer


class FakeDeliveries(DeliveryStoreServiceServicer):
    """Deliveries by job; pages go on after the delivery that their token names."""

    def __init__(self) -> None:
        self.by_job: dict[str, list[Delivery]] = {}

    def put(self, job_id: str, delivery_id: str, **fields: Any) -> Delivery:
        """Puts one in as the newest."""
        made = Delivery(delivery_id=delivery_id, job_id=job_id, **fields)
        self.by_job.setdefault(job_id, []).insert(0, made)
        return made

    def _of(self, job_id: str) -> list[Delivery]:
        if job_id not in self.by_job:
            raise NotFound(f"there is no job {job_id}", reason="JOB_NOT_FOUND")
        return self.by_job[job_id]

    async def ListDeliveries(self, request: ListDeliveriesRequest, context: Any) -> ListDeliveriesResponse:
        found = self._of(request.job_id)
        ids = [each.delivery_id for each in found]
        begin = ids.index(request.page_token) + 1 if request.page_token else 0
        page = found[begin : begin + (request.page_size or 50)]
        more = begin + len(page) < len(found)
        return ListDeliveriesResponse(items=page, next_page_token=page[-1].delivery_id if more else "")

    async def ResendDelivery(self, request: ResendDeliveryRequest, context: Any) -> ResendDeliveryResponse:
        for each in self._of(request.job_id):
            if each.delivery_id == request.delivery_id:
                each.state = Delivery.PENDING
                return ResendDeliveryResponse(delivery=each)
        raise NotFound(f"there is no delivery {request.delivery_id}", reason="DELIVERY_NOT_FOUND")
