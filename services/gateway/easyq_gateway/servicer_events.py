"""The public gRPC service of events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc.aio

from easyq.v1 import event_service_pb2, event_service_pb2_grpc
from easyq_gateway.usecases.watching import Watching

#: Initial metadata: stores that were away when the watch began. With them back, a RESET comes.
AWAY = "easyq-stores-away"


class EventServicer(event_service_pb2_grpc.EventServiceServicer):
    """easyq.v1.EventService."""

    def __init__(self, *, watching: Watching) -> None:
        self._watching = watching

    async def Watch(
        self, request: event_service_pb2.WatchRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[event_service_pb2.WatchResponse]:
        begun = False
        async with aclosing(self._watching.watch(request)) as events:
            async for entries in events:
                if not begun:
                    # From here on nothing is missed: whoever wants to know waits for the initial metadata.
                    away = ", ".join(self._watching.away)
                    await context.send_initial_metadata(((AWAY, away),) if away else ())
                    begun = True
                if entries:
                    yield event_service_pb2.WatchResponse(events=[entry.event for entry in entries])
