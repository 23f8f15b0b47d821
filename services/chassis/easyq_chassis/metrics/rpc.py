"""How long calls take that a gRPC server answers, by method and status."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc
import grpc.aio

from easyq_chassis.metrics.registry import REGISTRY, Registry

Continuation: TypeAlias = "Callable[[grpc.HandlerCallDetails], Awaitable[Any]]"
_CODES = {code.value[0]: code.name for code in grpc.StatusCode}


class CallTimes(grpc.aio.ServerInterceptor):
    """Has to be the outermost interceptor, so that it sees what the others make of an error."""

    def __init__(self, registry: Registry = REGISTRY) -> None:
        self._durations = registry.histogram(
            "rpc.server.call.duration",
            "How long calls took that this service answered; streams until their end.",
            labels=("rpc.system.name", "rpc.method", "rpc.response.status_code"),
        )
        # Only of methods that there are, so that callers can't make it grow.
        self._wrapped: dict[str, Any] = {}

    async def intercept_service(self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails) -> Any:
        method = str(handler_call_details.method)
        wrapped = self._wrapped.get(method)
        if wrapped is None:
            handler = await continuation(handler_call_details)
            if handler is None:
                return None
            wrapped = self._wrapped[method] = self._wrap(method.removeprefix("/"), handler)
        return wrapped

    def _wrap(self, method: str, handler: Any) -> Any:
        codecs = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        for kind in ("unary_unary", "unary_stream", "stream_unary", "stream_stream"):
            inner = getattr(handler, kind)
            if inner is not None:
                make: Any = getattr(grpc, f"{kind}_rpc_method_handler")
                return make(self._timed(method, inner), **codecs)
        return handler

    def _timed(self, method: str, inner: Callable[[Any, Any], Awaitable[Any]]) -> Callable[[Any, Any], Awaitable[Any]]:
        record = self._durations.record

        async def timed(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            began = time.perf_counter()
            code = "OK"
            try:
                return await inner(request, context)
            except BaseException:
                code = _code(context)
                raise
            finally:
                record(time.perf_counter() - began, "grpc", method, code)

        return timed


def _code(context: Any) -> str:
    """The status that was aborted with; a call whose caller has gone was cancelled."""
    code = context.code()
    if isinstance(code, grpc.StatusCode):
        return str(code.name)
    return _CODES.get(code, "UNKNOWN") if code else "CANCELLED"
