"""The store over gRPC."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Any

import grpc.aio

from easyq.v1 import (
    execution_service_pb2,
    farm_service_pb2,
    job_pb2,
    job_service_pb2,
    log_service_pb2,
    task_service_pb2,
)
from easyq_chassis.errors import NotFound
from easyq_chassis.status import from_rpc_error
from easyq_gateway.adapters.admission import GrpcAdmission
from easyq_gateway.adapters.calls import patiently, unary, without_echo
from easyq_internal.store.v1 import (
    farm_store_pb2,
    farm_store_pb2_grpc,
    job_store_pb2,
    job_store_pb2_grpc,
    log_store_pb2_grpc,
    records_pb2,
)

# A page of many jobs takes a store that works so much longer than one job does.
_MANY = 5


class GrpcJobStore(GrpcAdmission):
    """`JobStore` and `AgentRegister`: calls are repeated for `patience` seconds while the store is away."""

    def __init__(self, channel: grpc.aio.Channel, *, patience: float) -> None:
        self._stub: Any = job_store_pb2_grpc.JobStoreServiceStub(channel)
        self._farm: Any = farm_store_pb2_grpc.FarmStoreServiceStub(channel)
        super().__init__("store", self._stub, patience=patience)

    async def find_submitted(self, job: job_store_pb2.NewJob) -> job_store_pb2.SubmitAccepted:
        request = job_store_pb2.FindSubmittedRequest(job=job)
        answer: job_store_pb2.FindSubmittedResponse = await self._call(self._stub.FindSubmitted, request)
        return answer.accepted

    async def get_job(self, request: job_store_pb2.GetJobRequest) -> job_pb2.Job:
        job: job_pb2.Job = await self._call(self._stub.GetJob, request)
        return job

    async def list_jobs(self, request: job_service_pb2.ListJobsRequest) -> job_service_pb2.ListJobsResponse:
        page: job_service_pb2.ListJobsResponse = await self._call(self._stub.ListJobs, request)
        return page

    async def list_errors(self, request: job_service_pb2.ListErrorsRequest) -> job_service_pb2.ListErrorsResponse:
        page: job_service_pb2.ListErrorsResponse = await self._call(self._stub.ListErrors, request)
        return page

    async def get_execution(self, request: execution_service_pb2.GetExecutionRequest) -> job_pb2.Execution:
        execution: job_pb2.Execution = await self._call(self._stub.GetExecution, request)
        return execution

    async def list_executions(
        self, request: execution_service_pb2.ListExecutionsRequest
    ) -> execution_service_pb2.ListExecutionsResponse:
        page: execution_service_pb2.ListExecutionsResponse = await self._call(self._stub.ListExecutions, request)
        return page

    async def get_task(self, request: task_service_pb2.GetTaskRequest) -> job_pb2.Task:
        task: job_pb2.Task = await self._call(self._stub.GetTask, request)
        return task

    async def list_tasks(self, request: task_service_pb2.ListTasksRequest) -> task_service_pb2.ListTasksResponse:
        page: task_service_pb2.ListTasksResponse = await self._call(self._stub.ListTasks, request)
        return page

    async def search(self, request: farm_service_pb2.SearchRequest) -> farm_service_pb2.SearchResponse:
        hits: farm_service_pb2.SearchResponse = await self._call(self._stub.Search, request)
        return hits

    async def count_jobs(self) -> Sequence[job_pb2.StateCount]:
        answer = await self._call(self._stub.CountJobs, job_store_pb2.CountJobsRequest())
        counts: Sequence[job_pb2.StateCount] = answer.counts
        return counts

    async def stop_job(self, request: job_store_pb2.StopJobRequest) -> job_store_pb2.StopJobResponse:
        answer: job_store_pb2.StopJobResponse = await self._call(self._stub.StopJob, request)
        return answer

    async def retry_job(self, request: job_store_pb2.RetryJobRequest) -> job_store_pb2.RetryJobResponse:
        answer: job_store_pb2.RetryJobResponse = await self._call(self._stub.RetryJob, request)
        return answer

    async def pause_job(self, request: job_store_pb2.PauseJobRequest) -> job_store_pb2.PauseJobResponse:
        answer: job_store_pb2.PauseJobResponse = await self._call(self._stub.PauseJob, request)
        return answer

    async def resume_job(self, request: job_store_pb2.ResumeJobRequest) -> job_store_pb2.ResumeJobResponse:
        answer: job_store_pb2.ResumeJobResponse = await self._call(self._stub.ResumeJob, request)
        return answer

    async def trigger_job(self, request: job_store_pb2.TriggerJobRequest) -> job_store_pb2.TriggerJobResponse:
        answer: job_store_pb2.TriggerJobResponse = await self._call(self._stub.TriggerJob, request)
        return answer

    async def delete_job(self, request: job_store_pb2.DeleteJobRequest) -> job_store_pb2.DeleteJobResponse:
        answer: job_store_pb2.DeleteJobResponse = await self._call(
            self._stub.DeleteJob, request, gone=job_store_pb2.DeleteJobResponse()
        )
        return answer

    async def delete_task(self, request: job_store_pb2.DeleteTaskRequest) -> job_store_pb2.DeleteTaskResponse:
        answer: job_store_pb2.DeleteTaskResponse = await self._call_for_many(
            self._stub.DeleteTask, request, gone=job_store_pb2.DeleteTaskResponse()
        )
        return answer

    async def stop_many(self, request: job_store_pb2.ManyRequest) -> job_store_pb2.ManyResponse:
        page: job_store_pb2.ManyResponse = await self._call_for_many(self._stub.StopMany, request)
        return page

    async def retry_many(self, request: job_store_pb2.ManyRequest) -> job_store_pb2.ManyResponse:
        page: job_store_pb2.ManyResponse = await self._call_for_many(self._stub.RetryMany, request)
        return page

    async def delete_many(self, request: job_store_pb2.ManyRequest) -> job_store_pb2.ManyResponse:
        page: job_store_pb2.ManyResponse = await self._call_for_many(self._stub.DeleteMany, request)
        return page

    async def count_executions(self, task_id: str) -> job_store_pb2.CountExecutionsResponse:
        request = job_store_pb2.CountExecutionsRequest(task_id=task_id)
        counts: job_store_pb2.CountExecutionsResponse = await self._call(self._stub.CountExecutions, request)
        return counts

    async def list_waiting(self, task_id: str, limit: int) -> Sequence[job_pb2.Execution]:
        request = job_store_pb2.ListWaitingRequest(task_id=task_id, limit=limit)
        answer: job_store_pb2.ListWaitingResponse = await self._call(self._stub.ListWaiting, request)
        return answer.items

    async def queued_tasks(self, after: str, limit: int) -> Sequence[str]:
        request = farm_store_pb2.ListQueuedTasksRequest(after=after, limit=limit)
        answer: farm_store_pb2.ListQueuedTasksResponse = await self._call(self._farm.ListQueuedTasks, request)
        return answer.task_ids

    async def set_upkeep(self, agent_id: str, upkeep: records_pb2.Upkeep) -> farm_store_pb2.SetUpkeepResponse:
        request = farm_store_pb2.SetUpkeepRequest(agent_id=agent_id, upkeep=upkeep)
        answer: farm_store_pb2.SetUpkeepResponse = await self._call(self._farm.SetUpkeep, request)
        return answer

    async def declare_dead(self, agent_id: str) -> farm_store_pb2.DeclareDeadResponse:
        request = farm_store_pb2.DeclareDeadRequest(agent_id=agent_id)
        answer: farm_store_pb2.DeclareDeadResponse = await self._call(self._farm.DeclareDead, request)
        return answer

    async def list_agents(self) -> Sequence[farm_service_pb2.Agent]:
        answer = await self._call(self._farm.ListAgents, farm_service_pb2.ListAgentsRequest())
        agents: Sequence[farm_service_pb2.Agent] = answer.items
        return agents

    async def _call_for_many(self, call: Callable[..., Any], request: Any, *, gone: Any = None) -> Any:
        return await self._call(call, request, patience=_MANY * self._patience, gone=gone)

    async def _call(
        self, call: Callable[..., Any], request: Any, *, patience: float | None = None, gone: Any = None
    ) -> Any:
        """`gone` is the answer where nothing is there after an attempt whose outcome is unknown: it was a deletion."""
        patience = patience or self._patience
        tried = False

        async def attempt(left: float) -> Any:
            nonlocal tried
            try:
                return await unary(call, request, timeout=left)
            except NotFound:
                if gone is None or not tried:
                    raise
                return gone
            finally:
                tried = True

        try:
            return await patiently(self._name, attempt, patience=patience)
        except NotFound as error:
            raise without_echo(error) from error


class GrpcLogStore:
    """`LogStore` over the store's log service."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: Any = log_store_pb2_grpc.LogStoreServiceStub(channel)

    async def read_logs(
        self, request: log_service_pb2.ReadLogsRequest
    ) -> AsyncIterator[log_service_pb2.ReadLogsResponse]:
        async with aclosing(_events(self._stub.ReadLogs(request))) as events:
            async for event in events:
                yield event

    async def follow_logs(
        self, request: log_service_pb2.FollowLogsRequest
    ) -> AsyncGenerator[log_service_pb2.FollowLogsResponse]:
        async with aclosing(_events(self._stub.FollowLogs(request))) as events:
            async for event in events:
                yield event


async def _events(call: Any) -> AsyncGenerator[Any]:
    try:
        async for event in call:
            yield event
    except grpc.aio.AioRpcError as error:
        told = from_rpc_error(error)
        raise (without_echo(told) if isinstance(told, NotFound) else told) from error
    finally:
        call.cancel()
