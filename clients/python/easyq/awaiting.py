"""`wait` of both clients: one call that the server answers at the job's end, and what follows where it can't."""

from __future__ import annotations

import time

from google.protobuf.duration_pb2 import Duration

from easyq import _rpc
from easyq.deadline import Deadline
from easyq.errors import DeadlineExceeded, EasyQError, ResourceExhausted
from easyq.outage import Outage
from easyq.v1.job_pb2 import Job
from easyq.v1.job_service_pb2 import GetJobRequest

#: Most seconds that one call waits: many proxies end a call after a minute without a byte.
LONGEST = 45.0
#: Most seconds by which an answer may come after the deadline, from a server that is slow.
GRACE = 5.0
_FIRST_PAUSE, _LAST_PAUSE = 0.05, 1.0


class JobWait:
    """What to ask for next until a job has ended. `attempt` is the most seconds for an answer beyond the waiting.

    The server has room for a bounded number of calls that wait; where it has none left, the job is asked for at once,
    about every second.
    """

    def __init__(self, job_id: str, *, timeout: float | None, patience: float, attempt: float) -> None:
        self._job_id = job_id
        self._deadline = Deadline(timeout)
        self._outage = Outage(patience)
        self._attempt = attempt
        self._pause = _FIRST_PAUSE
        self._at_once = False
        self._asked_at, self._asked_for = 0.0, 0.0

    def ask(self) -> tuple[GetJobRequest, float]:
        """The request, and the seconds after which its answer is given up."""
        seconds = 0.0 if self._at_once else self._deadline.cut(LONGEST)
        self._at_once = False
        self._asked_at, self._asked_for = time.monotonic(), seconds
        request = _rpc.made(GetJobRequest, job_id=self._job_id)
        if seconds > 0:
            # At least a millisecond, so that it is no "at once".
            request.wait.CopyFrom(_milliseconds(max(1, round(seconds * 1000))))
        left = self._deadline.left
        limit = seconds + self._attempt
        return request, limit if left is None else min(limit, left + GRACE)

    def goes_on(self, job: Job) -> float:
        """Takes in a job that has not ended; the seconds until the next question. Raises DeadlineExceeded."""
        self._outage.over()
        if self._deadline.passed:
            raise DeadlineExceeded(f"job {self._job_id} is still {_state(job)}")
        if self._asked_for and time.monotonic() - self._asked_at > self._asked_for / 2:
            self._pause = _FIRST_PAUSE
            return 0.0
        # The server did not wait, whatever its reason: then this does.
        pause, self._pause = self._pause, min(self._pause * 1.5, _LAST_PAUSE)
        return self._deadline.cut(pause)

    def failed(self, error: EasyQError) -> float:
        """Takes in a call without an answer; the seconds until the next one. Raises what can't be borne."""
        if self._deadline.passed and error.code in {"DEADLINE_EXCEEDED", "UNAVAILABLE", "RESOURCE_EXHAUSTED"}:
            raise DeadlineExceeded(f"whether job {self._job_id} has ended is not known: {error.message}") from error
        self._outage.met(error)
        self._at_once = isinstance(error, ResourceExhausted)
        return self._deadline.cut(self._outage.pause)


def _milliseconds(count: int) -> Duration:
    result = Duration()
    result.FromMilliseconds(count)
    return result


def _state(job: Job) -> str:
    return Job.State.Name(job.state) if job.state in Job.State.values() else str(int(job.state))
