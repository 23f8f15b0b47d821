"""A gateway for clients, in memory, on a real socket: jobs whose attempts a test scripts.

`FakeGateway` is sync and thread-safe; a test lets attempts write and end while a client follows them, breaks streams,
and stops and starts the server.
"""

import threading
import uuid
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from easyq.v1 import farm_service_pb2 as farm
from easyq.v1 import job_service_pb2 as api
from easyq.v1.farm_service_pb2_grpc import FarmServiceServicer, add_FarmServiceServicer_to_server
from easyq.v1.job_pb2 import Execution, Failure, Job, Waiting
from easyq.v1.job_service_pb2_grpc import JobServiceServicer, add_JobServiceServicer_to_server
from easyq.v1.log_service_pb2 import FollowLogsRequest, FollowLogsResponse, LogAttempt, LogChunk, LogEnd, LogStream
from easyq.v1.log_service_pb2_grpc import LogServiceServicer, add_LogServiceServicer_to_server
from tests.support.waiting import free_port

STREAMS = (LogStream.STDOUT, LogStream.STDERR)


@dataclass(kw_only=True)
class Attempt:
    """One execution: what it has written so far, and how it ended (`state` is UNSPECIFIED until then)."""

    execution: Execution
    output: dict[Any, bytearray] = field(default_factory=lambda: {stream: bytearray() for stream in STREAMS})
    ended: bool = False


class FakeJob:
    """A job that does what the test says."""

    def __init__(self, request: api.CreateJobRequest, condition: threading.Condition) -> None:
        self.request = request
        self.attempts: list[Attempt] = []
        self.stops = 0
        self._changed = condition
        self.message = Job(job_id=uuid.uuid4().hex[:24], task_id=request.task_id, state=Job.QUEUED, spec=request.spec)
        self.attempt()

    @property
    def job_id(self) -> str:
        return self.message.job_id

    def attempt(self) -> None:
        """Begins the next attempt."""
        with self._changed:
            number = len(self.attempts) + 1
            execution = Execution(execution_id=str(uuid.uuid4()), attempt=number, state=Execution.QUEUED)
            self.attempts.append(Attempt(execution=execution))
            self._changed.notify_all()

    def wait_for(self, message: str, reason: Waiting.Reason.ValueType = Waiting.NO_AGENT) -> None:
        with self._changed:
            self.message.waiting.CopyFrom(Waiting(reason=reason, message=message))

    def write(self, stdout: bytes = b"", stderr: bytes = b"") -> None:
        with self._changed:
            self.message.state = Job.RUNNING
            self.message.ClearField("waiting")
            self.attempts[-1].output[LogStream.STDOUT] += stdout
            self.attempts[-1].output[LogStream.STDERR] += stderr
            self._changed.notify_all()

    def end(
        self,
        state: str = "SUCCEEDED",
        exit_code: int | None = 0,
        *,
        error: Failure | None = None,
        retrying: bool = False,
    ) -> None:
        """Ends the attempt, and the job unless it is `retrying`."""
        with self._changed:
            attempt = self.attempts[-1]
            attempt.execution.state = Execution.State.Value(state)
            if exit_code is not None:
                attempt.execution.exit_code = exit_code
            if error is not None:
                attempt.execution.error.CopyFrom(error)
            attempt.ended = True
            self.message.state = Job.RETRYING if retrying else Job.State.Value(state)
            self._changed.notify_all()

    @property
    def ended(self) -> bool:
        return self.attempts[-1].ended and self.message.state not in {Job.RETRYING, Job.QUEUED}

    def snapshot(self) -> Job:
        job = Job()
        job.CopyFrom(self.message)
        for attempt in self.attempts:
            execution = job.executions.add()
            execution.CopyFrom(attempt.execution)
            execution.stdout_bytes = len(attempt.output[LogStream.STDOUT])
            execution.stderr_bytes = len(attempt.output[LogStream.STDERR])
        job.execution_count = len(self.attempts)
        return job


