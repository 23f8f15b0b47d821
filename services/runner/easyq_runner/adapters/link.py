"""`Link` over `AgentLinkService.Connect`."""

from __future__ import annotations

import asyncio
from typing import Any, NoReturn

import grpc
import grpc.aio

from easyq_chassis.channel import open_channel
from easyq_chassis.errors import DeadlineExceeded, Unavailable
from easyq_chassis.status import from_rpc_error
from easyq_internal.dispatcher.v1.dispatcher_pb2 import ConnectRequest
from easyq_internal.dispatcher.v1.dispatcher_pb2_grpc import AgentLinkServiceStub
from easyq_runner.convert import hello_to_proto, incoming_from_proto, outgoing_to_proto, welcome_from_proto
from easyq_runner.ports import Hello, Incoming, LinkStream, Outgoing, Welcome


class GrpcLinkStream:
    """One call of `Connect`, past its Welcome."""

    def __init__(self, call: Any, welcome: Welcome) -> None:
        self._call = call
        self._welcome = welcome
        # gRPC takes one write at a time, and ends the stream where a second comes beside it.
        self._writing = asyncio.Lock()

    @property
    def welcome(self) -> Welcome:
        return self._welcome

    async def send(self, message: Outgoing) -> None:
        async with self._writing:
            await _write(self._call, outgoing_to_proto(message))

    async def receive(self) -> Incoming:
        while True:
            message = incoming_from_proto(await _read(self._call))
            if message is not None:
                return message

    async def close(self) -> None:
        self._call.cancel()


class GrpcLink:
    """Opens streams at the addresses that it is given, over one channel each."""

    def __init__(self) -> None:
        self._channels: dict[str, grpc.aio.Channel] = {}

    async def open(self, address: str, hello: Hello, timeout: float) -> LinkStream:
        channel = self._channels.get(address)
        if channel is None:
            channel = self._channels[address] = open_channel(address)
        call = AgentLinkServiceStub(channel).Connect()
        try:
            async with asyncio.timeout(timeout):
                await _write(call, hello_to_proto(hello))
                answer = await _read(call)
        except TimeoutError:
            call.cancel()
            raise DeadlineExceeded(f"the dispatcher at {address} did not answer within {timeout:g} s") from None
        except BaseException:
            call.cancel()
            raise
        return GrpcLinkStream(call, welcome_from_proto(answer.welcome))

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close()


async def _write(call: Any, message: ConnectRequest) -> None:
    try:
        await call.write(message)
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError, grpc.aio.UsageError) as error:
        await _raise_why(call, error)


async def _read(call: Any) -> Any:
    try:
        answer = await call.read()
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError, grpc.aio.UsageError) as error:
        await _raise_why(call, error)
    if answer is grpc.aio.EOF:
        await _raise_why(call, None)
    return answer


async def _raise_why(call: Any, error: Exception | None) -> NoReturn:
    if isinstance(error, grpc.aio.AioRpcError):
        raise from_rpc_error(error) from error
    if call.cancelled():
        raise Unavailable("the stream was closed") from error
    code, details = await call.code(), await call.details()
    if code is grpc.StatusCode.OK:
        raise Unavailable("the dispatcher ended the stream") from error
    initial, trailing = await call.initial_metadata(), await call.trailing_metadata()
    raise from_rpc_error(grpc.aio.AioRpcError(code, initial, trailing, details=details)) from error
