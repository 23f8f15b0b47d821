"""Output of containers: as events, and as the bytes of one stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from easyq.v1 import execution_service_pb2, job_pb2, log_service_pb2
from easyq_chassis.clock import Clock
from easyq_chassis.errors import Aborted, NotFound, Unavailable
from easyq_gateway.domain.problems import Problem, Problems
from easyq_gateway.ports import JobStore, LogStore
from easyq_gateway.usecases.checking import Checker
from easyq_internal.store.v1 import job_store_pb2

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0
_JOB = job_pb2.Job
_ENDED = frozenset({_JOB.SUCCEEDED, _JOB.FAILED, _JOB.TIMED_OUT, _JOB.STOPPED, _JOB.EXPIRED})


class Logs:
    """Reads output. A reader survives a store that restarts: it goes on where it was, for `patience` seconds."""

    def __init__(self, *, checker: Checker, jobs: JobStore, logs: LogStore, clock: Clock, patience: float) -> None:
        self._checker = checker
        self._jobs = jobs
        self._logs = logs
        self._clock = clock
        self._patience = patience

    async def read(
        self, request: log_service_pb2.ReadLogsRequest, found: Sequence[Problem] = ()
    ) -> AsyncIterator[log_service_pb2.ReadLogsResponse]:
        """ReadLogs. Raises `InvalidArgument`, `NotFound`, `Unavailable`."""
        self._checker.require(request, [*found, *_check_choice(request)])
        delivered = Delivered(request)
        pause, failing_since = _FIRST_PAUSE, None
        while True:
            try:
                async for event in self._logs.read_logs(delivered.rest()):
                    pause, failing_since = _FIRST_PAUSE, None
                    new = delivered.take(event)
                    if new is not None:
                        yield new
                return
            except Unavailable:
                now = self._clock.monotonic()
                failing_since = now if failing_since is None else failing_since
                if now - failing_since >= self._patience:
                    raise
            await asyncio.sleep(pause)
            pause = min(_LONGEST_PAUSE, pause * 2)

    async def stored_bytes(
        self, execution_id: str, stream: log_service_pb2.LogStream.Name.ValueType, *, first: int, end: int
    ) -> AsyncGenerator[bytes]:
        """Yields the stored bytes of one stream from `first` up to, not including, `end`.

        Raises `Aborted` where they are not there any more.
        """
        request = log_service_pb2.ReadLogsRequest(execution_id=execution_id, streams=[stream])
        if stream == log_service_pb2.LogStream.STDERR:
            request.stderr_offset = first
        else:
            request.stdout_offset = first
        if first >= end:
            return
        async for event in self.read(request):
            if event.HasField("chunk"):
                data = event.chunk.data[: end - event.chunk.offset]
                if data:
                    yield data
                if event.chunk.offset + len(event.chunk.data) >= end:
                    return
        raise Aborted("the output was removed while it was read: it is not kept any longer")

    async def find(self, task_id: str, job_id: str, execution_id: str) -> job_pb2.Execution:
        """Returns the execution, or where none is named the job's newest. Raises `NotFound`."""
        if execution_id:
            wanted = execution_service_pb2.GetExecutionRequest(
                task_id=task_id, job_id=job_id, execution_id=execution_id
            )
            self._checker.require(wanted)
            return await self._jobs.get_execution(wanted)
        job = await self._jobs.get_job(job_store_pb2.GetJobRequest(task_id=task_id, job_id=job_id, executions=1))
        if not job.executions:
            raise NotFound(f"job {job_id} has no execution", reason="EXECUTION_NOT_FOUND")
        return job.executions[-1]

    async def is_last(self, task_id: str, job_id: str, execution_id: str) -> bool:
        """Returns whether the job has ended with this execution. Raises `NotFound`."""
        job = await self._jobs.get_job(job_store_pb2.GetJobRequest(task_id=task_id, job_id=job_id, executions=1))
        newest = job.executions[-1].execution_id if job.executions else ""
        return newest == execution_id and job.state in _ENDED


class Delivered:
    """What a reader has got, so that a stream which begins anew repeats nothing."""

    def __init__(self, request: log_service_pb2.ReadLogsRequest) -> None:
        self._request = request
        self._ends: dict[tuple[str, int], int] = {}
        self._ended: set[str] = set()

    def rest(self) -> log_service_pb2.ReadLogsRequest:
        """Returns the request for what has not been delivered; a job is read from its beginning again."""
        rest = log_service_pb2.ReadLogsRequest()
        rest.CopyFrom(self._request)
        names = log_service_pb2.LogStream
        if self._request.execution_id:
            key = self._request.execution_id
            rest.stdout_offset = self._ends.get((key, names.STDOUT), rest.stdout_offset)
            rest.stderr_offset = self._ends.get((key, names.STDERR), rest.stderr_offset)
        return rest

    def take(self, event: log_service_pb2.ReadLogsResponse) -> log_service_pb2.ReadLogsResponse | None:
        """Returns what is new in an event, None where nothing is."""
        if event.WhichOneof("event") == "end":
            known = event.end.execution_id in self._ended and not event.end.job_ended
            self._ended.add(event.end.execution_id)
            return None if known else event
        chunk = event.chunk
        key = (chunk.execution_id, chunk.stream)
        had = self._ends.get(key, chunk.offset)
        end = chunk.offset + len(chunk.data)
        if end <= had:
            return None
        if chunk.offset < had:
            chunk.data = chunk.data[had - chunk.offset :]
            chunk.offset = had
        self._ends[key] = end
        return event


def _check_choice(request: log_service_pb2.ReadLogsRequest) -> Problems:
    problems = Problems()
    if bool(request.job_id) == bool(request.execution_id):
        problems.add("executionId", "either jobId or executionId must be set, and not both")
    elif request.job_id and (request.stdout_offset or request.stderr_offset):
        problems.add("stdoutOffset", "offsets are those of one execution: executionId must be set")
    return problems
