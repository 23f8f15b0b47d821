"""Watchers of a whole farm by SSE, in a process of their own: how long events take from their commit."""

import argparse
import asyncio
import json
import re
import statistics
import sys
import time
from datetime import datetime
from functools import cache
from typing import cast

import uvloop

_AT = re.compile(rb'"at": "([^"]+)"')


@cache
def _ms(text: bytes) -> float:
    return datetime.fromisoformat(text.decode()).timestamp() * 1000


class _Times:
    """Milliseconds from commit to arrival, of all watchers."""

    def __init__(self) -> None:
        self.all: list[float] = []
        self._wanted = 0
        self._enough = asyncio.Event()

    def add(self, ms: float) -> None:
        self.all.append(ms)
        if len(self.all) >= self._wanted:
            self._enough.set()

    async def wait(self, count: int) -> None:
        self._wanted = count
        if len(self.all) < count:
            self._enough.clear()
            await self._enough.wait()


class _Watcher(asyncio.Protocol):
    """One connection."""

    def __init__(self, host: str, begun: asyncio.Semaphore, times: _Times) -> None:
        self._host = host
        self._begun = begun
        self._times = times
        self._rest = b""
        self._new = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).write(f"GET /events HTTP/1.1\r\nHost: {self._host}\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        if self._new:
            assert data.startswith(b"HTTP/1.1 200"), data
            self._new = False
            self._begun.release()
        now = time.time() * 1000
        *events, self._rest = (self._rest + data).split(b"\n\n")
        for event in events:
            if match := _AT.search(event):
                self._times.add(now - _ms(match[1]))


async def _main(host: str, port: int, count: int) -> None:
    begun, times = asyncio.Semaphore(0), _Times()
    loop = asyncio.get_running_loop()
    for _ in range(count):
        await loop.create_connection(lambda: _Watcher(f"{host}:{port}", begun, times), host, port)
        await begun.acquire()
    print("watching", flush=True)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    # Each line asks for what has come once so many events have.
    async for line in reader:
        async with asyncio.timeout(120):
            await times.wait(int(line))
        p99 = statistics.quantiles(times.all, n=100)[-1]
        print(json.dumps({"count": len(times.all), "p50": statistics.median(times.all), "p99": p99}), flush=True)
        times.all.clear()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--count", type=int, default=1000)
    options = parser.parse_args()
    uvloop.run(_main(options.host, options.port, options.count))
