"""Breaks a real system in each way that an alert is for, and records what its services show meanwhile.

`python -m tests.chaos.alerts.record` writes `recorded.jsonl` anew. To be done when a metric or a rule has changed; it
takes four minutes, root, a Docker Engine, Redis.
"""

from __future__ import annotations

import contextlib
import http.server
import os
import resource
import signal
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from tests.chaos.alerts.series import Recording, names_in
from tests.support.farm import UpFarm
from tests.support.hosts import EXAMPLE_IMAGE, DockerHost, dockerd_binary
from tests.support.redis_server import RedisServer, redis_binary
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[3]
RULES = [ROOT / "deploy/prometheus" / name for name in ("recording.yml", "alerts.yml")]
RECORDED = Path(__file__).parent / "recorded.jsonl"
SERVICES = ("gateway", "scheduler", "store", "dispatcher", "runner")
_TIMEOUT = 0.7

CONFIG = """
[[pool]]
name = "default"
pattern = ".*"
lost_after = "6s"

[[limit]]
pattern = "held"
max_running = 0
"""


class Stage:
    """The system, its load, and who looks at it."""

    def __init__(self) -> None:
        self.host = DockerHost(dockerd_binary())
        self.redis = RedisServer(redis_binary())
        settings = {
            "EASYQ_DISPATCHER_GAUGE_INTERVAL": "0.5",
            "EASYQ_DISPATCHER_LEASE": "4",
            "EASYQ_DISPATCHER_BEAT_EVERY": "1",
            "EASYQ_STORE_LOST_MARGIN": "1",
            "EASYQ_GATEWAY_MAX_STREAMS": "3",
        }
        self.farm = UpFarm([self.host], slots=8, env=settings)
        config = self.farm.folder / "easyq.toml"
        config.write_text(CONFIG, encoding="ascii")
        self.farm.arguments = ("--redis", self.redis.url, "--config", str(config))
        self.recording = Recording()
        self.load: list[Callable[[], object]] = [lambda: self.post("fine", "true")]
        self._names = names_in(rule for path in RULES for rule in rules_of(path)) | {"up"}
        self._over = threading.Event()

    def post(self, task: str, command: str, **more: Any) -> None:
        """Enqueues, if anybody is there."""
        with contextlib.suppress(OSError, AssertionError):
            spec = {"image": EXAMPLE_IMAGE, "command": command, **more}
            self.farm.rest.call("POST", f"/tasks/{task}", spec, timeout=3)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        try:
            self.host.start().load_example_image()
            self.redis.start()
            self.farm.start()
            wait_until(lambda: self.farm.rest.get("/status")["running"], 30)
            threads = [threading.Thread(target=one, daemon=True) for one in (self._scrape, self._work)]
            for thread in threads:
                thread.start()
            yield
            self._over.set()
            for thread in threads:
                thread.join(20)
        finally:
            self.farm.close()
            self.redis.close()
            self.host.close()

    @contextlib.contextmanager
    def phase(self, name: str, seconds: float) -> Iterator[None]:
        """What is broken by its body stays so for these seconds."""
        begin = self.recording.seconds
        print(f"{begin:4} {name}", flush=True)
        try:
            yield
            wait_until(lambda: self.recording.seconds >= begin + seconds, seconds + 30, interval=0.1)
        finally:
            self.recording.phases[name] = (begin, self.recording.seconds)

    def rest_for(self, seconds: float) -> None:
        begin = self.recording.seconds
        wait_until(lambda: self.recording.seconds >= begin + seconds, seconds + 30, interval=0.1)

    def send(self, service: str, number: signal.Signals) -> None:
        for pid in self.farm.pids(service):
            os.kill(pid, number)

    @contextlib.contextmanager
    def frozen(self, service: str) -> Iterator[None]:
        self.send(service, signal.SIGSTOP)
        try:
            yield
        finally:
            self.send(service, signal.SIGCONT)

    def pulses(self, pids: list[int], stopped: float, going: float) -> Callable[[], None]:
        """Freezes processes again and again, until the answer is called."""
        over = threading.Event()

        def pulse() -> None:
            while not over.is_set():
                for number, seconds in ((signal.SIGSTOP, stopped), (signal.SIGCONT, going)):
                    for pid in pids:
                        os.kill(pid, number)
                    time.sleep(seconds)

        thread = threading.Thread(target=pulse, daemon=True)
        thread.start()

        def end() -> None:
            over.set()
            thread.join()

        return end

    def _scrape(self) -> None:
        with ThreadPoolExecutor(len(SERVICES)) as pool:
            due = time.monotonic()
            while not self._over.is_set():
                scrapes = list(pool.map(self._ask, self.farm.metrics.items()))
                self.recording.add(scrapes, self._names)
                due = max(due + 1, time.monotonic())
                time.sleep(max(0, due - time.monotonic()))

    def _ask(self, target: tuple[str, str]) -> tuple[dict[str, str], str | None]:
        service, url = target
        # As deploy/prometheus/prometheus.yml labels them, on its ports.
        labels = {"job": "easyq", "service": service, "instance": f"127.0.0.1:{10020 + SERVICES.index(service)}"}
        try:
            with urllib.request.urlopen(f"{url}/metrics", timeout=_TIMEOUT) as answer:  # noqa: S310 - this system's
                return labels, answer.read().decode()
        except OSError:
            return labels, None

    def _work(self) -> None:
        with ThreadPoolExecutor(16) as pool:
            while not self._over.wait(1.0):
                for one in list(self.load):
                    pool.submit(one)


