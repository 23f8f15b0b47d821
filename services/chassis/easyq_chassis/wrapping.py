"""What interceptors share that put something around handlers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc
import grpc.aio

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Continuation: TypeAlias = "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]"

_KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


class WrappingInterceptor(grpc.aio.ServerInterceptor, ABC):
    """Puts something around each method's handler.

    Once, not at each call, with what the interceptors behind this one made of it: they decide by the method alone.
    """

    def __init__(self) -> None:
        # Only of methods that there are, so that callers can't make it grow.
        self._wrapped: dict[str, Handler] = {}

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        method = str(handler_call_details.method)
        wrapped = self._wrapped.get(method)
        if wrapped is None:
            handler = await continuation(handler_call_details)
            if handler is None:
                return None
            wrapped = self._wrapped[method] = self.wrap(method, handler)
        return wrapped

    @abstractmethod
    def wrap(self, method: str, handler: Any) -> Handler:
        """Returns the handler of `method` (`/package.Service/Method`) with something around it, or as it is."""


def rewrapped(handler: Any, around: Callable[[Any], Any]) -> Handler:
    """Returns a handler of the same kind, whose function is what `around` makes of the one that it has."""
    kind = next(kind for kind in _KINDS if getattr(handler, kind) is not None)
    make: Any = getattr(grpc, f"{kind}_rpc_method_handler")
    made: Handler = make(
        around(getattr(handler, kind)),
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )
    return made
