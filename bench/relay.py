"""Passes bytes between two sockets, and tells when they came by: on one thread, for any number of connections."""

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import uvloop

# Called with the direction (True: from the client to the server), the bytes, and time.monotonic().
Watch = Callable[[bool, bytes, float], None]


@dataclass(frozen=True, kw_only=True)
class Passed:
    """Bytes that came by a relay."""

    name: str
    forward: bool
    at: float


class Relays:
    """A thread with relays; `add` gives the address on which one listens."""

    def __init__(self) -> None:
        self._loop = uvloop.new_event_loop()
        # A server that nobody holds is closed.
        self._servers: list[asyncio.Server] = []
        self._thread = threading.Thread(target=self._loop.run_forever, name="relays", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    async def _end(self) -> None:
        for server in self._servers:
            server.close()
        # Connections that were waiting to be accepted become tasks meanwhile.
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

    def add(self, target: str, watch: Callable[[], Watch], listen: Path | None = None) -> str:
        """Relays to `target` (`host:port` or `unix:/path`); each connection gets a watch of its own.

        Listens on the path `listen`, else on a free port of the loopback interface.
        """
        return asyncio.run_coroutine_threadsafe(self._serve(target, watch, listen), self._loop).result(5)

    async def _serve(self, target: str, watch: Callable[[], Watch], listen: Path | None) -> str:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                far_reader, far_writer = await _connect(target)
            except OSError:
                writer.close()
                return
            see = watch()
            await asyncio.gather(_pump(reader, far_writer, True, see), _pump(far_reader, writer, False, see))

        if listen is not None:
            self._servers.append(await asyncio.start_unix_server(accept, str(listen)))
            return f"unix:{listen}"
        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self._servers.append(server)
        return f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def _connect(target: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if target.startswith("unix:"):
        return await asyncio.open_unix_connection(target.removeprefix("unix:").removeprefix("//"))
    host, _, port = target.rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, forward: bool, see: Watch) -> None:
    try:
        while data := await reader.read(256 * 1024):
            see(forward, data, time.monotonic())
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except (OSError, RuntimeError):
        writer.close()


class Recorder:
    """Keeps what came by."""

    def __init__(self) -> None:
        self.passed: list[Passed] = []

    def bytes_of(self, name: str, containing: bytes = b"") -> Callable[[], Watch]:
        """Each piece of bytes in which `containing` stands."""

        def watch() -> Watch:
            def see(forward: bool, data: bytes, at: float) -> None:
                if containing in data:
                    self.passed.append(Passed(name=name, forward=forward, at=at))

            return see

        return watch

    def messages_of(self, name: str) -> Callable[[], Watch]:
        """Each DATA frame of HTTP/2 that is not empty: gRPC's messages, without its pings and windows."""

        def watch() -> Watch:
            frames = {True: _Frames(skip=24), False: _Frames(skip=0)}

            def see(forward: bool, data: bytes, at: float) -> None:
                if frames[forward].has_message(data):
                    self.passed.append(Passed(name=name, forward=forward, at=at))

            return see

        return watch


class _Frames:
    """Reads HTTP/2 frames off one direction of a connection; a client begins with a preface of 24 bytes."""

    def __init__(self, *, skip: int) -> None:
        self._buffer = bytearray()
        self._skip = skip

    def has_message(self, data: bytes) -> bool:
        self._buffer += data
        found = False
        while True:
            gone = min(self._skip, len(self._buffer))
            del self._buffer[:gone]
            self._skip -= gone
            if self._skip or len(self._buffer) < 9:
                return found
            length = int.from_bytes(self._buffer[:3], "big")
            found = found or (self._buffer[3] == 0 and length > 0)
            self._skip = 9 + length
