"""Carries planned faults out, and sees to it that each of them ends."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence

from tests.chaos.nemesis import hardships
from tests.chaos.nemesis.faults import Fault
from tests.chaos.nemesis.history import History
from tests.chaos.nemesis.intents import HOSTS
from tests.chaos.nemesis.stage import Stage
from tests.support import process
from tests.support.server import Server

Undo = Callable[[], None]


class Nemesis:
    """Each fault has a thread of its own while it lasts."""

    def __init__(self, stage: Stage, faults: Sequence[Fault], history: History) -> None:
        self._stage = stage
        self._faults = faults
        self._history = history
        self._ended = threading.Event()
        self._under_way: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._go_through, name="nemesis", daemon=True)

    def start(self, *, after: float = 0.0) -> None:
        """The times of faults count from `after` seconds from now."""
        self._began = time.monotonic() + after
        self._thread.start()

    def stop(self, timeout: float) -> list[str]:
        """Ends all that goes on, waits, and puts everything right; what did not work."""
        self._ended.set()
        deadline = time.monotonic() + timeout
        self._thread.join(timeout)
        for thread in self._under_way:
            thread.join(max(0.0, deadline - time.monotonic()))
        problems = [thread.name for thread in self._under_way if thread.is_alive()]
        return problems + heal(self._stage)

    def _go_through(self) -> None:
        for fault in sorted(self._faults, key=lambda one: one.at):
            if self._ended.wait(max(0.0, self._began + fault.at - time.monotonic())):
                return
            title = f"fault {fault.number}: {fault.kind} {fault.target}"
            thread = threading.Thread(target=self._carry_out, args=(fault,), name=title, daemon=True)
            self._under_way = [one for one in self._under_way if one.is_alive()] + [thread]
            thread.start()

    def _carry_out(self, fault: Fault) -> None:
        began, error = time.time_ns(), ""
        undo: Undo = lambda: None  # noqa: E731
        try:
            undo = self._begin(fault)
            self._ended.wait(max(0.0, self._began + fault.until - time.monotonic()))
        except Exception as problem:  # noqa: BLE001 - a fault that can't be made is told; the run goes on
            error = repr(problem)
        try:
            undo()
        except Exception as problem:  # noqa: BLE001
            error += repr(problem)
        self._history.add(
            "fault",
            number=fault.number,
            fault=fault.kind,
            target=fault.target,
            detail=fault.detail,
            began=began,
            ended=time.time_ns(),
            error=error[:500],
        )

    def _begin(self, fault: Fault) -> Undo:
        """Breaks it; what mends it again."""
        stage = self._stage
        match fault.kind:
            case "kill":
                return self._kill(fault.target)
            case "kill-all":
                undo = [self._kill(target) for target in _all_services()]
                return lambda: _all(undo)
            case "freeze":
                return self._freeze(fault.target)
            case "partition" | "isolate":
                directions, _, after = fault.detail.partition(" ")
                stage.network.cut(fault.target, directions)
                return lambda: stage.network.heal(fault.target, reset=after == "reset")
            case "delay":
                stage.network.slow(fault.target, int(fault.detail) / 1000)
                return lambda: stage.network.heal(fault.target)
            case "flush":
                stage.redis.flush()
                return lambda: None
            case "redis-restart":
                stage.redis.kill()
                return lambda: _start(stage.redis)
            case "daemon-term" | "daemon-kill":
                host = stage.host(fault.target.removeprefix("dockerd-"))
                host.stop(signal.SIGTERM if fault.kind == "daemon-term" else signal.SIGKILL, timeout=20)
                return lambda: _start(host)
            case "daemon-hang":
                host = stage.host(fault.target.removeprefix("dockerd-"))
                host.freeze()
                return lambda: host.thaw() if host.running else None
            case "disk-full":
                if stage.disk is not None:
                    stage.disk.fill()
                    return stage.disk.free
                return lambda: None
            case "clock":
                stage.set_clock(int(fault.detail))
                return lambda: stage.set_clock(0)
            case _:
                return hardships.begin(stage, fault)

    def _kill(self, target: str) -> Undo:
        kind, _, label = target.partition("-")
        if kind == "agent":
            # Its watchdog starts it again.
            os.kill(self._stage.runner(label).agent_pid, signal.SIGKILL)
            return lambda: None
        if kind == "watchdog":
            # Its agent ends with it.
            self._stage.runner(label).kill()
            return lambda: _start(self._stage.runner(label))
        if kind == "runner":
            runner = self._stage.runner(label)
            with contextlib.suppress(AssertionError, ProcessLookupError):
                pids = [runner.pid, runner.agent_pid]
                for pid in pids:
                    os.kill(pid, signal.SIGKILL)
            runner.kill()
            return lambda: _start(runner)
        service = self._stage.service(target)
        service.kill()
        return lambda: _start(service)

    def _freeze(self, target: str) -> Undo:
        kind, _, label = target.partition("-")
        if kind in {"agent", "watchdog"}:
            runner = self._stage.runner(label)
            pid = runner.agent_pid if kind == "agent" else runner.pid
            process.freeze(pid)
            return lambda: _continue(pid)
        server: Server
        if kind == "runner":
            server = self._stage.runner(label)
        elif target == "redis":
            server = self._stage.redis
        else:
            server = self._stage.service(target)
        server.freeze()
        return lambda: server.thaw() if server.running else None


def heal(stage: Stage) -> list[str]:
    """Puts everything right, whatever state it is in; what could not be."""
    problems = []
    steps: list[tuple[str, Undo]] = [("network", stage.network.heal), ("clock", lambda: stage.set_clock(0))]
    if stage.disk is not None:
        steps.append(("disk", stage.disk.free))
    servers: list[tuple[str, Server]] = [("redis", stage.redis)]
    servers += [(f"dockerd-{host.label}", host) for host in stage.hosts]
    servers += [(target, stage.service(target)) for target in _all_services() if not target.startswith("runner")]
    servers += [(f"runner-{label}", stage.runner(label)) for label in HOSTS]
    for name, server in servers:
        steps.append((name, lambda server=server: server.thaw() if server.running else None))  # type: ignore[misc]
        steps.append((name, lambda server=server: _start(server)))  # type: ignore[misc]
    for name, step in steps:
        try:
            step()
        except Exception as error:  # noqa: BLE001 - the others still have to be mended
            problems.append(f"{name}: {error!r}"[:300])
    return problems


def _all_services() -> list[str]:
    return [
        *("gateway", "store", "scheduler-0", "scheduler-1", "dispatcher-0", "dispatcher-1"),
        *(f"runner-{label}" for label in HOSTS),
    ]


def _start(server: Server) -> None:
    # Whether it gets ready is for the checker to see, by what comes of the jobs.
    server.start(wait=server.name == "dockerd")


def _all(undo: Sequence[Undo]) -> None:
    for one in undo:
        one()


def _continue(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
