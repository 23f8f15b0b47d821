"""A store's feed of changes over gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc.aio

from easyq_chassis.status import from_rpc_error
from easyq_internal.store.v1 import feed_pb2, feed_pb2_grpc


class GrpcFeedSource:
    """`FeedSource` of one store process."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: Any = feed_pb2_grpc.FeedServiceStub(channel)

    async def watch(self, request: feed_pb2.WatchRequest) -> AsyncIterator[feed_pb2.WatchResponse]:
        call = self._stub.Watch(request)
        try:
            async for response in call:
                yield response
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        finally:
            call.cancel()
