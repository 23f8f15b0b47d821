"""`LogSink` over the store's stream of appends."""

from __future__ import annotations

import grpc.aio

from easyq_chassis.batching import MicroBatcher
from easyq_chassis.outages import neighbour
from easyq_internal.store.v1.log_store_pb2 import AppendRequest, AppendResult
from easyq_internal.store.v1.log_store_pb2_grpc import LogStoreServiceStub
from easyq_internal.store.v1.records_pb2 import Chunk
from easyq_runner.convert import append_answer_from_proto, chunk_to_proto
from easyq_runner.domain.records import ExecutionKey, Stream
from easyq_runner.ports import AppendAnswer


class GrpcLogSink:
    """All executions' chunks go together, in micro-batches below 3 MiB."""

    def __init__(self, channel: grpc.aio.Channel, *, timeout: float = 30.0) -> None:
        stub = LogStoreServiceStub(channel)
        self._batcher: MicroBatcher[Chunk, AppendResult] = MicroBatcher(
            stub.Append, AppendRequest, size=Chunk.ByteSize, timeout=timeout, neighbour=neighbour("store")
        )

    async def append(self, key: ExecutionKey, stream: Stream, offset: int, data: bytes) -> AppendAnswer:
        return append_answer_from_proto(await self._batcher.call(chunk_to_proto(key, stream, offset, data)))

    async def close(self) -> None:
        """Ends the stream; appends that still wait raise Unavailable."""
        await self._batcher.close()
