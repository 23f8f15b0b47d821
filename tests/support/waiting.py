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

_random = random.SystemRandom()
_given: set[int] = set()


def free_port() -> int:
    """A TCP port of the loopback interface on which nobody listens, and which no call of this process gives again.

    It lies below the range from which the kernel takes ports for outgoing connections: one of those would take it
    between this look and the start of a server.
    """
    while True:
        port = _random.randrange(12_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                return port


def wait_until(condition: Callable[[], T], timeout: float = 10.0, *, interval: float = 0.02, message: str = "") -> T:
    """Calls `condition` until it is true, and gives its value; fails after `timeout` seconds.

    An AssertionError or OSError of the condition counts as not yet true, and is shown if it stays so.
    """
    deadline = time.monotonic() + timeout
    while True:
        cause: Exception | None = None
        try:
            if value := condition():
                return value
        except (AssertionError, OSError) as error:
            cause = error
        if time.monotonic() >= deadline:
            raise _late(condition, timeout, message) from cause
        time.sleep(interval)


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
    deadline = time.monotonic() + timeout
    while True:
        cause: Exception | None = None
        try:
            outcome = condition()
            value = await outcome if inspect.isawaitable(outcome) else outcome
            if value:
                return value
        except (AssertionError, OSError) as error:
            cause = error
        if time.monotonic() >= deadline:
            raise _late(condition, timeout, message) from cause
        await asyncio.sleep(interval)


def _late(condition: object, timeout: float, message: str) -> AssertionError:
    what = message or getattr(condition, "__qualname__", repr(condition))
    return AssertionError(f"not within {timeout:g} s: {what}")
