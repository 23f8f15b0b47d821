"""The client, for programs on asyncio. The same as `easyq.client.Client`, call for call."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from easyq import _rpc, trace
from easyq.address import address_of
from easyq.aio_many import AsyncManySubmitter
from easyq.aio_reading import AsyncReadingCalls
from easyq.awaiting import JobWait
from easyq.backlog import Submittable, Submitted
from easyq.client import ENDED, PARTING, UNDER_WAY
from easyq.cursor import Gap, LogCursor, Since, since_of
from easyq.deadline import Deadline
from easyq.errors import ClientClosed, DeadlineExceeded, EasyQError, FailedPrecondition
from easyq.operators import DEFAULT_TASK, recurring
from easyq.outage import PAUSES, Outage, wait_before_repeat
from easyq.reading import PAGE, label_filters
from easyq.result import RunResult, result_of
from easyq.spec import DurationLike, to_duration
from easyq.v1 import farm_service_pb2 as farm
from easyq.v1 import job_service_pb2 as api
from easyq.v1.execution_service_pb2_grpc import ExecutionServiceStub
from easyq.v1.farm_service_pb2_grpc import FarmServiceStub
from easyq.v1.job_pb2 import Job
from easyq.v1.job_service_pb2_grpc import JobServiceStub
from easyq.v1.log_service_pb2 import LogChunk, LogEnd, LogStream
from easyq.v1.log_service_pb2_grpc import LogServiceStub
from easyq.v1.notification_service_pb2_grpc import NotificationServiceStub
from easyq.v1.spec_pb2 import JobSpec
from easyq.v1.task_service_pb2_grpc import TaskServiceStub

Answer = TypeVar("Answer")


class AsyncClient(AsyncReadingCalls):
    """Talks to one EasyQ farm; made and used within one running event loop.

    What is said of `easyq.Client` and its methods holds here too: errors, repeats, bounds.
    """

    def __init__(
        self,
        server: str | None = None,
        *,
        timeout: float = 30.0,
        repeats: bool = True,
        channel: grpc.aio.Channel | None = None,
    ) -> None:
        self.server = address_of(server, os.environ) if channel is None else server or ""
        self._timeout = timeout
        self._repeats = repeats
        self._own = channel is None
        self._closed = False
        self._channel = channel or _rpc.open_aio_channel(self.server)
        self._jobs = JobServiceStub(self._channel)
        self._logs = LogServiceStub(self._channel)
        self._farm = FarmServiceStub(self._channel)
        self._executions = ExecutionServiceStub(self._channel)
        self._tasks = TaskServiceStub(self._channel)
        self._notifications = NotificationServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the connection; streams of output end with it. Later calls raise ClientClosed."""
        self._closed = True
        if self._own:
            await self._channel.close()

    # ------------------------------------------------------------------------------------------------------------ jobs

    async def submit(
        self, spec: JobSpec, *, task: str = DEFAULT_TASK, idempotency_key: str | None = None
    ) -> api.CreateJobResponse:
        """Enqueues a job under a task, and returns once it is on disk, with its ids."""
        key = idempotency_key or uuid.uuid4().hex
        request = _rpc.made(api.CreateJobRequest, task_id=task, spec=spec, idempotency_key=key)
        return await self._call(self._jobs.CreateJob, request)

    def submit_many(
        self,
        jobs: Iterable[Submittable] | AsyncIterable[Submittable],
        *,
        task: str = DEFAULT_TASK,
        under_way: int = UNDER_WAY,
        patience: float = 60.0,
    ) -> AsyncIterator[Submitted]:
        """Enqueues as many jobs as `jobs` gives, and gives what became of each, in their order."""
        many = AsyncManySubmitter(
            jobs,
            task=task,
            most=under_way,
            patience=patience,
            open_stream=self._submit_stream,
            server=self.server,
        )
        return many.results()

    async def get(self, job_id: str) -> Job:
        """The job with its newest 20 executions, oldest first."""
        return await self._call(self._jobs.GetJob, _rpc.made(api.GetJobRequest, job_id=job_id))

    async def jobs(
        self,
        *,
        task: str = "",
        states: Sequence[Job.State.ValueType] = (),
        labels: Mapping[str, str] | None = None,
        page: int = PAGE,
    ) -> AsyncIterator[Job]:
        """All jobs, newest first, without their executions; only of one task, in some states, with labels, if given."""
        token: str | None = None
        while token != "":
            request = _rpc.made(
                api.ListJobsRequest,
                task_id=task,
                state=states,
                label=label_filters(labels),
                page_size=page,
                page_token=token or "",
            )
            answer = await self._call(self._jobs.ListJobs, request)
            for job in answer.items:
                yield job
            token = answer.next_page_token

    async def stop(self, job_id: str) -> api.StopJobResponse:
        """Asks a job to stop."""
        return await self._call(self._jobs.StopJob, _rpc.made(api.StopJobRequest, job_id=job_id))

    async def wait(self, job_id: str, *, timeout: float | None = None, patience: float = 60.0) -> Job:
        """Waits until the job has ended. Raises DeadlineExceeded after `timeout` seconds, NotFound, Unavailable."""
        waiting = JobWait(job_id, timeout=timeout, patience=patience, attempt=self._timeout)
        while True:
            request, limit = waiting.ask()
            try:
                job = await self._once(self._jobs.GetJob, request, limit)
            except EasyQError as error:
                if not self._repeats:
                    raise
                pause = waiting.failed(error)
            else:
                if job.state in ENDED:
                    return job
                pause = waiting.goes_on(job)
            await asyncio.sleep(pause)

    async def logs(
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
    ) -> AsyncIterator[LogChunk | LogEnd]:
        """The output of a job, attempt after attempt, or of one execution; with `follow` until the end."""
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
                async for event in self._read(cursor, deadline.left):
                    outage.over()
                    if event is not None:
                        yield event
                outage.over()
                if not follow:
                    return
                if not cursor.ended:
                    # In order, but too early: between two attempts, or the server stops.
                    await asyncio.sleep(deadline.cut(PAUSES[0]))
            except (EasyQError, Gap) as error:
                if deadline.passed:
                    raise DeadlineExceeded(cursor.too_late(deadline)) from error
                is_first = outage.met(error)
                if on_break is not None and is_first:
                    on_break(outage.problem)
                await asyncio.sleep(deadline.cut(outage.pause))

    async def run(
        self,
        spec: JobSpec,
        *,
        task: str = DEFAULT_TASK,
        idempotency_key: str | None = None,
        check: bool = False,
        timeout: float | None = None,
        on_output: Callable[[LogChunk], None] | None = None,
    ) -> RunResult:
        """Submits a job, follows its output, and returns when it has ended, however it ended.

        As subprocess.run ends its child, this stops the job where something else ends the call: a cancellation, or what
        `on_output` raises. That takes up to 5 s if the server can't be reached, and may fail then; a second
        cancellation does not wait for it. An error of a call (Unavailable after a long outage) leaves the job as it is.
        """
        deadline = Deadline(timeout)
        # What is cancelled is the waiting for it: without its answer nobody would know what to stop.
        submitting = asyncio.ensure_future(self.submit(spec, task=task, idempotency_key=idempotency_key))
        try:
            return await self._run(submitting, deadline, check=check, on_output=on_output)
        except EasyQError:
            raise
        except BaseException:
            await self._abandon(submitting)
            raise

    async def _run(
        self,
        submitting: asyncio.Future[api.CreateJobResponse],
        deadline: Deadline,
        *,
        check: bool,
        on_output: Callable[[LogChunk], None] | None,
    ) -> RunResult:
        submitted = await asyncio.shield(submitting)
        output = {LogStream.STDOUT: bytearray(), LogStream.STDERR: bytearray()}
        try:
            async for event in self.logs(submitted.job_id, follow=True, timeout=deadline.left):
                if isinstance(event, LogChunk):
                    if on_output is None:
                        output[event.stream] += event.data
                    else:
                        on_output(event)
            job = await self.wait(submitted.job_id, timeout=deadline.left)
        except DeadlineExceeded as error:
            if not deadline.passed:
                raise
            with suppress(FailedPrecondition):  # it has ended meanwhile
                await self.stop(submitted.job_id)
            # The error tells of what was left of the time when its call began.
            raise DeadlineExceeded(f"job {submitted.job_id} had not ended after {deadline.seconds:g} s") from error
        result = result_of(job, bytes(output[LogStream.STDOUT]), bytes(output[LogStream.STDERR]))
        if check:
            result.check()
        return result

    async def pause(self, job_id: str) -> Job:
        """Lets a recurring job's fires rest."""
        return (await self._call(self._jobs.PauseJob, _rpc.made(api.PauseJobRequest, job_id=job_id))).job

    async def resume(self, job_id: str) -> Job:
        """Goes on with a paused job."""
        return (await self._call(self._jobs.ResumeJob, _rpc.made(api.ResumeJobRequest, job_id=job_id))).job

    async def trigger(self, job_id: str) -> api.TriggerJobResponse:
        """Runs a job now."""
        return await self._call(self._jobs.TriggerJob, _rpc.made(api.TriggerJobRequest, job_id=job_id), repeat=False)

    async def retry(self, job_id: str) -> api.RetryJobResponse:
        """Runs a job that has ended once more."""
        return await self._call(self._jobs.RetryJob, _rpc.made(api.RetryJobRequest, job_id=job_id), repeat=False)

    async def schedule(
        self, job_id: str, spec: JobSpec | None = None, *, task: str = DEFAULT_TASK, coming: int = 10
    ) -> api.GetScheduleResponse:
        """A recurring job's schedule, with its `coming` next fires; with a `spec` that of the job as it shall be."""
        if spec is not None:
            await self._call(self._jobs.PutJob, recurring(job_id, spec, task))
        return await self._call(self._jobs.GetSchedule, _rpc.made(api.GetScheduleRequest, job_id=job_id, next=coming))

    async def explain(self, job_id: str) -> api.ExplainJobResponse:
        """Why a job, and each of its executions, waits."""
        return await self._call(self._jobs.ExplainJob, _rpc.made(api.ExplainJobRequest, job_id=job_id))

    async def delete(self, job_id: str, *, force: bool = False) -> api.DeleteJobResponse:
        """Deletes a job with its executions and logs; with `force` also one that has not ended."""
        request = _rpc.made(api.DeleteJobRequest, job_id=job_id, force=force)
        return await self._call(self._jobs.DeleteJob, request, repeat=False)

    # ----------------------------------------------------------------------------------------------------------- hosts

    async def status(self) -> farm.Status:
        """How the farm is, with what is missing in words."""
        return await self._call(self._farm.GetStatus, farm.GetStatusRequest())

    async def agents(self) -> Sequence[farm.Agent]:
        """All agents that the farm knows, by name."""
        return (await self._call(self._farm.ListAgents, farm.ListAgentsRequest())).items

    async def agent(self, agent_id: str) -> farm.Agent:
        """One agent."""
        return await self._call(self._farm.GetAgent, _rpc.made(farm.GetAgentRequest, agent_id=agent_id))

    async def cordon(self, agent_id: str) -> farm.Agent:
        """Takes nothing new to an agent."""
        return (await self._call(self._farm.CordonAgent, _rpc.made(farm.CordonAgentRequest, agent_id=agent_id))).agent

    async def uncordon(self, agent_id: str) -> farm.Agent:
        """Takes new work to an agent again."""
        return (
            await self._call(self._farm.UncordonAgent, _rpc.made(farm.UncordonAgentRequest, agent_id=agent_id))
        ).agent

    async def drain(self, agent_id: str, *, deadline: DurationLike | None = None) -> farm.Agent:
        """Lets what an agent runs end, for `deadline` at most, and ends the agent once it is empty."""
        request = _rpc.made(farm.DrainAgentRequest, agent_id=agent_id)
        if deadline is not None:
            request.deadline.CopyFrom(to_duration(deadline))
        return (await self._call(self._farm.DrainAgent, request)).agent

    async def declare_dead(self, agent_id: str) -> farm.DeclareAgentDeadResponse:
        """Says that a host is gone for good."""
        return await self._call(self._farm.DeclareAgentDead, _rpc.made(farm.DeclareAgentDeadRequest, agent_id=agent_id))

    # -------------------------------------------------------------------------------------------------------- the wire

    async def _abandon(self, submitting: asyncio.Future[api.CreateJobResponse]) -> None:
        """Stops a job whose run is left."""
        with suppress(EasyQError, TimeoutError):  # the cancellation is what the caller has to see
            async with asyncio.timeout(PARTING):
                await self.stop((await submitting).job_id)

    async def _read(self, cursor: LogCursor, seconds: float | None) -> AsyncIterator[LogChunk | LogEnd | None]:
        """One stream, for so long at most: what is new in each answer."""
        self._check_open()
        call: Any = self._logs.FollowLogs(cursor.request(), timeout=seconds)
        try:
            async for response in call:
                yield cursor.accept(response)
        except grpc.aio.AioRpcError as error:
            raise _rpc.to_error(error, self.server) from error
        finally:
            call.cancel()

    def _submit_stream(self, requests: AsyncIterator[api.SubmitJobsRequest]) -> Any:
        self._check_open()
        return self._jobs.SubmitJobs(requests, metadata=trace.metadata())

    def _check_open(self) -> None:
        if self._closed:
            raise ClientClosed("the client is closed; make another one")

    async def _call(self, method: Callable[..., Awaitable[Answer]], request: Message, *, repeat: bool = True) -> Answer:
        for pause in PAUSES if repeat and self._repeats else ():
            try:
                return await self._once(method, request, self._timeout)
            except EasyQError as error:
                wait = wait_before_repeat(error, pause)
                if wait is None:
                    raise
                await asyncio.sleep(wait)
        return await self._once(method, request, self._timeout)

    async def _once(self, method: Callable[..., Awaitable[Answer]], request: Message, seconds: float) -> Answer:
        self._check_open()
        try:
            return await method(request, timeout=seconds, metadata=trace.metadata())
        except grpc.aio.AioRpcError as problem:
            raise _rpc.to_error(problem, self.server) from problem
