"""A store for schedulers, in memory: jobs that have a time, fired by compare-and-set.

`FakeTimeStore` is the model (its clock is an argument); `serve` puts it behind a real socket.
"""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from easyq.v1.job_pb2 import Job, Skip
from easyq_chassis.batching import answer_batches
from easyq_chassis.errors import Aborted, EasyQError
from easyq_chassis.server import GrpcServer
from easyq_internal.store.v1 import job_store_pb2 as jobs
from easyq_internal.store.v1 import time_store_pb2 as times
from easyq_internal.store.v1.job_store_pb2_grpc import (
    JobStoreServiceServicer,
    add_JobStoreServiceServicer_to_server,
)
from easyq_internal.store.v1.records_pb2 import DueSchedule, Head
from easyq_internal.store.v1.time_store_pb2_grpc import (
    TimeStoreServiceServicer,
    add_TimeStoreServiceServicer_to_server,
)


@dataclass(kw_only=True)
class Waiting:
    """One execution that waits for its time; times in ms."""

    head: Head
    due_ms: int
    expires_ms: int | None = None


@dataclass(kw_only=True)
class Recurring:
    """One recurring job; `next_at` 0: it has no further fires."""

    job: jobs.NewJob
    anchor: int
    cursor: int = 0
    runs: int = 0
    next_at: int
    next_fire: int = 0

    def due(self) -> DueSchedule:
        """As a scheduler is told of it."""
        return DueSchedule(
            job_id=self.job.job_id,
            task_id=self.job.task_id,
            revision=1,
            anchor=self.anchor,
            cursor=self.cursor,
            runs=self.runs,
            spec=self.job.spec,
        )


