"""The one place where errors leave a server: the error tree becomes statuses, all else INTERNAL and a log line."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Any

import grpc.aio

from easyq_chassis.error_reports import report_error
from easyq_chassis.error_reports.ids import ids_of
from easyq_chassis.errors import EasyQError, Internal
from easyq_chassis.logs import get_logger
from easyq_chassis.status import to_grpc
from easyq_chassis.wrapping import Handler, WrappingInterceptor, rewrapped


class ErrorInterceptor(WrappingInterceptor):
    """Maps what handlers raise. Streaming handlers are async generators, or coroutines that write to the context."""

    def __init__(self) -> None:
        super().__init__()
        self._log = get_logger()

    def wrap(self, method: str, handler: Any) -> Handler:
        around = self._stream if handler.response_streaming else self._unary
        return rewrapped(handler, partial(around, method))

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
