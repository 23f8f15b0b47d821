"""What stands behind the gateway, as servers on real sockets: a store in memory, a scheduler, dispatchers.

`FakeStore` keeps enough for the whole API; `Behind` starts and stops the servers, each on its own.
"""

import asyncio
import base64
import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import grpc

from easyq.v1 import (
    execution_service_pb2,
    farm_service_pb2,
    job_pb2,
    job_service_pb2,
    log_service_pb2,
    task_service_pb2,
)
from easyq.v1.error_reason_pb2 import ErrorReason
from easyq.v1.job_pb2 import Execution, Job
from easyq.v1.log_service_pb2 import LogStream
from easyq.v1.stats_pb2 import Stats
from easyq_chassis.batching import answer_batches
from easyq_chassis.errors import (
    Aborted,
    EasyQError,
    FailedPrecondition,
    FieldProblem,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from easyq_chassis.server import GrpcServer
from easyq_chassis.wishes import same, wish
from easyq_internal.dispatcher.v1 import dispatcher_pb2, dispatcher_pb2_grpc
from easyq_internal.scheduler.v1 import scheduler_pb2, scheduler_pb2_grpc
from easyq_internal.store.v1 import (
    delivery_store_pb2_grpc,
    farm_store_pb2,
    farm_store_pb2_grpc,
    feed_pb2_grpc,
    job_store_pb2,
    job_store_pb2_grpc,
    log_store_pb2_grpc,
    records_pb2,
    stats_pb2,
    stats_pb2_grpc,
)
from tests.fakes.gateway_deliveries import FakeDeliveries
from tests.fakes.gateway_feed import FakeFeed
from tests.fakes.gateway_operators import ENDED, Operators, preview

EXECUTION_ENDED = frozenset(
    {
        Execution.SUCCEEDED,
        Execution.FAILED,
        Execution.TIMED_OUT,
        Execution.STOPPED,
        Execution.LOST,
        Execution.EXPIRED,
    }
)
CHUNK = 1000


class FakeStore(Operators):
    """Jobs, executions and output in memory; the tests move executions on by hand."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.executions: dict[str, Execution] = {}
        self.order: list[str] = []
        self.keys: dict[tuple[str, str], str] = {}
        self.first: dict[str, str] = {}
        # What was asked for: with the first spec of each job, and with its newest.
        self.first_asked: dict[str, bytes] = {}
        self.asked: dict[str, bytes] = {}
        self.agents: list[farm_service_pb2.Agent] = []
        self.wishes = 0
        self.deliveries = FakeDeliveries()  # type: ignore[abstract]
        self.output: dict[tuple[str, int], bytearray] = {}
        self.feed = FakeFeed()
        self.stats = Stats()
        self.queries: list[stats_pb2.QueryRequest] = []
        self.lists: list[Any] = []
        # Items after which a page of jobs ends, though there are more.
        self.short_pages: int | None = None
        self.submits: list[job_store_pb2.NewJob] = []
        self.calls: list[str] = []
        # Submit answers only while this is set; `lose_answers` batches take effect and break the stream.
        self.answering = asyncio.Event()
        self.answering.set()
        self.lose_answers = 0
        # Calls of these names take effect, and so many of their answers are lost.
        self.lose_answers_of: dict[str, int] = {}
        # Execution ids that PUTs came with, and whether each made its job.
        self.puts: dict[str, bool] = {}
        self.cut_logs_after: int | None = None
        self.open_readers = 0
        # Bytes of output that went to readers.
        self.bytes_read = 0
        self.follows: list[log_service_pb2.FollowLogsRequest] = []
        # Raised to the next follower that has got what is stored.
        self.follow_error: EasyQError | None = None
        self._changed = asyncio.Condition()
        self._changes = 0
        self._seconds = 1_900_000_000

    # ------------------------------------------------------------------------------------------- what tests do

    def set_clock(self, seconds: int) -> None:
        """What comes is of this time (seconds since the epoch), and later."""
        self._seconds = seconds

    async def move(self, execution_id: str, state: Execution.State.ValueType, **fields: Any) -> None:
        """Puts an execution, and its job, into a state."""
        execution = self.executions[execution_id]
        execution.state = state
        for name, value in fields.items():
            setattr(execution, name, value)
        job = self.jobs[execution.job_id]
        name = Execution.State.Name(state)
        job.state = {"ASSIGNED": Job.RUNNING, "LOST": Job.FAILED}.get(name) or Job.State.Value(name)
        self.feed.tell_job(job)
        await self._told()

    async def write(self, execution_id: str, stream: LogStream.Name.ValueType, data: bytes) -> None:
        """Appends output."""
        self.output.setdefault((execution_id, stream), bytearray()).extend(data)
        execution = self.executions[execution_id]
        field = "stdout_bytes" if stream == LogStream.STDOUT else "stderr_bytes"
        setattr(execution, field, len(self.output[execution_id, stream]))
        await self._told()

    # ----------------------------------------------------------------------------------------------- new jobs

    def submit(self, new: job_store_pb2.NewJob) -> job_store_pb2.SubmitResult:
        self.submits.append(new)
        key = (new.task_id, new.idempotency_key)
        known = self.keys.get(key) if new.idempotency_key else None
        if known is not None:
            if self.jobs[known].revision == 1 and self._learn(known, new):
                self.first_asked[known] = new.asked
            return job_store_pb2.SubmitResult(accepted=self._replayed(known))
        if new.job_id in self.jobs and self.jobs[new.job_id].task_id != new.task_id:
            error = records_pb2.ItemError(
                code=grpc.StatusCode.ALREADY_EXISTS.value[0], reason=ErrorReason.JOB_EXISTS, message="the id is taken"
            )
            return job_store_pb2.SubmitResult(error=error)
        if new.job_id not in self.jobs:
            self._insert(new)
        accepted = job_store_pb2.SubmitAccepted(job_id=new.job_id, execution_id=self.first[new.job_id])
        self._add_first(accepted, new)
        return job_store_pb2.SubmitResult(accepted=accepted)

    def find_submitted(self, job: job_store_pb2.NewJob) -> job_store_pb2.FindSubmittedResponse:
        known = self.keys.get((job.task_id, job.idempotency_key)) if job.idempotency_key else None
        if job.job_id in self.jobs and self.first[job.job_id] in {"", job.execution_id}:
            accepted = job_store_pb2.SubmitAccepted(job_id=job.job_id, execution_id=self.first[job.job_id])
        elif known is not None:
            accepted = self._replayed(known)
        else:
            raise NotFound("no such job was submitted")
        return job_store_pb2.FindSubmittedResponse(accepted=accepted)

    def _replayed(self, job_id: str) -> job_store_pb2.SubmitAccepted:
        return job_store_pb2.SubmitAccepted(
            job_id=job_id,
            execution_id=self.first[job_id],
            replayed_spec=self.jobs[job_id].spec,
            replayed_asked=self.first_asked[job_id],
        )

    def _learn(self, job_id: str, new: job_store_pb2.NewJob) -> bool:
        if self.asked[job_id] or self.jobs[job_id].spec != new.spec:
            return False
        self.asked[job_id] = new.asked
        return True

    def _add_first(self, answer: Any, new: job_store_pb2.NewJob) -> None:
        if new.spec.HasField("cron"):
            answer.schedule.job_id, answer.schedule.task_id, answer.schedule.revision = new.job_id, new.task_id, 1
            answer.now = self._seconds * 1000
        else:
            self._add_head(answer, self.executions[new.execution_id])

    def _insert(self, new: job_store_pb2.NewJob) -> None:
        job = Job(job_id=new.job_id, task_id=new.task_id, revision=1, spec=new.spec)
        job.idempotency_key = new.idempotency_key
        self._stamp(job.created_at)
        job.last_modified_at.CopyFrom(job.created_at)
        self.jobs[new.job_id] = job
        self.first_asked[new.job_id] = self.asked[new.job_id] = new.asked
        self.order.append(new.job_id)
        if new.idempotency_key:
            self.keys[new.task_id, new.idempotency_key] = new.job_id
        if new.spec.HasField("cron"):
            self.first[new.job_id] = ""
            self.begin_schedule(job)
            return
        self.first[new.job_id] = new.execution_id
        self._attempt(job, new.execution_id, job_pb2.Trigger.ENQUEUE)

    def _attempt(self, job: Job, execution_id: str, trigger: job_pb2.Trigger.Kind.ValueType) -> Execution:
        job.execution_count += 1
        timed = trigger == job_pb2.Trigger.ENQUEUE and job.spec.WhichOneof("schedule") is not None
        execution = Execution(
            execution_id=execution_id,
            job_id=job.job_id,
            task_id=job.task_id,
            attempt=job.execution_count,
            trigger=trigger,
            state=Execution.SCHEDULED if timed else Execution.QUEUED,
            image=job.spec.image,
            command=job.spec.command,
            envs=job.spec.envs,
            spec_revision=job.revision,
        )
        self._stamp(execution.due_at)
        execution.queued_at.CopyFrom(execution.due_at)
        self.executions[execution_id] = execution
        job.state = Job.SCHEDULED if timed else Job.QUEUED
        return execution

    def _stamp(self, field: Any) -> None:
        self._seconds += 1
        field.seconds = self._seconds

    @staticmethod
    def _add_head(answer: Any, execution: Execution) -> None:
        if execution.state == Execution.QUEUED:
            answer.ready.CopyFrom(
                records_pb2.Head(execution_id=execution.execution_id, task_id=execution.task_id, queue_seq=1)
            )

    def put(self, request: job_store_pb2.PutJobRequest) -> job_store_pb2.PutJobResponse:
        new = request.job
        job = self.jobs.get(new.job_id)
        answer = job_store_pb2.PutJobResponse()
        alike = job is not None and same(wish(new.asked, new.spec), wish(self.asked[new.job_id], job.spec))
        if request.only_same and (job is None or job.task_id != new.task_id or not alike):
            raise NotFound("there is no such job of this spec")
        if job is not None and job.task_id != new.task_id:
            raise FailedPrecondition("the job id belongs to another task", reason="JOB_EXISTS")
        if job is not None and new.execution_id in self.puts:
            answer.created = self.puts[new.execution_id]
            answer.job.CopyFrom(self._shown(job, 20))
            return answer
        if request.revision and (job is None or job.revision != request.revision):
            raise Aborted("the job has another revision", reason="REVISION_MISMATCH")
        if job is None:
            self._insert(new)
            self.puts[new.execution_id] = True
            answer.created = True
            self._add_first(answer, new)
        elif alike:
            if not request.only_same:
                self._learn(new.job_id, new)
        else:
            self.asked[new.job_id] = new.asked
            self.puts[new.execution_id] = False
            job.spec.CopyFrom(new.spec)
            job.revision += 1
        answer.job.CopyFrom(self._shown(self.jobs[new.job_id], 20))
        return answer

    # ------------------------------------------------------------------------------------------------ reading

    def job(self, task_id: str, job_id: str) -> Job:
        job = self.jobs.get(job_id)
        if job is None or (task_id and job.task_id != task_id):
            raise NotFound(f"there is no job {job_id[:64]}", reason="JOB_NOT_FOUND")
        return job

    def _of_job(self, job_id: str) -> list[Execution]:
        return [execution for execution in self.executions.values() if execution.job_id == job_id]

    def _shown(self, job: Job, executions: int) -> Job:
        shown = Job()
        shown.CopyFrom(job)
        if executions:
            shown.executions.extend(self._of_job(job.job_id)[-executions:])
        return shown

    def get_job(self, request: job_store_pb2.GetJobRequest) -> Job:
        return self._shown(self.job(request.task_id, request.job_id), request.executions)

    def get_execution(self, request: execution_service_pb2.GetExecutionRequest) -> Execution:
        execution = self.executions.get(request.execution_id)
        wanted = (request.task_id, request.job_id)
        if execution is None or any(
            want and want != have for want, have in zip(wanted, (execution.task_id, execution.job_id), strict=True)
        ):
            raise NotFound("there is no such execution", reason="EXECUTION_NOT_FOUND")
        return execution

    def list_jobs(self, request: job_service_pb2.ListJobsRequest) -> job_service_pb2.ListJobsResponse:
        self.lists.append(request)
        labels = [label.partition("=") for label in request.label]
        found = [
            job
            for job in (self.jobs[job_id] for job_id in reversed(self.order))
            if (not request.task_id or job.task_id == request.task_id)
            and (not request.state or job.state in request.state)
            and all(job.spec.labels.get(key) == value for key, _, value in labels)
            and _between(job, request)
        ]
        if self.short_pages is not None:
            request.page_size = min(request.page_size, self.short_pages)
        items, token = page(_ordered(found, request), request)
        return job_service_pb2.ListJobsResponse(items=items, next_page_token=token)

    def list_errors(self, request: job_service_pb2.ListErrorsRequest) -> job_service_pb2.ListErrorsResponse:
        labels = [label.partition("=") for label in request.label]
        found = [
            job
            for job in (self.jobs[job_id] for job_id in reversed(self.order))
            if job.state in {Job.FAILED, Job.TIMED_OUT}
            and (not request.task_id or job.task_id == request.task_id)
            and (not request.reason or job.error.reason in request.reason)
            and all(job.spec.labels.get(key) == value for key, _, value in labels)
            and _between(job, request)
        ]
        items, token = page(found, request)
        return job_service_pb2.ListErrorsResponse(items=items, next_page_token=token)

    def list_executions(
        self, request: execution_service_pb2.ListExecutionsRequest
    ) -> execution_service_pb2.ListExecutionsResponse:
        self.lists.append(request)
        found = [
            execution
            for execution in reversed(self.executions.values())
            if (not request.task_id or execution.task_id == request.task_id)
            and (not request.job_id or execution.job_id == request.job_id)
            and (not request.state or execution.state in request.state)
            and (not request.reason or execution.error.reason in request.reason)
        ]
        items, token = page(_ordered(found, request), request)
        return execution_service_pb2.ListExecutionsResponse(items=items, next_page_token=token)

    def task(self, task_id: str) -> job_pb2.Task:
        jobs = [job for job in self.jobs.values() if job.task_id == task_id]
        if not jobs:
            raise NotFound(f"there is no task {task_id[:64]}", reason="TASK_NOT_FOUND")
        task = job_pb2.Task(task_id=task_id, job_count=len(jobs), created_at=jobs[0].created_at)
        for state, count in sorted(Counter(job.state for job in jobs).items()):
            task.states.add(state=state, count=count)
        return task

    def list_tasks(self, request: task_service_pb2.ListTasksRequest) -> task_service_pb2.ListTasksResponse:
        names = sorted({job.task_id for job in self.jobs.values()})
        items, token = page([self.task(name) for name in names], request)
        return task_service_pb2.ListTasksResponse(items=items, next_page_token=token)

    def search(self, request: farm_service_pb2.SearchRequest) -> farm_service_pb2.SearchResponse:
        response = farm_service_pb2.SearchResponse()
        for name in sorted({job.task_id for job in self.jobs.values()}):
            if name.startswith(request.query):
                response.items.add(kind="task", task_id=name)
        for job in self.jobs.values():
            if request.query in {job.job_id, job.spec.image}:
                response.items.add(kind="job", task_id=job.task_id, job_id=job.job_id)
        found = self.executions.get(request.query)
        if found is not None:
            response.items.add(
                kind="execution", task_id=found.task_id, job_id=found.job_id, execution_id=found.execution_id
            )
        return response

    # ------------------------------------------------------------------------------------------------ steering

    async def stop(self, request: job_store_pb2.StopJobRequest) -> job_store_pb2.StopJobResponse:
        job = self.job(request.task_id, request.job_id)
        if job.state in ENDED - {Job.STOPPED}:
            raise FailedPrecondition("the job has ended", reason="ILLEGAL_STATE")
        answer = job_store_pb2.StopJobResponse(outcome=job_service_pb2.StopJobResponse.STOPPED)
        self._stamp(job.stop_requested_at)
        for execution in self._of_job(job.job_id):
            if execution.state in {Execution.ASSIGNED, Execution.RUNNING}:
                answer.outcome = job_service_pb2.StopJobResponse.STOPPING
                answer.hints.add(execution_id=execution.execution_id, epoch=1, agent_id=execution.host)
            elif execution.state not in EXECUTION_ENDED:
                await self.move(execution.execution_id, Execution.STOPPED)
        if job.spec.HasField("cron"):
            job.state = Job.STOPPED
        answer.job.CopyFrom(self._shown(job, 20))
        return answer

    def retry(self, request: job_store_pb2.RetryJobRequest) -> job_store_pb2.RetryJobResponse:
        job = self.job(request.task_id, request.job_id)
        if request.execution_id not in self.executions:
            if job.state not in ENDED:
                raise FailedPrecondition("the job has not ended", reason="ILLEGAL_STATE")
            self._attempt(job, request.execution_id, job_pb2.Trigger.MANUAL)
        answer = job_store_pb2.RetryJobResponse(
            task_id=job.task_id, job_id=job.job_id, execution_id=request.execution_id
        )
        self._add_head(answer, self.executions[request.execution_id])
        return answer

    # -------------------------------------------------------------------------------------------------- output

    async def read(self, request: log_service_pb2.ReadLogsRequest) -> AsyncIterator[log_service_pb2.ReadLogsResponse]:
        """Stored output, then live output, of an execution or of all of a job."""
        if request.execution_id:
            self.get_execution(execution_service_pb2.GetExecutionRequest(execution_id=request.execution_id))
        else:
            self.job("", request.job_id)
        at = {
            (request.execution_id, LogStream.STDOUT): request.stdout_offset,
            (request.execution_id, LogStream.STDERR): request.stderr_offset,
        }
        ended: set[str] = set()
        while True:
            seen = self._changes
            ids = (
                [request.execution_id]
                if request.execution_id
                else [e.execution_id for e in self._of_job(request.job_id)]
            )
            for execution_id in ids:
                # Looked at before what is written: that may go on while a reader takes what is there.
                end = self._end(execution_id)
                for stream in request.streams or (LogStream.STDOUT, LogStream.STDERR):
                    async for chunk in self._chunks(execution_id, stream, at):
                        yield chunk
                if end is not None and execution_id not in ended:
                    ended.add(execution_id)
                    yield log_service_pb2.ReadLogsResponse(end=end)
                    if end.job_ended or request.execution_id:
                        return
            if not request.follow:
                return
            await self._next_change(seen)

    async def follow(
        self, request: log_service_pb2.FollowLogsRequest
    ) -> AsyncIterator[log_service_pb2.FollowLogsResponse]:
        """The same with beginnings, from a position or with the last lines of stdout."""
        self.follows.append(request)
        self._require_followed(request)
        position, after = request.position, 0
        if request.HasField("position") and not request.execution_id:
            after = self.executions[position.execution_id].attempt - (0 if position.ended else 1)
        elif request.HasField("tail") and not request.execution_id:
            after = self._of_job(request.job_id)[-1].attempt - 1
        last = False
        while not last:
            execution = await self._attempt_after(request, after)
            if execution is None:
                return
            async for event in self._followed(execution, request):
                yield event
                last = event.end.job_ended or (bool(request.execution_id) and event.HasField("end"))
            last = last or bool(request.execution_id)
            after = execution.attempt

    def _require_followed(self, request: log_service_pb2.FollowLogsRequest) -> None:
        if request.execution_id:
            self.get_execution(execution_service_pb2.GetExecutionRequest(execution_id=request.execution_id))
        else:
            self.job("", request.job_id)

    async def _attempt_after(self, request: log_service_pb2.FollowLogsRequest, after: int) -> Execution | None:
        if request.execution_id:
            return self.executions[request.execution_id]
        while True:
            seen = self._changes
            for execution in self._of_job(request.job_id):
                if execution.attempt > after:
                    return execution
            if request.stored_only:
                return None
            await self._next_change(seen)

    async def _followed(
        self, execution: Execution, request: log_service_pb2.FollowLogsRequest
    ) -> AsyncIterator[log_service_pb2.FollowLogsResponse]:
        id_, names = execution.execution_id, (LogStream.STDOUT, LogStream.STDERR)
        at: dict[tuple[str, Any], int] = {(id_, name): 0 for name in names}
        if request.position.execution_id == id_:
            at = {
                (id_, LogStream.STDOUT): request.position.stdout_offset,
                (id_, LogStream.STDERR): request.position.stderr_offset,
            }
        elif request.HasField("tail"):
            lines = bytes(self.output.get((id_, LogStream.STDOUT), b"")).splitlines(keepends=True)
            at[id_, LogStream.STDOUT] = sum(map(len, lines[: max(0, len(lines) - request.tail)]))
        begun = log_service_pb2.LogAttempt(
            execution_id=id_,
            attempt=execution.attempt,
            stdout_offset=at[id_, LogStream.STDOUT],
            stderr_offset=at[id_, LogStream.STDERR],
        )
        yield log_service_pb2.FollowLogsResponse(attempt=begun)
        while True:
            # Both looked at before what is written: that may go on while a reader takes what is there.
            seen, end = self._changes, self._end(id_)
            for stream in request.streams or names:
                async for event in self._chunks(id_, stream, at):
                    event.chunk.at.FromMilliseconds(self._seconds * 1000)
                    yield log_service_pb2.FollowLogsResponse(chunk=event.chunk)
            if self.follow_error is not None:
                error, self.follow_error = self.follow_error, None
                raise error
            if end is not None:
                end.attempt, end.complete = execution.attempt, execution.logs_complete
                end.job_ended &= execution is self._of_job(execution.job_id)[-1]
                yield log_service_pb2.FollowLogsResponse(end=end)
                return
            if request.stored_only:
                return
            await self._next_change(seen)

    async def _next_change(self, seen: int) -> None:
        """Waits until more has changed than was `seen`."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._changes != seen)

    async def _told(self) -> None:
        async with self._changed:
            self._changes += 1
            self._changed.notify_all()

    async def _chunks(
        self, execution_id: str, stream: Any, at: dict[tuple[str, Any], int]
    ) -> AsyncIterator[log_service_pb2.ReadLogsResponse]:
        data = self.output.get((execution_id, stream), bytearray())
        # What comes while a reader takes this is for the next time.
        begin, until = at.get((execution_id, stream), 0), len(data)
        for offset in range(begin, until, CHUNK):
            if self.cut_logs_after is not None:
                if self.cut_logs_after == 0:
                    self.cut_logs_after = None
                    raise Unavailable("the store went away")
                self.cut_logs_after -= 1
            chunk = log_service_pb2.LogChunk(
                execution_id=execution_id,
                stream=stream,
                offset=offset,
                data=bytes(data[offset : min(offset + CHUNK, until)]),
            )
            yield log_service_pb2.ReadLogsResponse(chunk=chunk)
            self.bytes_read += len(chunk.data)
        at[execution_id, stream] = max(begin, until)

    def _end(self, execution_id: str) -> log_service_pb2.LogEnd | None:
        execution = self.executions[execution_id]
        if execution.state not in EXECUTION_ENDED:
            return None
        end = log_service_pb2.LogEnd(execution_id=execution_id, state=Execution.State.Name(execution.state))
        if execution.HasField("exit_code"):
            end.exit_code = execution.exit_code
        end.job_ended = self.jobs[execution.job_id].state in ENDED
        return end


def page(found: Sequence[Any], request: Any) -> tuple[Sequence[Any], str]:
    """One page and the token of the next; a token of other filters is refused."""
    bare = type(request)()
    bare.CopyFrom(request)
    bare.ClearField("page_token")
    bare.ClearField("page_size")
    digest = hashlib.sha256(bare.SerializeToString(deterministic=True)).hexdigest()
    begin = 0
    if request.page_token:
        try:
            told, begin = json.loads(base64.urlsafe_b64decode(request.page_token))
        except ValueError:
            told = ""
        if told != digest:
            what = "is not one of this list with these filters"
            raise InvalidArgument(what, fields=[FieldProblem(field="pageToken", message=what)])
    size = request.page_size or 50
    more = begin + size < len(found)
    token = base64.urlsafe_b64encode(json.dumps([digest, begin + size]).encode()).decode() if more else ""
    return found[begin : begin + size], token


def _ordered(
    newest_first: list[Any], request: job_service_pb2.ListJobsRequest | execution_service_pb2.ListExecutionsRequest
) -> list[Any]:
    return newest_first[::-1] if request.order == job_pb2.ListOrder.OLDEST else newest_first


def _between(job: Job, request: job_service_pb2.ListJobsRequest | job_service_pb2.ListErrorsRequest) -> bool:
    created = job.created_at.seconds
    after = not request.HasField("created_after") or created >= request.created_after.seconds
    if isinstance(request, job_service_pb2.ListJobsRequest) and request.HasField("ended_after"):
        after = after and job.last_modified_at.ToMilliseconds() >= request.ended_after.ToMilliseconds()
    return after and (not request.HasField("created_before") or created < request.created_before.seconds)


# ---------------------------------------------------------------------------------------------------------- servers


class StoreServicer(
    job_store_pb2_grpc.JobStoreServiceServicer,
    farm_store_pb2_grpc.FarmStoreServiceServicer,
    log_store_pb2_grpc.LogStoreServiceServicer,
    stats_pb2_grpc.StatsServiceServicer,
):
    """The store's services for a gateway."""

    def __init__(self, store: FakeStore) -> None:
        self.store = store

    async def Submit(self, request_iterator: Any, context: Any) -> Any:
        async def handle(items: Sequence[job_store_pb2.NewJob]) -> list[job_store_pb2.SubmitResult]:
            self.store.calls.append("Submit")
            results = [self.store.submit(item) for item in items]
            await self.store.answering.wait()
            if self.store.lose_answers:
                self.store.lose_answers -= 1
                raise Unavailable("the answer is lost")
            return results

        async for response in answer_batches(request_iterator, handle, job_store_pb2.SubmitResponse):
            yield response

    async def Query(self, request: Any, context: Any) -> Any:
        self.store.queries.append(request)
        return self.store.stats

    async def FindSubmitted(self, request: Any, context: Any) -> Any:
        return self._note("FindSubmitted", self.store.find_submitted(request.job))

    async def PutJob(self, request: Any, context: Any) -> Any:
        return self._note("PutJob", self.store.put(request))

    async def GetJob(self, request: Any, context: Any) -> Any:
        return self._note("GetJob", self.store.get_job(request))

    async def ListJobs(self, request: Any, context: Any) -> Any:
        return self._note("ListJobs", self.store.list_jobs(request))

    async def ListErrors(self, request: Any, context: Any) -> Any:
        return self._note("ListErrors", self.store.list_errors(request))

    async def ListWaiting(self, request: Any, context: Any) -> Any:
        return self._note("ListWaiting", self.store.list_waiting(request))

    async def GetExecution(self, request: Any, context: Any) -> Any:
        return self._note("GetExecution", self.store.get_execution(request))

    async def ListExecutions(self, request: Any, context: Any) -> Any:
        return self._note("ListExecutions", self.store.list_executions(request))

    async def GetTask(self, request: Any, context: Any) -> Any:
        return self._note("GetTask", self.store.task(request.task_id))

    async def ListTasks(self, request: Any, context: Any) -> Any:
        return self._note("ListTasks", self.store.list_tasks(request))

    async def Search(self, request: Any, context: Any) -> Any:
        return self._note("Search", self.store.search(request))

    async def CountJobs(self, request: Any, context: Any) -> Any:
        counts: dict[Any, int] = {}
        for job in self.store.jobs.values():
            counts[job.state] = counts.get(job.state, 0) + 1
        answer = job_store_pb2.CountJobsResponse()
        for state, count in counts.items():
            answer.counts.add(state=state, count=count)
        return answer

    async def StopJob(self, request: Any, context: Any) -> Any:
        return self._note("StopJob", await self.store.stop(request))

    async def RetryJob(self, request: Any, context: Any) -> Any:
        return self._note("RetryJob", self.store.retry(request))

    async def PauseJob(self, request: Any, context: Any) -> Any:
        return self._note("PauseJob", self.store.pause(request))

    async def ResumeJob(self, request: Any, context: Any) -> Any:
        return self._note("ResumeJob", self.store.resume(request))

    async def TriggerJob(self, request: Any, context: Any) -> Any:
        return self._note("TriggerJob", self.store.trigger(request))

    async def DeleteJob(self, request: Any, context: Any) -> Any:
        return self._note("DeleteJob", self.store.delete(request))

    async def DeleteTask(self, request: Any, context: Any) -> Any:
        return self._note("DeleteTask", self.store.delete_task(request))

    async def StopMany(self, request: Any, context: Any) -> Any:
        return self._note("StopMany", await self.store.stop_many(request))

    async def RetryMany(self, request: Any, context: Any) -> Any:
        return self._note("RetryMany", await self.store.retry_many(request))

    async def DeleteMany(self, request: Any, context: Any) -> Any:
        return self._note("DeleteMany", await self.store.delete_many(request))

    async def ListQueuedTasks(self, request: Any, context: Any) -> Any:
        found = self.store.queued_tasks(request.after, request.limit)
        return farm_store_pb2.ListQueuedTasksResponse(task_ids=found)

    async def CountExecutions(self, request: Any, context: Any) -> Any:
        return self.store.count_executions(request.task_id)

    async def SetUpkeep(self, request: Any, context: Any) -> Any:
        return self._note("SetUpkeep", self.store.set_upkeep(request))

    async def DeclareDead(self, request: Any, context: Any) -> Any:
        return self._note("DeclareDead", self.store.declare_dead(request.agent_id))

    async def ListAgents(self, request: Any, context: Any) -> Any:
        return farm_service_pb2.ListAgentsResponse(items=self.store.agents)

    async def ReadLogs(self, request: Any, context: Any) -> Any:
        self.store.open_readers += 1
        try:
            async for event in self.store.read(request):
                yield event
        finally:
            self.store.open_readers -= 1

    async def FollowLogs(self, request: Any, context: Any) -> Any:
        self.store.open_readers += 1
        try:
            async for event in self.store.follow(request):
                yield event
        finally:
            self.store.open_readers -= 1

    def _note(self, name: str, answer: Any) -> Any:
        self.store.calls.append(name)
        if self.store.lose_answers_of.get(name, 0):
            self.store.lose_answers_of[name] -= 1
            raise Unavailable("the answer is lost")
        return answer


class SchedulerServicer(scheduler_pb2_grpc.SchedulerServiceServicer):
    """Admits everything with a sound schedule into the same store."""

    #: From when coming fires are told.
    now_ms = 1_900_000_000_000

    def __init__(self, store: FakeStore) -> None:
        self.store = store
        self.admitted: list[str] = []
        self.previews: list[scheduler_pb2.PreviewScheduleRequest] = []
        self.woken = 0
        # Field that PUT refuses, and PUTs that take effect and whose answers are lost.
        self.refuses = ""
        self.lose_answers = 0
        self.answering = asyncio.Event()
        self.answering.set()

    async def Submit(self, request_iterator: Any, context: Any) -> Any:
        async def handle(items: Sequence[job_store_pb2.NewJob]) -> list[job_store_pb2.SubmitResult]:
            await self.answering.wait()
            return [self._admit(item) for item in items]

        async for response in answer_batches(request_iterator, handle, job_store_pb2.SubmitResponse):
            yield response

    async def PutJob(self, request: Any, context: Any) -> Any:
        await self.answering.wait()
        if self.refuses:
            told = FieldProblem(field=self.refuses, message="is refused by the test")
            raise InvalidArgument("the schedule is wrong", fields=[told])
        self.admitted.append(request.job.job_id)
        answer = self.store.put(request)
        if self.lose_answers:
            self.lose_answers -= 1
            raise Unavailable("the answer is lost")
        return answer

    async def PreviewSchedule(self, request: Any, context: Any) -> Any:
        await self.answering.wait()
        self.previews.append(request)
        return preview(request, self.now_ms)

    async def Wake(self, request: Any, context: Any) -> Any:
        self.woken += 1
        return scheduler_pb2.WakeResponse()

    def _admit(self, item: job_store_pb2.NewJob) -> job_store_pb2.SubmitResult:
        if item.spec.HasField("cron"):
            told = preview(scheduler_pb2.PreviewScheduleRequest(spec=item.spec), self.now_ms)
            if told.problems:
                error = records_pb2.ItemError(
                    code=grpc.StatusCode.INVALID_ARGUMENT.value[0],
                    reason=ErrorReason.INVALID_FIELDS,
                    message="the schedule is wrong",
                    fields=told.problems,
                )
                return job_store_pb2.SubmitResult(error=error)
        self.admitted.append(item.job_id)
        return self.store.submit(item)


class DispatcherServicer(dispatcher_pb2_grpc.DispatcherServiceServicer):
    """Notes what it is told, and explains what a test has put into `waiting`."""

    def __init__(self) -> None:
        self.ready: list[str] = []
        self.stops: list[str] = []
        self.upkeep: list[dispatcher_pb2.UpkeepNews] = []
        self.resets: list[dispatcher_pb2.ResetBreakerRequest] = []
        self.waiting: dict[str, job_pb2.Waiting] = {}
        self.tasks: dict[str, dispatcher_pb2.ExplainTaskResponse] = {}
        self.pools: dict[str, dispatcher_pb2.ExplainPoolResponse] = {}
        self.agents_here = 0
        self.matching = dispatcher_pb2.GetMatchingResponse()
        self.answering = asyncio.Event()
        self.answering.set()

    async def Notify(self, request_iterator: Any, context: Any) -> Any:
        async for request in request_iterator:
            await self.answering.wait()
            self.ready += [head.execution_id for head in request.ready]
            self.stops += [hint.execution_id for hint in request.stops]
            self.upkeep += request.upkeep
            yield dispatcher_pb2.NotifyResponse(batch=request.batch)

    async def Explain(self, request: Any, context: Any) -> Any:
        await self.answering.wait()
        answer = dispatcher_pb2.ExplainResponse()
        for item in request.items:
            if item.execution_id in self.waiting:
                answer.items.add(
                    execution_id=item.execution_id,
                    waiting=self.waiting[item.execution_id],
                    agents_here=self.agents_here,
                )
        return answer

    async def GetMatching(self, request: Any, context: Any) -> Any:
        await self.answering.wait()
        return self.matching

    async def ExplainTask(self, request: Any, context: Any) -> Any:
        await self.answering.wait()
        return self.tasks.get(request.task_id, dispatcher_pb2.ExplainTaskResponse(pool="default"))

    async def ExplainPool(self, request: Any, context: Any) -> Any:
        await self.answering.wait()
        if request.name not in self.pools:
            raise NotFound("there is no such pool", reason="POOL_NOT_FOUND")
        return self.pools[request.name]

    async def ResetBreaker(self, request: Any, context: Any) -> Any:
        await self.answering.wait()
        self.resets.append(request)
        return dispatcher_pb2.ResetBreakerResponse()


class Behind:
    """The servers behind a gateway, on unix sockets in `folder`. Each can be stopped and started again."""

    def __init__(self, folder: Path, *, schedulers: int = 1, dispatchers: int = 1) -> None:
        self.store = FakeStore()
        self.schedulers = [SchedulerServicer(self.store) for _ in range(schedulers)]
        self.dispatchers = [DispatcherServicer() for _ in range(dispatchers)]
        names = [
            "store",
            *(f"scheduler{i}" for i in range(schedulers)),
            *(f"dispatcher{i}" for i in range(dispatchers)),
        ]
        self.addresses = {name: f"unix:{folder}/{name}.sock" for name in names}
        self._running: dict[str, GrpcServer] = {}

    async def start(self, name: str) -> None:
        """Serves; ready when this returns."""
        server = GrpcServer(self.addresses[name])
        if name == "store":
            servicer = StoreServicer(self.store)  # type: ignore[abstract]
            package = "easyq_internal.store.v1"
            server.add(job_store_pb2_grpc.add_JobStoreServiceServicer_to_server, servicer, f"{package}.JobStoreService")
            server.add(
                farm_store_pb2_grpc.add_FarmStoreServiceServicer_to_server, servicer, f"{package}.FarmStoreService"
            )
            server.add(log_store_pb2_grpc.add_LogStoreServiceServicer_to_server, servicer, f"{package}.LogStoreService")
            server.add(stats_pb2_grpc.add_StatsServiceServicer_to_server, servicer, f"{package}.StatsService")
            server.add(feed_pb2_grpc.add_FeedServiceServicer_to_server, self.store.feed, f"{package}.FeedService")
            server.add(
                delivery_store_pb2_grpc.add_DeliveryStoreServiceServicer_to_server,
                self.store.deliveries,
                f"{package}.DeliveryStoreService",
            )
        elif name.startswith("scheduler"):
            server.add(
                scheduler_pb2_grpc.add_SchedulerServiceServicer_to_server,
                self.schedulers[int(name.removeprefix("scheduler"))],
                "easyq_internal.scheduler.v1.SchedulerService",
            )
        else:
            server.add(
                dispatcher_pb2_grpc.add_DispatcherServiceServicer_to_server,
                self.dispatchers[int(name.removeprefix("dispatcher"))],
                "easyq_internal.dispatcher.v1.DispatcherService",
            )
        await server.start()
        await server.set_serving(True)
        self._running[name] = server

    async def stop(self, name: str) -> None:
        """Ends it at once, as a crash would, but for what it keeps."""
        server = self._running.pop(name, None)
        if server is not None:
            await server.stop(0)

    async def start_all(self) -> None:
        for name in self.addresses:
            await self.start(name)

    async def stop_all(self) -> None:
        for name in list(self._running):
            await self.stop(name)

    def add_agent(self, agent_id: str = "host-1", **fields: Any) -> None:
        """Makes the store know an agent; live and healthy unless told otherwise."""
        told = {"state": farm_service_pb2.Agent.LIVE, "healthy": True, "slots": 4, **fields}
        self.store.agents.append(farm_service_pb2.Agent(agent_id=agent_id, **told))
