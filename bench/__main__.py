"""`python -m bench [PART…]`: measures, prints a table, and writes JSON."""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import cli, containers, control_plane, events, flood, latency, logs, pages, report, schedules, telemetry
from bench import metrics as instruments
from tests.support.hosts import DockerHost, dockerd_binary
from tests.support.redis_server import RedisServer, valkey_binary

PARTS = (
    "containers",
    "latency",
    "way",
    "executions",
    "enqueue",
    "schedules",
    "flood",
    "logs",
    "metrics",
    "events",
    "pages",
    "telemetry",
    "cli",
)


class Bench:
    """Runs the parts, each on servers that it needs; what can't be measured here is told, not fatal."""

    def __init__(self, folder: Path, runs: int, schedules: int) -> None:
        self._folder = folder
        self._runs = runs
        self._schedule_count = schedules
        self.figures: list[report.Figure] = []
        self.steps: list[report.Step] = []
        self.missing: dict[str, str] = {}
        self._parts: dict[str, Callable[[], None]] = {
            "containers": self._containers,
            "latency": self._latency,
            "way": self._way,
            "executions": self._executions,
            "enqueue": self._enqueue,
            "schedules": self._schedules,
            "flood": self._flood,
            "events": self._events,
            "logs": self._logs,
            "metrics": self._metrics,
            "pages": self._pages,
            "telemetry": self._telemetry,
            "cli": self._cli,
        }

    def run(self, part: str) -> None:
        print(f"bench: {part} …", file=sys.stderr, flush=True)
        known = len(self.figures)
        try:
            self._parts[part]()
        except pytest.skip.Exception as missing:
            self.missing[part] = str(missing)
        for figure in self.figures[known:]:
            print(report.row(figure), file=sys.stderr, flush=True)

    def _containers(self) -> None:
        with DockerHost(dockerd_binary(), "bench") as host:
            host.load_example_image()
            self.figures += containers.measure(host, self._runs)

    def _latency(self) -> None:
        with DockerHost(dockerd_binary(), "bench") as host:
            host.load_example_image()
            self.figures += latency.measure(host, self._folder, self._runs)

    def _way(self) -> None:
        with DockerHost(dockerd_binary(), "bench") as host, RedisServer(valkey_binary()) as redis:
            host.load_example_image()
            self.steps = latency.way(host, redis, self._folder)

    def _executions(self) -> None:
        with RedisServer(valkey_binary()) as redis:
            self.figures += control_plane.measure_executions(redis, self._folder, self._runs)

    def _enqueue(self) -> None:
        with RedisServer(valkey_binary()) as redis:
            self.figures += control_plane.measure_enqueue(redis, self._folder, self._runs)

    def _schedules(self) -> None:
        with RedisServer(valkey_binary()) as redis:
            self.figures += schedules.measure(redis, self._folder, self._runs, self._schedule_count)

    def _flood(self) -> None:
        with RedisServer(valkey_binary()) as redis:
            self.figures += flood.measure(redis, self._folder, self._runs)

    def _events(self) -> None:
        with RedisServer(valkey_binary()) as redis:
            self.figures += events.measure(redis, self._folder, self._runs)

    def _logs(self) -> None:
        with DockerHost(dockerd_binary(), "bench") as host:
            host.load_example_image()
            self.figures += logs.measure(host, self._runs)

    def _metrics(self) -> None:
        self.figures += instruments.measure(self._runs)

    def _pages(self) -> None:
        with RedisServer(valkey_binary()) as redis:
            self.figures += pages.measure(redis, self._folder, self._runs)

    def _telemetry(self) -> None:
        with RedisServer(valkey_binary()) as redis:
            self.figures += telemetry.measure(redis, self._folder, self._runs)

    def _cli(self) -> None:
        self.figures += cli.measure(self._runs)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--runs", type=int, default=5, help="runs of each, of which the median counts (5)")
    parser.add_argument(
        "--schedules",
        type=int,
        default=schedules.SCHEDULES,
        help="schedules in the store; those beyond the default aren't due meanwhile (%(default)s)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the JSON there, not to stdout")
    options = parser.parse_args()
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    at = report.machine()
    with tempfile.TemporaryDirectory(prefix="eqb-", dir="/tmp") as folder:
        bench = Bench(Path(folder), options.runs, options.schedules)
        for part in options.parts or PARTS:
            bench.run(part)
    text = report.document(bench.figures, bench.steps, bench.missing, at)
    if options.json:
        options.json.write_text(f"{text}\n", encoding="utf-8")
    else:
        print(text)
    print(report.table(bench.figures, bench.steps, bench.missing), file=sys.stderr)


if __name__ == "__main__":
    main()
