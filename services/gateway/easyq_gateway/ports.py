"""What the gateway needs of others. Errors are those of `easyq_chassis.errors`.

Where nothing else is said a call raises `Unavailable` when its service can't be reached in time; all of these calls
may be repeated, since every id is made here.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from easyq.v1 import (
    execution_service_pb2,
    farm_service_pb2,
    job_pb2,
    job_service_pb2,
    log_service_pb2,
    notification_service_pb2,
    stats_pb2,
    task_service_pb2,
)
from easyq_chassis.errors import Unavailable
from easyq_internal.dispatcher.v1 import dispatcher_pb2
from easyq_internal.scheduler.v1 import scheduler_pb2
from easyq_internal.store.v1 import farm_store_pb2, feed_pb2, job_store_pb2, records_pb2
from easyq_internal.store.v1 import stats_pb2 as store_stats_pb2


class Admission(Protocol):
    """Takes new jobs: the store those for now, the scheduler those with a time."""

    async def submit(self, job: job_store_pb2.NewJob) -> job_store_pb2.SubmitAccepted:
        """Makes a job; it is durable when this returns."""
        ...

    async def put_job(self, request: job_store_pb2.PutJobRequest) -> job_store_pb2.PutJobResponse:
        """Creates or replaces a job. Raises `FailedPrecondition` (another task's), `Aborted` (another revision), and
        `NotFound` where only the same was to be answered.
        """
        ...


class Scheduler(Admission, Protocol):
    """The scheduler."""

    async def preview(self, request: scheduler_pb2.PreviewScheduleRequest) -> scheduler_pb2.PreviewScheduleResponse:
        """Checks a schedule and tells its coming fires."""
        ...

    def wake(self) -> None:
        """Says that something may be due earlier than planned. Returns at once; the word may be lost."""
        ...


class JobStore(Admission, Protocol):
    """Jobs, executions and tasks as they are kept: nothing redacted, no `waiting`. Unknown ids raise `NotFound`."""

    async def find_submitted(self, job: job_store_pb2.NewJob) -> job_store_pb2.SubmitAccepted:
        """What `submit` answers where the job is there already, by its ids or its idempotency key; makes nothing."""
        ...

    async def get_job(self, request: job_store_pb2.GetJobRequest) -> job_pb2.Job: ...

    async def list_jobs(self, request: job_service_pb2.ListJobsRequest) -> job_service_pb2.ListJobsResponse: ...

    async def list_errors(self, request: job_service_pb2.ListErrorsRequest) -> job_service_pb2.ListErrorsResponse: ...

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

    async def pause_job(self, request: job_store_pb2.PauseJobRequest) -> job_store_pb2.PauseJobResponse:
        """Raises `FailedPrecondition` for a job that does not recur, or has ended; so does `resume_job`."""
        ...

    async def resume_job(self, request: job_store_pb2.ResumeJobRequest) -> job_store_pb2.ResumeJobResponse: ...

    async def trigger_job(self, request: job_store_pb2.TriggerJobRequest) -> job_store_pb2.TriggerJobResponse:
        """Raises `FailedPrecondition` for a job whose state, or `overlap`, doesn't allow it."""
        ...

    async def delete_job(self, request: job_store_pb2.DeleteJobRequest) -> job_store_pb2.DeleteJobResponse:
        """Raises `FailedPrecondition` for what needs `force`; so does `delete_task`."""
        ...

    async def delete_task(self, request: job_store_pb2.DeleteTaskRequest) -> job_store_pb2.DeleteTaskResponse:
        """One page: there may be more."""
        ...

    async def stop_many(self, request: job_store_pb2.ManyRequest) -> job_store_pb2.ManyResponse:
        """One page; so do `retry_many` and `delete_many`."""
        ...

    async def retry_many(self, request: job_store_pb2.ManyRequest) -> job_store_pb2.ManyResponse: ...

    async def delete_many(self, request: job_store_pb2.ManyRequest) -> job_store_pb2.ManyResponse: ...

    async def count_executions(self, task_id: str) -> job_store_pb2.CountExecutionsResponse: ...

    async def queued_tasks(self, after: str, limit: int) -> Sequence[str]:
        """Returns names of tasks that have something in their queues, those behind `after`, in their order."""
        ...

    async def list_waiting(self, task_id: str, limit: int) -> Sequence[job_pb2.Execution]:
        """Returns the first executions in the queue of a task."""
        ...


class AgentRegister(Protocol):
    """The agents that the farm knows."""

    async def list_agents(self) -> Sequence[farm_service_pb2.Agent]: ...

    async def set_upkeep(self, agent_id: str, upkeep: records_pb2.Upkeep) -> farm_store_pb2.SetUpkeepResponse:
        """Records an operator's wish; returns it as it holds now. Raises `NotFound`; so does `declare_dead`."""
        ...

    async def declare_dead(self, agent_id: str) -> farm_store_pb2.DeclareDeadResponse:
        """Says that a host is gone for good. A repeat is harmless."""
        ...


class Deliveries(Protocol):
    """Notifications as they are kept, nothing redacted. Unknown ids raise `NotFound`."""

    async def list_deliveries(
        self, request: notification_service_pb2.ListDeliveriesRequest
    ) -> notification_service_pb2.ListDeliveriesResponse: ...

    async def resend_delivery(
        self, request: notification_service_pb2.ResendDeliveryRequest
    ) -> notification_service_pb2.ResendDeliveryResponse: ...


class LogStore(Protocol):
    """Output of containers."""

    def read_logs(self, request: log_service_pb2.ReadLogsRequest) -> AsyncIterator[log_service_pb2.ReadLogsResponse]:
        """Yields what is stored, then (with `follow`) what comes. Does not repeat a broken stream."""
        ...

    def follow_logs(
        self, request: log_service_pb2.FollowLogsRequest
    ) -> AsyncGenerator[log_service_pb2.FollowLogsResponse]:
        """Yields what is stored from a place on, then what comes, at the reader's pace. Does not repeat either."""
        ...


class StatsStore(Protocol):
    """What was enqueued over time, and how it ended."""

    async def query(self, request: store_stats_pb2.QueryRequest) -> stats_pb2.Stats:
        """Points of the farm or a task. A task that is unknown has empty ones."""
        ...


class FeedSource(Protocol):
    """What goes through one store process."""

    def watch(self, request: feed_pb2.WatchRequest) -> AsyncIterator[feed_pb2.WatchResponse]:
        """Yields at once where the feed begins, then changes as they come. Does not repeat a broken stream."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Explained:
    """What dispatchers know. `answered` tells whether any of them did; where none did, `slow_after` is the time in
    seconds within which one that may be there did not, None where none can be reached."""

    answered: bool
    waiting: dict[str, job_pb2.Waiting]
    slow_after: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Matching:
    """One dispatcher's view of pools and limits, or why there is none.

    `slow_after`: it may be there, but did not answer within so many seconds. `last` is then what it said last, if that
    is worth repeating, `last_age` seconds ago.
    """

    address: str
    view: dispatcher_pb2.GetMatchingResponse | None
    error: str = ""
    slow_after: float | None = None
    last: dispatcher_pb2.GetMatchingResponse | None = None
    last_age: float = 0.0


def none_answers(slow_after: float | None) -> Unavailable:
    """The error where no dispatcher has answered: none can be reached, or one that may be there is too slow."""
    if slow_after is None:
        return Unavailable("no dispatcher can be reached now", retry_after=2.0)
    return Unavailable(f"no dispatcher has answered within {slow_after:g} s", retry_after=2.0)


class Dispatchers(Protocol):
    """All dispatchers. Where nothing else is said these raise nothing: the farm works without their answers, only more
    slowly."""

    def tell_ready(self, head: records_pb2.Head) -> None:
        """Says that an execution is ready. Returns at once; the word may be lost."""
        ...

    def tell_stops(self, hints: Sequence[job_store_pb2.StopHint]) -> None:
        """Says whose containers are to be stopped. Returns at once; the word may be lost."""
        ...

    def tell_upkeep(self, news: dispatcher_pb2.UpkeepNews) -> None:
        """Says what an operator wishes of an agent. Returns at once; the word may be lost."""
        ...

    async def explain(self, items: Sequence[dispatcher_pb2.ExplainItem], *, patient: bool = False) -> Explained:
        """Asks why executions wait, within a short time; `patient`: that is what was asked for, and may take longer."""
        ...

    async def matching(self) -> Sequence[Matching]:
        """Asks every dispatcher for its view, within a short time."""
        ...

    async def explain_task(self, task_id: str) -> dispatcher_pb2.ExplainTaskResponse | None:
        """Asks for the pool and the limits of a task. None where no dispatcher answers."""
        ...

    async def explain_pool(self, name: str) -> dispatcher_pb2.ExplainPoolResponse:
        """Asks why work of a pool waits. Raises `NotFound`, `Unavailable`."""
        ...

    async def reset_breaker(self, request: dispatcher_pb2.ResetBreakerRequest) -> None:
        """Has every dispatcher close a breaker. Raises `Unavailable` where none answers."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Health:
    """How a service is. `kind` is store, scheduler or dispatcher; `message` says why it isn't healthy, or, where it is,
    what it can't do as it should: it is degraded.

    `answers`: it runs, and says itself that it can't do its work. `slow`: it may run, but did not answer in time.
    `since_ms`: since when it has not been healthy, as far as this gateway has looked (ms since the epoch).
    `operations`: the address of its operations port, as it tells it; empty: it has none, or does not answer.
    """

    kind: str
    address: str
    healthy: bool
    answers: bool
    message: str = ""
    slow: bool = False
    since_ms: int | None = None
    operations: str = ""


class HealthChecks(Protocol):
    """The health of the services behind the gateway."""

    async def store(self) -> Health:
        """Asks the store, within a short time. Raises nothing."""
        ...

    async def all(self, *, within: float | None = None) -> Sequence[Health]:
        """Asks every service at once, within a short time, or `within` these seconds. Raises nothing."""
        ...
