"""What the client offers to look around in a farm, and to act on many jobs at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from easyq import _rpc
from easyq.cursor import Since, since_of
from easyq.spec import DurationLike, to_duration
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

    from easyq.v1.execution_service_pb2_grpc import ExecutionServiceStub
    from easyq.v1.farm_service_pb2_grpc import FarmServiceStub
    from easyq.v1.job_service_pb2_grpc import JobServiceStub
    from easyq.v1.notification_service_pb2_grpc import NotificationServiceStub
    from easyq.v1.task_service_pb2_grpc import TaskServiceStub

Answer = TypeVar("Answer")

#: Items that are asked for at once where all are listed.
PAGE = 500


def selection(
    *,
    task: str = "",
    task_pattern: str = "",
    states: Sequence[Job.State.ValueType] = (),
    reasons: Sequence[Failure.Reason.ValueType] = (),
    labels: Mapping[str, str] | None = None,
    older_than: DurationLike | None = None,
) -> api.JobSelection:
    """Which jobs a call for many is about: those for which all that is given holds. `task_pattern` is a regex of whole
    names, `reasons` why the newest attempt failed. Raises ValueError for a malformed duration."""
    made = api.JobSelection(
        task_id=task, task_pattern=task_pattern, state=states, reason=reasons, label=label_filters(labels)
    )
    if older_than is not None:
        made.older_than.CopyFrom(to_duration(older_than))
    return made


def label_filters(labels: Mapping[str, str] | None) -> list[str]:
    """Labels as lists take them."""
    return [f"{key}={value}" for key, value in (labels or {}).items()]


def stats_request(
    task: str, since: Since | None, until: Since | None, step: DurationLike | None
) -> stats_api.GetStatsRequest | stats_api.GetTaskStatsRequest:
    """The request for statistics of the farm, or of one task. Raises ValueError for a malformed duration."""
    request = _rpc.made(stats_api.GetTaskStatsRequest, task_id=task) if task else stats_api.GetStatsRequest()
    if since is not None:
        request.from_time.CopyFrom(_moment(since))
    if until is not None:
        request.to_time.CopyFrom(_moment(until))
    if step is not None:
        request.step.CopyFrom(to_duration(step))
    return request


def _moment(value: Since) -> Timestamp:
    """A time; how long ago is counted by this machine's clock."""
    found = since_of(value)
    if isinstance(found, Duration):
        result = Timestamp()
        result.FromDatetime(datetime.now(UTC) - found.ToTimedelta())
        return result
    return found or Timestamp()


