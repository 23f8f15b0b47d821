"""What holds for every public gRPC call: bounds, time limit, and an answer even to what can't be parsed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from easyq_chassis.channel import remaining_deadline
from easyq_chassis.errors import InvalidArgument
from easyq_gateway.deadline import within
from easyq_gateway.gate import Gate

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Streaming: TypeAlias = Callable[[Any, Context], AsyncIterator[Any]]


class Undecodable:
    """Stands for a request whose bytes are not its message."""


class EdgeInterceptor(grpc.aio.ServerInterceptor):
    """Guards the services whose full names begin with `prefix`; others (health, reflection) pass as they are."""

    def __init__(self, *, prefix: str, requests: Gate, streams: Gate, timeout: float) -> None:
        self._prefix = f"/{prefix}"
        self._requests = requests
        self._streams = streams
        self._timeout = timeout

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None or not str(handler_call_details.method).startswith(self._prefix):
            return handler
        codecs = {
            "request_deserializer": _tolerant(handler.request_deserializer),
            "response_serializer": handler.response_serializer,
        }
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(self._unary(handler.unary_unary), **codecs)
        if handler.unary_stream:
            return grpc.unary_stream_rpc_method_handler(self._stream(handler.unary_stream), **codecs)
        return grpc.stream_stream_rpc_method_handler(self._both(handler.stream_stream), **codecs)

    def _unary(self, inner: Callable[[Any, Context], Awaitable[Any]]) -> Callable[[Any, Context], Awaitable[Any]]:
        async def guarded(request: Any, context: Context) -> Any:
            _require_decoded(request)
            with self._requests.entered():
                async with within(remaining_deadline(context, self._timeout)):
                    return await inner(request, context)

        return guarded

    def _stream(self, inner: Streaming) -> Streaming:
        async def guarded(request: Any, context: Context) -> AsyncIterator[Any]:
            _require_decoded(request)
            with self._streams.entered():
                async for response in inner(request, context):
                    yield response

        return guarded

    def _both(self, inner: Streaming) -> Streaming:
        async def guarded(requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
            with self._streams.entered():
                async for response in inner(_decoded(requests), context):
                    yield response

        return guarded


def _tolerant(deserializer: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """gRPC answers INTERNAL where parsing raises, as if that were our fault."""

    def parse(data: bytes) -> Any:
        try:
            return deserializer(data)
        except (DecodeError, UnicodeDecodeError):
            return Undecodable()

    return parse


async def _decoded(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        _require_decoded(request)
        yield request


def _require_decoded(request: object) -> None:
    if isinstance(request, Undecodable):
        raise InvalidArgument(
            "the request can't be parsed: it is not its message, has text that is not UTF-8, or is nested too deep",
            reason="MALFORMED_BODY",
        )
