"""What holds for every public gRPC call: bounds, time limit, and an answer even to what can't be parsed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, nullcontext
from typing import Any, TypeAlias

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from easyq_chassis.channel import remaining_deadline
from easyq_chassis.errors import InvalidArgument, ResourceExhausted
from easyq_gateway.deadline import within
from easyq_gateway.gate import Gate

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Streaming: TypeAlias = Callable[[Any, Context], AsyncGenerator[Any, None]]
# A reader that takes no message for so many seconds is let go, or it would hold its place for ever.
_STALLED = 60.0

Unary: TypeAlias = Callable[[AsyncIterator[Any], Context], Awaitable[Any]]


class Undecodable:
    """Stands for a request whose bytes are not its message."""


class EdgeInterceptor(grpc.aio.ServerInterceptor):
    """Guards the services whose full names begin with `prefix`. Of others (health, reflection) it bounds one thing.

    gRPC waits for ever for the message of a unary call, which no option of its server bounds. So here every such call
    is served as one whose requests are a stream (on the wire that is the same), and its one message is awaited within
    the time of the whole call; in memory such calls count as bodies that are being received.
    """

    def __init__(self, *, prefix: str, requests: Gate, streams: Gate, bodies: Gate, timeout: float) -> None:
        self._prefix = f"/{prefix}"
        self._requests = requests
        self._streams = streams
        self._bodies = bodies
        self._timeout = timeout

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None:
            return handler
        ours = str(handler_call_details.method).startswith(self._prefix)
        codecs = {
            "request_deserializer": _tolerant(handler.request_deserializer),
            "response_serializer": handler.response_serializer,
        }
        if handler.unary_unary:
            inner = self._unary(handler.unary_unary, self._requests if ours else None)
            return grpc.stream_unary_rpc_method_handler(inner, **codecs)
        if handler.unary_stream:
            stream = self._stream(handler.unary_stream) if ours else self._written(handler.unary_stream)
            return grpc.stream_stream_rpc_method_handler(stream, **codecs)
        if not ours:
            return handler
        return grpc.stream_stream_rpc_method_handler(self._both(handler.stream_stream), **codecs)

    def _unary(self, inner: Callable[[Any, Context], Awaitable[Any]], gate: Gate | None) -> Unary:
        async def guarded(requests: AsyncIterator[Any], context: Context) -> Any:
            async with within(remaining_deadline(context, self._timeout)):
                request = await self._only(requests)
                with gate.entered() if gate else nullcontext():
                    return await inner(request, context)

        return guarded

    def _stream(self, inner: Streaming) -> Unary:
        async def guarded(requests: AsyncIterator[Any], context: Context) -> None:
            request = await self._in_time(requests, context)
            with self._streams.entered():
                await _send(inner(request, context), context)

        return guarded

    def _written(self, inner: Callable[[Any, Context], Awaitable[None]]) -> Unary:
        """Health's handler writes to the context itself."""

        async def guarded(requests: AsyncIterator[Any], context: Context) -> None:
            await inner(await self._in_time(requests, context), context)

        return guarded

    def _both(self, inner: Streaming) -> Unary:
        async def guarded(requests: AsyncIterator[Any], context: Context) -> None:
            with self._streams.entered():
                await _send(inner(_decoded(requests), context), context)

        return guarded

    async def _in_time(self, requests: AsyncIterator[Any], context: Context) -> Any:
        async with within(remaining_deadline(context, self._timeout)):
            return await self._only(requests)

    async def _only(self, requests: AsyncIterator[Any]) -> Any:
        """The one message of a call. Raises `InvalidArgument` where there is none, or it can't be parsed."""
        with self._bodies.entered():
            async for request in requests:
                _require_decoded(request)
                return request
        raise InvalidArgument("the call came without its message", reason="MALFORMED_BODY")


async def _send(responses: AsyncGenerator[Any, None], context: Context) -> None:
    """Sends all of them. Raises `ResourceExhausted` for a reader that takes none for too long."""
    # Closed here: what it reads from has its own places, and is not to be held until memory is cleared up.
    async with aclosing(responses):
        async for response in responses:
            try:
                async with asyncio.timeout(_STALLED):
                    await context.write(response)
            except TimeoutError:
                raise ResourceExhausted(f"the reader took nothing for {_STALLED:g} s") from None


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
