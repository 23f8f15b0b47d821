"""How long calls take that this process makes, by neighbour, method and status."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import grpc
import grpc.aio

from easyq_chassis.metrics.registry import REGISTRY, Registry


class AskedTimes(grpc.aio.Channel):
    """A channel that counts what goes over it. Calls stay gRPC's own, with their metadata and their cancellation.

    An interceptor of gRPC would make a task and a call of its own for each; this adds what is told at a call's end.
    """

    def __init__(self, channel: grpc.aio.Channel, address: str, registry: Registry = REGISTRY) -> None:
        """`address` as it is dialled: ``host:port`` or ``unix:/path``."""
        self._channel = channel
        self._server = _server(address)
        self._durations = registry.histogram(
            "rpc.client.call.duration",
            "How long calls took that this service made; streams until their end.",
            labels=("rpc.system.name", "rpc.method", "server.address", "server.port", "rpc.response.status_code"),
        )

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._timed(method, self._channel.unary_unary(method, *args, **kwargs))

    def unary_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._timed(method, self._channel.unary_stream(method, *args, **kwargs))

    def stream_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._timed(method, self._channel.stream_unary(method, *args, **kwargs))

    def stream_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._timed(method, self._channel.stream_stream(method, *args, **kwargs))

    def _timed(self, method: str, make_call: Callable[..., Any]) -> Callable[..., Any]:
        record = self._durations.record
        labels = ("grpc", method.removeprefix("/"), *self._server)

        def ended(began: float, call: Any) -> None:
            record(time.perf_counter() - began, *labels, _code(call))

        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            call = make_call(*args, **kwargs)
            call.add_done_callback(partial(ended, began))
            return call

        return timed

    async def __aenter__(self) -> AskedTimes:
        await self._channel.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> bool | None:
        return await self._channel.__aexit__(*error)

    async def close(self, grace: float | None = None) -> None:
        await self._channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._channel.channel_ready()


def _code(call: Any) -> str:
    """The status of a call that has ended: it is there, so that nothing has to be waited for."""
    asked = call.code()
    try:
        asked.send(None)
    except StopIteration as found:
        return str(found.value.name)
    asked.close()
    return "UNKNOWN"


def _server(address: str) -> tuple[str, str]:
    """Address and port; a socket's path has no port."""
    if address.startswith("unix:"):
        return address.removeprefix("unix:").removeprefix("//"), ""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), port
