"""How long calls take that a gRPC server answers, by method and status."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import grpc
import grpc.aio

from easyq_chassis.metrics.registry import REGISTRY, Registry
from easyq_chassis.wrapping import Handler, WrappingInterceptor, rewrapped

_CODES = {code.value[0]: code.name for code in grpc.StatusCode}


class CallTimes(WrappingInterceptor):
    """Stands before the interceptor that maps errors, so that it sees which status one has become."""

    def __init__(self, registry: Registry = REGISTRY) -> None:
        super().__init__()
        self._durations = registry.histogram(
            "rpc.server.call.duration",
            "How long calls took that this service answered; streams until their end.",
            labels=("rpc.system.name", "rpc.method", "rpc.response.status_code"),
        )

    def wrap(self, method: str, handler: Any) -> Handler:
        return rewrapped(handler, partial(self._timed, method.removeprefix("/")))

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
