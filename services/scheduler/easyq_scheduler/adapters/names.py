"""Names of hosts, looked up in threads of their own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

# Look-ups under way, given up by those who asked or not.
_MOST = 256

_Key = tuple[str, int, int]


class Names(AbstractResolver):
    """aiohttp's resolver asks in the loop's few threads, which look-ups that nobody answers would hold for all others.

    One can't be cut short: it goes on when whoever asked has given up. So there is one at a time for each name, and who
    asks meanwhile waits for that one. Threads are daemons: none keeps the process from ending.
    """

    def __init__(self) -> None:
        self._under_way: dict[_Key, asyncio.Future[list[ResolveResult]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses. Raises OSError."""
        key = (host, port, int(family))
        answer = self._under_way.get(key)
        if answer is None:
            if len(self._under_way) >= _MOST:
                raise OSError("too many names are being looked up")
            answer = self._under_way[key] = self._ask(key)
        return await asyncio.shield(answer)

    async def close(self) -> None:
        """Nothing to do: threads end by themselves."""

    def _ask(self, key: _Key) -> asyncio.Future[list[ResolveResult]]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[ResolveResult]] = loop.create_future()

        def tell(found: list[ResolveResult], error: Exception | None) -> None:
            del self._under_way[key]
            if error is None:
                answer.set_result(found)
            else:
                answer.set_exception(error)
                # Looked at, so that asyncio doesn't complain where nobody waits any more.
                answer.exception()

        def look_up() -> None:
            found: list[ResolveResult] = []
            failed = None
            try:
                found = _addresses(*key)
            except Exception as error:  # noqa: BLE001 - it is whoever asked that gets it
                failed = error
            # A loop that has ended waits for nothing.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(tell, found, failed)

        threading.Thread(target=look_up, name="names", daemon=True).start()
        return answer


def _addresses(host: str, port: int, family: int) -> list[ResolveResult]:
    infos: list[Any] = socket.getaddrinfo(
        host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
    )
    return [
        ResolveResult(
            hostname=host,
            # As numbers, with the zone where there is one.
            host=socket.getnameinfo(address, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0],
            port=port,
            family=found,
            proto=proto,
            flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
        )
        for found, _, proto, _, address in infos
    ]
