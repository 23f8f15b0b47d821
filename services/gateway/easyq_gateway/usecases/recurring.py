"""Jobs that fire again and again: their schedule, and what an operator does to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from easyq.v1 import job_pb2, job_service_pb2
from easyq_chassis.clock import Clock
from easyq_chassis.errors import FailedPrecondition
from easyq_gateway import convert
from easyq_gateway.domain.problems import Problem
from easyq_gateway.http_rules import Links
from easyq_gateway.ports import Dispatchers, JobStore, Scheduler
from easyq_gateway.usecases.checking import Checker
from easyq_gateway.usecases.presenting import Presenter
from easyq_internal.scheduler.v1 import scheduler_pb2
from easyq_internal.store.v1 import job_store_pb2

_DEFAULT_NEXT = 10
_FIRING = frozenset({job_pb2.Job.ACTIVE, job_pb2.Job.PAUSED})


class Recurring:
    """Pause, resume, trigger, schedule. Unknown ids raise `NotFound`, the wrong kind or state `FailedPrecondition`."""

    def __init__(
        self,
        *,
        checker: Checker,
        store: JobStore,
        scheduler: Scheduler,
        dispatchers: Dispatchers,
        presenter: Presenter,
        links: Links,
        clock: Clock,
        new_execution_id: Callable[[], str],
    ) -> None:
        self._checker = checker
        self._store = store
        self._scheduler = scheduler
        self._dispatchers = dispatchers
        self._presenter = presenter
        self._links = links
        self._clock = clock
        self._new_execution_id = new_execution_id

    async def pause_job(
        self, request: job_service_pb2.PauseJobRequest, found: Sequence[Problem] = ()
    ) -> job_service_pb2.PauseJobResponse:
        """PauseJob. A repeat is harmless."""
        self._checker.require(request, found)
        answer = await self._store.pause_job(
            job_store_pb2.PauseJobRequest(task_id=request.task_id, job_id=request.job_id)
        )
        return job_service_pb2.PauseJobResponse(job=await self._presenter.job(answer.job))

    async def resume_job(
        self, request: job_service_pb2.ResumeJobRequest, found: Sequence[Problem] = ()
    ) -> job_service_pb2.ResumeJobResponse:
        """ResumeJob. A repeat is harmless."""
        self._checker.require(request, found)
        answer = await self._store.resume_job(
            job_store_pb2.ResumeJobRequest(task_id=request.task_id, job_id=request.job_id)
        )
        self._scheduler.wake()
        return job_service_pb2.ResumeJobResponse(job=await self._presenter.job(answer.job))

    async def trigger_job(
        self, request: job_service_pb2.TriggerJobRequest, found: Sequence[Problem] = ()
    ) -> job_service_pb2.TriggerJobResponse:
        """TriggerJob: runs it now, within its overlap."""
        self._checker.require(request, found)
        answer = await self._store.trigger_job(
            job_store_pb2.TriggerJobRequest(
                task_id=request.task_id, job_id=request.job_id, execution_id=self._new_execution_id()
            )
        )
        if answer.HasField("ready"):
            self._dispatchers.tell_ready(answer.ready)
        self._dispatchers.tell_stops(answer.hints)
        return job_service_pb2.TriggerJobResponse(
            task_id=answer.task_id,
            job_id=answer.job_id,
            execution_id=answer.execution_id,
            execution_url=self._links.execution(answer.task_id, answer.job_id, answer.execution_id),
        )

    async def get_schedule(
        self, request: job_service_pb2.GetScheduleRequest, found: Sequence[Problem] = ()
    ) -> job_service_pb2.GetScheduleResponse:
        """GetSchedule. Raises `Unavailable` where coming fires are asked for, and no scheduler can tell them."""
        self._checker.require(request, found)
        job = await self._store.get_job(job_store_pb2.GetJobRequest(task_id=request.task_id, job_id=request.job_id))
        if not convert.is_recurring(job.spec):
            raise FailedPrecondition("the job does not recur: its spec has no cron", reason="NOT_RECURRING")
        response = job_service_pb2.GetScheduleResponse(
            task_id=job.task_id,
            job_id=job.job_id,
            state=job.state,
            cron=job.spec.cron,
            time_zone=job.spec.time_zone,
            schedule=job.schedule,
        )
        count = request.next if request.HasField("next") else _DEFAULT_NEXT
        if count and job.state in _FIRING:
            for nominal in await self._next(job, count):
                response.next_fires.add().FromMilliseconds(nominal)
        return response

    async def _next(self, job: job_pb2.Job, count: int) -> Sequence[int]:
        cursor = convert.ms_of(job.schedule, "decided_until") or 0
        if job.state == job_pb2.Job.PAUSED:
            # What it missed is the misfire policy's; what is asked for is what comes.
            cursor = max(cursor, self._clock.now_ms())
        asked = scheduler_pb2.PreviewScheduleRequest(
            spec=convert.schedule_of(job.spec, (), self._checker.defaults.base),
            job_id=job.job_id,
            anchor=convert.ms_of(job.schedule, "anchor") or 0,
            cursor=cursor,
            runs=job.schedule.runs,
            count=count,
        )
        answer = await self._scheduler.preview(asked)
        return answer.fires