class FakeTimeStore:
    """Keeps what waits, and what was fired or expired, in order and each time."""

    def __init__(self, now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        self.now_ms = now_ms
        self.waiting: dict[str, Waiting] = {}
        self.fired: list[str] = []
        self.fired_at_ms: dict[str, int] = {}
        self.expired: list[str] = []
        self.recurring: dict[str, Recurring] = {}
        # (job id, nominal time) of fires that ran, and what was skipped.
        self.fires: list[tuple[str, int]] = []
        self.skips: list[Skip] = []
        self.lists = 0
        self.failure: EasyQError | None = None

    def plan(self, job: jobs.NewJob) -> jobs.SubmitResult:
        """Inserts a job's first execution; a repeat changes nothing."""
        self._fail()
        key, spec = job.execution_id, job.spec
        if spec.cron:
            now = self.now_ms()
            one = self.recurring.setdefault(job.job_id, Recurring(job=job, anchor=now, next_at=now))
            return jobs.SubmitResult(accepted=jobs.SubmitAccepted(job_id=job.job_id, schedule=one.due(), now=now))
        if key not in self.waiting and key not in self.fired:
            due = self.now_ms() + spec.start_in.ToMilliseconds()
            if spec.HasField("start_at"):
                due = spec.start_at.ToMilliseconds()
            self.waiting[key] = Waiting(
                head=Head(execution_id=key, task_id=job.task_id),
                due_ms=due,
                expires_ms=spec.expiration.ToMilliseconds() if spec.HasField("expiration") else None,
            )
        return jobs.SubmitResult(accepted=jobs.SubmitAccepted(job_id=job.job_id, execution_id=key))

    async def list_due(self, limit: int) -> times.ListDueResponse:
        self._fail()
        self.lists += 1
        now = self.now_ms()
        ordered = sorted(self.waiting.values(), key=lambda one: one.due_ms)
        ripe = [one.head for one in ordered if one.due_ms <= now][:limit]
        response = times.ListDueResponse(
            items=[times.DueExecution(execution_id=head.execution_id, epoch=head.epoch) for head in ripe]
        )
        if len(ordered) > len(ripe):
            response.next_in.FromMilliseconds(max(0, ordered[len(ripe)].due_ms - now))
        return response

    async def fire(self, items: Sequence[times.DueExecution]) -> list[Head]:
        self._fail()
        ready = []
        for item in items:
            one = self.waiting.get(item.execution_id)
            if one is not None and one.head.epoch == item.epoch:
                del self.waiting[item.execution_id]
                self.fired.append(item.execution_id)
                self.fired_at_ms[item.execution_id] = self.now_ms()
                ready.append(one.head)
        return ready

    async def list_due_schedules(self, limit: int) -> times.ListDueSchedulesResponse:
        self._fail()
        now = self.now_ms()
        ordered = sorted((one for one in self.recurring.values() if one.next_at), key=lambda one: one.next_at)
        ripe = [one for one in ordered if one.next_at <= now][:limit]
        response = times.ListDueSchedulesResponse(items=[one.due() for one in ripe], now=now)
        if len(ordered) > len(ripe):
            response.next_in.FromMilliseconds(max(0, ordered[len(ripe)].next_at - now))
        return response

    async def fire_schedules(self, decisions: Sequence[times.ScheduleDecision]) -> times.FireSchedulesResponse:
        self._fail()
        told = times.FireSchedulesResponse()
        for decided in decisions:
            one = self.recurring.get(decided.job_id)
            if one is None or (decided.revision, decided.cursor) != (1, one.cursor):
                continue
            one.cursor, one.next_at, one.next_fire = decided.new_cursor, decided.next_at, decided.next_fire
            one.runs += len(decided.fires)
            self.skips += decided.skips
            for fire in decided.fires:
                self.fires.append((decided.job_id, fire.nominal))
                told.ready.append(Head(execution_id=f"{decided.job_id}@{fire.nominal}", task_id=one.job.task_id))
            told.recorded += 1
        return told

    async def expire_waiting(self, limit: int) -> times.ExpireWaitingResponse:
        self._fail()
        now = self.now_ms()
        bounded = sorted((one.expires_ms, key) for key, one in self.waiting.items() if one.expires_ms is not None)
        ripe = [key for at, key in bounded if at <= now][:limit]
        for key in ripe:
            del self.waiting[key]
            self.expired.append(key)
        response = times.ExpireWaitingResponse(expired=len(ripe))
        if len(bounded) > len(ripe):
            response.next_in.FromMilliseconds(max(0, bounded[len(ripe)][0] - now))
        return response

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure


async def serve(model: FakeTimeStore, listen: str) -> GrpcServer:
    """Serves `model` at `listen`; the caller stops it."""
    server = GrpcServer(listen)
    server.add(add_TimeStoreServiceServicer_to_server, _Times(model), "easyq_internal.store.v1.TimeStoreService")
    server.add(
        add_JobStoreServiceServicer_to_server,
        _Jobs(model),  # type: ignore[abstract] # the other methods stay UNIMPLEMENTED
        "easyq_internal.store.v1.JobStoreService",
    )
    await server.start()
    return server


class _Times(TimeStoreServiceServicer):
    def __init__(self, model: FakeTimeStore) -> None:
        self._model = model

    async def ListDue(self, request: times.ListDueRequest, context: Any) -> times.ListDueResponse:
        return await self._model.list_due(request.limit)

    async def Fire(self, request: times.FireRequest, context: Any) -> times.FireResponse:
        return times.FireResponse(ready=await self._model.fire(request.items))

    async def ListDueSchedules(
        self, request: times.ListDueSchedulesRequest, context: Any
    ) -> times.ListDueSchedulesResponse:
        return await self._model.list_due_schedules(request.limit)

    async def FireSchedules(self, request: times.FireSchedulesRequest, context: Any) -> times.FireSchedulesResponse:
        return await self._model.fire_schedules(request.items)

    async def ExpireWaiting(self, request: times.ExpireWaitingRequest, context: Any) -> times.ExpireWaitingResponse:
        return await self._model.expire_waiting(request.limit)


class _Jobs(JobStoreServiceServicer):
    def __init__(self, model: FakeTimeStore) -> None:
        self._model = model

    def Submit(self, requests: AsyncIterator[jobs.SubmitRequest], context: Any) -> AsyncIterator[jobs.SubmitResponse]:
        async def plan(items: Sequence[jobs.NewJob]) -> list[jobs.SubmitResult]:
            return [self._model.plan(job) for job in items]

        return answer_batches(requests, plan, jobs.SubmitResponse)

    async def PutJob(self, request: jobs.PutJobRequest, context: Any) -> jobs.PutJobResponse:
        if request.revision > 1:
            raise Aborted("the job has revision 1", reason="REVISION_MISMATCH")
        accepted = self._model.plan(request.job).accepted
        return jobs.PutJobResponse(
            job=Job(job_id=request.job.job_id, task_id=request.job.task_id),
            created=True,
            schedule=accepted.schedule if accepted.HasField("schedule") else None,
            now=accepted.now,
        )
