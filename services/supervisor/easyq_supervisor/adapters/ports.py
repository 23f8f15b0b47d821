"""The two public ports."""

from __future__ import annotations

import asyncio
import socket
import time

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


def _bind(port: int) -> int:
    with socket.socket() as probe:
        # Connections of the last run that wind down must not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((LOOPBACK, port))
        found: int = probe.getsockname()[1]
        return found
