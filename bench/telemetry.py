"""What it costs to see inside: the same work with everything on and with everything off, in turn.

Everything on means what a service does by itself once it has a collector: all metrics, and the traces of the first 100
requests a second. What every trace costs is told beside it, without a goal.
"""

import contextlib
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from bench.control_plane import ENQUEUES, EXECUTIONS, agents_on, enqueue, flow
from bench.report import Figure, Goal
from tests.support.farm import SplitFarm
from tests.support.redis_server import RedisServer
from tests.support.waiting import free_port

SERVICES = ("gateway", "scheduler", "dispatcher", "store")
OFF, ON, EVERY = KINDS = ("off", "on", "every trace")
# Most of what it may cost.
LEAST = 0.9
# Seconds between two looks of Prometheus at each service: three times as often as usual.
_SCRAPE = 5.0
_TICKS_MS = 10


def measure(redis: RedisServer, folder: Path, runs: int) -> list[Figure]:
    """Throughput with telemetry as part of that without; each pair is measured right after each other."""
    took: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    with _collector() as endpoint:
        for number in range(runs):
            # Whoever comes last would else always have the warmest machine.
            turn = number % len(KINDS)
            for kind in (*KINDS[turn:], *KINDS[:turn]):
                took[kind].append(_measure(redis, folder, endpoint if kind != OFF else "", kind))
    on = _figures(took, ON, "with metrics and traces on", least=LEAST)
    return [*on, *_figures(took, EVERY, "with every trace recorded")]


def _figures(
    took: dict[str, list[dict[str, float]]], kind: str, what: str, *, least: float | None = None
) -> list[Figure]:
    def ratios(of: str) -> list[float]:
        return [one[of] / other[of] for one, other in zip(took[kind], took[OFF], strict=True)]

    as_part = f"{what}, as part of that without"
    enough = Goal(at_least=least) if least else None
    return [
        Figure(
            name=f"enqueue by gRPC {as_part}",
            unit="ratio",
            runs=ratios("enqueue"),
            goal=enough,
            details={
                name: [{of: round(value, 2) for of, value in one.items()} for one in took[name]] for name in (kind, OFF)
            },
        ),
        Figure(name=f"executions {as_part}", unit="ratio", runs=ratios("executions"), goal=enough),
        Figure(
            name="  the services' processor time for an execution, likewise",
            unit="ratio",
            runs=ratios("processor"),
            goal=Goal(at_most=round(1 / least, 2)) if least else None,
        ),
    ]


def _measure(redis: RedisServer, folder: Path, endpoint: str, kind: str) -> dict[str, float]:
    """Jobs and executions a second, and milliseconds of processor time of all services for an execution."""
    redis.start().flush()
    ports = {name: free_port() for name in SERVICES} if endpoint else {}
    settings = {
        name: {"otlp_endpoint": endpoint, "ops_listen": f"127.0.0.1:{ports[name]}" if name in ports else ""}
        for name in SERVICES
    }
    if kind == EVERY:
        settings["gateway"]["trace_rate"] = "0"
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
