"""What the scheduler does: admit, fire, expire."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from easyq_chassis.clock import Clock
from easyq_chassis.errors import EasyQError
from easyq_chassis.faults import point
from easyq_chassis.logs import get_logger
from easyq_internal.store.v1.job_store_pb2 import NewJob, PutJobRequest, PutJobResponse, SubmitResult
from easyq_scheduler import convert
from easyq_scheduler.domain.admission import Timing, check
from easyq_scheduler.domain.pacing import due_before_next_poll, seconds_until_next
from easyq_scheduler.ports import JobSink, ReadyNews, TimeStore

log = get_logger()


class Admission:
    """Takes in jobs that have a time. Nothing is kept here: a job is the store's once it has answered."""

    def __init__(self, *, sink: JobSink, clock: Clock, longest: float, hurry: Callable[[], None]) -> None:
        """`hurry` is called where something may be due before a loop that sleeps up to `longest` seconds wakes."""
        self._sink = sink
        self._clock = clock
        self._longest = longest
        self._hurry = hurry

    async def submit(self, jobs: Sequence[NewJob]) -> list[SubmitResult]:
        """Checks and stores each job on its own; one result for each, in order."""
        return await asyncio.gather(*(self._submit_one(job) for job in jobs))

    async def put(self, request: PutJobRequest, timeout: float) -> PutJobResponse:
        """Checks and stores a job under its own id. Raises InvalidArgument, or the store's error."""
        timing = convert.timing_of(request.job.spec)
        refusal = check(timing)
        if refusal is not None:
            raise convert.refusal_error(refusal)
        response = await self._sink.put(request, timeout)
        self._stored(timing)
        return response

    async def _submit_one(self, job: NewJob) -> SubmitResult:
        timing = convert.timing_of(job.spec)
        refusal = check(timing)
        if refusal is not None:
            log.info("job_refused", task=job.task_id, job=job.job_id, field=refusal.field)
            return convert.error_result(convert.refusal_error(refusal))
        try:
            result = await self._sink.submit(job)
        except EasyQError as error:
            return convert.error_result(error)
        if result.HasField("accepted"):
            self._stored(timing)
        return result

    def _stored(self, timing: Timing) -> None:
        if due_before_next_poll(timing, now_ms=self._clock.now_ms(), longest=self._longest):
            self._hurry()


class DueRound:
    """Fires what is due, and says when to look again. Two of them at once are harmless: the store decides each."""

    def __init__(self, *, store: TimeStore, news: ReadyNews, page: int, longest: float, shortest: float) -> None:
        self._store = store
        self._news = news
        self._page = page
        self._longest = longest
        self._shortest = shortest

    async def run_once(self) -> float:
        """One page of due executions; seconds until the next round. Raises Unavailable while the store is away."""
        due = await self._store.list_due(self._page)
        ready = []
        if due.items:
            await point("scheduler.before_fire")
            ready = list(await self._store.fire(due.items))
            await point("scheduler.after_fire")
            self._news.announce(ready)
            log.debug("due_fired", listed=len(due.items), fired=len(ready))
        return seconds_until_next(
            next_in=convert.seconds(due.next_in) if due.HasField("next_in") else None,
            progressed=bool(ready),
            longest=self._longest,
            shortest=self._shortest,
        )


class ExpiryRound:
    """Ends what has waited too long, and says when to look again."""

    def __init__(self, *, store: TimeStore, page: int, longest: float, shortest: float) -> None:
        self._store = store
        self._page = page
        self._longest = longest
        self._shortest = shortest

    async def run_once(self) -> float:
        """One page of expiries; seconds until the next round. Raises Unavailable while the store is away."""
        done = await self._store.expire_waiting(self._page)
        if done.expired:
            log.info("waiting_expired", executions=done.expired)
        return seconds_until_next(
            next_in=convert.seconds(done.next_in) if done.HasField("next_in") else None,
            progressed=done.expired > 0,
            longest=self._longest,
            shortest=self._shortest,
        )
