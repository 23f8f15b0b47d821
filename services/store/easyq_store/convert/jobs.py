"""Jobs, executions and tasks."""

from collections.abc import Iterable, Sequence

from google.protobuf.message import Message

from easyq.v1.execution_service_pb2 import ListExecutionsRequest, ListExecutionsResponse
from easyq.v1.farm_service_pb2 import SearchHit, SearchResponse
from easyq.v1.job_pb2 import Execution as ExecutionMessage
from easyq.v1.job_pb2 import Job as JobMessage
from easyq.v1.job_pb2 import ListOrder, StateCount
from easyq.v1.job_pb2 import Task as TaskMessage
from easyq.v1.job_pb2 import Trigger as TriggerMessage
from easyq.v1.job_service_pb2 import ListErrorsRequest, ListErrorsResponse, ListJobsRequest, ListJobsResponse
from easyq.v1.job_service_pb2 import StopJobResponse as PublicStopJobResponse
from easyq.v1.spec_pb2 import JobSpec
from easyq.v1.task_service_pb2 import ListTasksResponse
from easyq_chassis.errors import EasyQError
from easyq_internal.store.v1 import job_store_pb2 as pb
from easyq_store.convert.basics import failure, head, item_error, members, timestamp, timestamp_ms
from easyq_store.convert.schedules import due_schedule, schedule, stop_hints
from easyq_store.convert.spec import labels_of, metadata_of, needs_of, recurs, serialized, timing_of
from easyq_store.domain.records import Execution, Job, Task
from easyq_store.domain.selection import GAVE_UP
from easyq_store.domain.states import ExecutionState, FailureReason, JobState, Trigger
from easyq_store.ports import ExecutionFilter, JobFilter
from easyq_store.usecases.look import DEFAULT_PAGE, ExecutionView, JobView, TaskView
from easyq_store.usecases.put import Put
from easyq_store.usecases.stop import Stopped
from easyq_store.usecases.submit import Accepted, NewJob
from easyq_store.usecases.trigger import Triggered

_LARGEST_PAGE = 1_000


def new_job(message: pb.NewJob) -> NewJob:
    """A new job, with what the records carry of its spec."""
    spec = message.spec
    return NewJob(
        task_id=message.task_id,
        job_id=message.job_id,
        execution_id=message.execution_id,
        spec=serialized(spec),
        idempotency_key=message.idempotency_key,
        asked=message.asked or None,
        image=spec.image,
        labels=labels_of(spec),
        metadata=metadata_of(spec),
        priority=spec.priority,
        timing=timing_of(spec),
        needs=needs_of(spec),
        recurs=recurs(spec),
        trace=message.trace,
    )


def submit_result(result: Accepted | EasyQError, *, now: int) -> pb.SubmitResult:
    """What became of one new job. `now`: the store's clock, for those whose fires are to be planned."""
    if isinstance(result, EasyQError):
        return pb.SubmitResult(error=item_error(result))
    return pb.SubmitResult(accepted=accepted(result, now=now))


def accepted(result: Accepted, *, now: int) -> pb.SubmitAccepted:
    """A new job, or the one that was there."""
    replayed = None if result.replayed_spec is None else JobSpec.FromString(result.replayed_spec)
    return pb.SubmitAccepted(
        job_id=result.job_id,
        execution_id=result.execution_id,
        replayed_spec=replayed,
        replayed_asked=result.replayed_asked or b"",
        ready=head(result.ready),
        schedule=due_schedule(result.unplanned),
        now=now if result.unplanned is not None else 0,
    )


