"""What `easyq.reading` offers, on asyncio."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from easyq import _rpc
from easyq.cursor import Since
from easyq.reading import PAGE, label_filters, stats_request
from easyq.spec import DurationLike
from easyq.v1 import execution_service_pb2 as execution_api
from easyq.v1 import farm_service_pb2 as farm
from easyq.v1 import job_service_pb2 as api
from easyq.v1 import notification_service_pb2 as notification_api
from easyq.v1 import stats_pb2 as stats_api
from easyq.v1 import task_service_pb2 as task_api
from easyq.v1.job_pb2 import Execution, Failure, Job, Task
from easyq.v1.spec_pb2 import JobSpec

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from easyq.v1.execution_service_pb2_grpc import ExecutionServiceAsyncStub
    from easyq.v1.farm_service_pb2_grpc import FarmServiceAsyncStub
    from easyq.v1.job_service_pb2_grpc import JobServiceAsyncStub
    from easyq.v1.notification_service_pb2_grpc import NotificationServiceAsyncStub
    from easyq.v1.task_service_pb2_grpc import TaskServiceAsyncStub

Answer = TypeVar("Answer")
Item = TypeVar("Item")


class AsyncReadingCalls(ABC):
    """Mixed into the client on asyncio; what is said of `easyq.reading.ReadingCalls` holds here too."""

    _executions: ExecutionServiceAsyncStub
    _farm: FarmServiceAsyncStub
    _jobs: JobServiceAsyncStub
    _notifications: NotificationServiceAsyncStub
    _tasks: TaskServiceAsyncStub

    @abstractmethod
    async def _call(self, method: Callable[..., Awaitable[Answer]], request: Message, *, repeat: bool = True) -> Answer:
        """Makes a call, with the client's address, deadline and errors; again after an outage, where `repeat`."""

    # ------------------------------------------------------------------------------------------------------------ jobs

    async def put(self, job_id: str, spec: JobSpec, *, task: str, revision: int = 0) -> api.PutJobResponse:
        """Creates a job under an id of your own, or replaces its whole spec; the same spec again changes nothing.

        `revision`, if given, is the one that you know: another one is refused, and the call is made once. Raises
        InvalidArgument, FailedPrecondition (the id belongs to another task), Aborted (another revision).
        """
        request = _rpc.made(api.PutJobRequest, task_id=task, job_id=job_id, spec=spec, revision=revision)
        # Had the first one taken effect, and its answer got lost, a repeat would be refused for its own revision.
        return await self._call(self._jobs.PutJob, request, repeat=not revision)

    async def validate(self, spec: JobSpec, *, task: str) -> api.CreateJobResponse:
        """What a submit would make of a spec: with every default resolved, and the next ten fires where it recurs.

        Stores nothing. Raises InvalidArgument, with all that is wrong in `fields`.
        """
        return await self._call(
            self._jobs.CreateJob, _rpc.made(api.CreateJobRequest, task_id=task, spec=spec, validate_only=True)
        )

    def error_queue(
        self,
        *,
        task: str = "",
        reasons: Sequence[Failure.Reason.ValueType] = (),
        labels: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Job]:
        """Jobs that gave up, newest first, with `error`, without their executions. A page at a time."""

        async def page(token: str) -> tuple[Iterable[Job], str]:
            request = _rpc.made(
                api.ListErrorsRequest,
                task_id=task,
                reason=reasons,
                label=label_filters(labels),
                page_size=PAGE,
                page_token=token,
            )
            answer = await self._call(self._jobs.ListErrors, request)
            return answer.items, answer.next_page_token

        return _pages(page)

    async def stop_jobs(self, jobs: api.JobSelection, *, dry_run: bool = False) -> api.StopJobsResponse:
        """Stops all jobs that match (see `easyq.selection`), or counts them. A repeat is harmless."""
        return await self._call(self._jobs.StopJobs, _rpc.made(api.StopJobsRequest, selection=jobs, dry_run=dry_run))

    async def retry_errors(self, jobs: api.JobSelection, *, dry_run: bool = False) -> api.RetryErrorsResponse:
        """Retries all jobs of the error queue that match, or counts them. Made once."""
        request = _rpc.made(api.RetryErrorsRequest, selection=jobs, dry_run=dry_run)
        return await self._call(self._jobs.RetryErrors, request, repeat=False)

    async def discard_errors(self, jobs: api.JobSelection, *, dry_run: bool = False) -> api.DiscardErrorsResponse:
        """Deletes all jobs of the error queue that match, with executions and logs, or counts them. Made once."""
        request = _rpc.made(api.DiscardErrorsRequest, selection=jobs, dry_run=dry_run)
        return await self._call(self._jobs.DiscardErrors, request, repeat=False)

    def deliveries(self, job_id: str) -> AsyncIterator[notification_api.Delivery]:
        """What was told of a job's ends by webhook and e-mail, newest first. A page at a time. Raises NotFound."""

        async def page(token: str) -> tuple[Iterable[notification_api.Delivery], str]:
            request = _rpc.made(notification_api.ListDeliveriesRequest, job_id=job_id, page_size=PAGE, page_token=token)
            answer = await self._call(self._notifications.ListDeliveries, request)
            return answer.items, answer.next_page_token

        return _pages(page)

    async def resend(self, job_id: str, delivery_id: str) -> notification_api.Delivery:
        """Sends a delivery again under the same id, whatever became of it. Made once. Raises NotFound."""
        request = _rpc.made(notification_api.ResendDeliveryRequest, job_id=job_id, delivery_id=delivery_id)
        return (await self._call(self._notifications.ResendDelivery, request, repeat=False)).delivery

    # ------------------------------------------------------------------------------------------------------ executions

    async def execution(self, execution_id: str) -> Execution:
        """One execution. Raises NotFound, and InvalidArgument where the id is no UUID."""
        return await self._call(
            self._executions.GetExecution, _rpc.made(execution_api.GetExecutionRequest, execution_id=execution_id)
        )

    def executions(
        self, *, job_id: str = "", task: str = "", states: Sequence[Execution.State.ValueType] = ()
    ) -> AsyncIterator[Execution]:
        """Executions, newest first; only of one job or task, or in some states, if given. A page at a time."""

        async def page(token: str) -> tuple[Iterable[Execution], str]:
            request = _rpc.made(
                execution_api.ListExecutionsRequest,
                job_id=job_id,
                task_id=task,
                state=states,
                page_size=PAGE,
                page_token=token,
            )
            answer = await self._call(self._executions.ListExecutions, request)
            return answer.items, answer.next_page_token

        return _pages(page)

    async def stop_execution(self, execution_id: str) -> execution_api.StopExecutionResponse:
        """Stops one execution; a recurring job's schedule goes on. Raises NotFound, FailedPrecondition."""
        request = _rpc.made(execution_api.StopExecutionRequest, execution_id=execution_id)
        return await self._call(self._executions.StopExecution, request)

    # ----------------------------------------------------------------------------------------------------------- tasks

    def tasks(self) -> AsyncIterator[Task]:
        """All tasks by name, without their counts by state. A page at a time."""

        async def page(token: str) -> tuple[Iterable[Task], str]:
            answer = await self._call(
                self._tasks.ListTasks, _rpc.made(task_api.ListTasksRequest, page_size=PAGE, page_token=token)
            )
            return answer.items, answer.next_page_token

        return _pages(page)

    async def task(self, task: str) -> Task:
        """One task, with its jobs counted by state. Raises NotFound."""
        return await self._call(self._tasks.GetTask, _rpc.made(task_api.GetTaskRequest, task_id=task))

    def queues(self) -> AsyncIterator[task_api.TaskQueue]:
        """Tasks that have something in their queues, by name: how much, since when and why. A page at a time."""

        async def page(token: str) -> tuple[Iterable[task_api.TaskQueue], str]:
            answer = await self._call(
                self._tasks.ListQueues, _rpc.made(task_api.ListQueuesRequest, page_size=PAGE, page_token=token)
            )
            return answer.items, answer.next_page_token

        return _pages(page)

    async def explain_task(self, task: str) -> task_api.ExplainTaskResponse:
        """Why the executions of a task wait. Raises NotFound."""
        return await self._call(self._tasks.ExplainTask, _rpc.made(task_api.ExplainTaskRequest, task_id=task))

    async def delete_task(self, task: str, *, force: bool = False) -> task_api.DeleteTaskResponse:
        """Deletes a task; with `force` also one that has jobs, and those with it. Made once. Raises NotFound,
        FailedPrecondition."""
        return await self._call(
            self._tasks.DeleteTask, _rpc.made(task_api.DeleteTaskRequest, task_id=task, force=force), repeat=False
        )

    # ------------------------------------------------------------------------------------------------------------ farm

    async def pools(self) -> Sequence[farm.PoolStatus]:
        """Pools in the order in which tasks are matched with them."""
        return (await self._call(self._farm.ListPools, farm.ListPoolsRequest())).items

    async def explain_pool(self, name: str) -> farm.ExplainPoolResponse:
        """Why work of a pool waits. Raises NotFound."""
        return await self._call(self._farm.ExplainPool, _rpc.made(farm.ExplainPoolRequest, name=name))

    async def limits(self) -> Sequence[farm.LimitStatus]:
        """The farm's limits, with what counts towards each."""
        return (await self._call(self._farm.ListLimits, farm.ListLimitsRequest())).items

    async def breakers(self) -> Sequence[farm.Breaker]:
        """Breakers that are not closed."""
        return (await self._call(self._farm.ListBreakers, farm.ListBreakersRequest())).items

    async def matching(self) -> tuple[farm.ListPoolsResponse, farm.ListLimitsResponse, farm.ListBreakersResponse]:
        """`pools`, `limits` and `breakers` in whole: each with what can't be told of it now (`unknown`)."""
        return (
            await self._call(self._farm.ListPools, farm.ListPoolsRequest()),
            await self._call(self._farm.ListLimits, farm.ListLimitsRequest()),
            await self._call(self._farm.ListBreakers, farm.ListBreakersRequest()),
        )

    async def reset_breaker(self, kind: farm.Breaker.Kind.ValueType, subject: str) -> None:
        """Closes a breaker by hand. A repeat is harmless."""
        await self._call(self._farm.ResetBreaker, _rpc.made(farm.ResetBreakerRequest, kind=kind, subject=subject))

    async def stats(
        self,
        task: str = "",
        *,
        since: Since | None = None,
        until: Since | None = None,
        step: DurationLike | None = None,
    ) -> stats_api.Stats:
        """What was enqueued, how it ended and how long it took, over time: of the farm, or of one task."""
        request = stats_request(task, since, until, step)
        return await self._call(self._tasks.GetTaskStats if task else self._farm.GetStats, request)

    async def search(self, query: str) -> Sequence[farm.SearchHit]:
        """Tasks, jobs and executions by id, by the beginning of a name, or by image: best first, at most 50."""
        return (await self._call(self._farm.Search, _rpc.made(farm.SearchRequest, query=query))).items


async def _pages(page: Callable[[str], Awaitable[tuple[Iterable[Item], str]]]) -> AsyncIterator[Item]:
    token: str | None = None
    while token != "":
        items, token = await page(token or "")
        for item in items:
            yield item
