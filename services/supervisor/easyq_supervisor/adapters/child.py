"""One process that is kept alive."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process

from easyq_chassis.error_reports import report_error
from easyq_supervisor.adapters.console import Console
from easyq_supervisor.adapters.guard import guarded
from easyq_supervisor.domain.backoff import next_delay
from easyq_supervisor.domain.plan import ProcessSpec

# Status with which our services say that their settings are wrong: a restart would not help.
BAD_SETTINGS = 2

_CHUNK = 65_536
# Longest line that is passed on whole: an event with all stacks has some 100 KB.
_LONGEST = 4 * _CHUNK
# Seconds without a word, and in all, after which nobody listens any more to the output of a process that has ended.
_LAST_WORDS, _MOST_LAST_WORDS = 1.0, 5.0


class BadSettings(Exception):
    """A service refuses what it was told, or what it found; its last lines in the log say what."""


class Killed(Exception):
    """A process was ended by a signal: by the kernel for want of memory, by a fault in native code, by somebody."""


class Child:
    """Starts a process, passes its output on line by line, and starts it again with a back-off when it ends."""

    def __init__(self, spec: ProcessSpec, console: Console) -> None:
        self.spec = spec
        self._console = console
        self._process: Process | None = None
        self._stopping = asyncio.Event()
        self._wanted_again = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        # Times that output came.
        self._heard = 0

    def start(self) -> asyncio.Task[None]:
        """Keeps it running from now on. The task ends with `stop`, or raises BadSettings."""
        self._task = asyncio.create_task(self._keep(), name=f"child:{self.spec.name}")
        return self._task

    async def stop(self, patience: float) -> None:
        """SIGTERM, and after `patience` seconds SIGKILL; returns when it has ended and its output was passed on."""
        self._stopping.set()
        self._wanted_again.set()
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        if self._task is None:
            return
        done, _ = await asyncio.wait([self._task], timeout=patience)
        if not done:
            told = f"{self.spec.name} did not end within {patience:.1f} s and is killed"
            self._console.say(told, event="process_killed", level="warning")
            self.kill()
            await asyncio.wait([self._task])

    def kill(self) -> None:
        """SIGKILL, without waiting."""
        self._stopping.set()
        self._wanted_again.set()
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    def start_again(self) -> None:
        """Starts it again if it has ended for good."""
        self._wanted_again.set()

    async def _keep(self) -> None:
        delay: float | None = None
        while not self._stopping.is_set():
            began = time.monotonic()
            status = await self._run()
            if self._stopping.is_set():
                return
            if status == BAD_SETTINGS and self.spec.kind != "redis":
                raise BadSettings(
                    f"{self.spec.name} can't start, and trying again would not help; its last lines above say why"
                )
            if status == 0 and self.spec.farewell:
                self._console.say(self.spec.farewell, event="agent_ended")
                self._wanted_again.clear()
                await self._wanted_again.wait()
                delay = None
                continue
            if status < 0:
                # Of what it raised it tells by itself.
                killed = Killed(f"{self.spec.name} {_how(status)}")
                report_error(killed, f"process {self.spec.name}", {"process": self.spec.name}, fatal=True)
            delay = next_delay(delay, lived=time.monotonic() - began)
            told = f"{self.spec.name} {_how(status)}; it is started again in {delay:.1f} s"
            self._console.say(told, event="process_ended", level="error")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._stopping.wait()

    async def _run(self) -> int:
        """One life of the process; its exit status, negative for a signal."""
        process = await asyncio.create_subprocess_exec(
            *guarded(self.spec.argv),
            # It writes into a pipe: whether people see colours is known here alone.
            env={**os.environ, **({"FORCE_COLOR": "1"} if self._console.colours else {}), **self.spec.env},
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            # Ctrl-C goes to the supervisor alone, which ends them in order.
            start_new_session=True,
        )
        self._process = process
        if self._stopping.is_set():
            process.terminate()
        output = asyncio.create_task(self._pass_on(process.stdout))
        status = await process.wait()
        await self._hear_out(output)
        return status

    async def _hear_out(self, output: asyncio.Task[None]) -> None:
        """Waits for the output of a process that has ended. What it says last may be all that tells why, so on a busy
        machine it gets its time; but a process of its own that it left behind may keep the pipe open for ever."""
        deadline = time.monotonic() + _MOST_LAST_WORDS
        heard = -1
        while not output.done() and heard != self._heard and time.monotonic() < deadline:
            heard = self._heard
            await asyncio.wait([output], timeout=_LAST_WORDS)
        output.cancel()
        await asyncio.wait([output])

    async def _pass_on(self, stream: asyncio.StreamReader | None) -> None:
        rest = b""
        try:
            while stream is not None and (chunk := await stream.read(_CHUNK)):
                self._heard += 1
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._console.line(self.spec.name, line)
                if len(rest) > _LONGEST:
                    self._console.line(self.spec.name, rest)
                    rest = b""
        finally:
            if rest:
                self._console.line(self.spec.name, rest)


def _how(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"