def job(view: JobView) -> JobMessage:
    """A job with its executions."""
    record = view.job
    return JobMessage(
        job_id=record.job_id,
        task_id=record.task_id,
        state=JobMessage.State.ValueType(record.state),
        revision=record.revision,
        spec=JobSpec.FromString(record.spec),
        created_at=timestamp(record.created_at),
        last_modified_at=timestamp(record.last_modified_at),
        next_run_at=timestamp(record.next_run_at),
        stop_requested_at=timestamp(record.stop_requested_at),
        execution_count=record.attempts,
        executions=[execution(each) for each in view.executions],
        idempotency_key=record.idempotency_key,
        schedule=schedule(record.schedule, view.skips),
        error=failure(record.failure),
    )


def execution(view: ExecutionView) -> ExecutionMessage:
    """An execution with what is shown of its spec."""
    record = view.execution
    spec = JobSpec.FromString(view.spec)
    return ExecutionMessage(
        execution_id=record.execution_id,
        job_id=record.job_id,
        task_id=record.task_id,
        attempt=record.attempt,
        trigger=TriggerMessage.Kind.ValueType(record.trigger),
        state=ExecutionMessage.State.ValueType(record.state),
        exit_code=record.exit_code,
        error=failure(record.failure),
        image=spec.image,
        image_digest=record.image_digest,
        command=spec.command,
        envs=spec.envs,
        spec_revision=record.spec_revision,
        host=record.agent_id,
        container_id=record.container_id,
        due_at=timestamp(record.due_at),
        queued_at=timestamp(record.queued_at),
        assigned_at=timestamp(record.assigned_at),
        started_at=timestamp(record.started_at),
        finished_at=timestamp(record.finished_at),
        stop_requested_at=timestamp(record.stop_requested_at),
        logs_complete=record.logs_complete,
        stdout_bytes=view.stdout_bytes,
        stderr_bytes=view.stderr_bytes,
        stdout_truncated=record.stdout_truncated,
        stderr_truncated=record.stderr_truncated,
        fence=record.fence,
        fire_at=timestamp(record.fire_at),
        retries_used=record.retries_used,
        infra_retries_used=record.infra_used,
        logs_removed_at=timestamp(record.logs_removed_at),
    )


def task(record: Task, states: dict[JobState, int] | None = None) -> TaskMessage:
    """A task, with its counts if they are given."""
    return TaskMessage(
        task_id=record.task_id,
        created_at=timestamp(record.created_at),
        last_job_at=timestamp(record.last_job_at),
        job_count=record.job_count,
        states=state_counts((states or {}).items()),
    )


def task_view(view: TaskView) -> TaskMessage:
    """A task with its jobs by state."""
    return task(view.task, dict(view.states))


def state_counts(counts: Iterable[tuple[JobState, int]]) -> list[StateCount]:
    """Jobs by state, in the order of the states."""
    return [StateCount(state=JobMessage.State.ValueType(s), count=n) for s, n in sorted(counts)]


def job_filter(request: ListJobsRequest) -> JobFilter:
    """Which jobs are asked for."""
    return JobFilter(
        task_id=request.task_id,
        states=members(JobState, request.state, "state"),
        labels=tuple(sorted(set(request.label))),
        metadata=tuple(sorted(set(request.metadata))),
        ends=members(ExecutionState, request.outcome, "outcome"),
        image=request.image,
        created_from=_ms(request, "created_after"),
        created_before=_ms(request, "created_before"),
        ended_from=_ms(request, "ended_after"),
        ended_before=_ms(request, "ended_before"),
        oldest=request.order == ListOrder.OLDEST,
    )


def error_filter(request: ListErrorsRequest) -> JobFilter:
    """Which of the jobs that gave up are asked for."""
    return JobFilter(
        task_id=request.task_id,
        states=GAVE_UP,
        labels=tuple(sorted(set(request.label))),
        reasons=members(FailureReason, request.reason, "reason"),
        created_from=timestamp_ms(request.created_after) if request.HasField("created_after") else None,
        created_before=timestamp_ms(request.created_before) if request.HasField("created_before") else None,
    )


