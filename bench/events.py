"""Watchers: what 1,000 of them cost a gateway, and how soon each knows."""

import contextlib
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.report import Figure
from tests.support.farm import SplitFarm
from tests.support.redis_server import RedisServer

WATCHERS = 1_000
JOBS = 100
# Of a new job: that it was made, and that its execution was.
_EVENTS = 2 * JOBS
_PAUSE = 0.1
_SPEC = json.dumps({"image": "easyq/example:1", "command": "true"}).encode()


def measure(redis: RedisServer, folder: Path, runs: int) -> list[Figure]:
    """Enqueues without watchers and with them, at the same pace; the difference is theirs."""
    redis.start().flush()
    database = folder / f"{uuid.uuid4().hex}.db"
    settings = {"gateway": {"max_streams": str(WATCHERS + 10)}}
    with SplitFarm(
        [], redis=redis.url, store={"database": f"sqlite:///{database}"}, copies=1, settings=settings
    ) as farm:
        _enqueue(farm)
        alone = [_cost(farm) for _ in range(runs)]
        before = _memory(farm.gateway.pid)
        with _watchers(farm) as ask:
            held = _memory(farm.gateway.pid) - before
            _enqueue(farm)
            ask(_EVENTS * WATCHERS)
            told = []
            watched = []
            for _ in range(runs):
                began = _processor_ms(farm.gateway.pid)
                _enqueue(farm)
                told.append(ask(_EVENTS * WATCHERS))
                watched.append(_processor_ms(farm.gateway.pid) - began)
    each = [(one - min(alone)) / (_EVENTS * WATCHERS) * 1000 for one in watched]
    what = f"{WATCHERS:,} watchers of the farm, {round(2 / _PAUSE)} events a second"
    return [
        Figure(name=f"{what}: from commit to a watcher, p50", unit="ms", runs=[one["p50"] for one in told]),
        Figure(name="  p99", unit="ms", runs=[one["p99"] for one in told]),
        Figure(
            name="  processor time of the gateway for each event and watcher",
            unit="µs",
            runs=each,
            details={"withoutWatchersMs": [round(one) for one in alone], "withMs": [round(one) for one in watched]},
        ),
        Figure(name="  memory of the gateway for each watcher", unit="KiB", runs=[held / WATCHERS / 1024]),
    ]


def _cost(farm: SplitFarm) -> float:
    """Milliseconds of the gateway's processor time for the enqueues alone."""
    began = _processor_ms(farm.gateway.pid)
    _enqueue(farm)
    return _processor_ms(farm.gateway.pid) - began


def _enqueue(farm: SplitFarm) -> None:
    for _ in range(JOBS):
        farm.rest.post("/tasks/events", _SPEC)
        time.sleep(_PAUSE)


@contextlib.contextmanager
def _watchers(farm: SplitFarm) -> Iterator[Any]:
    """A process of watchers; what it gives waits for so many events and tells of them."""
    command = [sys.executable, "-m", "bench.watchers", farm.rest.host, str(farm.rest.port), "--count", str(WATCHERS)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        asking, answers = process.stdin, process.stdout

        def ask(count: int) -> Any:
            asking.write(f"{count}\n")
            asking.flush()
            return json.loads(answers.readline())

        try:
            assert answers.readline() == "watching\n"
            yield ask
        finally:
            process.kill()


def _processor_ms(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) * 1000 / os.sysconf("SC_CLK_TCK")


def _memory(pid: int) -> int:
    """Bytes that are resident."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
