"""Waiting for a condition with a deadline, instead of sleeping for a guess."""

import asyncio
import contextlib
import inspect
import random
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, overload

T = TypeVar("T")

# The tests' deadlines are those of a quiet machine: they end what would hang, and only cost time where they are met.
PATIENCE = 3

_random = random.SystemRandom()
# Below the range from which the kernel takes ports for outgoing connections: one of those would take a port between the
# look at it and the start of its server.
_PORTS = range(12_000, 32_000)
_BLOCK = 250
_claims: list[socket.socket] = []
_mine: list[int] = []


def free_port() -> int:
    """A TCP port of the loopback interface on which nobody listens, and which no call gives again while this process
    lives, neither here nor in another process that asks here. So a server finds it free however often it is restarted.
    """
    while True:
        if not _mine:
            _mine.extend(_claimed_block())
        port = _mine.pop()
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _claimed_block() -> list[int]:
    """Ports of this process alone, in no order. The claim is a name that the kernel forgets with the process."""
    starts = list(_PORTS[::_BLOCK])
    _random.shuffle(starts)
    for start in starts:
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0easyq-test-ports-{start}")
        except OSError:
            claim.close()
            continue
        _claims.append(claim)
        block = list(range(start, start + _BLOCK))
        _random.shuffle(block)
        return block
    raise RuntimeError("other processes of tests have claimed all ports")


def wait_until(condition: Callable[[], T], timeout: float = 10.0, *, interval: float = 0.02, message: str = "") -> T:
    """Calls `condition` until it is true, and gives its value; fails after PATIENCE times `timeout` seconds.

    An AssertionError or OSError of the condition counts as not yet true, and is shown if it stays so. `interval` is the
    least pause between two calls.
    """
    timeout *= PATIENCE
    deadline = time.monotonic() + timeout
    while True:
        cause: Exception | None = None
        began = time.monotonic()
        try:
            if value := condition():
                return value
        except (AssertionError, OSError) as error:
            cause = error
        if time.monotonic() >= deadline:
            raise _late(condition, timeout, message) from cause
        time.sleep(_pause(interval, began))


@overload
async def eventually(
    condition: Callable[[], Coroutine[Any, Any, T]],
    timeout: float = ...,
    *,
    interval: float = ...,
    message: str = ...,
) -> T: ...


@overload
async def eventually(
    condition: Callable[[], T], timeout: float = ..., *, interval: float = ..., message: str = ...
) -> T: ...


async def eventually(
    condition: Callable[[], Any], timeout: float = 10.0, *, interval: float = 0.02, message: str = ""
) -> Any:
    """`wait_until` for coroutines: `condition` may be a plain or an async function."""
    timeout *= PATIENCE
    deadline = time.monotonic() + timeout
    while True:
        cause: Exception | None = None
        began = time.monotonic()
        try:
            outcome = condition()
            value = await outcome if inspect.isawaitable(outcome) else outcome
            if value:
                return value
        except (AssertionError, OSError) as error:
            cause = error
        if time.monotonic() >= deadline:
            raise _late(condition, timeout, message) from cause
        await asyncio.sleep(_pause(interval, began))


def _pause(interval: float, began: float) -> float:
    """A condition that takes long to look at is looked at less often: the time is for what is waited for."""
    return max(interval, min(0.1, 2 * (time.monotonic() - began)))


def _late(condition: object, timeout: float, message: str) -> AssertionError:
    what = message or getattr(condition, "__qualname__", repr(condition))
    return AssertionError(f"not within {timeout:g} s: {what}")
