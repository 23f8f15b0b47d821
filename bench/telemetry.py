"""What it costs to see inside: the same work with everything on, with logs alone, and with nothing, in turn.

Everything on means what services do by themselves once they have a collector: logs, all metrics, and the traces of the
first 100 requests a second. What it costs to record every trace is told beside it, without a goal.
"""

import contextlib
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from bench.control_plane import ENQUEUES, EXECUTIONS, agents_on, enqueue, flow
from bench.report import Figure, Goal
from tests.support.farm import SplitFarm
from tests.support.redis_server import RedisServer
from tests.support.waiting import free_port

SERVICES = ("gateway", "scheduler", "dispatcher", "store")
# Most of what it may cost.
LEAST = 0.9
# Seconds between two looks of Prometheus at each service: three times as often as usual.
_SCRAPE = 5.0
_TICKS_MS = 10


@dataclass(frozen=True, kw_only=True)
class Side:
    """What is on: `telemetry` is metrics, served and pushed, and traces; `log_level` as services have it."""

    name: str
    telemetry: bool
    log_level: str
    #: As the gateway has it; empty: its default.
    trace_rate: str = ""


# Everything as it is by default, with a collector and a Prometheus; what a default without them has; nothing. At the
# level `error` nothing is written of work that goes well.
ALL = Side(name="all", telemetry=True, log_level="info")
EVERY = Side(name="every trace", telemetry=True, log_level="info", trace_rate="0")
LOGS = Side(name="logs", telemetry=False, log_level="info")
NONE = Side(name="none", telemetry=False, log_level="error")
SIDES = (ALL, EVERY, LOGS, NONE)
#: What `_measure` tells of a side, by the side's name.
Round = Mapping[str, Mapping[str, float]]


def measure(redis: RedisServer, folder: Path, runs: int) -> list[Figure]:
    """Throughput with telemetry as part of that without; the sides of a round are measured right after each other."""
    with _collector() as endpoint:
        rounds = [{one.name: _measure(redis, folder, endpoint, one) for one in order(number)} for number in range(runs)]
    return figures(rounds)


def order(number: int) -> tuple[Side, ...]:
    """Of a round: whoever comes later would else always have the warmer machine."""
    first = number % len(SIDES)
    return (*SIDES[first:], *SIDES[:first])


def figures(rounds: Sequence[Round]) -> list[Figure]:
    """The ratios of each round. What all costs together is held to a goal; the logs' share of it is told."""
    details = {
        one.name: [{what: round(value, 2) for what, value in told[one.name].items()} for told in rounds]
        for one in SIDES
    }
    everything = _ratios(rounds, ALL, "with metrics, traces and logs, as part of that without")
    every = _ratios(rounds, EVERY, "with every trace recorded, as part of that without")
    logs = _ratios(rounds, LOGS, "with logs alone, at their default level, as part of that without")
    least, most = Goal(at_least=LEAST), Goal(at_most=round(1 / LEAST, 2))
    held = [replace(one, goal=goal) for one, goal in zip(everything, (least, least, most), strict=True)]
    return [replace(held[0], details=details), *held[1:], *every, *logs]


def _ratios(rounds: Sequence[Round], side: Side, what: str) -> list[Figure]:
    def of(key: str, name: str) -> Figure:
        return Figure(name=name, unit="ratio", runs=[told[side.name][key] / told[NONE.name][key] for told in rounds])

    return [
        of("enqueue", f"enqueue by gRPC {what}"),
        of("executions", f"executions {what}"),
        of("processor", "  the services' processor time for an execution, likewise"),
    ]


def _measure(redis: RedisServer, folder: Path, endpoint: str, side: Side) -> dict[str, float]:
    """Jobs and executions a second, and milliseconds of processor time of all services for an execution."""
    redis.start().flush()
    ports = {name: free_port() for name in SERVICES} if side.telemetry else {}
    settings = {
        name: {
            "otlp_endpoint": endpoint if side.telemetry else "",
            "ops_listen": f"127.0.0.1:{ports[name]}" if name in ports else "",
            "log_level": side.log_level,
        }
        for name in SERVICES
    }
    if side.trace_rate:
        settings["gateway"]["trace_rate"] = side.trace_rate
    store = {"database": f"sqlite:///{folder / uuid.uuid4().hex}.db"}
    with (
        SplitFarm([], redis=redis.url, store=store, copies=1, settings=settings) as farm,
        _scraped([f"http://127.0.0.1:{port}/metrics" for port in ports.values()]),
    ):
        enqueue(farm, 320)
        one = enqueue(farm, ENQUEUES)
        with agents_on(farm) as agents:
            # What was enqueued so far goes first.
            agents.when_finished(320 + ENQUEUES)
            before = _processor_ms(farm)
            executions = flow(farm, agents, EXECUTIONS)
            spent = _processor_ms(farm) - before
    enqueued = float(one["count"] / (one["ended"] - one["began"]))
    return {"enqueue": enqueued, "executions": executions, "processor": spent / EXECUTIONS}


def _processor_ms(farm: SplitFarm) -> float:
    ticks = 0
    for service in farm.services:
        stat = Path(f"/proc/{service.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        ticks += int(stat[11]) + int(stat[12])
    return ticks * _TICKS_MS


@contextlib.contextmanager
def _collector() -> Iterator[str]:
    command = [sys.executable, "-m", "bench.collector"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.kill()


@contextlib.contextmanager
def _scraped(urls: list[str]) -> Iterator[None]:
    """Somebody asks for the metrics meanwhile."""
    over = threading.Event()
    thread = threading.Thread(target=_scrape, args=(urls, over.wait), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _scrape(urls: list[str], over: Callable[[float], bool]) -> None:
    while urls and not over(_SCRAPE):
        for url in urls:
            with contextlib.suppress(URLError), urlopen(url, timeout=5) as answer:  # noqa: S310 - its own addresses
                answer.read()
