"""Signals that reach the watchdog at the worst moment: between two steps of its care for the agent."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from easyq_runner.watchdog.runner import Runner


@pytest.fixture
def runner() -> Iterator[Runner]:
    before, ended = signal.set_wakeup_fd(-1), signal.getsignal(signal.SIGCHLD)
    made = Runner([])
    # As `run` does: only signals that have a handler are written to the pipe.
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    yield made
    signal.signal(signal.SIGCHLD, ended)
    wake = signal.set_wakeup_fd(before)
    for end in (made._woken, wake):
        os.close(end)


def test_a_wish_to_stop_right_after_a_start_is_passed_on_once(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second signal would end the agent at once, in place of in order."""
    spawn, close, kill = os.posix_spawn, os.close, os.kill
    sent: list[int] = []

    def begin(*_: Any, **__: Any) -> int:
        monkeypatch.setattr(os, "close", close_and_stop)
        return spawn("/bin/sleep", ["sleep", "600"], os.environ)

    def close_and_stop(handle: int) -> None:
        monkeypatch.setattr(os, "close", close)
        close(handle)
        runner._on_stop(signal.SIGTERM, None)

    def send(pid: int, number: int) -> None:
        sent.append(number)
        kill(pid, number)

    monkeypatch.setattr(os, "posix_spawn", begin)
    monkeypatch.setattr(os, "kill", send)
    assert runner._live() == -signal.SIGTERM
    assert sent == [signal.SIGTERM]


def test_an_agent_that_has_just_ended_is_sent_nothing(runner: Runner) -> None:
    """Nor does it end the watchdog that it is gone: whoever is told to stop meanwhile ends in order."""
    runner._pid = os.posix_spawn("/bin/true", ["true"], os.environ)
    os.waitpid(runner._pid, 0)
    runner._send(signal.SIGKILL)
    runner._on_stop(signal.SIGTERM, None)
    assert runner._stopping
