"""Calling a service that may be restarting."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc.aio

from easyq_chassis.errors import EasyQError, NotFound, Unavailable
from easyq_chassis.outages import Neighbour
from easyq_chassis.status import from_rpc_error
from easyq_chassis.tracing import current
from easyq_gateway import deadline

T = TypeVar("T")

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 0.5
# Seconds in which a service that is there may well not have answered yet.
_A_MOMENT = 1.0
_RETRY_AFTER = 2.0
# Most seconds for a look at whether anybody listens.
_KNOCK = 1.0


class Silent(Unavailable):
    """The service may be there, and has not answered in time."""


async def unary(call: Callable[..., Any], request: Any, *, timeout: float) -> Any:
    """Calls once. Raises the error tree; silence is `Unavailable`, since nobody here set that limit."""
    try:
        return await call(request, timeout=timeout, metadata=current.metadata())
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            raise Silent("the service did not answer in time") from error
        raise from_rpc_error(error) from error


async def answered(method: Callable[..., Any], request: Any, *, address: str, timeout: float) -> Any:
    """Returns the call of a question that may be repeated, once it is answered.

    Raises `AioRpcError`: UNAVAILABLE where nobody listens at `address`, and that at once; DEADLINE_EXCEEDED where
    somebody does, and has not answered within `timeout` seconds. By itself gRPC says UNAVAILABLE of a process, too,
    that is so busy that it does not come to greet whoever connects.
    """
    loop = asyncio.get_running_loop()
    ends = loop.time() + timeout
    call = method(request, timeout=timeout, metadata=current.metadata())
    try:
        await call
    except grpc.aio.AioRpcError as error:
        # With metadata it is the service's own word.
        if error.code() is not grpc.StatusCode.UNAVAILABLE or error.trailing_metadata():
            raise
        if not await somebody_listens(address, timeout=min(_KNOCK, ends - loop.time())):
            raise
        left = max(0.0, ends - loop.time())
        call = method(request, timeout=left, wait_for_ready=True, metadata=current.metadata())
        await call
    return call


async def somebody_listens(address: str, *, timeout: float) -> bool:
    """Whether a connection to `host:port` or `unix:/path` is taken, by the kernel if by nobody else."""
    try:
        async with asyncio.timeout(timeout):
            if address.startswith("unix:"):
                _, writer = await asyncio.open_unix_connection(address.removeprefix("unix:").removeprefix("//"))
            else:
                host, _, port = address.rpartition(":")
                _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except BlockingIOError:
        # So many wait to be greeted that there is no room for one more.
        return True
    except (OSError, ValueError):
        return False
    writer.close()
    return True


async def patiently(
    name: str, attempt: Callable[[float], Awaitable[T]], *, patience: float, neighbour: Neighbour | None = None
) -> T:
    """Repeats `attempt` while its service is away, for `patience` seconds and within the request's own time.

    `attempt` gets the seconds that are left. Raises what it raised last; `Unavailable` then names the service and says
    when to come again. Where the service itself says that it takes longer than `patience`, that is passed on at once.
    `neighbour` is told whether the service answers.
    """
    loop = asyncio.get_running_loop()
    ends = loop.time() + deadline.remaining(patience)
    pause = _FIRST_PAUSE
    heard: Unavailable | None = None
    while True:
        began = loop.time()
        try:
            async with asyncio.timeout_at(ends):
                answer = await attempt(max(0.0, ends - began))
            if neighbour is not None:
                neighbour.answered()
            return answer
        except TimeoutError as error:
            # An attempt that got a moment only says nothing of the service: what was heard before it counts.
            got_time = loop.time() - began >= _A_MOMENT
            if neighbour is not None and got_time:
                neighbour.failed("it did not answer in time")
            if heard is not None and not got_time:
                raise _away(name, heard) from error
            raise _slow(name) from error
        except Unavailable as error:
            heard = error
            if neighbour is not None and (not isinstance(error, Silent) or loop.time() - began >= _A_MOMENT):
                neighbour.failed(error.message)
            if _takes_longer(error, patience):
                raise
            wait = pause * (0.5 + random.random() / 2)  # noqa: S311 - spreading load, not a secret
            if loop.time() + wait >= ends:
                raise _away(name, error) from error
            await asyncio.sleep(wait)
            pause = min(_LONGEST_PAUSE, pause * 2)


def without_echo(error: NotFound) -> NotFound:
    """Returns the same refusal in words that repeat nothing of the caller's, however long an id it sent."""
    what = error.reason.removesuffix("_NOT_FOUND").lower()
    return NotFound(f"there is no such {what}", reason=error.reason)


def _takes_longer(error: Unavailable, patience: float) -> bool:
    return error.retry_after is not None and error.retry_after > patience


def _away(name: str, error: Unavailable) -> EasyQError:
    if isinstance(error, Silent):
        return _slow(name)
    cause = error.__cause__
    # Without metadata nobody of ours has answered, and what gRPC says then names sockets and its own insides.
    is_grpcs = isinstance(cause, grpc.aio.AioRpcError) and not cause.trailing_metadata()
    why = "nobody takes the connection" if is_grpcs else error.message
    return Unavailable(f"the {name} can't be reached now ({why})", retry_after=_RETRY_AFTER)


def _slow(name: str) -> EasyQError:
    return Unavailable(
        f"the {name} did not answer in time: it has too much to do, or is away", retry_after=_RETRY_AFTER
    )
