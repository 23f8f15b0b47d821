"""The store's feed of changes as a gRPC service: decode, call, encode."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc.aio

from easyq_chassis.errors import Unavailable
from easyq_internal.store.v1 import feed_pb2
from easyq_internal.store.v1.feed_pb2_grpc import FeedServiceServicer
from easyq_store.convert import feed as convert
from easyq_store.usecases.feed import Feed


class FeedServicer(FeedServiceServicer):
    """`ready` returns when every plan of this process takes notes."""

    def __init__(self, feed: Feed, ready: Callable[[], Awaitable[None]]) -> None:
        self._feed = feed
        self._ready = ready

    async def Watch(
        self, request: feed_pb2.WatchRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> AsyncIterator[feed_pb2.WatchResponse]:
        with self._feed.read(convert.position(request), back=max(0, request.back)) as reader:
            yield convert.response(await reader.begin(self._ready))
            while batch := await reader.next():
                yield convert.response(batch)
        raise Unavailable("the store is being stopped")
