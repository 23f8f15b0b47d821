"""The store's deliveries over gRPC."""

from __future__ import annotations

from collections.abc import Mapping

import grpc.aio

from easyq_chassis.outages import asking, neighbour
from easyq_chassis.status import from_rpc_error
from easyq_internal.store.v1.delivery_store_pb2 import (
    ClaimDeliveriesRequest,
    ClaimDeliveriesResponse,
    RecordDeliveryRequest,
)
from easyq_internal.store.v1.delivery_store_pb2_grpc import DeliveryStoreServiceStub
from easyq_scheduler.convert_notices import duration

_STORE = neighbour("store")


class GrpcDeliveries:
    """`Deliveries` over a channel to the store."""

    def __init__(self, channel: grpc.aio.Channel, *, timeout: float) -> None:
        self._stub = DeliveryStoreServiceStub(channel)
        self._timeout = timeout

    async def claim(
        self, *, limit: int, lease: float, per_lane: int, per_site: int, under_way: Mapping[str, int]
    ) -> ClaimDeliveriesResponse:
        request = ClaimDeliveriesRequest(
            limit=limit, lease=duration(lease), per_lane=per_lane, per_site=per_site, under_way=dict(under_way)
        )
        with asking(_STORE):
            try:
                return await self._stub.ClaimDeliveries(request, timeout=self._timeout)
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                    # A store of an older version, which an upgrade reaches later: it has none.
                    return ClaimDeliveriesResponse()
                raise from_rpc_error(error) from error

    async def record(self, request: RecordDeliveryRequest) -> None:
        with asking(_STORE):
            try:
                await self._stub.RecordDelivery(request, timeout=self._timeout)
            except grpc.aio.AioRpcError as error:
                raise from_rpc_error(error) from error
