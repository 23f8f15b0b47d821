"""A gateway for the command line, in memory, on a real socket: jobs, tasks, pools that a test puts there.

What `FakeGateway` scripts (attempts, output, breaks) holds here too; everything that it leaves out is here.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import grpc

from easyq.v1 import execution_service_pb2 as executions
from easyq.v1 import farm_service_pb2 as farm
from easyq.v1 import job_service_pb2 as api
from easyq.v1 import notification_service_pb2 as notifications
from easyq.v1 import stats_pb2 as stats
from easyq.v1 import task_service_pb2 as tasks
from easyq.v1.execution_service_pb2_grpc import ExecutionServiceServicer, add_ExecutionServiceServicer_to_server
from easyq.v1.job_pb2 import Execution, Job, Task
from easyq.v1.notification_service_pb2_grpc import (
    NotificationServiceServicer,
    add_NotificationServiceServicer_to_server,
)
from easyq.v1.spec_pb2 import JobSpec
from easyq.v1.task_service_pb2_grpc import TaskServiceServicer, add_TaskServiceServicer_to_server
from tests.fakes.public_api import FakeGateway, FakeJob, abort, status

GAVE_UP = frozenset({Job.FAILED, Job.TIMED_OUT})
CREATED = 1_700_000_000


class FakeFarm(FakeGateway, ExecutionServiceServicer, TaskServiceServicer, NotificationServiceServicer):
    """What tests set: `jobs`, `agents`, `pools`, `limits`, `shut` (breakers), `health` (of GetStatus)."""

    def __init__(self) -> None:
        super().__init__()
        self.pools: list[farm.PoolStatus] = []
        self.limits: list[farm.LimitStatus] = []
        self.shut: list[farm.Breaker] = []
        self.queues: list[tasks.TaskQueue] = []
        # Of each job that was put, what is not shown.
        self.secrets: dict[str, dict[str, str]] = {}
        self.pool_waits: dict[str, Any] = {}
        self.health = farm.Status(version="0.1.0", accepting=True, running=True)
        #: Says what is wrong with a spec, by field; nothing by default.
        self.judge: Callable[[JobSpec], dict[str, str]] = lambda _spec: {}
        #: After how many answers the next streams of jobs break; then they are whole.
        self.submit_breaks: list[int] = []
        #: Most deliveries of a page.
        self.page = 50
        #: Deliveries of all jobs, newest first.
        self.told: list[notifications.Delivery] = []
        self.counted = stats.Stats()

    def add_more(self, server: grpc.Server) -> None:
        add_ExecutionServiceServicer_to_server(self, server)
        add_TaskServiceServicer_to_server(self, server)
        add_NotificationServiceServicer_to_server(self, server)

    def put(self, job_id: str, *, task: str = "t", state: str = "QUEUED", spec: JobSpec | None = None) -> FakeJob:
        """A job that is there already."""
        request = api.CreateJobRequest(task_id=task, spec=spec or JobSpec(image="busybox:1", command=["true"]))
        job = FakeJob(request, self.changed)
        job.message.job_id, job.message.state, job.message.revision = job_id, Job.State.Value(state), 1
        job.message.created_at.FromSeconds(CREATED + len(self.jobs))
        self.jobs.append(job)
        return job

    # Jobs ------------------------------------------------------------------------------------------------------
    def CreateJob(self, request: api.CreateJobRequest, context: Any) -> api.CreateJobResponse:
        self._judge(request.spec, context)
        if request.validate_only:
            self._fail(context)
            return api.CreateJobResponse(task_id=request.task_id, spec=resolved(request.spec))
        return super().CreateJob(request, context)

    def PutJob(self, request: api.PutJobRequest, context: Any) -> api.PutJobResponse:
        self.asked.append(request)
        self._fail(context)
        self._judge(request.spec, context)
        spec = resolved(request.spec)
        found = next((job for job in self.jobs if job.job_id == request.job_id), None)
        secrets = {name: value for name, value in request.spec.envs.items() if _is_secret(name)}
        known, self.secrets[request.job_id] = self.secrets.get(request.job_id, {}), secrets
        if found is None:
            found = self.put(request.job_id, task=request.task_id, state="ACTIVE" if spec.cron else "QUEUED", spec=spec)
            return api.PutJobResponse(job=found.snapshot(), created=True)
        if found.message.spec != spec or known != secrets:
            found.message.spec.CopyFrom(spec)
            found.message.revision += 1
        return api.PutJobResponse(job=found.snapshot())

    def ListJobs(self, request: api.ListJobsRequest, context: Any) -> api.ListJobsResponse:
        self.asked.append(request)
        self._fail(context)
        found = [
            job
            for job in self._listed(request.task_id, request.label)
            if not request.state or job.state in request.state
        ]
        start, size = int(request.page_token or 0), request.page_size or 50
        more = str(start + size) if len(found) > start + size else ""
        return api.ListJobsResponse(items=found[start : start + size], next_page_token=more)

    def ListErrors(self, request: api.ListErrorsRequest, context: Any) -> api.ListErrorsResponse:
        self.asked.append(request)
        self._fail(context)
        items = [
            job
            for job in self._listed(request.task_id, request.label)
            if job.state in GAVE_UP and (not request.reason or job.error.reason in request.reason)
        ]
        return api.ListErrorsResponse(items=items)

    def StopJobs(self, request: api.StopJobsRequest, context: Any) -> api.StopJobsResponse:
        found = self._selected(request, context)
        if request.dry_run:
            return api.StopJobsResponse(matched=len(found))
        return api.StopJobsResponse(matched=len(found), stopped=len(found))

    def RetryErrors(self, request: api.RetryErrorsRequest, context: Any) -> api.RetryErrorsResponse:
        found = [job for job in self._selected(request, context) if job.state in GAVE_UP]
        return api.RetryErrorsResponse(matched=len(found), retried=0 if request.dry_run else len(found))

    def DiscardErrors(self, request: api.DiscardErrorsRequest, context: Any) -> api.DiscardErrorsResponse:
        found = [job for job in self._selected(request, context) if job.state in GAVE_UP]
        return api.DiscardErrorsResponse(matched=len(found), discarded=0 if request.dry_run else len(found))

    def SubmitJobs(self, requests: Iterator[api.SubmitJobsRequest], context: Any) -> Iterator[api.SubmitJobsResponse]:
        left = self.submit_breaks.pop(0) if self.submit_breaks else None
        for index, request in enumerate(requests):
            if left is not None and index == left:
                abort(context, grpc.StatusCode.UNAVAILABLE, "the stream was broken by the test")
            self._fail(context)
            wrong = self.judge(request.item.spec)
            result = api.BatchResult(index=index)
            if wrong:
                result.error.code, result.error.reason = "INVALID_ARGUMENT", "INVALID_FIELDS"
                result.error.message = "a field is wrong"
                for field, message in wrong.items():
                    result.error.fields.add(field=f"item.{field}", message=message)
            else:
                created = api.CreateJobRequest(
                    task_id=request.item.task_id,
                    spec=request.item.spec,
                    idempotency_key=request.item.idempotency_key,
                )
                result.job.CopyFrom(super().CreateJob(created, context))
            yield api.SubmitJobsResponse(result=result)

    # Notifications and statistics ------------------------------------------------------------------------------
    def ListDeliveries(self, request: notifications.ListDeliveriesRequest, context: Any) -> Any:
        self._fail(context)
        self._find(request.job_id, context)
        found = [one for one in self.told if one.job_id == request.job_id]
        start = int(request.page_token or 0)
        more = str(start + self.page) if len(found) > start + self.page else ""
        return notifications.ListDeliveriesResponse(items=found[start : start + self.page], next_page_token=more)

    def ResendDelivery(self, request: notifications.ResendDeliveryRequest, context: Any) -> Any:
        self.asked.append(request)
        self._fail(context)
        for one in self.told:
            if (one.job_id, one.delivery_id) == (request.job_id, request.delivery_id):
                one.state = notifications.Delivery.PENDING
                return notifications.ResendDeliveryResponse(delivery=one)
        abort(context, grpc.StatusCode.NOT_FOUND, "there is no such delivery", reason="DELIVERY_NOT_FOUND")
        raise AssertionError

    def GetStats(self, request: stats.GetStatsRequest, context: Any) -> stats.Stats:
        self.asked.append(request)
        self._fail(context)
        return self.counted

    def GetTaskStats(self, request: stats.GetTaskStatsRequest, context: Any) -> stats.Stats:
        self.asked.append(request)
        self._fail(context)
        self._known(request.task_id, context)
        answer = stats.Stats()
        answer.CopyFrom(self.counted)
        answer.task_id = request.task_id
        return answer

    # Executions and tasks --------------------------------------------------------------------------------------
    def GetExecution(self, request: executions.GetExecutionRequest, context: Any) -> Execution:
        self._fail(context)
        for job in self.jobs:
            for one in job.snapshot().executions:
                if one.execution_id == request.execution_id:
                    one.job_id, one.task_id = job.job_id, job.message.task_id
                    return one
        abort(context, grpc.StatusCode.NOT_FOUND, "no such execution", reason="EXECUTION_NOT_FOUND")
        raise AssertionError

    def ListExecutions(self, request: executions.ListExecutionsRequest, context: Any) -> Any:
        self._fail(context)
        job = self._find(request.job_id, context)
        return executions.ListExecutionsResponse(items=reversed(job.snapshot().executions))

    def ListTasks(self, request: tasks.ListTasksRequest, context: Any) -> tasks.ListTasksResponse:
        self._fail(context)
        return tasks.ListTasksResponse(items=[self._task(name) for name in sorted(self._names())])

    def GetTask(self, request: tasks.GetTaskRequest, context: Any) -> Task:
        self._fail(context)
        self._known(request.task_id, context)
        task = self._task(request.task_id)
        for state in sorted({job.message.state for job in self.jobs if job.message.task_id == request.task_id}):
            count = sum(job.message.state == state for job in self.jobs if job.message.task_id == request.task_id)
            task.states.add(state=state, count=count)
        return task

    def ExplainTask(self, request: tasks.ExplainTaskRequest, context: Any) -> tasks.ExplainTaskResponse:
        self._fail(context)
        self._known(request.task_id, context)
        return tasks.ExplainTaskResponse(task_id=request.task_id, pool="default", queued=1, limits=self.limits)

    def ListQueues(self, request: tasks.ListQueuesRequest, context: Any) -> tasks.ListQueuesResponse:
        self._fail(context)
        begin = int(request.page_token or 0)
        page = self.queues[begin : begin + 2]
        more = str(begin + 2) if len(self.queues) > begin + 2 else ""
        return tasks.ListQueuesResponse(items=page, next_page_token=more)

    def DeleteTask(self, request: tasks.DeleteTaskRequest, context: Any) -> tasks.DeleteTaskResponse:
        self.asked.append(request)
        return tasks.DeleteTaskResponse(deleted=1)

    # The farm --------------------------------------------------------------------------------------------------
    def GetStatus(self, request: farm.GetStatusRequest, context: Any) -> farm.Status:
        self._fail(context)
        answer = farm.Status()
        answer.CopyFrom(self.health)
        answer.agents.extend(self.agents)
        return answer

    def _unknown(self, field: str) -> list[farm.Unknown]:
        return [one for one in self.health.unknown if one.field.partition(".")[0] == field]

    def ListPools(self, request: farm.ListPoolsRequest, context: Any) -> farm.ListPoolsResponse:
        self._fail(context)
        return farm.ListPoolsResponse(items=self.pools, unknown=self._unknown("pools"))

    def ExplainPool(self, request: farm.ExplainPoolRequest, context: Any) -> farm.ExplainPoolResponse:
        self._fail(context)
        for pool in self.pools:
            if pool.name == request.name:
                return farm.ExplainPoolResponse(pool=pool, waiting=self.pool_waits.get(pool.name), agents=self.agents)
        abort(context, grpc.StatusCode.NOT_FOUND, "no such pool", reason="POOL_NOT_FOUND")
        raise AssertionError

    def ListLimits(self, request: farm.ListLimitsRequest, context: Any) -> farm.ListLimitsResponse:
        return farm.ListLimitsResponse(items=self.limits, unknown=self._unknown("limits"))

    def ListBreakers(self, request: farm.ListBreakersRequest, context: Any) -> farm.ListBreakersResponse:
        return farm.ListBreakersResponse(items=self.shut, unknown=self._unknown("breakers"))

    def ResetBreaker(self, request: farm.ResetBreakerRequest, context: Any) -> farm.ResetBreakerResponse:
        self.asked.append(request)
        return farm.ResetBreakerResponse()

    def Search(self, request: farm.SearchRequest, context: Any) -> farm.SearchResponse:
        self._fail(context)
        hits = [
            farm.SearchHit(
                kind="job", task_id=job.message.task_id, job_id=job.job_id, state=Job.State.Name(job.message.state)
            )
            for job in self.jobs
            if job.job_id.startswith(request.query)
        ]
        return farm.SearchResponse(items=hits)

    # Below -----------------------------------------------------------------------------------------------------
    def _listed(self, task: str, labels: Iterable[str]) -> list[Job]:
        found = []
        for job in reversed(self.jobs):
            message = job.snapshot()
            del message.executions[:]
            own = {f"{key}={value}" for key, value in message.spec.labels.items()}
            if (not task or message.task_id == task) and own >= set(labels):
                found.append(message)
        return found

    def _selected(self, request: Any, context: Any) -> list[Job]:
        self.asked.append(request)
        self._fail(context)
        chosen = request.selection
        return [
            job
            for job in self._listed(chosen.task_id, chosen.label)
            if (not chosen.state or job.state in chosen.state)
            and (not chosen.reason or job.error.reason in chosen.reason)
            and (not chosen.task_pattern or re.fullmatch(chosen.task_pattern, job.task_id))
        ]

    def _judge(self, spec: JobSpec, context: Any) -> None:
        from grpc_status import rpc_status

        wrong = self.judge(spec)
        if wrong:
            code = grpc.StatusCode.INVALID_ARGUMENT
            bad = status(code, "a field is wrong", reason="INVALID_FIELDS", fields=wrong)
            context.abort_with_status(rpc_status.to_status(bad))

    def _names(self) -> set[str]:
        return {job.message.task_id for job in self.jobs}

    def _known(self, name: str, context: Any) -> None:
        if name not in self._names():
            abort(context, grpc.StatusCode.NOT_FOUND, f"there is no task {name}", reason="TASK_NOT_FOUND")

    def _task(self, name: str) -> Task:
        mine = [job.message.created_at for job in self.jobs if job.message.task_id == name]
        count = sum(job.message.task_id == name for job in self.jobs)
        return Task(task_id=name, created_at=mine[0], last_job_at=mine[-1], job_count=count)


def _is_secret(name: str) -> bool:
    return name.endswith("_TOKEN")


def resolved(spec: JobSpec) -> JobSpec:
    """A spec with some of the defaults that the real gateway gives, and secrets as it shows them."""
    full = JobSpec()
    full.CopyFrom(spec)
    full.stop_grace.FromSeconds(10)
    for name in full.envs:
        if _is_secret(name):
            full.envs[name] = "[redacted]"
    if full.WhichOneof("schedule") == "cron" and not full.time_zone:
        full.time_zone = "UTC"
    return full


def fake_farm() -> FakeFarm:
    """One that was not started yet."""
    return FakeFarm()  # type: ignore[abstract] # the other methods stay UNIMPLEMENTED
