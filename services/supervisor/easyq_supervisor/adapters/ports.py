"""The ports that are served."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Collection

from easyq_supervisor.errors import StartError

LOOPBACK = "127.0.0.1"
# So long may the sockets of a system that was just killed still be held.
_PATIENCE = 2.0
_POLL = 0.1


async def find_port(wanted: int, flag: str) -> int:
    """`wanted`, or any free one for 0. Raises StartError where it can't be had.

    The number is settled here and not in the service, so that the service comes back to it after a crash.
    """
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return _bind(wanted)
        except PermissionError as error:
            raise StartError(f"port {wanted} is only for root; {flag} takes another") from error
        except OSError as error:
            if time.monotonic() > deadline:
                raise StartError(f"port {wanted} is in use; {flag} takes another (0: any that is free)") from error
        await asyncio.sleep(_POLL)


async def find_ports(
    first: int | None, count: int, *, usual: int, taken: Collection[int], flag: str
) -> tuple[int, ...]:
    """`count` ports from `first` on, any free ones for 0. Raises StartError where one of them can't be had.

    None: from `usual` on; where one of those is in use, or among the `taken`, another one takes its place.
    """
    if first:
        for number in range(first, first + count):
            if number in taken:
                raise StartError(f"port {number} is wanted twice; {flag} takes others (0: any that are free)")
        return tuple([await find_port(number, flag) for number in range(first, first + count)])
    found: list[int] = []
    for number in range(count):
        found.append(_free(usual + number if first is None else 0, {*taken, *found}))
    return tuple(found)


def _free(preferred: int, taken: Collection[int]) -> int:
    while True:
        try:
            found = _bind(preferred if preferred not in taken else 0)
        except OSError:
            found = _bind(0)
        if found not in taken:
            return found


def _bind(port: int) -> int:
    with socket.socket() as probe:
        # Connections of the last run that wind down must not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((LOOPBACK, port))
        found: int = probe.getsockname()[1]
        return found
