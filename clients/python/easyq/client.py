"""The client, for programs that block. Safe to be shared by threads."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
from google.protobuf.message import Message

from easyq import _rpc, trace
from easyq.address import address_of
from easyq.awaiting import JobWait
from easyq.backlog import Submittable, Submitted
from easyq.cursor import Gap, LogCursor, Since, since_of
from easyq.deadline import Deadline
from easyq.errors import ClientClosed, DeadlineExceeded, EasyQError, FailedPrecondition
from easyq.many import ManySubmitter
from easyq.operators import DEFAULT_TASK, OperatorCalls
from easyq.outage import PAUSES, Outage, wait_before_repeat
from easyq.reading import PAGE, ReadingCalls, label_filters
from easyq.result import RunResult, result_of
from easyq.v1.execution_service_pb2_grpc import ExecutionServiceStub
from easyq.v1.farm_service_pb2_grpc import FarmServiceStub
from easyq.v1.job_pb2 import Job
from easyq.v1.job_service_pb2 import (
    CreateJobRequest,
    CreateJobResponse,
    GetJobRequest,
    ListJobsRequest,
    StopJobRequest,
    StopJobResponse,
    SubmitJobsRequest,
)
from easyq.v1.job_service_pb2_grpc import JobServiceStub
from easyq.v1.log_service_pb2 import LogChunk, LogEnd, LogStream
from easyq.v1.log_service_pb2_grpc import LogServiceStub
from easyq.v1.notification_service_pb2_grpc import NotificationServiceStub
from easyq.v1.spec_pb2 import JobSpec
from easyq.v1.task_service_pb2_grpc import TaskServiceStub

Answer = TypeVar("Answer")

#: States that a job does not leave by itself.
ENDED = frozenset({Job.SUCCEEDED, Job.FAILED, Job.TIMED_OUT, Job.STOPPED, Job.EXPIRED})

#: Most seconds for stopping a job whose `run` is left.
PARTING = 5.0

#: Jobs that `submit_many` has under way at once.
UNDER_WAY = 1_000


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
        """`server` is `host:port` or `unix:/path`; by default EASYQ_SERVER, else 127.0.0.1:10001. Raises
        InvalidArgument for one that is no address, an empty one too.

        `timeout` is the most seconds for one attempt of one call; streams have none. With
        `repeats=False` no call is repeated, for those who would rather know at once. `channel` is for those
        who need one of their own (TLS, tests); it is not closed by this client.
        """
        self.server = address_of(server, os.environ) if channel is None else server or ""
        self._timeout = timeout
        self._repeats = repeats
        self._own = channel is None
        self._closed = False
        self._channel = channel or _rpc.open_channel(self.server)
        self._jobs = JobServiceStub(self._channel)
        self._logs = LogServiceStub(self._channel)
        self._farm = FarmServiceStub(self._channel)
        self._executions = ExecutionServiceStub(self._channel)
        self._tasks = TaskServiceStub(self._channel)
        self._notifications = NotificationServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection; streams of output end with it. Later calls raise ClientClosed."""
        self._closed = True
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
        return self._call(
            self._jobs.CreateJob, _rpc.made(CreateJobRequest, task_id=task, spec=spec, idempotency_key=key)
        )

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
            open_stream=self._submit_stream,
            server=self.server,
        )
        return many.results()

    def get(self, job_id: str) -> Job:
        """The job with its newest 20 executions, oldest first. Raises NotFound."""
        return self._call(self._jobs.GetJob, _rpc.made(GetJobRequest, job_id=job_id))

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
            request = _rpc.made(
                ListJobsRequest,
                task_id=task,
                state=states,
                label=label_filters(labels),
                page_size=page,
                page_token=token or "",
            )
            answer = self._call(self._jobs.ListJobs, request)
            yield from answer.items
            token = answer.next_page_token

    def stop(self, job_id: str) -> StopJobResponse:
        """Asks a job to stop: STOPPED if nothing of it ran, else STOPPING until its container has ended.

        Raises NotFound, FailedPrecondition (it has ended otherwise).
        """
        return self._call(self._jobs.StopJob, _rpc.made(StopJobRequest, job_id=job_id))

    def wait(self, job_id: str, *, timeout: float | None = None, patience: float = 60.0) -> Job:
        """Waits until the job has ended: a call that the server answers then, made again where that takes long.

        An outage of the server is borne for `patience` seconds. Raises DeadlineExceeded after `timeout` seconds (of a
        server that does not answer, up to 5 s later), NotFound, Unavailable.
        """
        waiting = JobWait(job_id, timeout=timeout, patience=patience, attempt=self._timeout)
        while True:
            request, limit = waiting.ask()
            try:
                job = self._once(self._jobs.GetJob, request, limit)
            except EasyQError as error:
                if not self._repeats:
                    raise
                pause = waiting.failed(error)
            else:
                if job.state in ENDED:
                    return job
                pause = waiting.goes_on(job)
            time.sleep(pause)

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
        timeout: float | None = None,
        patience: float = 60.0,
        on_break: Callable[[EasyQError], None] | None = None,
    ) -> Iterator[LogChunk | LogEnd]:
        """The output of a job, attempt after attempt, or of one execution; with `follow` until the end.

        `tail` begins with the last so many lines (of a job: of its newest execution), `since` with what was stored
        since a time, or so long ago (`"10m"`). With `timestamps` the `at` of a chunk holds for all of its bytes.

        Gives a LogChunk for each piece, in order per stream, and a LogEnd for each execution that has ended. Where the
        connection breaks it is made anew and goes on at the next byte: nothing is lost or doubled. `on_break` is told
        once of each outage; one that lasts longer than `patience` seconds is raised. Raises DeadlineExceeded after
        `timeout` seconds, NotFound.
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
        outage, deadline = Outage(patience), Deadline(timeout)
        while not cursor.ended:
            try:
                for event in self._read(cursor, deadline.left):
                    outage.over()
                    if event is not None:
                        yield event
                outage.over()
                if not follow:
                    return
                if not cursor.ended:
                    # In order, but too early: between two attempts, or the server stops.
                    time.sleep(deadline.cut(PAUSES[0]))
            except (EasyQError, Gap) as error:
                if deadline.passed:
                    raise DeadlineExceeded(cursor.too_late(deadline)) from error
                is_first = outage.met(error)
                if on_break is not None and is_first:
                    on_break(outage.problem)
                time.sleep(deadline.cut(outage.pause))

    def run(
        self,
        spec: JobSpec,
        *,
        task: str = DEFAULT_TASK,
        idempotency_key: str | None = None,
        check: bool = False,
        timeout: float | None = None,
        on_output: Callable[[LogChunk], None] | None = None,
    ) -> RunResult:
        """Submits a job, follows its output, and returns when it has ended, however it ended: as subprocess.run does.

        The output is collected in the result, or handed to `on_output` as it comes. With `check` an end other than
        SUCCEEDED raises JobFailed. After `timeout` seconds the job is asked to stop, and DeadlineExceeded is raised
        (the spec's own `timeout` bounds each attempt instead).

        As subprocess.run ends its child, this stops the job where something else ends the call: a KeyboardInterrupt, or
        what `on_output` raises. That takes up to 5 s if the server can't be reached, and may fail then. An error of a
        call (Unavailable after a long outage) leaves the job as it is.
        """
        deadline = Deadline(timeout)
        key = idempotency_key or uuid.uuid4().hex
        try:
            return self._run(spec, task, key, deadline, check=check, on_output=on_output)
        except EasyQError:
            raise
        except BaseException:
            self._abandon(CreateJobRequest(task_id=task, spec=spec, idempotency_key=key))
            raise

    def _run(
        self,
        spec: JobSpec,
        task: str,
        key: str,
        deadline: Deadline,
        *,
        check: bool,
        on_output: Callable[[LogChunk], None] | None,
    ) -> RunResult:
        submitted = self.submit(spec, task=task, idempotency_key=key)
        output = {LogStream.STDOUT: bytearray(), LogStream.STDERR: bytearray()}
        try:
            for event in self.logs(submitted.job_id, follow=True, timeout=deadline.left):
                if isinstance(event, LogChunk):
                    if on_output is None:
                        output[event.stream] += event.data
                    else:
                        on_output(event)
            job = self.wait(submitted.job_id, timeout=deadline.left)
        except DeadlineExceeded as error:
            if not deadline.passed:
                raise
            with suppress(FailedPrecondition):  # it has ended meanwhile
                self.stop(submitted.job_id)
            # The error tells of what was left of the time when its call began.
            raise DeadlineExceeded(f"job {submitted.job_id} had not ended after {deadline.seconds:g} s") from error
        result = result_of(job, bytes(output[LogStream.STDOUT]), bytes(output[LogStream.STDERR]))
        if check:
            result.check()
        return result

    def _abandon(self, request: CreateJobRequest) -> None:
        """Stops a job whose run is left. The interrupt may have come before the answer to the enqueue; another one
        under the same key gives the job's id."""
        deadline = Deadline(PARTING)
        with suppress(EasyQError):  # the interrupt is what the caller has to see
            job_id = self._once(self._jobs.CreateJob, request, PARTING).job_id
            self._once(self._jobs.StopJob, StopJobRequest(job_id=job_id), deadline.cut(PARTING))

    def _read(self, cursor: LogCursor, seconds: float | None) -> Iterator[LogChunk | LogEnd | None]:
        """One stream, for so long at most: what is new in each answer."""
        self._check_open()
        call = self._logs.FollowLogs(cursor.request(), timeout=seconds)
        try:
            for response in call:
                yield cursor.accept(response)
        except grpc.RpcError as error:
            raise _rpc.to_error(error, self.server) from error
        finally:
            call.cancel()

    def _submit_stream(self, requests: Iterator[SubmitJobsRequest]) -> Any:
        self._check_open()
        return self._jobs.SubmitJobs(requests, metadata=trace.metadata())

    def _check_open(self) -> None:
        if self._closed:
            raise ClientClosed("the client is closed; make another one")

    def _call(self, method: Callable[..., Answer], request: Message, *, repeat: bool = True) -> Answer:
        for pause in PAUSES if repeat and self._repeats else ():
            try:
                return self._once(method, request, self._timeout)
            except EasyQError as error:
                wait = wait_before_repeat(error, pause)
                if wait is None:
                    raise
                time.sleep(wait)
        return self._once(method, request, self._timeout)

    def _once(self, method: Callable[..., Answer], request: Message, seconds: float) -> Answer:
        self._check_open()
        try:
            return method(request, timeout=seconds, metadata=trace.metadata())
        except grpc.RpcError as problem:
            raise _rpc.to_error(problem, self.server) from problem