class FakeGateway(JobServiceServicer, LogServiceServicer, FarmServiceServicer):
    """Serves on a port of its own, the same over `stop` and `start`."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.jobs: list[FakeJob] = []
        #: Answers to calls before the usual ones: statuses with which the next calls fail.
        self.failures: deque[status_pb2.Status] = deque()
        #: After how many answers the next streams of output break; then they are whole.
        self.breaks: deque[int] = deque()
        #: The status that they break with.
        self.broken = status(grpc.StatusCode.UNAVAILABLE, "the stream was broken by the test", reason="UNAVAILABLE")
        #: Whether streams begin at the offsets that are asked for, or at 0 each time.
        self.honours_offsets = True
        #: Whether GetJob waits as it is asked to.
        self.honours_wait = True
        #: Requests of GetJob.
        self.looks: list[api.GetJobRequest] = []
        self.chunk = 7
        self.log_requests: list[FollowLogsRequest] = []
        self.agents: list[farm.Agent] = []
        #: Operators' and steering requests, as they came.
        self.asked: list[Any] = []
        # Nobody else gets it while the server is stopped.
        self._port = free_port()
        self._server: grpc.Server | None = None
        self._stopping = threading.Event()

    # Life ------------------------------------------------------------------------------------------------------
    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    def start(self) -> Self:
        self._stopping.clear()
        server = grpc.server(ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
        add_JobServiceServicer_to_server(self, server)
        add_LogServiceServicer_to_server(self, server)
        add_FarmServiceServicer_to_server(self, server)
        self.add_more(server)
        server.add_insecure_port(f"127.0.0.1:{self._port}")
        server.start()
        self._server = server
        return self

    def add_more(self, server: grpc.Server) -> None:
        """For those who serve more than this does."""

    def stop(self) -> None:
        """Ends the server at once, its streams too; what it knows stays."""
        self._stopping.set()
        with self.changed:
            self.changed.notify_all()
        if self._server is not None:
            self._server.stop(0).wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def job(self, timeout: float = 60) -> FakeJob:
        """The newest job, once there is one."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.jobs, timeout), "no job was submitted"
            return self.jobs[-1]

    # The API ---------------------------------------------------------------------------------------------------
    def CreateJob(self, request: api.CreateJobRequest, context: Any) -> api.CreateJobResponse:
        self._fail(context)
        with self.changed:
            known = [job for job in self.jobs if job.request.idempotency_key == request.idempotency_key]
            job = known[0] if known else FakeJob(request, self.changed)
            if not known:
                self.jobs.append(job)
                self.changed.notify_all()
        execution = job.attempts[0].execution.execution_id
        return api.CreateJobResponse(
            task_id=request.task_id,
            job_id=job.job_id,
            queue_job_id=execution,
            execution_id=execution,
            task_url=f"/tasks/{request.task_id}",
            replayed=bool(known),
        )

    def GetJob(self, request: api.GetJobRequest, context: Any) -> Job:
        self.looks.append(request)
        self._fail(context)
        with self.changed:
            job = self._find(request.job_id, context)
            if self.honours_wait:
                self.changed.wait_for(
                    lambda: job.ended or self._stopping.is_set(), request.wait.ToMilliseconds() / 1000
                )
            if self._stopping.is_set():
                abort(context, grpc.StatusCode.UNAVAILABLE, "the server stops")
            return job.snapshot()

    def StopJob(self, request: api.StopJobRequest, context: Any) -> api.StopJobResponse:
        self._fail(context)
        with self.changed:
            job = self._find(request.job_id, context)
            if job.ended:
                abort(context, grpc.StatusCode.FAILED_PRECONDITION, "the job has ended", reason="ILLEGAL_STATE")
            job.stops += 1
            self.changed.notify_all()
        return api.StopJobResponse(outcome=api.StopJobResponse.STOPPING, job=job.snapshot())

    def PauseJob(self, request: api.PauseJobRequest, context: Any) -> api.PauseJobResponse:
        return api.PauseJobResponse(job=self._steer(request, context, Job.PAUSED))

    def ResumeJob(self, request: api.ResumeJobRequest, context: Any) -> api.ResumeJobResponse:
        return api.ResumeJobResponse(job=self._steer(request, context, Job.ACTIVE))

    def TriggerJob(self, request: api.TriggerJobRequest, context: Any) -> api.TriggerJobResponse:
        return api.TriggerJobResponse(job_id=self._steer(request, context).job_id, execution_id="e")

    def RetryJob(self, request: api.RetryJobRequest, context: Any) -> api.RetryJobResponse:
        return api.RetryJobResponse(job_id=self._steer(request, context).job_id, execution_id="e")

    def GetSchedule(self, request: api.GetScheduleRequest, context: Any) -> api.GetScheduleResponse:
        answer = api.GetScheduleResponse(job_id=self._steer(request, context).job_id, cron="@daily")
        for index in range(request.next):
            answer.next_fires.add().FromSeconds(index)
        return answer

    def ExplainJob(self, request: api.ExplainJobRequest, context: Any) -> api.ExplainJobResponse:
        job = self._steer(request, context)
        return api.ExplainJobResponse(job_id=job.job_id, state=job.state, waiting=job.waiting)

    def DeleteJob(self, request: api.DeleteJobRequest, context: Any) -> api.DeleteJobResponse:
        self._steer(request, context)
        return api.DeleteJobResponse(stopping=request.force)

    def GetStatus(self, request: farm.GetStatusRequest, context: Any) -> farm.Status:
        self._fail(context)
        return farm.Status(version="1", agents=self.agents)

    def ListAgents(self, request: farm.ListAgentsRequest, context: Any) -> farm.ListAgentsResponse:
        self._fail(context)
        return farm.ListAgentsResponse(items=self.agents)

    def GetAgent(self, request: farm.GetAgentRequest, context: Any) -> farm.Agent:
        return self._agent(request, context)

    def CordonAgent(self, request: farm.CordonAgentRequest, context: Any) -> farm.CordonAgentResponse:
        agent = self._agent(request, context)
        agent.cordoned_at.GetCurrentTime()
        return farm.CordonAgentResponse(agent=agent)

    def UncordonAgent(self, request: farm.UncordonAgentRequest, context: Any) -> farm.UncordonAgentResponse:
        agent = self._agent(request, context)
        agent.ClearField("cordoned_at")
        return farm.UncordonAgentResponse(agent=agent)

    def DrainAgent(self, request: farm.DrainAgentRequest, context: Any) -> farm.DrainAgentResponse:
        agent = self._agent(request, context)
        agent.drained_at.FromSeconds(1_900_000_000)
        if request.HasField("deadline"):
            agent.drain_deadline.FromSeconds(1_900_000_000 + request.deadline.seconds)
        return farm.DrainAgentResponse(agent=agent)

    def DeclareAgentDead(self, request: farm.DeclareAgentDeadRequest, context: Any) -> farm.DeclareAgentDeadResponse:
        agent = self._agent(request, context)
        agent.state = farm.Agent.DEAD
        return farm.DeclareAgentDeadResponse(agent=agent, lost=agent.running)

    def _agent(self, request: Any, context: Any) -> farm.Agent:
        self.asked.append(request)
        self._fail(context)
        for agent in self.agents:
            if agent.agent_id == request.agent_id:
                return agent
        abort(context, grpc.StatusCode.NOT_FOUND, "there is no such agent", reason="AGENT_NOT_FOUND")
        raise AssertionError

    def _steer(self, request: Any, context: Any, state: Job.State.ValueType | None = None) -> Job:
        self.asked.append(request)
        self._fail(context)
        with self.changed:
            job = self._find(request.job_id, context)
            job.message.state = job.message.state if state is None else state
            return job.snapshot()

    def FollowLogs(self, request: FollowLogsRequest, context: Any) -> Iterator[FollowLogsResponse]:
        self.log_requests.append(request)
        left = self.breaks.popleft() if self.breaks else None
        for response in self._responses(request, context):
            if left is not None:
                if left == 0:
                    context.abort_with_status(rpc_status.to_status(self.broken))
                left -= 1
            yield response

    def _responses(self, request: FollowLogsRequest, context: Any) -> Iterator[FollowLogsResponse]:
        with self.changed:
            job, index = self._position(request, context)
        position = request.position
        offsets = {LogStream.STDOUT: position.stdout_offset, LogStream.STDERR: position.stderr_offset}
        if not self.honours_offsets or position.ended:
            offsets = dict.fromkeys(STREAMS, 0)
        begun, begin = -1, dict(offsets)
        while context.is_active() and not self._stopping.is_set():
            with self.changed:
                attempt = job.attempts[index]
                pieces = self._pieces(job, index, offsets, request)
                ended, is_last = attempt.ended, index == len(job.attempts) - 1
                job_ended = is_last and job.ended
                if begun == index and not pieces and not ended:
                    if request.stored_only:
                        return
                    self.changed.wait(0.5)
                    continue
            if begun != index:
                begun = index
                yield FollowLogsResponse(attempt=_begin(attempt.execution, begin))
            yield from pieces
            if pieces or not ended:
                continue
            yield FollowLogsResponse(end=_end(attempt.execution, job_ended=job_ended))
            if request.execution_id or (is_last and (job_ended or request.stored_only)):
                return
            with self.changed:
                self.changed.wait_for(lambda: len(job.attempts) > index + 1 or self._stopping.is_set())  # noqa: B023
            if self._stopping.is_set():
                return
            index, offsets = index + 1, dict.fromkeys(STREAMS, 0)
            begin = dict(offsets)

    def _pieces(self, job: FakeJob, index: int, offsets: dict[Any, int], request: Any) -> list[FollowLogsResponse]:
        attempt = job.attempts[index]
        pieces = []
        for stream in request.streams or STREAMS:
            at = offsets[stream]
            data = bytes(attempt.output[stream][at : at + self.chunk])
            if data:
                offsets[stream] += len(data)
                chunk = LogChunk(execution_id=attempt.execution.execution_id, stream=stream, offset=at, data=data)
                pieces.append(FollowLogsResponse(chunk=chunk))
        return pieces

    def _position(self, request: FollowLogsRequest, context: Any) -> tuple[FakeJob, int]:
        wanted = request.execution_id or request.position.execution_id
        if not wanted:
            return self._find(request.job_id, context), 0
        for job in self.jobs:
            for index, attempt in enumerate(job.attempts):
                if attempt.execution.execution_id == wanted:
                    following = request.position.ended and index + 1 < len(job.attempts)
                    return job, index + 1 if following else index
        abort(context, grpc.StatusCode.NOT_FOUND, "no such execution", reason="EXECUTION_NOT_FOUND")
        raise AssertionError

    def _find(self, job_id: str, context: Any) -> FakeJob:
        for job in self.jobs:
            if job.job_id == job_id:
                return job
        abort(context, grpc.StatusCode.NOT_FOUND, f"no job {job_id}", reason="JOB_NOT_FOUND")
        raise AssertionError

    def _fail(self, context: Any) -> None:
        if self.failures:
            context.abort_with_status(rpc_status.to_status(self.failures.popleft()))