def rules_of(path: Path) -> list[dict[str, Any]]:
    """All rules of a file."""
    groups = yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


class _Refuses(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.send_response(410)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


def record(stage: Stage) -> None:
    """The run."""
    farm, rest = stage.farm, stage.farm.rest
    with stage.phase("calm", 30):
        stage.post("held", "true")
    fails: Callable[[], object] = lambda: stage.post("bad", "false")  # noqa: E731 - one of several
    stage.load.append(fails)
    with stage.phase("jobs fail, one can't be pulled, notifications are refused", 45):
        receiver = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Refuses)
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        hook = {"url": f"http://127.0.0.1:{receiver.server_port}/"}
        stage.post("told", "false", webhooks={"fails": [hook]})
        for _ in range(4):
            stage.post("unpullable", "true", image="127.0.0.1:1/nowhere:1")
    stage.load.remove(fails)
    with stage.phase("the store hangs", 16), stage.frozen("store"):
        stage.rest_for(14)
    stage.rest_for(6)
    for n in range(3):
        stage.post("late", "true", startIn=2 + n)
    with stage.phase("the scheduler hangs", 50):
        with stage.frozen("scheduler"):
            stage.rest_for(40)
        stage.rest_for(8)
    with stage.phase("Redis is away", 12):
        stage.redis.stop()
        stage.rest_for(11)
        stage.redis.start()
    stage.rest_for(5)
    with stage.phase("Redis loses its data", 14):
        for _ in range(6):
            stage.redis.flush()
            stage.rest_for(2)
    with stage.phase("Redis is slow", 30):
        calm = stage.pulses([stage.redis.pid], 1.8, 0.1)
        stage.rest_for(28)
        calm()
    with stage.phase("the gateway's machine is overloaded", 20):
        calm = stage.pulses(farm.pids("gateway"), 1.2, 0.3)
        stage.rest_for(18)
        calm()
    with stage.phase("too many streams, too few file descriptors", 30):
        readers = [urllib.request.urlopen(f"{rest.url}/events", timeout=5) for _ in range(3)]  # noqa: S310 - this system's
        refused: Callable[[], object] = lambda: rest.call("GET", "/events")  # noqa: E731 - one of several
        stage.load.append(refused)
        [pid] = farm.pids("scheduler")
        least = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()) + 2
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (least, resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]))
        stage.rest_for(28)
        stage.load.remove(refused)
        for reader in readers:
            reader.close()
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (1024, resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]))
    with stage.phase("Docker is away", 16):
        stage.host.stop()
        stage.rest_for(15)
    stage.host.start()
    stage.rest_for(8)
    for _ in range(8):
        stage.post("long", "sleep 300")
    wait_until(lambda: rest.get("/status")["agents"][0]["running"] >= 6, 30)
    with stage.phase("the dispatcher hangs", 40), stage.frozen("dispatcher"):
        stage.rest_for(38)
    with stage.phase("the host is back", 30):
        stage.rest_for(28)


def main() -> None:
    """Records."""
    stage = Stage()
    with stage.running():
        record(stage)
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else RECORDED
    stage.recording.write(path)
    print(f"{stage.recording.seconds} seconds, {len(stage.recording.series)} series in {path}")


if __name__ == "__main__":
    main()
