"""The public gRPC services. REST calls the same use cases (see `app.calls`)."""

from __future__ import annotations

from collections.abc import AsyncIterator
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
    task_service_pb2,
    task_service_pb2_grpc,
)
from easyq_gateway.usecases.batching import Batching
from easyq_gateway.usecases.creating import Creating
from easyq_gateway.usecases.farm import Farm
from easyq_gateway.usecases.logs import Logs
from easyq_gateway.usecases.reading import Reading
from easyq_gateway.usecases.replacing import Replacing
from easyq_gateway.usecases.steering import Steering

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class JobServicer(job_service_pb2_grpc.JobServiceServicer):
    """easyq.v1.JobService."""

    def __init__(
        self, *, creating: Creating, replacing: Replacing, batching: Batching, reading: Reading, steering: Steering
    ) -> None:
        self._creating = creating
        self._replacing = replacing
        self._batching = batching
        self._reading = reading
        self._steering = steering

    async def CreateJob(
        self, request: job_service_pb2.CreateJobRequest, context: Context
    ) -> job_service_pb2.CreateJobResponse:
        return await self._creating.create(request)

    async def PutJob(self, request: job_service_pb2.PutJobRequest, context: Context) -> job_service_pb2.PutJobResponse:
        return await self._replacing.put(request)

    async def GetJob(self, request: job_service_pb2.GetJobRequest, context: Context) -> job_pb2.Job:
        return await self._reading.get_job(request)

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

    def __init__(self, *, reading: Reading) -> None:
        self._reading = reading

    async def GetTask(self, request: task_service_pb2.GetTaskRequest, context: Context) -> job_pb2.Task:
        return await self._reading.get_task(request)

    async def ListTasks(
        self, request: task_service_pb2.ListTasksRequest, context: Context
    ) -> task_service_pb2.ListTasksResponse:
        return await self._reading.list_tasks(request)


class FarmServicer(farm_service_pb2_grpc.FarmServiceServicer):
    """easyq.v1.FarmService."""

    def __init__(self, *, farm: Farm, reading: Reading) -> None:
        self._farm = farm
        self._reading = reading

    async def GetStatus(self, request: farm_service_pb2.GetStatusRequest, context: Context) -> farm_service_pb2.Status:
        return await self._farm.status(request)

    async def ListAgents(
        self, request: farm_service_pb2.ListAgentsRequest, context: Context
    ) -> farm_service_pb2.ListAgentsResponse:
        return await self._farm.list_agents(request)

    async def GetAgent(self, request: farm_service_pb2.GetAgentRequest, context: Context) -> farm_service_pb2.Agent:
        return await self._farm.get_agent(request)

    async def Search(
        self, request: farm_service_pb2.SearchRequest, context: Context
    ) -> farm_service_pb2.SearchResponse:
        return await self._reading.search(request)


class LogServicer(log_service_pb2_grpc.LogServiceServicer):
    """easyq.v1.LogService."""

    def __init__(self, *, logs: Logs) -> None:
        self._logs = logs

    async def ReadLogs(
        self, request: log_service_pb2.ReadLogsRequest, context: Context
    ) -> AsyncIterator[log_service_pb2.ReadLogsResponse]:
        async for event in self._logs.read(request):
            yield event
