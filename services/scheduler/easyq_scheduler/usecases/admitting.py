"""Admission of jobs that have a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from easyq_chassis.clock import Clock
from easyq_chassis.errors import EasyQError
from easyq_chassis.logs import get_logger
from easyq_chassis.tracing.context import parse
from easyq_chassis.tracing.tracer import OFF, Tracer
from easyq_internal.store.v1.job_store_pb2 import NewJob, PutJobRequest, PutJobResponse, SubmitResult
from easyq_internal.store.v1.records_pb2 import DueSchedule
from easyq_scheduler import convert
from easyq_scheduler.domain.admission import Refusal, Timing, check
from easyq_scheduler.domain.checking import schedule_problems, window_problems
from easyq_scheduler.domain.pacing import due_before_next_poll
from easyq_scheduler.domain.plan import State
from easyq_scheduler.ports import JobSink
from easyq_scheduler.usecases.recurring import Planner, decide

log = get_logger()


class Admission:
    """Takes in jobs that have a time. Nothing is kept here: a job is the store's once it has answered."""

    def __init__(
        self,
        *,
        sink: JobSink,
        planner: Planner,
        clock: Clock,
        longest: float,
        hurry: Callable[[], None],
        tracer: Tracer = OFF,
    ) -> None:
        """`hurry` is called where something may be due before a loop that sleeps up to `longest` seconds wakes."""
        self._sink = sink
        self._planner = planner
        self._clock = clock
        self._longest = longest
        self._hurry = hurry
        self._tracer = tracer

    async def submit(self, jobs: Sequence[NewJob]) -> list[SubmitResult]:
        """Checks and stores each job on its own; one result for each, in order."""
        results = await asyncio.gather(*(self._submit_one(job) for job in jobs))
        made = [result.accepted for result in results if result.HasField("accepted")]
        recurring = [accepted for accepted in made if accepted.HasField("schedule")]
        if recurring:
            await self._plan([accepted.schedule for accepted in recurring], now=recurring[0].now)
        return results

    async def put(self, request: PutJobRequest, timeout: float) -> PutJobResponse:
        """Checks and stores a job under its own id. Raises InvalidArgument, or the store's error."""
        timing = convert.timing_of(request.job.spec)
        refusals = _refusals(timing, request.job)
        if refusals:
            raise convert.refusal_error(refusals)
        response = await self._sink.put(request, timeout)
        self._stored(timing)
        if response.HasField("schedule"):
            await self._plan([response.schedule], now=response.now)
            # The answer was made before the plan.
            convert.show_first_fire(response, decide(response.schedule, response.now))
        return response

    async def _submit_one(self, job: NewJob) -> SubmitResult:
        attributes = {"easyq.task": job.task_id, "easyq.job": job.job_id}
        with self._tracer.span("admit", parse(job.trace), attributes=attributes) as span:
            result = await self._admit(job)
            if result.HasField("error"):
                span.note(error__type=str(result.error.code))
            return result

    async def _admit(self, job: NewJob) -> SubmitResult:
        timing = convert.timing_of(job.spec)
        refusals = _refusals(timing, job) or self._window(timing, job)
        if refusals:
            log.info("job_refused", task=job.task_id, job=job.job_id, field=refusals[0].field)
            return convert.error_result(convert.refusal_error(refusals))
        try:
            result = await self._sink.submit(job)
        except EasyQError as error:
            return convert.error_result(error)
        if result.HasField("accepted"):
            self._stored(timing)
        return result

    async def _plan(self, schedules: Sequence[DueSchedule], *, now: int) -> None:
        """Tells the store when these jobs fire first, for whoever looks at them now; the poll would do it too."""
        try:
            recorded = await self._planner.record(schedules, now=now)
        except EasyQError as error:
            log.warning("first_plan_failed", jobs=len(schedules), error=str(error))
            self._hurry()
            return
        if recorded.soonest is not None and recorded.soonest - now < self._longest * 1000:
            self._hurry()

    def _window(self, timing: Timing, job: NewJob) -> list[Refusal]:
        """Only of new jobs: the times of one that is there may count from earlier, as whoever puts it has asked."""
        end = convert.end_of_window(job.spec)
        if timing.cron is None or end is None:
            return []
        now = self._clock.now_ms()
        return window_problems(State(cursor_ms=now), convert.rules_of(job.spec, job.job_id, anchor_ms=now), end)

    def _stored(self, timing: Timing) -> None:
        if due_before_next_poll(timing, now_ms=self._clock.now_ms(), longest=self._longest):
            self._hurry()


def _refusals(timing: Timing, job: NewJob) -> list[Refusal]:
    refusal = check(timing)
    if refusal is not None:
        return [refusal]
    return schedule_problems(convert.rules_of(job.spec, job.job_id)) if timing.cron is not None else []
