"""The client, for programs that block. Safe to be shared by threads."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar

import grpc
from google.protobuf.message import Message

from easyq import _rpc
from easyq.backlog import Submittable, Submitted
from easyq.cursor import Gap, LogCursor, Since, since_of
from easyq.errors import DeadlineExceeded, EasyQError
from easyq.many import ManySubmitter
from easyq.operators import OperatorCalls
from easyq.outage import PAUSES, Outage, wait_before_repeat
from easyq.reading import PAGE, ReadingCalls, label_filters
from easyq.v1.execution_service_pb2_grpc import ExecutionServiceStub
from easyq.v1.farm_service_pb2_grpc import FarmServiceStub
from easyq.v1.job_pb2 import Execution, Job
from easyq.v1.job_service_pb2 import (
    CreateJobRequest,
    CreateJobResponse,
    GetJobRequest,
    ListJobsRequest,
    StopJobRequest,
    StopJobResponse,
)
from easyq.v1.job_service_pb2_grpc import JobServiceStub
from easyq.v1.log_service_pb2 import LogChunk, LogEnd, LogStream
from easyq.v1.log_service_pb2_grpc import LogServiceStub
from easyq.v1.spec_pb2 import JobSpec
from easyq.v1.task_service_pb2_grpc import TaskServiceStub

Answer = TypeVar("Answer")

DEFAULT_SERVER = "127.0.0.1:10001"
DEFAULT_TASK = "run"

#: States that a job does not leave by itself.
ENDED = frozenset({Job.SUCCEEDED, Job.FAILED, Job.TIMED_OUT, Job.STOPPED, Job.EXPIRED})

#: Jobs that `submit_many` has under way at once.
UNDER_WAY = 1_000


@dataclass(frozen=True, kw_only=True, slots=True)
class RunResult:
    """How a job ended: the job itself, its last execution, and its output unless that went elsewhere."""

    job: Job
    execution: Execution | None
    stdout: bytes = b""
    stderr: bytes = b""

    @property
    def exit_code(self) -> int | None:
        """The container's exit code; None where there was none (it never started, or its host was lost)."""
        if self.execution is not None and self.execution.HasField("exit_code"):
            return self.execution.exit_code
        return None


