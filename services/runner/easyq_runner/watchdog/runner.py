"""The agent as a child: started, started again, told to stop."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import time
from types import FrameType

from easyq_chassis import stacks
from easyq_runner.adapters.past_lives import encode_lives
from easyq_runner.adapters.watch_pipe import Ear
from easyq_runner.domain.lives import ERROR, PastLives
from easyq_runner.domain.watch import Ward, final_status, next_delay
from easyq_runner.watchdog.guard import Guard
from easyq_runner.watchdog.say import Speaker

# Status of a process that was told to stop twice.
_FORCED = 130
_CHUNK = 65_536
_AGENT = (sys.executable, "-P", "-m", "easyq_runner.agent")


class Runner:
    """One `easyq runner`; `arguments` go to the agent as they are."""

    def __init__(self, arguments: list[str]) -> None:
        self._arguments = arguments
        self._speaker = Speaker()
        self._guard = Guard(self._speaker)
        self._stopping = False
        self._lives = PastLives()
        # Of the living agent; 0: there is none.
        self._pid = 0
        self._woken, wake = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(wake, False)
        # Each signal writes a byte: none gets lost between a look at the child and the wait for news.
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)

    def run(self) -> int:
        """Returns the exit status, negative for a signal."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        stacks.on_signal("watchdog", self._on_stacks)
        threading.Thread(target=self._guard.run, name="guard", daemon=True).start()
        delay: float | None = None
        while True:
            began = time.monotonic()
            status = self._live()
            final = final_status(status, stopping=self._stopping, guarding=self._guard.guarding)
            if final is not None:
                return final
            delay = next_delay(delay, lived=time.monotonic() - began)
            how = _how(status)
            self._speaker.say("error", "agent_ended", how=how, again_in=delay)
            self._lives = self._lives.after(_reason(status), how=how if status < 0 else "")
            if self._stops_within(delay):
                return 0

    # One life of the agent ------------------------------------------------------------------------------------------
    def _live(self) -> int:
        told, tell = os.pipe()
        os.set_blocking(told, False)
        os.set_inheritable(tell, True)
        self._pid = os.posix_spawn(
            sys.executable,
            [*_AGENT, str(tell), str(os.getpid()), encode_lives(self._lives), *self._arguments],
            os.environ,
            # Ctrl-C on a terminal goes to all of its processes: the agent shall hear it once, and from us.
            setsid=True,
            # Held back until the agent knows what to do on it: it would end it.
            setsigmask=[signal.SIGUSR2],
        )
        os.close(tell)
        try:
            return self._see_through(told)
        finally:
            os.close(told)

    def _see_through(self, told: int) -> int:
        """Listens to the living agent until it has ended; its status. Passes the wish to stop to it, whenever it came.

        Once, and from here alone: a handler may run right after a start or an end. A second signal would end the agent
        at once, and one to an agent that is gone would end this process.
        """
        ear, is_told = Ear(), False
        while True:
            is_open = self._listen(told, ear)
            ended, status = os.waitpid(self._pid, os.WNOHANG)
            if ended:
                self._pid = 0
                self._listen(told, ear)
                return os.waitstatus_to_exitcode(status)
            if self._stopping and not is_told:
                os.kill(self._pid, signal.SIGTERM)
                is_told = True
            # A closed pipe would be news all the time, and of its end SIGCHLD tells.
            select.select([self._woken, told] if is_open else [self._woken], [], [])
            _drain(self._woken)

    def _listen(self, told: int, ear: Ear) -> bool:
        """Takes in what the agent has told; whether it may tell more."""
        data = _drain(told)
        for message in ear.hear(data or b""):
            if isinstance(message, Ward):  # it knows who it is, and has told before that what it had to
                self._lives = self._lives.told()
            self._guard.hear(message)
        return data is not None

    # Signals ----------------------------------------------------------------------------------------------------------
    def _on_stop(self, _number: int, _frame: FrameType | None) -> None:
        """The first has the agent asked to stop in order, by `_see_through`, which it wakes; the second ends both, a
        frozen agent too."""
        if self._stopping:
            self._send(signal.SIGKILL)
            os._exit(_FORCED)
        self._stopping = True

    def _on_stacks(self, path: str, text: str, _tasks: int, threads: int) -> None:
        """SIGUSR2 is answered by both: whoever sends it knows the process that was started."""
        self._send(signal.SIGUSR2)
        self._speaker.say("warning", "stacks", path=path, threads=threads, text=text)

    def _send(self, number: signal.Signals) -> None:
        """To the agent, if it lives: it may end at this moment."""
        if pid := self._pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _stops_within(self, seconds: float) -> bool:
        """Waits; whether it was told to stop meanwhile."""
        until = time.monotonic() + seconds
        while not self._stopping and (left := until - time.monotonic()) > 0:
            select.select([self._woken], [], [], left)
            _drain(self._woken)
        return self._stopping


def _drain(fd: int) -> bytes | None:
    """All that is in a pipe; None where nothing is left and its other end is closed."""
    data = b""
    while True:
        try:
            chunk = os.read(fd, _CHUNK)
        except BlockingIOError:
            return data
        if not chunk:
            return data or None
        data += chunk


def _how(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    name = _reason(status)
    return f"was killed by {name if name.startswith('SIG') else f'signal {-status}'}"


def _reason(status: int) -> str:
    """As `PastLives` counts it."""
    if status >= 0:
        return ERROR
    try:
        return signal.Signals(-status).name
    except ValueError:
        return str(-status)
