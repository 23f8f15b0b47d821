"""Without containers: enqueue by many clients, and executions by agents whose programs end at once."""

import contextlib
import json
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.report import Figure, Goal
from tests.support.farm import SplitFarm
from tests.support.redis_server import RedisServer

CLIENTS = 16
ENQUEUES = 3200
EXECUTIONS = 3200
AGENTS = 4
SLOTS = 50
BATCH = 1000


@contextlib.contextmanager
def _farm(redis: RedisServer, folder: Path) -> Iterator[SplitFarm]:
    """A gateway, a scheduler, a dispatcher, and a store on SQLite; no agent yet."""
    redis.start().flush()
    data = folder / uuid.uuid4().hex
    with SplitFarm([], redis=redis.url, store={"database": f"sqlite:///{data}.db"}, copies=1) as farm:
        yield farm


# Enqueue ----------------------------------------------------------------------------------------------------------
def measure_enqueue(redis: RedisServer, folder: Path, runs: int) -> list[Figure]:
    with _farm(redis, folder) as farm:
        enqueue(farm, 320)
        told = [enqueue(farm, ENQUEUES) for _ in range(runs)]
        batches = [_batches(farm) for _ in range(runs)]
    return [
        Figure(
            name=f"enqueue by gRPC, {CLIENTS} clients, each on disk before its answer",
            unit="jobs/s",
            runs=[one["count"] / (one["ended"] - one["began"]) for one in told],
            goal=Goal(at_least=800),
            details={
                "p50ms": [round(one["p50"], 1) for one in told],
                "p99ms": [round(one["p99"], 1) for one in told],
            },
        ),
        Figure(name=f"  by REST, POST /batch of {BATCH}, one client", unit="jobs/s", runs=batches),
    ]


def enqueue(farm: SplitFarm, count: int) -> Any:
    command = [sys.executable, "-m", "bench.clients", farm.grpc_address, f"task-{uuid.uuid4().hex[:8]}"]
    numbers = ["--clients", str(CLIENTS), "--count", str(count)]
    done = subprocess.run([*command, *numbers], check=True, capture_output=True, text=True, timeout=120)
    return json.loads(done.stdout)


def _batches(farm: SplitFarm) -> float:
    spec = {"image": "easyq/example:1", "command": "true"}
    body = json.dumps({"jobs": [{"taskId": "batch", "spec": spec}] * BATCH}).encode()
    began = time.monotonic()
    for _ in range(3):
        results = farm.rest.post("/batch", body)["results"]
        assert len(results) == BATCH
    return 3 * BATCH / (time.monotonic() - began)


# Executions -------------------------------------------------------------------------------------------------------
def measure_executions(redis: RedisServer, folder: Path, runs: int) -> list[Figure]:
    with _farm(redis, folder) as farm, agents_on(farm) as agents:
        flow(farm, agents, 400)
        flows = [flow(farm, agents, EXECUTIONS) for _ in range(runs)]
    drains = []
    for _ in range(runs):
        with _farm(redis, folder) as farm:
            drains.append(_drain(farm))
    agents_text = f"{AGENTS} simulated agents"
    return [
        Figure(
            name=f"executions by {agents_text}, enqueued meanwhile by {CLIENTS} clients",
            unit="exec/s",
            runs=flows,
            goal=Goal(at_least=500),
        ),
        Figure(
            name=f"executions by {agents_text}, enqueued before",
            unit="exec/s",
            runs=drains,
            goal=Goal(at_least=500),
        ),
    ]


class _Agents:
    """A process of simulated agents."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._finished = 0

    def when_finished(self, more: int) -> float:
        """Waits for so many further executions; the moment at which the last of them was acknowledged."""
        self._finished += more
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{self._finished}\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())


@contextlib.contextmanager
def agents_on(farm: SplitFarm) -> Iterator[_Agents]:
    addresses = ",".join(dispatcher.address for dispatcher in farm.dispatchers)
    command = [sys.executable, "-m", "bench.simagent", addresses, "--agents", str(AGENTS), "--slots", str(SLOTS)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "connected\n"
            yield _Agents(process)
        finally:
            process.kill()


def flow(farm: SplitFarm, agents: _Agents, count: int) -> float:
    """From the first enqueue to the last acknowledged end."""
    told = enqueue(farm, count)
    return float(told["count"] / (agents.when_finished(told["count"]) - told["began"]))


def _drain(farm: SplitFarm) -> float:
    """From the moment at which agents connect to the last acknowledged end."""
    told = enqueue(farm, EXECUTIONS)
    began = time.monotonic()
    with agents_on(farm) as agents:
        ended = agents.when_finished(told["count"])
    return float(told["count"] / (ended - began))
