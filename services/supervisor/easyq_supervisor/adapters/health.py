"""Asking the gateway whether it serves, and whom it knows."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import suppress

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from easyq.aio import AsyncClient
from easyq.errors import EasyQError
from easyq.v1.farm_service_pb2 import Agent

_POLL = 0.05


async def wait_serving(address: str) -> None:
    """Returns once the service at `address` says that it can do its work."""
    # A channel of its own each time: one that met a refused connection waits before it tries again.
    while True:
        async with grpc.aio.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
            if await _serves(health_pb2_grpc.HealthStub(channel)):
                return
        await asyncio.sleep(_POLL)


async def wait_agents(address: str, names: Collection[str], patience: float) -> None:
    """Returns once the farm has heard each of these agents, or has one drain, or after `patience` seconds."""
    with suppress(TimeoutError):
        async with asyncio.timeout(patience), AsyncClient(address) as client:
            while True:
                with suppress(EasyQError):
                    if set(names) <= {one.agent_id for one in await client.agents() if _is_known(one)}:
                        return
                await asyncio.sleep(2 * _POLL)


def _is_known(agent: Agent) -> bool:
    return agent.state == Agent.LIVE or agent.HasField("drained_at")


async def _serves(stub: health_pb2_grpc.HealthStub) -> bool:
    try:
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=1)
    except grpc.aio.AioRpcError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
