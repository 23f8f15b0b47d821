"""The store's gRPC face: decode, call, encode."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc.aio

from easyq.v1.execution_service_pb2 import (
    GetExecutionRequest,
    ListExecutionsRequest,
    ListExecutionsResponse,
)
from easyq.v1.farm_service_pb2 import ListAgentsRequest, ListAgentsResponse, SearchRequest, SearchResponse
from easyq.v1.job_pb2 import Execution, Job, Task
from easyq.v1.job_service_pb2 import ListErrorsRequest, ListErrorsResponse, ListJobsRequest, ListJobsResponse
from easyq.v1.log_service_pb2 import FollowLogsRequest, FollowLogsResponse, ReadLogsRequest, ReadLogsResponse
from easyq.v1.task_service_pb2 import GetTaskRequest, ListTasksRequest, ListTasksResponse
from easyq_chassis.batching import answer_batches
from easyq_chassis.errors import EasyQError
from easyq_internal.store.v1 import farm_store_pb2 as farm_pb
from easyq_internal.store.v1 import job_store_pb2 as job_pb
from easyq_internal.store.v1 import log_store_pb2 as log_pb
from easyq_internal.store.v1 import time_store_pb2 as time_pb
from easyq_internal.store.v1.farm_store_pb2_grpc import FarmStoreServiceServicer
from easyq_internal.store.v1.job_store_pb2_grpc import JobStoreServiceServicer
from easyq_internal.store.v1.log_store_pb2_grpc import LogStoreServiceServicer
from easyq_internal.store.v1.records_pb2 import Chunk, ReportResult
from easyq_internal.store.v1.time_store_pb2_grpc import TimeStoreServiceServicer
from easyq_store.convert import basics, farm, jobs, logs
from easyq_store.convert import many as many_convert
from easyq_store.convert import schedules as convert_schedules
from easyq_store.usecases import (
    append,
    assign,
    delete,
    look,
    many,
    put,
    read_logs,
    report,
    retry,
    schedules,
    sessions,
    stop,
    submit,
    time,
    trigger,
)
from easyq_store.usecases.context import Context

Call = grpc.aio.ServicerContext[Any, Any]

# Newest executions that a changed job is shown with.
_EXECUTIONS = 20
_MOST_EXECUTIONS = 1_000
_MOST_WAITING = 100


def _good(results: Sequence[Any]) -> list[Any]:
    """The results of a batch that has no room for errors: the first error is the whole batch's."""
    for result in results:
        if isinstance(result, EasyQError):
            raise result
    return list(results)


