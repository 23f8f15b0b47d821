"""The public gRPC services. REST calls the same use cases (see `app.calls`)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, TypeAlias

import grpc.aio

from easyq.v1 import (
    execution_service_pb2,
    execution_service_pb2_grpc,
    farm_service_pb2,
    farm_service_pb2_grpc,
    job_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    log_service_pb2,
    log_service_pb2_grpc,
    stats_pb2,
    task_service_pb2,
    task_service_pb2_grpc,
)
from easyq_gateway.usecases.awaiting import Awaiting
from easyq_gateway.usecases.batching import Batching
from easyq_gateway.usecases.creating import Creating
from easyq_gateway.usecases.deleting import Deleting
from easyq_gateway.usecases.explaining import Explaining
from easyq_gateway.usecases.farm import Farm
from easyq_gateway.usecases.following import Following
from easyq_gateway.usecases.logs import Logs
from easyq_gateway.usecases.many import Many
from easyq_gateway.usecases.matching import Matchings
from easyq_gateway.usecases.queues import Queues
from easyq_gateway.usecases.reading import Reading
from easyq_gateway.usecases.recurring import Recurring
from easyq_gateway.usecases.replacing import Replacing
from easyq_gateway.usecases.stats import Statistics
from easyq_gateway.usecases.steering import Steering
from easyq_gateway.usecases.upkeep import Upkeep

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class JobServicer(job_service_pb2_grpc.JobServiceServicer):
    """easyq.v1.JobService."""

    def __init__(
        self,
        *,
        creating: Creating,
        replacing: Replacing,
        batching: Batching,
        awaiting: Awaiting,
        reading: Reading,
        steering: Steering,
        recurring: Recurring,
        explaining: Explaining,
        deleting: Deleting,
        many: Many,
    ) -> None:
        self._creating = creating
        self._replacing = replacing
        self._batching = batching
        self._awaiting = awaiting
        self._reading = reading
        self._steering = steering
        self._recurring = recurring
        self._explaining = explaining
        self._deleting = deleting
        self._many = many

    async def CreateJob(
        self, request: job_service_pb2.CreateJobRequest, context: Context
    ) -> job_service_pb2.CreateJobResponse:
        return await self._creating.create(request)

    async def PutJob(self, request: job_service_pb2.PutJobRequest, context: Context) -> job_service_pb2.PutJobResponse:
        return await self._replacing.put(request)

    async def GetJob(self, request: job_service_pb2.GetJobRequest, context: Context) -> job_pb2.Job:
        return await self._awaiting.get_job(request)

    async def ListJobs(
        self, request: job_service_pb2.ListJobsRequest, context: Context
    ) -> job_service_pb2.ListJobsResponse:
        return await self._reading.list_jobs(request)

    async def StopJob(
        self, request: job_service_pb2.StopJobRequest, context: Context
    ) -> job_service_pb2.StopJobResponse:
        return await self._steering.stop_job(request)

    async def RetryJob(
        self, request: job_service_pb2.RetryJobRequest, context: Context
    ) -> job_service_pb2.RetryJobResponse:
        return await self._steering.retry_job(request)

    async def PauseJob(
        self, request: job_service_pb2.PauseJobRequest, context: Context
    ) -> job_service_pb2.PauseJobResponse:
        return await self._recurring.pause_job(request)

    async def ResumeJob(
        self, request: job_service_pb2.ResumeJobRequest, context: Context
    ) -> job_service_pb2.ResumeJobResponse:
        return await self._recurring.resume_job(request)

    async def TriggerJob(
        self, request: job_service_pb2.TriggerJobRequest, context: Context
    ) -> job_service_pb2.TriggerJobResponse:
        return await self._recurring.trigger_job(request)

    async def GetSchedule(
        self, request: job_service_pb2.GetScheduleRequest, context: Context
    ) -> job_service_pb2.GetScheduleResponse:
        return await self._recurring.get_schedule(request)

    async def ExplainJob(
        self, request: job_service_pb2.ExplainJobRequest, context: Context
    ) -> job_service_pb2.ExplainJobResponse:
        return await self._explaining.job(request)

    async def DeleteJob(
        self, request: job_service_pb2.DeleteJobRequest, context: Context
    ) -> job_service_pb2.DeleteJobResponse:
        return await self._deleting.delete_job(request)

    async def StopJobs(
        self, request: job_service_pb2.StopJobsRequest, context: Context
    ) -> job_service_pb2.StopJobsResponse:
        return await self._many.stop_jobs(request)

    async def ListErrors(
        self, request: job_service_pb2.ListErrorsRequest, context: Context
    ) -> job_service_pb2.ListErrorsResponse:
        return await self._many.list_errors(request)

    async def RetryErrors(
        self, request: job_service_pb2.RetryErrorsRequest, context: Context
    ) -> job_service_pb2.RetryErrorsResponse:
        return await self._many.retry_errors(request)

    async def DiscardErrors(
        self, request: job_service_pb2.DiscardErrorsRequest, context: Context
    ) -> job_service_pb2.DiscardErrorsResponse:
        return await self._many.discard_errors(request)

    async def BatchCreateJobs(
        self, request: job_service_pb2.BatchCreateJobsRequest, context: Context
    ) -> job_service_pb2.BatchCreateJobsResponse:
        return await self._batching.batch(request)

    async def SubmitJobs(
        self, request_iterator: AsyncIterator[job_service_pb2.SubmitJobsRequest], context: Context
    ) -> AsyncIterator[job_service_pb2.SubmitJobsResponse]:
        async for response in self._batching.stream(request_iterator):
            yield response


class ExecutionServicer(execution_service_pb2_grpc.ExecutionServiceServicer):
    """easyq.v1.ExecutionService."""

    def __init__(self, *, reading: Reading, steering: Steering) -> None:
        self._reading = reading
        self._steering = steering

    async def GetExecution(
        self, request: execution_service_pb2.GetExecutionRequest, context: Context
    ) -> job_pb2.Execution:
        return await self._reading.get_execution(request)

    async def ListExecutions(
        self, request: execution_service_pb2.ListExecutionsRequest, context: Context
    ) -> execution_service_pb2.ListExecutionsResponse:
        return await self._reading.list_executions(request)

    async def StopExecution(
        self, request: execution_service_pb2.StopExecutionRequest, context: Context
    ) -> execution_service_pb2.StopExecutionResponse:
        return await self._steering.stop_execution(request)


class TaskServicer(task_service_pb2_grpc.TaskServiceServicer):
    """easyq.v1.TaskService."""

    def __init__(
        self, *, reading: Reading, statistics: Statistics, explaining: Explaining, deleting: Deleting, queues: Queues
    ) -> None:
        self._queues = queues
        self._reading = reading
        self._statistics = statistics
        self._explaining = explaining
        self._deleting = deleting

    async def GetTask(self, request: task_service_pb2.GetTaskRequest, context: Context) -> job_pb2.Task:
        return await self._reading.get_task(request)

    async def ExplainTask(
        self, request: task_service_pb2.ExplainTaskRequest, context: Context
    ) -> task_service_pb2.ExplainTaskResponse:
        return await self._explaining.task(request)

    async def GetTaskStats(self, request: stats_pb2.GetTaskStatsRequest, context: Context) -> stats_pb2.Stats:
        return await self._statistics.of_task(request)

    async def DeleteTask(
        self, request: task_service_pb2.DeleteTaskRequest, context: Context
    ) -> task_service_pb2.DeleteTaskResponse:
        return await self._deleting.delete_task(request)

    async def ListTasks(
        self, request: task_service_pb2.ListTasksRequest, context: Context
    ) -> task_service_pb2.ListTasksResponse:
        return await self._reading.list_tasks(request)

    async def ListQueues(
        self, request: task_service_pb2.ListQueuesRequest, context: Context
    ) -> task_service_pb2.ListQueuesResponse:
        return await self._queues.list_queues(request)


class FarmServicer(farm_service_pb2_grpc.FarmServiceServicer):
    """easyq.v1.FarmService."""

    def __init__(
        self,
        *,
        farm: Farm,
        reading: Reading,
        statistics: Statistics,
        upkeep: Upkeep,
        matchings: Matchings,
        explaining: Explaining,
    ) -> None:
        self._statistics = statistics
        self._farm = farm
        self._reading = reading
        self._upkeep = upkeep
        self._matchings = matchings
        self._explaining = explaining

    async def GetStatus(self, request: farm_service_pb2.GetStatusRequest, context: Context) -> farm_service_pb2.Status:
        return await self._farm.status(request)

    async def ListAgents(
        self, request: farm_service_pb2.ListAgentsRequest, context: Context
    ) -> farm_service_pb2.ListAgentsResponse:
        return await self._farm.list_agents(request)

    async def GetAgent(self, request: farm_service_pb2.GetAgentRequest, context: Context) -> farm_service_pb2.Agent:
        return await self._farm.get_agent(request)

    async def CordonAgent(
        self, request: farm_service_pb2.CordonAgentRequest, context: Context
    ) -> farm_service_pb2.CordonAgentResponse:
        return await self._upkeep.cordon(request)

    async def UncordonAgent(
        self, request: farm_service_pb2.UncordonAgentRequest, context: Context
    ) -> farm_service_pb2.UncordonAgentResponse:
        return await self._upkeep.uncordon(request)

    async def DrainAgent(
        self, request: farm_service_pb2.DrainAgentRequest, context: Context
    ) -> farm_service_pb2.DrainAgentResponse:
        return await self._upkeep.drain(request)

    async def DeclareAgentDead(
        self, request: farm_service_pb2.DeclareAgentDeadRequest, context: Context
    ) -> farm_service_pb2.DeclareAgentDeadResponse:
        return await self._upkeep.declare_dead(request)

    async def ListPools(
        self, request: farm_service_pb2.ListPoolsRequest, context: Context
    ) -> farm_service_pb2.ListPoolsResponse:
        return await self._matchings.list_pools(request)

    async def ExplainPool(
        self, request: farm_service_pb2.ExplainPoolRequest, context: Context
    ) -> farm_service_pb2.ExplainPoolResponse:
        return await self._explaining.pool(request)

    async def ListLimits(
        self, request: farm_service_pb2.ListLimitsRequest, context: Context
    ) -> farm_service_pb2.ListLimitsResponse:
        return await self._matchings.list_limits(request)

    async def ListBreakers(
        self, request: farm_service_pb2.ListBreakersRequest, context: Context
    ) -> farm_service_pb2.ListBreakersResponse:
        return await self._matchings.list_breakers(request)

    async def ResetBreaker(
        self, request: farm_service_pb2.ResetBreakerRequest, context: Context
    ) -> farm_service_pb2.ResetBreakerResponse:
        return await self._matchings.reset_breaker(request)

    async def GetStats(self, request: stats_pb2.GetStatsRequest, context: Context) -> stats_pb2.Stats:
        return await self._statistics.of_farm(request)

    async def Search(
        self, request: farm_service_pb2.SearchRequest, context: Context
    ) -> farm_service_pb2.SearchResponse:
        return await self._reading.search(request)


class LogServicer(log_service_pb2_grpc.LogServiceServicer):
    """easyq.v1.LogService."""

    def __init__(self, *, logs: Logs, following: Following) -> None:
        self._logs = logs
        self._following = following

    async def ReadLogs(
        self, request: log_service_pb2.ReadLogsRequest, context: Context
    ) -> AsyncIterator[log_service_pb2.ReadLogsResponse]:
        async for event in self._logs.read(request):
            yield event

    async def FollowLogs(
        self, request: log_service_pb2.FollowLogsRequest, context: Context
    ) -> AsyncIterator[log_service_pb2.FollowLogsResponse]:
        async with aclosing(self._following.follow(request)) as events:
            async for event in events:
                yield event
