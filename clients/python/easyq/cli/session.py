"""One `easyq run`: submit, follow, and what signals do meanwhile.

The main thread only waits: for the end, or for a signal. Everything that may block (calls, output) has a thread of
its own, so that Ctrl-C is heard at any moment.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Protocol

from easyq.cli import interrupts
from easyq.cli.outcome import attempt_remark
from easyq.client import ENDED, Client
from easyq.errors import EasyQError, FailedPrecondition
from easyq.result import RunResult, result_of
from easyq.v1.job_pb2 import Job, Waiting
from easyq.v1.job_service_pb2 import CreateJobResponse
from easyq.v1.log_service_pb2 import LogChunk

# How long a server may be away while a job's output is followed, in seconds.
PATIENCE = 300.0

# How long a second Ctrl-C waits for the answer to the stop that the first one asked for, in seconds.
_PARTING = 1.0

# Longest time until a signal is heard, in seconds.
_HEARING = 0.1

_LEAVE = "press Ctrl-C again to leave it to EasyQ"


class Output(Protocol):
    """Where a container's output goes."""

    def write(self, chunk: LogChunk) -> None:
        """Writes all bytes, unbuffered. Raises OutputGone where that can't be done any more."""
        ...


class RunSession:
    """Submits by `submit` and follows. `say` tells a person something; `notice_after` are the moments, in seconds after
    the start, at which it is said why the job doesn't run yet, once."""

    def __init__(
        self,
        *,
        client: Client,
        submit: Callable[[], CreateJobResponse],
        output: Output,
        say: Callable[[str], None],
        notice_after: tuple[float, ...],
    ) -> None:
        self._client = client
        self._submit = submit
        self._output = output
        self._say = say
        self._notice_after = notice_after
        self._events: SimpleQueue[int | None] = SimpleQueue()
        self._finished = threading.Event()
        self._running = threading.Event()
        self._stop_answered = threading.Event()
        self._result: RunResult | Exception | None = None
        self._lock = threading.Lock()
        self.job_id = ""
        #: Number of the first signal that came, if any.
        self.signalled: int | None = None

    def run(self) -> RunResult:
        """Returns when the job has ended. The first SIGINT or SIGTERM stops the job; the second ends this process.
        SIGHUP ends this process and leaves the job as it is.

        Raises EasyQError, and OutputGone.
        """
        previous = {number: signal.signal(number, self._on_signal) for number in interrupts.heard()}
        threading.Thread(target=self._work, name="follow", daemon=True).start()
        threading.Thread(target=self._notice, name="notice", daemon=True).start()
        try:
            while (number := self._next_event()) is not None:
                self._interrupted(number)
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
        if isinstance(self._result, RunResult):
            return self._result
        raise self._result or AssertionError("the worker ends with a result")

    def _next_event(self) -> int | None:
        # The kernel may hand a signal to any thread of the process. Its handler runs when this thread is in Python code
        # again, which a wait without end would never let happen.
        while True:
            with suppress(Empty):
                return self._events.get(timeout=_HEARING)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._events.put(number)

    def _interrupted(self, number: int) -> None:
        if self.signalled is not None or number == signal.SIGHUP:
            self._say(self._parting())
            os._exit(128 + number)
        with self._lock:
            self.signalled = number
            job_id = self.job_id
        if job_id:
            self._say(f"stopping job {job_id}; {_LEAVE}")
            threading.Thread(target=self._stop, name="stop", daemon=True).start()
        else:
            self._say(f"stopping the job as soon as it is accepted; {_LEAVE}")

    def _parting(self) -> str:
        """What is true of the job when this process leaves: a stop that is on its way gets a moment to arrive."""
        if not self.job_id:
            return "left before an answer came; the job may have been accepted"
        if self.signalled is None:
            return f"left job {self.job_id}, which goes on"
        if self._stop_answered.wait(_PARTING):
            return f"left job {self.job_id}, which is being stopped"
        return f"left job {self.job_id}; nobody has answered to its stop"

    def _work(self) -> None:
        try:
            self._result = self._follow()
        except Exception as error:  # noqa: BLE001 - raised again by the main thread
            self._result = error
        finally:
            self._finished.set()
            self._events.put(None)

    def _follow(self) -> RunResult:
        submitted = self._submit()
        with self._lock:
            self.job_id = submitted.job_id
            late = self.signalled is not None
        if late:
            self._stop()
        for event in self._client.logs(self.job_id, follow=True, patience=PATIENCE, on_break=self._on_break):
            self._running.set()
            if isinstance(event, LogChunk):
                self._output.write(event)
            elif not event.job_ended:
                self._say(attempt_remark(event, self._look()))
        return result_of(self._client.wait(self.job_id, patience=PATIENCE))

    def _on_break(self, error: EasyQError) -> None:
        if not self._finished.is_set():
            self._say(f"lost the connection, trying again: {error.message}")

    def _stop(self) -> None:
        try:
            self._client.stop(self.job_id)
            self._stop_answered.set()
        except FailedPrecondition:
            self._stop_answered.set()  # it ended meanwhile
        except EasyQError as error:
            self._say(f"could not stop job {self.job_id}: {error.message}")

    def _notice(self) -> None:
        """Says once why the job doesn't run yet."""
        passed = 0.0
        for moment in self._notice_after:
            if self._finished.wait(moment - passed) or self._running.is_set():
                return
            passed = moment
            if self.job_id and self._told_why():
                return

    def _look(self) -> Job | None:
        try:
            return self._client.get(self.job_id)
        except EasyQError:
            return None  # the one who follows tells of it

    def _told_why(self) -> bool:
        job = self._look()
        if job is None:
            return False
        if job.state in ENDED or self._running.is_set():
            return True
        waiting = _waiting(job)
        if waiting is None or waiting.reason == Waiting.STARTING:
            return False
        self._say(f"waiting: {waiting.message or Waiting.Reason.Name(waiting.reason)}")
        return True


def _waiting(job: Job) -> Waiting | None:
    if job.HasField("waiting"):
        return job.waiting
    for execution in reversed(job.executions):
        if execution.HasField("waiting"):
            return execution.waiting
    return None
