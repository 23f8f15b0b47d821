"""The store's statistics as a gRPC service: decode, call, encode."""

from typing import Any

import grpc.aio

from easyq.v1.stats_pb2 import Stats
from easyq_internal.store.v1 import stats_pb2
from easyq_internal.store.v1.stats_pb2_grpc import StatsServiceServicer
from easyq_store.convert import basics
from easyq_store.convert import stats as convert
from easyq_store.usecases import stats
from easyq_store.usecases.context import Context


class StatsServicer(StatsServiceServicer):
    """What was enqueued, and how it ended."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    async def Query(self, request: stats_pb2.QueryRequest, context: "grpc.aio.ServicerContext[Any, Any]") -> Stats:
        start, end = basics.timestamp_ms(request.from_time), basics.timestamp_ms(request.to_time)
        step = basics.duration_ms(request.step)
        found = await stats.query(self._ctx, request.task_id, start=start, end=end, step=step)
        return convert.stats(found, task_id=request.task_id, step=step)