class JobStoreServicer(JobStoreServiceServicer):
    """Jobs in, jobs out."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    def Submit(
        self, request_iterator: AsyncIterator[job_pb.SubmitRequest], context: Call
    ) -> AsyncIterator[job_pb.SubmitResponse]:
        return answer_batches(request_iterator, self._submit, job_pb.SubmitResponse)

    async def _submit(self, items: Sequence[job_pb.NewJob]) -> list[job_pb.SubmitResult]:
        results = await submit.submit(self._ctx, [jobs.new_job(item) for item in items])
        now = self._ctx.clock.now()
        return [jobs.submit_result(result, now=now) for result in results]

    async def FindSubmitted(self, request: job_pb.FindSubmittedRequest, context: Call) -> job_pb.FindSubmittedResponse:
        found = await submit.find_submitted(self._ctx, jobs.new_job(request.job))
        return job_pb.FindSubmittedResponse(accepted=jobs.accepted(found, now=self._ctx.clock.now()))

    async def PutJob(self, request: job_pb.PutJobRequest, context: Call) -> job_pb.PutJobResponse:
        new = jobs.new_job(request.job)
        done = await put.put_job(self._ctx, new, request.revision, only_same=request.only_same)
        view = await look.get_job(self._ctx, new.task_id, new.job_id, _EXECUTIONS)
        return jobs.put_response(done, view, now=self._ctx.clock.now())

    async def GetJob(self, request: job_pb.GetJobRequest, context: Call) -> Job:
        count = min(max(0, request.executions), _MOST_EXECUTIONS)
        return jobs.job(await look.get_job(self._ctx, request.task_id, request.job_id, count))

    async def ListJobs(self, request: ListJobsRequest, context: Call) -> ListJobsResponse:
        where, size = jobs.job_filter(request), jobs.page_size(request.page_size)
        return jobs.jobs_page(*await look.list_jobs(self._ctx, where, request.page_token, size))

    async def ListErrors(self, request: ListErrorsRequest, context: Call) -> ListErrorsResponse:
        where, size = jobs.error_filter(request), jobs.page_size(request.page_size)
        return jobs.errors_page(*await look.list_jobs(self._ctx, where, request.page_token, size))

    async def GetExecution(self, request: GetExecutionRequest, context: Call) -> Execution:
        view = await look.get_execution(self._ctx, request.task_id, request.job_id, request.execution_id)
        return jobs.execution(view)

    async def ListExecutions(self, request: ListExecutionsRequest, context: Call) -> ListExecutionsResponse:
        where, size = jobs.execution_filter(request), jobs.page_size(request.page_size)
        return jobs.executions_page(*await look.list_executions(self._ctx, where, request.page_token, size))

    async def GetTask(self, request: GetTaskRequest, context: Call) -> Task:
        return jobs.task_view(await look.get_task(self._ctx, request.task_id))

    async def ListTasks(self, request: ListTasksRequest, context: Call) -> ListTasksResponse:
        size = jobs.page_size(request.page_size)
        return jobs.tasks_page(*await look.list_tasks(self._ctx, request.page_token, size))

    async def Search(self, request: SearchRequest, context: Call) -> SearchResponse:
        return jobs.search_response(*await look.search(self._ctx, request.query))

    async def CountJobs(self, request: job_pb.CountJobsRequest, context: Call) -> job_pb.CountJobsResponse:
        counts = await self._ctx.store.reads.count_jobs()
        return job_pb.CountJobsResponse(counts=jobs.state_counts(counts.items()))

    async def StopJob(self, request: job_pb.StopJobRequest, context: Call) -> job_pb.StopJobResponse:
        stopped = await stop.stop_job(self._ctx, request.task_id, request.job_id, request.execution_id)
        view = await look.get_job(self._ctx, request.task_id, request.job_id, _EXECUTIONS)
        return jobs.stop_response(stopped, view)

    async def RetryJob(self, request: job_pb.RetryJobRequest, context: Call) -> job_pb.RetryJobResponse:
        retried = await retry.retry_job(self._ctx, request.task_id, request.job_id, request.execution_id)
        return job_pb.RetryJobResponse(
            task_id=retried.job.task_id,
            job_id=retried.job.job_id,
            execution_id=request.execution_id,
            ready=basics.head(retried.ready),
        )

    async def PauseJob(self, request: job_pb.PauseJobRequest, context: Call) -> job_pb.PauseJobResponse:
        await schedules.pause_job(self._ctx, request.task_id, request.job_id)
        view = await look.get_job(self._ctx, request.task_id, request.job_id, _EXECUTIONS)
        return job_pb.PauseJobResponse(job=jobs.job(view))

    async def ResumeJob(self, request: job_pb.ResumeJobRequest, context: Call) -> job_pb.ResumeJobResponse:
        await schedules.resume_job(self._ctx, request.task_id, request.job_id)
        view = await look.get_job(self._ctx, request.task_id, request.job_id, _EXECUTIONS)
        return job_pb.ResumeJobResponse(job=jobs.job(view))

    async def TriggerJob(self, request: job_pb.TriggerJobRequest, context: Call) -> job_pb.TriggerJobResponse:
        done = await trigger.trigger_job(self._ctx, request.task_id, request.job_id, request.execution_id)
        return jobs.trigger_response(done)

    async def DeleteJob(self, request: job_pb.DeleteJobRequest, context: Call) -> job_pb.DeleteJobResponse:
        deleted = await delete.delete_job(self._ctx, request.task_id, request.job_id, force=request.force)
        return many_convert.delete_response(deleted)

    async def DeleteTask(self, request: job_pb.DeleteTaskRequest, context: Call) -> job_pb.DeleteTaskResponse:
        limit = many_convert.page(request.limit)
        deleted = await delete.delete_task(self._ctx, request.task_id, force=request.force, limit=limit)
        return many_convert.task_response(deleted)

    async def StopMany(self, request: job_pb.ManyRequest, context: Call) -> job_pb.ManyResponse:
        return many_convert.response(await many.stop_many(self._ctx, many_convert.asked(request)))

    async def RetryMany(self, request: job_pb.ManyRequest, context: Call) -> job_pb.ManyResponse:
        return many_convert.response(await many.retry_many(self._ctx, many_convert.asked(request)))

    async def DeleteMany(self, request: job_pb.ManyRequest, context: Call) -> job_pb.ManyResponse:
        return many_convert.response(await many.delete_many(self._ctx, many_convert.asked(request)))

    async def CountExecutions(
        self, request: job_pb.CountExecutionsRequest, context: Call
    ) -> job_pb.CountExecutionsResponse:
        queued, held = await self._ctx.store.reads.count_open(request.task_id)
        return job_pb.CountExecutionsResponse(queued=queued, held=held)

    async def ListWaiting(self, request: job_pb.ListWaitingRequest, context: Call) -> job_pb.ListWaitingResponse:
        limit = min(basics.limit(request.limit), _MOST_WAITING)
        views = await look.list_waiting(self._ctx, request.task_id, limit)
        return job_pb.ListWaitingResponse(items=[jobs.execution(view) for view in views])


class FarmStoreServicer(FarmStoreServiceServicer):
    """Agents, sessions, assignments, reports."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    async def OpenSession(self, request: farm_pb.OpenSessionRequest, context: Call) -> farm_pb.OpenSessionResponse:
        inventory = farm.inventory(request.inventory)
        opened = await sessions.open_session(self._ctx, farm.hello(request), inventory)
        return farm.open_session_response(opened)

    def Beat(
        self, request_iterator: AsyncIterator[farm_pb.BeatRequest], context: Call
    ) -> AsyncIterator[farm_pb.BeatResponse]:
        return answer_batches(request_iterator, self._beat, farm_pb.BeatResponse)

    async def _beat(self, items: Sequence[farm_pb.AgentBeat]) -> list[farm_pb.BeatResult]:
        beats = [(farm.beat(item), farm.inventory(item.inventory)) for item in items]
        results = await sessions.beat_all(self._ctx, beats)
        return [farm.beat_result(result) for result in _good(results)]

    async def ParkSession(self, request: farm_pb.ParkSessionRequest, context: Call) -> farm_pb.ParkSessionResponse:
        await sessions.park_session(self._ctx, request.agent_id, request.session)
        return farm_pb.ParkSessionResponse()

    async def ListAgents(self, request: ListAgentsRequest, context: Call) -> ListAgentsResponse:
        agents = await look.list_agents(self._ctx)
        silent = self._ctx.silence.is_silent
        return ListAgentsResponse(items=[farm.agent(*each, silent=silent(each[0])) for each in agents])

    async def SetUpkeep(self, request: farm_pb.SetUpkeepRequest, context: Call) -> farm_pb.SetUpkeepResponse:
        agent = await sessions.set_upkeep(self._ctx, request.agent_id, farm.wish(request.upkeep))
        load = await look.load_of(self._ctx.store.reads, agent)
        return farm.set_upkeep_response(agent, *load, now=self._ctx.clock.now())

    async def DeclareDead(self, request: farm_pb.DeclareDeadRequest, context: Call) -> farm_pb.DeclareDeadResponse:
        gone = await sessions.declare_dead(self._ctx, request.agent_id)
        running, _ = await look.load_of(self._ctx.store.reads, gone.agent)
        return farm.declared(gone, running)

    async def GetGeneration(
        self, request: farm_pb.GetGenerationRequest, context: Call
    ) -> farm_pb.GetGenerationResponse:
        return farm_pb.GetGenerationResponse(generation=await self._ctx.store.reads.generation())

    async def RaiseGeneration(
        self, request: farm_pb.RaiseGenerationRequest, context: Call
    ) -> farm_pb.RaiseGenerationResponse:
        generation, raised = await sessions.raise_generation(self._ctx, getattr(request, "from"))
        return farm_pb.RaiseGenerationResponse(generation=generation, raised=raised)

    async def ListHeld(self, request: farm_pb.ListHeldRequest, context: Call) -> farm_pb.ListHeldResponse:
        limit = basics.limit(request.limit)
        held = await self._ctx.store.reads.held(request.after, limit, request.agent_id)
        return farm_pb.ListHeldResponse(items=[farm.held_execution(each) for each in held])

    async def ListQueued(self, request: farm_pb.ListQueuedRequest, context: Call) -> farm_pb.ListQueuedResponse:
        reads = self._ctx.store.reads
        # Read first: whatever is queued later has a higher place.
        last_seq = await reads.last_seq()
        heads = await reads.queued_after(request.after_seq, basics.limit(request.limit))
        return farm_pb.ListQueuedResponse(items=[basics.ready(h) for h in heads], last_seq=last_seq)

    async def ListTaskQueue(
        self, request: farm_pb.ListTaskQueueRequest, context: Call
    ) -> farm_pb.ListTaskQueueResponse:
        heads = await self._ctx.store.reads.task_queue(request.task_id, basics.limit(request.limit))
        return farm_pb.ListTaskQueueResponse(items=[basics.ready(h) for h in heads])

    async def ListQueuedTasks(
        self, request: farm_pb.ListQueuedTasksRequest, context: Call
    ) -> farm_pb.ListQueuedTasksResponse:
        found = await self._ctx.store.reads.queued_tasks(request.after, basics.limit(request.limit))
        return farm_pb.ListQueuedTasksResponse(task_ids=found)

    async def ListQueues(self, request: farm_pb.ListQueuesRequest, context: Call) -> farm_pb.ListQueuesResponse:
        found = await look.queues(self._ctx, request.after, basics.limit(request.limit))
        return farm_pb.ListQueuesResponse(items=[farm.task_queue(one) for one in found])

    def Assign(
        self, request_iterator: AsyncIterator[farm_pb.AssignRequest], context: Call
    ) -> AsyncIterator[farm_pb.AssignResponse]:
        return answer_batches(request_iterator, self._assign, farm_pb.AssignResponse)

    async def _assign(self, items: Sequence[farm_pb.AssignItem]) -> list[farm_pb.AssignResult]:
        results = await assign.assign_all(self._ctx, [farm.claim(item) for item in items])
        return [farm.assign_result(result) for result in _good(results)]

    async def Fence(self, request: farm_pb.FenceRequest, context: Call) -> farm_pb.FenceResponse:
        results = await assign.fence_all(self._ctx, request.execution_ids)
        return farm_pb.FenceResponse(results=[farm.fence_result(result) for result in _good(results)])

    def Report(
        self, request_iterator: AsyncIterator[farm_pb.ReportRequest], context: Call
    ) -> AsyncIterator[farm_pb.ReportResponse]:
        return answer_batches(request_iterator, self._report, farm_pb.ReportResponse)

    async def _report(self, items: Sequence[farm_pb.AgentReport]) -> list[ReportResult]:
        words = [farm.word(item) for item in items]
        taken = await report.report(self._ctx, words)
        return [farm.report_result(word, each) for word, each in zip(words, taken, strict=True)]


