"""The store's statistics over gRPC."""

from __future__ import annotations

from typing import Any

import grpc.aio

from easyq.v1 import stats_pb2
from easyq_gateway.adapters.calls import patiently, unary
from easyq_internal.store.v1 import stats_pb2 as store_stats_pb2
from easyq_internal.store.v1 import stats_pb2_grpc


class GrpcStatsStore:
    """`StatsStore`: calls are repeated for `patience` seconds while the store is away."""

    def __init__(self, channel: grpc.aio.Channel, *, patience: float) -> None:
        self._stub: Any = stats_pb2_grpc.StatsServiceStub(channel)
        self._patience = patience

    async def query(self, request: store_stats_pb2.QueryRequest) -> stats_pb2.Stats:
        async def attempt(timeout: float) -> stats_pb2.Stats:
            stats: stats_pb2.Stats = await unary(self._stub.Query, request, timeout=timeout)
            return stats

        return await patiently("store", attempt, patience=self._patience)
