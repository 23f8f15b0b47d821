"""What the gateway needs of others. Errors are those of `easyq_chassis.errors`.

Where nothing else is said a call raises `Unavailable` when its service can't be reached in time; all of these calls
may be repeated, since every id is made here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from easyq.v1 import (
    execution_service_pb2,
    farm_service_pb2,
    job_pb2,
    job_service_pb2,
    log_service_pb2,
    task_service_pb2,
)
from easyq_internal.dispatcher.v1 import dispatcher_pb2
from easyq_internal.store.v1 import job_store_pb2, records_pb2


class Admission(Protocol):
    """Takes new jobs: the store those for now, the scheduler those with a time."""

    async def submit(self, job: job_store_pb2.NewJob) -> job_store_pb2.SubmitAccepted:
        """Makes a job; it is durable when this returns."""
        ...

    async def put_job(self, request: job_store_pb2.PutJobRequest) -> job_store_pb2.PutJobResponse:
        """Creates or replaces a job. Raises `FailedPrecondition` (another task's), `Aborted` (another revision)."""
        ...


class JobStore(Admission, Protocol):
    """Jobs, executions and tasks as they are kept: nothing redacted, no `waiting`. Unknown ids raise `NotFound`."""

    async def get_job(self, request: job_store_pb2.GetJobRequest) -> job_pb2.Job: ...

    async def list_jobs(self, request: job_service_pb2.ListJobsRequest) -> job_service_pb2.ListJobsResponse: ...

    async def get_execution(self, request: execution_service_pb2.GetExecutionRequest) -> job_pb2.Execution: ...

    async def list_executions(
        self, request: execution_service_pb2.ListExecutionsRequest
    ) -> execution_service_pb2.ListExecutionsResponse: ...

    async def get_task(self, request: task_service_pb2.GetTaskRequest) -> job_pb2.Task: ...

    async def list_tasks(self, request: task_service_pb2.ListTasksRequest) -> task_service_pb2.ListTasksResponse: ...

    async def search(self, request: farm_service_pb2.SearchRequest) -> farm_service_pb2.SearchResponse: ...

    async def count_jobs(self) -> Sequence[job_pb2.StateCount]: ...

    async def stop_job(self, request: job_store_pb2.StopJobRequest) -> job_store_pb2.StopJobResponse:
        """Raises `FailedPrecondition` for a job that has ended otherwise."""
        ...

    async def retry_job(self, request: job_store_pb2.RetryJobRequest) -> job_store_pb2.RetryJobResponse:
        """Raises `FailedPrecondition` for a job that has not ended."""
        ...


class AgentRegister(Protocol):
    """The agents that the farm knows."""

    async def list_agents(self) -> Sequence[farm_service_pb2.Agent]: ...


class LogStore(Protocol):
    """Output of containers."""

    def read_logs(self, request: log_service_pb2.ReadLogsRequest) -> AsyncIterator[log_service_pb2.ReadLogsResponse]:
        """Yields what is stored, then (with `follow`) what comes. Does not repeat a broken stream."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Explained:
    """What dispatchers know. `answered` tells whether any of them could be asked."""

    answered: bool
    waiting: dict[str, job_pb2.Waiting]


@dataclass(frozen=True, kw_only=True, slots=True)
class Matching:
    """One dispatcher's view of pools and limits, or why there is none."""

    address: str
    view: dispatcher_pb2.GetMatchingResponse | None
    error: str = ""


class Dispatchers(Protocol):
    """All dispatchers. None of these raises: the farm works without their answers, only more slowly."""

    def tell_ready(self, head: records_pb2.Head) -> None:
        """Says that an execution is ready. Returns at once; the word may be lost."""
        ...

    def tell_stops(self, hints: Sequence[job_store_pb2.StopHint]) -> None:
        """Says whose containers are to be stopped. Returns at once; the word may be lost."""
        ...

    async def explain(self, items: Sequence[dispatcher_pb2.ExplainItem]) -> Explained:
        """Asks why executions wait, one dispatcher after the other, within a short time."""
        ...

    async def matching(self) -> Sequence[Matching]:
        """Asks every dispatcher for its view, within a short time."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Health:
    """How a service is. `kind` is store, scheduler or dispatcher; `message` says why it isn't healthy.

    `answers`: it runs, and says itself that it can't do its work.
    """

    kind: str
    address: str
    healthy: bool
    answers: bool
    message: str = ""


class HealthChecks(Protocol):
    """The health of the services behind the gateway."""

    async def store(self) -> Health:
        """Asks the store, within a short time. Raises nothing."""
        ...

    async def all(self) -> Sequence[Health]:
        """Asks every service at once, within a short time. Raises nothing."""
        ...