class LogStoreServicer(LogStoreServiceServicer):
    """Log bytes in, log bytes out."""

    def __init__(self, ctx: Context, pace: read_logs.Pace) -> None:
        self._ctx = ctx
        self._pace = pace

    def Append(
        self, request_iterator: AsyncIterator[log_pb.AppendRequest], context: Call
    ) -> AsyncIterator[log_pb.AppendResponse]:
        return answer_batches(request_iterator, self._append, log_pb.AppendResponse)

    async def _append(self, items: Sequence[Chunk]) -> list[log_pb.AppendResult]:
        appended = await append.append(self._ctx, [logs.piece(item) for item in items])
        return [logs.append_result(each) for each in appended]

    async def ReadLogs(self, request: ReadLogsRequest, context: Call) -> AsyncIterator[ReadLogsResponse]:
        async for told in read_logs.read_logs(self._ctx, logs.wanted(request), self._pace):
            if not isinstance(told, read_logs.Begun):
                yield logs.event(told)

    async def FollowLogs(self, request: FollowLogsRequest, context: Call) -> AsyncIterator[FollowLogsResponse]:
        wanted = logs.followed(request, now=self._ctx.clock.now())
        async for told in read_logs.read_logs(self._ctx, wanted, self._pace):
            yield logs.follow_event(told)


