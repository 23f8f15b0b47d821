"""The one place where errors leave a server: the error tree becomes statuses, all else INTERNAL and a log line."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeAlias

import grpc
import grpc.aio

from easyq_chassis.error_reports import report_error
from easyq_chassis.error_reports.ids import ids_of
from easyq_chassis.errors import EasyQError, Internal
from easyq_chassis.logs import get_logger
from easyq_chassis.status import to_grpc

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Continuation: TypeAlias = "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]"


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Maps what handlers raise. Streaming handlers are async generators, or coroutines that write to the context.

    A method's handler is wrapped once, not at each call, with what the interceptors behind this one made of it: they
    decide by the method alone.
    """

    def __init__(self) -> None:
        self._log = get_logger()
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
            wrapped = self._wrapped[method] = self._wrap(method, handler)
        return wrapped

    def _wrap(self, method: str, handler: Any) -> Handler:
        codecs = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(self._unary(method, handler.unary_unary), **codecs)
        if handler.unary_stream:
            return grpc.unary_stream_rpc_method_handler(self._stream(method, handler.unary_stream), **codecs)
        if handler.stream_unary:
            return grpc.stream_unary_rpc_method_handler(self._unary(method, handler.stream_unary), **codecs)
        return grpc.stream_stream_rpc_method_handler(self._stream(method, handler.stream_stream), **codecs)

    def _unary(self, method: str, inner: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def wrapped(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            try:
                return await inner(request, context)
            except Exception as error:  # noqa: BLE001 - everything a handler raises ends here, and is told
                await self._abort(method, error, request, context)

        return wrapped

    def _stream(self, method: str, inner: Callable[..., Any]) -> Callable[..., Awaitable[None]]:
        async def wrapped(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
            try:
                result = inner(request, context)
                if not hasattr(result, "__aiter__"):
                    # It writes to the context itself.
                    await result
                    return
                # Written here: gRPC would log an error for a write that fails before it has heard of the cancellation.
                async with aclosing(result):
                    async for response in result:
                        await context.write(response)
            except grpc.aio.InternalError as error:
                self._log.debug("reader_gone", method=method, error=str(error))
                raise asyncio.CancelledError from error
            except Exception as error:  # noqa: BLE001 - as above
                await self._abort(method, error, request, context)

        return wrapped

    async def _abort(
        self, method: str, error: Exception, request: Any, context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        if isinstance(error, grpc.aio.AbortError | grpc.RpcError) and not isinstance(error, grpc.aio.AioRpcError):
            raise error
        if not isinstance(error, EasyQError):
            self._log.error("call_failed", method=method, error=repr(error), exc_info=error)
            report_error(error, method, ids_of(request))
            error = Internal("an internal error; the service's log has the details")
        elif isinstance(error, Internal) and not isinstance(error.__cause__, grpc.RpcError):
            # A fault that was seen for what it is. One that another service answered with is told by that one.
            report_error(error, method, ids_of(request))
        await context.abort_with_status(to_grpc(error))
