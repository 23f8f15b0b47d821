"""Live output: from a container's write to a reader, and a program that writes as fast as it can to many readers."""

import asyncio
import json
import os
import statistics
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
from websockets.asyncio.client import connect

from bench.report import Figure, Goal
from tests.support.farm import Rest, UpFarm, Witness
from tests.support.farm.programs import shell
from tests.support.hosts import DockerHost
from tests.support.live import binary_digest, raw_digest

LINES = 50
PAUSE = 0.05
MEGABYTES = 20
READERS = 50


def measure(host: DockerHost, runs: int) -> list[Figure]:
    with UpFarm([host], slots=4) as farm:
        latencies = [asyncio.run(_latencies(farm.rest, _folder(farm, "latency", number))) for number in range(runs)]
        alone = [asyncio.run(_flood(farm.rest, 0)) for _ in range(runs)]
        beside = [asyncio.run(_flood(farm.rest, READERS)) for _ in range(runs)]
    return [
        Figure(
            name="output: a container's write until a WebSocket's reader has it, p50",
            unit="ms",
            runs=[statistics.median(one.whole for one in lines) for lines in latencies],
            goal=Goal(at_most=50),
            details={"p95": round(statistics.quantiles([o.whole for lines in latencies for o in lines], n=20)[-1], 1)},
        ),
        Figure(
            name="  of that, until the store takes it, p50",
            unit="ms",
            runs=[statistics.median(one.stored for one in lines) for lines in latencies],
        ),
        Figure(
            name=f"a program that writes {MEGABYTES} MB, its run time without readers",
            unit="s",
            runs=[flood.ran for flood in alone],
        ),
        Figure(
            name=f"  the same with {READERS} readers",
            unit="s",
            runs=[flood.ran for flood in beside],
        ),
        Figure(
            name=f"  from its start until all {READERS} have all of it",
            unit="s",
            runs=[flood.read for flood in beside],
        ),
    ]


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line's way in milliseconds: to its reader, and of that to the store's transaction (by its clock, in ms)."""

    whole: float
    stored: float


@dataclass(frozen=True, kw_only=True)
class Flood:
    """Seconds that the program ran, by its host, and from its start until the last reader had all."""

    ran: float
    read: float


def _folder(farm: UpFarm, name: str, number: int) -> Witness:
    return Witness(farm.mounts / f"{name}-{number}")


async def _latencies(rest: Rest, witness: Witness) -> list[Line]:
    """A container that writes what it is told by a pipe: each line is the time at which it was told."""
    pipe = witness.folder / "pipe"
    os.mkfifo(pipe)
    pipe.chmod(0o666)
    job = rest.enqueue("latency", shell("while read line; do echo $line; done < /witness/pipe", mounts=witness.mounts))
    url = f"{rest.url.replace('http', 'ws')}/jobs/{job['jobId']}/ws"
    found: list[Line] = []
    async with connect(url) as socket:
        writer = asyncio.create_task(asyncio.to_thread(_write_times, pipe))
        async for frame in socket:
            got = time.time()
            told = json.loads(frame)
            found += [_line(float(text), told["at"], got) for text in told.get("text", "").split()]
        await writer
    # The first ones find a connection of their agent's that is not there yet.
    return found[5:]


def _line(written: float, at: str, got: float) -> Line:
    return Line(whole=(got - written) * 1000, stored=(_unix(at) - written) * 1000)


def _write_times(pipe: Path) -> None:
    with pipe.open("w") as open_pipe:
        for _ in range(LINES + 5):
            open_pipe.write(f"{time.time():.6f}\n")
            open_pipe.flush()
            time.sleep(PAUSE)


async def _flood(rest: Rest, readers: int) -> Flood:
    # The readers are there before it writes.
    script = f"sleep 3; yes {'x' * 63} | head -c {MEGABYTES * 1024 * 1024}"
    job = rest.enqueue("flood", shell(script))
    path = f"/jobs/{job['jobId']}"
    async with aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(), connector=aiohttp.TCPConnector(limit=0)
    ) as session:
        reading = [
            binary_digest(f"{rest.url.replace('http', 'ws')}{path}/ws?binary=1")
            if number % 2
            else raw_digest(session, f"{rest.url}{path}/stream")
            for number in range(readers)
        ]
        digests = await asyncio.gather(*reading, asyncio.to_thread(rest.wait_job, job["jobId"], 600))
    read = time.time()
    assert len(set(digests[:-1])) <= 1
    execution: Any = rest.job(job["jobId"])["executions"][-1]
    started = _unix(execution["startedAt"]) + 3
    return Flood(ran=_unix(execution["finishedAt"]) - started, read=read - started)


def _unix(text: str) -> float:
    return datetime.fromisoformat(text).astimezone(UTC).timestamp()
