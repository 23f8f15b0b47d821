"""Faults that only the plan of outages has: what makes the farm's life hard without breaking a part of it."""

from __future__ import annotations

import contextlib
import http.server
import resource
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.chaos.nemesis.faults import Fault
from tests.chaos.nemesis.stage import STREAMS, Stage
from tests.support import process
from tests.support.farm.programs import shell

Undo = Callable[[], None]

#: Of a host's label that none has.
_NOWHERE = {"host": "nowhere"}
_LONG_JOBS = 8
_TRIES = 5


def begin(stage: Stage, fault: Fault) -> Undo:
    """Makes it; what ends it. Raises ValueError for a kind that there is not."""
    match fault.kind:
        case "overload":
            stopped, going = map(float, fault.detail.split())
            return _pulses(stage, fault.target, stopped, going)
        case "flushes":
            return _repeat(stage.redis.flush, every=2)
        case "streams":
            return _streams(stage)
        case "descriptors":
            return _descriptors(stage.service(fault.target).pid)
        case "host-disk-full":
            disk = stage.host_disks[fault.target.removeprefix("runner-")]
            disk.fill()
            return disk.free
        case "wrong-rules":
            stage.rules.write_text("nonsense = 1\n", encoding="ascii")
            return lambda: _write(stage.rules, "")
        case "jobs":
            return _jobs(stage, fault.target)
        case _:
            raise ValueError(fault.kind)


def _pulses(stage: Stage, target: str, stopped: float, going: float) -> Undo:
    """Freezes a process again and again, as one that gets no processor time."""
    server = stage.redis if target == "redis" else stage.service(target)

    def pulse() -> None:
        process.freeze(server.pid)
        time.sleep(stopped)
        server.thaw()

    return _repeat(pulse, every=going)


def _streams(stage: Stage) -> Undo:
    """Holds as many as the gateway allows, and asks for more."""
    rest = stage.farm.rest
    readers = [urllib.request.urlopen(f"{rest.url}/events", timeout=5) for _ in range(STREAMS)]  # noqa: S310 - this farm's

    def ask() -> None:
        with contextlib.suppress(OSError, AssertionError):
            rest.call("GET", "/events", timeout=3)

    end = _repeat(ask, every=0.5)

    def undo() -> None:
        end()
        for reader in readers:
            reader.close()

    return undo


def _descriptors(pid: int) -> Undo:
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    least = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()) + 2
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (least, before[1]))
    return lambda: _set_descriptors(pid, before)


def _set_descriptors(pid: int, bounds: tuple[int, int]) -> None:
    resource.prlimit(pid, resource.RLIMIT_NOFILE, bounds)


def _jobs(stage: Stage, what: str) -> Undo:
    """Jobs that fail, wait, run long or are due soon; in the end they are stopped."""
    made: list[str] = []

    def post(spec: dict[str, Any]) -> None:
        # A busy store may refuse one.
        for _ in range(_TRIES):
            with contextlib.suppress(OSError, AssertionError):
                answer = stage.farm.rest.call("POST", f"/tasks/outage-{what}", spec, timeout=10)
                if answer.status == 200:
                    made.append(answer.json()["jobId"])
                    return

    end: Undo = lambda: None  # noqa: E731
    match what:
        case "held":
            post(shell("true", agentLabels=_NOWHERE))
        case "unpullable":
            for _ in range(4):
                post({**shell("true", infraRetries=30), "image": "127.0.0.1:1/nowhere:1"})
        case "late":
            # Taken in before the schedulers are broken, due while they are.
            for number in range(6):
                post(shell("true", startIn=f"{8 + number}s"))
        case "told":
            spec, end = told_in_vain()
            post(spec)
        case "long":
            for _ in range(_LONG_JOBS):
                post(shell("sleep 60", infraRetries=30, stopGrace="1s"))
        case "bad":
            end = _repeat(lambda: post(shell("false")), every=0.7)
        case _:
            raise ValueError(what)

    def undo() -> None:
        end()
        for job in made:
            with contextlib.suppress(OSError, AssertionError):
                stage.farm.rest.call("POST", f"/jobs/{job}/stop", None, timeout=10)

    return undo


class _Refuses(http.server.BaseHTTPRequestHandler):
    """Of a receiver that is gone for good."""

    def do_POST(self) -> None:
        self.send_response(410)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


def told_in_vain() -> tuple[dict[str, Any], Undo]:
    """A job whose webhook is refused for good, and what ends the receiver."""
    receiver = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Refuses)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    hook = {"url": f"http://127.0.0.1:{receiver.server_port}/"}
    return shell("echo no; false", webhooks={"fails": [hook]}), receiver.shutdown


def _repeat(step: Callable[[], None], *, every: float) -> Undo:
    """Calls `step` in a thread until what is returned is called, with pauses of `every` seconds."""
    over = threading.Event()

    def run() -> None:
        while not over.is_set():
            step()
            over.wait(every)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def end() -> None:
        over.set()
        thread.join(20)

    return end


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="ascii")
