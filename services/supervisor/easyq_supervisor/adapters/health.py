"""Asking the gateway whether it serves."""

from __future__ import annotations

import asyncio

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

_POLL = 0.05


async def wait_serving(address: str) -> None:
    """Returns once the service at `address` says that it can do its work."""
    # A channel of its own each time: one that met a refused connection waits before it tries again.
    while True:
        async with grpc.aio.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
            if await _serves(health_pb2_grpc.HealthStub(channel)):
                return
        await asyncio.sleep(_POLL)


async def _serves(stub: health_pb2_grpc.HealthStub) -> bool:
    try:
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=1)
    except grpc.aio.AioRpcError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