class ReadingCalls(ABC):
    """Mixed into the client, whose docstring tells what all calls have in common."""

    _executions: ExecutionServiceStub
    _farm: FarmServiceStub
    _jobs: JobServiceStub
    _notifications: NotificationServiceStub
    _tasks: TaskServiceStub

    @abstractmethod
    def _call(self, method: Callable[..., Answer], request: Message, *, repeat: bool = True) -> Answer:
        """Makes a call, with the client's address, deadline and errors; again after an outage, where `repeat`."""

    # ------------------------------------------------------------------------------------------------------------ jobs

    def put(self, job_id: str, spec: JobSpec, *, task: str, revision: int = 0) -> api.PutJobResponse:
        """Creates a job under an id of your own, or replaces its whole spec; the same spec again changes nothing.

        `revision`, if given, is the one that you know: another one is refused, and the call is made once. Raises
        InvalidArgument, FailedPrecondition (the id belongs to another task), Aborted (another revision).
        """
        request = _rpc.made(api.PutJobRequest, task_id=task, job_id=job_id, spec=spec, revision=revision)
        # Had the first one taken effect, and its answer got lost, a repeat would be refused for its own revision.
        return self._call(self._jobs.PutJob, request, repeat=not revision)

    def validate(self, spec: JobSpec, *, task: str) -> api.CreateJobResponse:
        """What a submit would make of a spec: with every default resolved, and the next ten fires where it recurs.

        Stores nothing. Raises InvalidArgument, with all that is wrong in `fields`.
        """
        return self._call(
            self._jobs.CreateJob, _rpc.made(api.CreateJobRequest, task_id=task, spec=spec, validate_only=True)
        )

    def error_queue(
        self,
        *,
        task: str = "",
        reasons: Sequence[Failure.Reason.ValueType] = (),
        labels: Mapping[str, str] | None = None,
    ) -> Iterator[Job]:
        """Jobs that gave up, newest first, with `error`, without their executions. A page at a time."""

        def page(token: str) -> tuple[Iterable[Job], str]:
            request = _rpc.made(
                api.ListErrorsRequest,
                task_id=task,
                reason=reasons,
                label=label_filters(labels),
                page_size=PAGE,
                page_token=token,
            )
            answer = self._call(self._jobs.ListErrors, request)
            return answer.items, answer.next_page_token

        return _pages(page)

    def stop_jobs(self, jobs: api.JobSelection, *, dry_run: bool = False) -> api.StopJobsResponse:
        """Stops all jobs that match (see `easyq.selection`), or counts them. A repeat is harmless."""
        return self._call(self._jobs.StopJobs, _rpc.made(api.StopJobsRequest, selection=jobs, dry_run=dry_run))

    def retry_errors(self, jobs: api.JobSelection, *, dry_run: bool = False) -> api.RetryErrorsResponse:
        """Retries all jobs of the error queue that match, or counts them. Made once."""
        request = _rpc.made(api.RetryErrorsRequest, selection=jobs, dry_run=dry_run)
        return self._call(self._jobs.RetryErrors, request, repeat=False)

    def discard_errors(self, jobs: api.JobSelection, *, dry_run: bool = False) -> api.DiscardErrorsResponse:
        """Deletes all jobs of the error queue that match, with executions and logs, or counts them. Made once."""
        request = _rpc.made(api.DiscardErrorsRequest, selection=jobs, dry_run=dry_run)
        return self._call(self._jobs.DiscardErrors, request, repeat=False)

    def deliveries(self, job_id: str) -> Iterator[notification_api.Delivery]:
        """What was told of a job's ends by webhook and e-mail, newest first. A page at a time. Raises NotFound."""

        def page(token: str) -> tuple[Iterable[notification_api.Delivery], str]:
            request = _rpc.made(notification_api.ListDeliveriesRequest, job_id=job_id, page_size=PAGE, page_token=token)
            answer = self._call(self._notifications.ListDeliveries, request)
            return answer.items, answer.next_page_token

        return _pages(page)

    def resend(self, job_id: str, delivery_id: str) -> notification_api.Delivery:
        """Sends a delivery again under the same id, whatever became of it. Made once. Raises NotFound."""
        request = _rpc.made(notification_api.ResendDeliveryRequest, job_id=job_id, delivery_id=delivery_id)
        return self._call(self._notifications.ResendDelivery, request, repeat=False).delivery

    # ------------------------------------------------------------------------------------------------------ executions

    def execution(self, execution_id: str) -> Execution:
        """One execution. Raises NotFound, and InvalidArgument where the id is no UUID."""
        return self._call(
            self._executions.GetExecution, _rpc.made(execution_api.GetExecutionRequest, execution_id=execution_id)
        )

    def executions(
        self, *, job_id: str = "", task: str = "", states: Sequence[Execution.State.ValueType] = ()
    ) -> Iterator[Execution]:
        """Executions, newest first; only of one job or task, or in some states, if given. A page at a time."""

        def page(token: str) -> tuple[Iterable[Execution], str]:
            request = _rpc.made(
                execution_api.ListExecutionsRequest,
                job_id=job_id,
                task_id=task,
                state=states,
                page_size=PAGE,
                page_token=token,
            )
            answer = self._call(self._executions.ListExecutions, request)
            return answer.items, answer.next_page_token

        return _pages(page)

    def stop_execution(self, execution_id: str) -> execution_api.StopExecutionResponse:
        """Stops one execution; a recurring job's schedule goes on. Raises NotFound, FailedPrecondition."""
        request = _rpc.made(execution_api.StopExecutionRequest, execution_id=execution_id)
        return self._call(self._executions.StopExecution, request)

    # ----------------------------------------------------------------------------------------------------------- tasks

    def tasks(self) -> Iterator[Task]:
        """All tasks by name, without their counts by state. A page at a time."""

        def page(token: str) -> tuple[Iterable[Task], str]:
            answer = self._call(
                self._tasks.ListTasks, _rpc.made(task_api.ListTasksRequest, page_size=PAGE, page_token=token)
            )
            return answer.items, answer.next_page_token

        return _pages(page)

    def task(self, task: str) -> Task:
        """One task, with its jobs counted by state. Raises NotFound."""
        return self._call(self._tasks.GetTask, _rpc.made(task_api.GetTaskRequest, task_id=task))

    def queues(self) -> Iterator[task_api.TaskQueue]:
        """Tasks that have something in their queues, by name: how much, since when and why. A page at a time."""

        def page(token: str) -> tuple[Iterable[task_api.TaskQueue], str]:
            answer = self._call(
                self._tasks.ListQueues, _rpc.made(task_api.ListQueuesRequest, page_size=PAGE, page_token=token)
            )
            return answer.items, answer.next_page_token

        return _pages(page)

    def explain_task(self, task: str) -> task_api.ExplainTaskResponse:
        """Why the executions of a task wait. Raises NotFound."""
        return self._call(self._tasks.ExplainTask, _rpc.made(task_api.ExplainTaskRequest, task_id=task))

    def delete_task(self, task: str, *, force: bool = False) -> task_api.DeleteTaskResponse:
        """Deletes a task; with `force` also one that has jobs, and those with it. Made once. Raises NotFound,
        FailedPrecondition."""
        return self._call(
            self._tasks.DeleteTask, _rpc.made(task_api.DeleteTaskRequest, task_id=task, force=force), repeat=False
        )

    # ------------------------------------------------------------------------------------------------------------ farm

    def pools(self) -> Sequence[farm.PoolStatus]:
        """Pools in the order in which tasks are matched with them."""
        return self._call(self._farm.ListPools, farm.ListPoolsRequest()).items

    def explain_pool(self, name: str) -> farm.ExplainPoolResponse:
        """Why work of a pool waits. Raises NotFound."""
        return self._call(self._farm.ExplainPool, _rpc.made(farm.ExplainPoolRequest, name=name))

    def limits(self) -> Sequence[farm.LimitStatus]:
        """The farm's limits, with what counts towards each."""
        return self._call(self._farm.ListLimits, farm.ListLimitsRequest()).items

    def breakers(self) -> Sequence[farm.Breaker]:
        """Breakers that are not closed."""
        return self._call(self._farm.ListBreakers, farm.ListBreakersRequest()).items

    def matching(self) -> tuple[farm.ListPoolsResponse, farm.ListLimitsResponse, farm.ListBreakersResponse]:
        """`pools`, `limits` and `breakers` in whole: each with what can't be told of it now (`unknown`)."""
        return (
            self._call(self._farm.ListPools, farm.ListPoolsRequest()),
            self._call(self._farm.ListLimits, farm.ListLimitsRequest()),
            self._call(self._farm.ListBreakers, farm.ListBreakersRequest()),
        )

    def reset_breaker(self, kind: farm.Breaker.Kind.ValueType, subject: str) -> None:
        """Closes a breaker by hand. A repeat is harmless."""
        self._call(self._farm.ResetBreaker, _rpc.made(farm.ResetBreakerRequest, kind=kind, subject=subject))

    def stats(
        self,
        task: str = "",
        *,
        since: Since | None = None,
        until: Since | None = None,
        step: DurationLike | None = None,
    ) -> stats_api.Stats:
        """What was enqueued, how it ended and how long it took, over time: of the farm, or of one task.

        `since` and `until` are times, or how long ago; by default the last hour. `step` is the time of one point, whole
        minutes; by default one that makes at most 120 points. Raises NotFound (the task), InvalidArgument.
        """
        request = stats_request(task, since, until, step)
        return self._call(self._tasks.GetTaskStats if task else self._farm.GetStats, request)

    def search(self, query: str) -> Sequence[farm.SearchHit]:
        """Tasks, jobs and executions by id, by the beginning of a name, or by image: best first, at most 50."""
        return self._call(self._farm.Search, _rpc.made(farm.SearchRequest, query=query)).items


Item = TypeVar("Item")


def _pages(page: Callable[[str], tuple[Iterable[Item], str]]) -> Iterator[Item]:
    token: str | None = None
    while token != "":
        items, token = page(token or "")
        yield from items