class TimeStoreServicer(TimeStoreServiceServicer):
    """What is due, by the store's clock."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    async def ListDue(self, request: time_pb.ListDueRequest, context: Call) -> time_pb.ListDueResponse:
        due = await time.list_due(self._ctx, basics.limit(request.limit))
        items = [time_pb.DueExecution(execution_id=d.execution_id, epoch=d.epoch) for d in due.items]
        return time_pb.ListDueResponse(items=items, next_in=basics.duration(due.next_in_ms))

    async def Fire(self, request: time_pb.FireRequest, context: Call) -> time_pb.FireResponse:
        heads = await time.fire_all(self._ctx, [(item.execution_id, item.epoch) for item in request.items])
        return time_pb.FireResponse(ready=[basics.ready(head) for head in heads])

    async def ListDueSchedules(
        self, request: time_pb.ListDueSchedulesRequest, context: Call
    ) -> time_pb.ListDueSchedulesResponse:
        due = await schedules.list_due_schedules(self._ctx, basics.limit(request.limit))
        return convert_schedules.due_schedules(due)

    async def FireSchedules(
        self, request: time_pb.FireSchedulesRequest, context: Call
    ) -> time_pb.FireSchedulesResponse:
        now = self._ctx.clock.now()
        decisions = [convert_schedules.decision(item, now=now) for item in request.items]
        return convert_schedules.fired(await schedules.fire_schedules(self._ctx, decisions))

    async def ExpireWaiting(
        self, request: time_pb.ExpireWaitingRequest, context: Call
    ) -> time_pb.ExpireWaitingResponse:
        gone = await time.expire_waiting(self._ctx, basics.limit(request.limit))
        return time_pb.ExpireWaitingResponse(expired=gone.expired, next_in=basics.duration(gone.next_in_ms))