def execution_filter(request: ListExecutionsRequest) -> ExecutionFilter:
    """Which executions are asked for."""
    return ExecutionFilter(
        task_id=request.task_id,
        job_id=request.job_id,
        states=members(ExecutionState, request.state, "state"),
        reasons=members(FailureReason, request.reason, "reason"),
        exit_codes=tuple(sorted(set(request.exit_code))),
        agent_id=request.host,
        triggers=members(Trigger, request.trigger, "trigger"),
        image=request.image,
        created_from=_ms(request, "created_after"),
        created_before=_ms(request, "created_before"),
        ended_from=_ms(request, "ended_after"),
        ended_before=_ms(request, "ended_before"),
        oldest=request.order == ListOrder.OLDEST,
    )


def _ms(request: Message, field: str) -> int | None:
    return timestamp_ms(getattr(request, field)) if request.HasField(field) else None


def page_size(asked: int) -> int:
    """A page's size: 50 unless told, at most 1,000."""
    return min(asked, _LARGEST_PAGE) if asked > 0 else DEFAULT_PAGE


def jobs_page(views: Sequence[JobView], token: str) -> ListJobsResponse:
    """A page of jobs."""
    return ListJobsResponse(items=[job(view) for view in views], next_page_token=token)


def errors_page(views: Sequence[JobView], token: str) -> ListErrorsResponse:
    """A page of jobs that gave up."""
    return ListErrorsResponse(items=[job(view) for view in views], next_page_token=token)


def executions_page(views: Sequence[ExecutionView], token: str) -> ListExecutionsResponse:
    """A page of executions."""
    return ListExecutionsResponse(items=[execution(view) for view in views], next_page_token=token)


def tasks_page(records: Sequence[Task], token: str) -> ListTasksResponse:
    """A page of tasks."""
    return ListTasksResponse(items=[task(record) for record in records], next_page_token=token)


def search_response(tasks: Sequence[Task], jobs: Sequence[Job], executions: Sequence[Execution]) -> SearchResponse:
    """Hits, tasks first."""
    return SearchResponse(
        items=[
            *(SearchHit(kind="task", task_id=t.task_id, url=f"/tasks/{t.task_id}") for t in tasks),
            *(_job_hit(record) for record in jobs),
            *(_execution_hit(record) for record in executions),
        ]
    )


def _job_hit(record: Job) -> SearchHit:
    return SearchHit(
        kind="job",
        task_id=record.task_id,
        job_id=record.job_id,
        url=f"/tasks/{record.task_id}/jobs/{record.job_id}",
        state=record.state.name,
    )


def _execution_hit(record: Execution) -> SearchHit:
    return SearchHit(
        kind="execution",
        task_id=record.task_id,
        job_id=record.job_id,
        execution_id=record.execution_id,
        url=f"/tasks/{record.task_id}/jobs/{record.job_id}/executions/{record.execution_id}",
        state=record.state.name,
    )


def stop_response(stopped: Stopped, view: JobView) -> pb.StopJobResponse:
    """How far a stop is, and who must be told."""
    outcome = PublicStopJobResponse.STOPPING if stopped.held else PublicStopJobResponse.STOPPED
    return pb.StopJobResponse(
        outcome=outcome,
        job=job(view),
        hints=stop_hints(stopped.held),
    )


def put_response(done: Put, view: JobView, *, now: int) -> pb.PutJobResponse:
    """What became of a PUT; `now` as for `submit_result`."""
    return pb.PutJobResponse(
        job=job(view),
        created=done.created,
        ready=head(done.ready),
        schedule=due_schedule(done.unplanned),
        now=now if done.unplanned is not None else 0,
    )


def trigger_response(triggered: Triggered) -> pb.TriggerJobResponse:
    """What runs now, and who must be told to make room."""
    return pb.TriggerJobResponse(
        task_id=triggered.job.task_id,
        job_id=triggered.job.job_id,
        execution_id=triggered.execution_id,
        ready=head(triggered.ready),
        hints=stop_hints(triggered.stops),
    )
