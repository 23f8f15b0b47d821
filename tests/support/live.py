"""Readers of live output: they put a stream's frames together, and see where a byte is missing or doubled."""

import asyncio
import base64
import contextlib
import hashlib
import json
from collections.abc import AsyncIterable
from typing import Any

import aiohttp
import websockets
from websockets.asyncio.client import ClientConnection, connect

# What a reader is told that is to come again.
_BUSY = frozenset({429, 503})


class Reader:
    """What was read so far. With `again` it goes on with what came after a break."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.output: dict[tuple[str, str], bytes] = {}
        self.begun: dict[str, dict[str, Any]] = {}
        self.ends: list[dict[str, Any]] = []
        self.position = ""

    def take(self, event: str, data: dict[str, Any]) -> None:
        self.events.append(event)
        if event == "attempt":
            self.begun[data["executionId"]] = data
        elif event == "end":
            self.ends.append(data)
        elif event == "log":
            raw = data["text"].encode() if "text" in data else base64.b64decode(data["base64"])
            self.add(data["executionId"], data["stream"], data["offset"], raw)

    def add(self, execution_id: str, stream: str, offset: int, data: bytes) -> None:
        begin = self.begun[execution_id][f"{stream.lower()}Offset"]
        had = self.output.get((execution_id, stream), b"")
        assert offset == begin + len(had)
        self.output[execution_id, stream] = had + data

    def of(self, job: Any, stream: str) -> bytes:
        """The output of a job's first execution."""
        return self.output.get((job["executionId"], stream), b"")

    def again(self) -> None:
        """What is told anew of an execution's beginning is where it goes on, not where it began."""
        self.begun = _Pinned(self.begun)


async def read_socket(socket: ClientConnection, reader: Reader, until: int | None = None) -> None:
    """Reads frames until the end, or until so many bytes of output are there."""
    async for frame in socket:
        if isinstance(frame, bytes):
            name = {1: "STDOUT", 2: "STDERR"}[frame[0]]
            reader.events.append("log")
            reader.add(list(reader.begun)[-1], name, int.from_bytes(frame[1:9], "big"), frame[9:])
        else:
            told = json.loads(frame)
            reader.position = told.pop("position")
            reader.take(told.pop("type"), told)
        if until is not None and sum(map(len, reader.output.values())) >= until:
            return


async def closed(socket: ClientConnection, reader: Reader | None = None) -> None:
    """Reads until the socket is closed, for whatever reason."""
    with contextlib.suppress(websockets.ConnectionClosed):
        await read_socket(socket, reader or Reader())


async def read_sse(lines: AsyncIterable[bytes], reader: Reader, until: int | None = None) -> list[str]:
    """Reads events likewise; returns the comments on the way."""
    event, data, comments = "", "", []
    async for line in lines:
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name == "id":
            reader.position = value
        elif name == "event":
            event = value
        elif name == "data":
            data = value
        elif line.startswith(b":"):
            comments.append(value)
        elif line == b"\n" and event:
            reader.take(event, json.loads(data))
            event = ""
            if until is not None and sum(map(len, reader.output.values())) >= until:
                break
    return comments


class _Pinned(dict[str, dict[str, Any]]):
    """Keeps what was told of an execution first."""

    def __setitem__(self, key: str, value: dict[str, Any]) -> None:
        self.setdefault(key, value)


async def raw_digest(session: aiohttp.ClientSession, url: str) -> str:
    """SHA-256 of all that a raw stream brings."""
    digest = hashlib.sha256()
    while True:
        async with session.get(url) as response:
            if response.status in _BUSY:
                await asyncio.sleep(1)
                continue
            assert response.status == 200, response
            async for data in response.content.iter_any():
                digest.update(data)
            return digest.hexdigest()


async def binary_digest(url: str, *, pause: float = 0.0) -> str:
    """SHA-256 of all output that binary frames bring; `pause`: seconds that the reader takes for each."""
    digest = hashlib.sha256()
    async with await _connected(url) as socket:
        async for frame in socket:
            if isinstance(frame, bytes):
                digest.update(frame[9:])
                await asyncio.sleep(pause)
    return digest.hexdigest()


async def _connected(url: str) -> ClientConnection:
    while True:
        try:
            return await connect(url, max_size=None, open_timeout=120, ping_timeout=None)
        except websockets.InvalidStatus as refused:
            if refused.response.status_code not in _BUSY:
                raise
        await asyncio.sleep(1)