def fake_gateway() -> FakeGateway:
    """One that was not started yet."""
    return FakeGateway()  # type: ignore[abstract] # the other methods stay UNIMPLEMENTED


def status(
    code: grpc.StatusCode,
    message: str,
    *,
    reason: str = "",
    fields: dict[str, str] | None = None,
    retry_after: float = 0,
) -> status_pb2.Status:
    """A status with details as EasyQ's gateway sends it; without a reason: as gRPC itself does."""
    result = status_pb2.Status(code=code.value[0], message=message)
    if reason:
        result.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain="easyq"))
    if fields:
        bad = error_details_pb2.BadRequest()
        for name, problem in fields.items():
            bad.field_violations.add(field=name, description=problem)
        result.details.add().Pack(bad)
    if retry_after:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(int(retry_after * 1000))
        result.details.add().Pack(retry)
    return result


def abort(context: Any, code: grpc.StatusCode, message: str, *, reason: str = "") -> None:
    context.abort_with_status(rpc_status.to_status(status(code, message, reason=reason)))


def _begin(execution: Execution, offsets: dict[Any, int]) -> LogAttempt:
    return LogAttempt(
        execution_id=execution.execution_id,
        attempt=execution.attempt,
        stdout_offset=offsets[LogStream.STDOUT],
        stderr_offset=offsets[LogStream.STDERR],
    )


def _end(execution: Execution, *, job_ended: bool) -> LogEnd:
    end = LogEnd(execution_id=execution.execution_id, state=Execution.State.Name(execution.state), job_ended=job_ended)
    if execution.HasField("exit_code"):
        end.exit_code = execution.exit_code
    return end