class Client(OperatorCalls, ReadingCalls):
    """Talks to one EasyQ farm.

    Every method raises a class of `easyq.errors`. Calls that may be repeated without harm, which is all of them but
    `trigger`, `retry`, `delete` and their likes for many, are repeated for about 1.5 s while the server can't be
    reached.
    """

    def __init__(
        self,
        server: str | None = None,
        *,
        timeout: float = 30.0,
        repeats: bool = True,
        channel: grpc.Channel | None = None,
    ) -> None:
        """`server` is `host:port` or `unix:/path`; by default EASYQ_SERVER, else 127.0.0.1:10001.

        `timeout` is the most seconds for one attempt of one call; streams have none. With
        `repeats=False` no call is repeated, for those who would rather know at once. `channel` is for those
        who need one of their own (TLS, tests); it is not closed by this client.
        """
        self.server = server or os.environ.get("EASYQ_SERVER") or DEFAULT_SERVER
        self._timeout = timeout
        self._repeats = repeats
        self._own = channel is None
        self._channel = channel or _rpc.open_channel(self.server)
        self._jobs = JobServiceStub(self._channel)
        self._logs = LogServiceStub(self._channel)
        self._farm = FarmServiceStub(self._channel)
        self._executions = ExecutionServiceStub(self._channel)
        self._tasks = TaskServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection; streams of output end with it."""
        if self._own:
            self._channel.close()

    def submit(
        self, spec: JobSpec, *, task: str = DEFAULT_TASK, idempotency_key: str | None = None
    ) -> CreateJobResponse:
        """Enqueues a job under a task, and returns once it is on disk, with its ids.

        With an `idempotency_key` (unique per task) the same call at any later time gives the same job. Without one the
        client makes one up, so that its own repeats don't enqueue twice. Raises InvalidArgument, AlreadyExists (the key
        was used with another spec), ResourceExhausted, Unavailable.
        """
        key = idempotency_key or uuid.uuid4().hex
        return self._call(self._jobs.CreateJob, CreateJobRequest(task_id=task, spec=spec, idempotency_key=key))

    def submit_many(
        self,
        jobs: Iterable[Submittable],
        *,
        task: str = DEFAULT_TASK,
        under_way: int = UNDER_WAY,
        patience: float = 60.0,
    ) -> Iterator[Submitted]:
        """Enqueues as many jobs as `jobs` gives, and gives what became of each, in their order.

        A job is a spec, a (task, spec), or a BatchItem with a key of its own. One that is refused has an `error` and
        keeps none of the others back. At most `under_way` jobs are held at a time, however many come; `jobs` is read in
        a thread of its own, and no further ahead than that. Where the connection breaks it is made anew, and what has
        no answer yet is sent again under the same keys, so that nothing is enqueued twice; an outage that lasts longer
        than `patience` seconds is raised, as is what `jobs` itself raises. Nothing is sent before the first `next`.
        """
        many = ManySubmitter(
            jobs,
            task=task,
            most=under_way,
            patience=patience,
            open_stream=self._jobs.SubmitJobs,
            server=self.server,
        )
        return many.results()

    def get(self, job_id: str) -> Job:
        """The job with its newest 20 executions, oldest first. Raises NotFound."""
        return self._call(self._jobs.GetJob, GetJobRequest(job_id=job_id))

    def jobs(
        self,
        *,
        task: str = "",
        states: Sequence[Job.State.ValueType] = (),
        labels: Mapping[str, str] | None = None,
        page: int = PAGE,
    ) -> Iterator[Job]:
        """All jobs, newest first, without their executions; only of one task, in some states or with labels, if given.

        Asks for `page` of them at a time (at most 1,000), so that jobs may change state between two pages.
        """
        token: str | None = None
        while token != "":
            request = ListJobsRequest(
                task_id=task, state=states, label=label_filters(labels), page_size=page, page_token=token or ""
            )
            answer = self._call(self._jobs.ListJobs, request)
            yield from answer.items
            token = answer.next_page_token

    def stop(self, job_id: str) -> StopJobResponse:
        """Asks a job to stop: STOPPED if nothing of it ran, else STOPPING until its container has ended.

        Raises NotFound, FailedPrecondition (it has ended otherwise).
        """
        return self._call(self._jobs.StopJob, StopJobRequest(job_id=job_id))

    def wait(self, job_id: str, *, timeout: float | None = None) -> Job:
        """Waits until the job has ended. Raises DeadlineExceeded after `timeout` seconds, NotFound."""
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = 0.05
        while True:
            job = self.get(job_id)
            if job.state in ENDED:
                return job
            if deadline is not None:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise DeadlineExceeded(f"job {job_id} is still {Job.State.Name(job.state)}")
                pause = min(pause, left)
            time.sleep(pause)
            pause = min(pause * 1.5, 1.0)

    def logs(
        self,
        job_id: str = "",
        *,
        execution_id: str = "",
        follow: bool = False,
        streams: tuple[LogStream.Name.ValueType, ...] = (),
        tail: int | None = None,
        since: Since | None = None,
        timestamps: bool = False,
        patience: float = 60.0,
        on_break: Callable[[EasyQError], None] | None = None,
    ) -> Iterator[LogChunk | LogEnd]:
        """The output of a job, attempt after attempt, or of one execution; with `follow` until the end.

        `tail` begins with the last so many lines (of a job: of its newest execution), `since` with what was stored
        since a time, or so long ago (`"10m"`). With `timestamps` the `at` of a chunk holds for all of its bytes.

        Gives a LogChunk for each piece, in order per stream, and a LogEnd for each execution that has ended. Where the
        connection breaks it is made anew and goes on at the next byte: nothing is lost or doubled. `on_break` is told
        once of each outage; one that lasts longer than `patience` seconds is raised. Raises NotFound.
        """
        cursor = LogCursor(
            job_id=job_id,
            execution_id=execution_id,
            follow=follow,
            streams=streams,
            tail=tail,
            since=since_of(since),
            timestamps=timestamps,
        )
        outage = Outage(patience)
        while not cursor.ended:
            try:
                for event in self._read(cursor):
                    outage.over()
                    if event is not None:
                        yield event
                outage.over()
                if not follow:
                    return
                if not cursor.ended:
                    # In order, but too early: between two attempts, or the server stops.
                    time.sleep(PAUSES[0])
            except (EasyQError, Gap) as error:
                is_first = outage.met(error)
                if on_break is not None and is_first:
                    on_break(outage.problem)
                time.sleep(outage.pause)

    def run(
        self,
        spec: JobSpec,
        *,
        task: str = DEFAULT_TASK,
        idempotency_key: str | None = None,
        on_output: Callable[[LogChunk], None] | None = None,
    ) -> RunResult:
        """Submits a job, follows its output, and returns when it has ended, however it ended.

        The output is collected in the result, or handed to `on_output` as it comes. A KeyboardInterrupt leaves the job
        running; see `stop`.
        """
        submitted = self.submit(spec, task=task, idempotency_key=idempotency_key)
        output = {LogStream.STDOUT: bytearray(), LogStream.STDERR: bytearray()}
        for event in self.logs(submitted.job_id, follow=True):
            if isinstance(event, LogChunk):
                if on_output is None:
                    output[event.stream] += event.data
                else:
                    on_output(event)
        job = self.wait(submitted.job_id)
        return RunResult(
            job=job,
            execution=job.executions[-1] if job.executions else None,
            stdout=bytes(output[LogStream.STDOUT]),
            stderr=bytes(output[LogStream.STDERR]),
        )

    def _read(self, cursor: LogCursor) -> Iterator[LogChunk | LogEnd | None]:
        """One stream: what is new in each answer."""
        call = self._logs.FollowLogs(cursor.request())
        try:
            for response in call:
                yield cursor.accept(response)
        except grpc.RpcError as error:
            raise _rpc.to_error(error, self.server) from error
        finally:
            call.cancel()

    def _call(self, method: Callable[..., Answer], request: Message, *, repeat: bool = True) -> Answer:
        for pause in (*PAUSES, None) if repeat and self._repeats else (None,):
            try:
                return method(request, timeout=self._timeout)
            except grpc.RpcError as problem:
                error = _rpc.to_error(problem, self.server)
                wait = None if pause is None else wait_before_repeat(error, pause)
                if wait is None:
                    raise error from problem
                time.sleep(wait)
        raise AssertionError("unreachable: the last attempt returns or raises")
