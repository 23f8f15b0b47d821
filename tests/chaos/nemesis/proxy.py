"""TCP connections between services that can be cut in either direction, left half open, or slowed down."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import Future
from typing import Any

_CHUNK = 65_536


class Proxy:
    """One address in front of another. Its state is changed by the network's thread only."""

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.port = port
        self.delay = 0.0
        # Set while bytes flow: from who calls to who is called, and back.
        self.up, self.down = asyncio.Event(), asyncio.Event()
        self.up.set()
        self.down.set()
        self.open: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open.add(writer)
        other: asyncio.StreamWriter | None = None
        try:
            # A connection's first packet gets no answer either while one direction is cut.
            await self.up.wait()
            await self.down.wait()
            other_reader, other = await asyncio.open_connection("127.0.0.1", self.port)
            self.open.add(other)
            ways = [
                asyncio.ensure_future(self._pass_on(reader, other, self.up)),
                asyncio.ensure_future(self._pass_on(other_reader, writer, self.down)),
            ]
            _done, pending = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            # What one side has written before it closed still arrives.
            if pending:
                await asyncio.wait(pending, timeout=1)
            for way in pending:
                way.cancel()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for one in (writer, other):
                if one is not None:
                    self.open.discard(one)
                    one.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flows: asyncio.Event) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                await flows.wait()
                if self.delay:
                    await asyncio.sleep(self.delay)
                writer.write(data)
                await writer.drain()
            await flows.wait()

    def reset(self) -> None:
        """Breaks all connections, without a word of goodbye."""
        for writer in list(self.open):
            transport: Any = writer.transport
            transport.abort()


class Network:
    """All proxies, in a thread of their own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="network", daemon=True)
        self._thread.start()
        self._servers: list[asyncio.Server] = []
        self._by_link: dict[str, list[Proxy]] = {}
        self._by_address: dict[tuple[str, str], str] = {}

    def between(self, link: str, address: str) -> str:
        """The address to take instead of `address` (host:port), so that `link` can be cut."""
        key = (link, address)
        if key not in self._by_address:
            port = int(address.rpartition(":")[2])
            self._by_address[key] = self._call(self._listen(link, port))
        return self._by_address[key]

    async def _listen(self, link: str, port: int) -> str:
        proxy = Proxy(link, port)
        server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
        self._servers.append(server)
        self._by_link.setdefault(link, []).append(proxy)
        return f"127.0.0.1:{server.sockets[0].getsockname()[1]}"

    @property
    def links(self) -> list[str]:
        return sorted(self._by_link)

    def cut(self, link: str, directions: str) -> None:
        """`up`: nothing from the caller arrives; `down`: no answer does; `both`. Connections stay open."""

        async def change() -> None:
            for proxy in self._of(link):
                if directions in {"up", "both"}:
                    proxy.up.clear()
                if directions in {"down", "both"}:
                    proxy.down.clear()

        self._call(change())

    def slow(self, link: str, seconds: float) -> None:
        async def change() -> None:
            for proxy in self._of(link):
                proxy.delay = seconds

        self._call(change())

    def heal(self, link: str = "", *, reset: bool = False) -> None:
        """What was held back arrives late, or (`reset`) never: connections break. No `link`: all."""

        async def change() -> None:
            for proxy in self._of(link):
                if reset:
                    proxy.reset()
                proxy.delay = 0.0
                proxy.up.set()
                proxy.down.set()

        self._call(change())

    def _of(self, link: str) -> list[Proxy]:
        """Those of a link, or of all whose names begin with its name and a dash; all where it is empty."""
        names = [name for name in self._by_link if link in {"", name} or name.startswith(f"{link}-")]
        if not names:
            raise KeyError(link)
        return [proxy for name in names for proxy in self._by_link[name]]

    def _call(self, coroutine: Any) -> Any:
        future: Future[Any] = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        return future.result(30)

    def close(self) -> None:
        async def end() -> None:
            for server in self._servers:
                server.close()
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self._call(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()
