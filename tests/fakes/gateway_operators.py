"""What the gateway's fake store does for recurring jobs, for many jobs at once, and for hosts."""

import re
from collections.abc import Awaitable, Callable
from typing import Any, Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from easyq.v1 import farm_service_pb2, job_pb2, job_service_pb2
from easyq.v1.job_pb2 import Execution, Job
from easyq_chassis.errors import FailedPrecondition, FieldProblem, InvalidArgument, NotFound
from easyq_chassis.patterns import Pattern
from easyq_internal.scheduler.v1 import scheduler_pb2
from easyq_internal.store.v1 import farm_store_pb2, job_store_pb2, records_pb2

ENDED = frozenset({Job.SUCCEEDED, Job.FAILED, Job.TIMED_OUT, Job.STOPPED, Job.EXPIRED})
HELD = frozenset({Execution.ASSIGNED, Execution.RUNNING})
HOUR_MS = 3_600_000
_ALIASES = frozenset({"@hourly", "@daily", "@weekly", "@monthly", "@yearly"})
_FIELD = re.compile(r"[-*/,0-9A-Za-z#]+")


class _Store(Protocol):
    """What these need of the fake store."""

    jobs: dict[str, Job]
    executions: dict[str, Execution]
    order: list[str]
    agents: list[farm_service_pb2.Agent]

    def job(self, task_id: str, job_id: str) -> Job: ...

    def _of_job(self, job_id: str) -> list[Execution]: ...

    def _shown(self, job: Job, executions: int) -> Job: ...

    def _stamp(self, field: Any) -> None: ...

    def _attempt(self, job: Job, execution_id: str, trigger: Any) -> Execution: ...

    def _add_head(self, answer: Any, execution: Execution) -> None: ...

    async def stop(self, request: job_store_pb2.StopJobRequest) -> job_store_pb2.StopJobResponse: ...


class Operators:
    """Mixed into the fake store."""

    def begin_schedule(self: _Store, job: Job) -> None:
        """A new recurring job: active, not planned yet."""
        job.state = Job.ACTIVE
        self._stamp(job.schedule.anchor)

    def plan(self: _Store, job_id: str, next_fire_ms: int, *, runs: int = 0) -> None:
        """What a scheduler's decision leaves behind."""
        job = self.jobs[job_id]
        job.schedule.runs = runs
        job.schedule.next_fire_at.FromMilliseconds(next_fire_ms)
        job.schedule.decided_until.FromMilliseconds(next_fire_ms - HOUR_MS)
        job.next_run_at.FromMilliseconds(next_fire_ms)

    def fire(self: _Store, job_id: str, execution_id: str) -> Execution:
        """An execution of a recurring job."""
        job = self.jobs[job_id]
        state = job.state
        execution = self._attempt(job, execution_id, job_pb2.Trigger.SCHEDULE)
        execution.fire_at.CopyFrom(execution.due_at)
        job.state = state
        return execution

    def pause(self: _Store, request: job_store_pb2.PauseJobRequest) -> job_store_pb2.PauseJobResponse:
        job = _recurring(self.job(request.task_id, request.job_id))
        if job.state == Job.ACTIVE:
            job.state = Job.PAUSED
            self._stamp(job.schedule.paused_at)
            job.ClearField("next_run_at")
            job.schedule.ClearField("next_fire_at")
        return job_store_pb2.PauseJobResponse(job=self._shown(job, 20))

    def resume(self: _Store, request: job_store_pb2.ResumeJobRequest) -> job_store_pb2.ResumeJobResponse:
        job = _recurring(self.job(request.task_id, request.job_id))
        job.state = Job.ACTIVE
        job.schedule.ClearField("paused_at")
        return job_store_pb2.ResumeJobResponse(job=self._shown(job, 20))

    def trigger(self: _Store, request: job_store_pb2.TriggerJobRequest) -> job_store_pb2.TriggerJobResponse:
        job = self.job(request.task_id, request.job_id)
        answer = job_store_pb2.TriggerJobResponse(task_id=job.task_id, job_id=job.job_id)
        still = [one for one in self._of_job(job.job_id) if one.state in HELD or one.state == Execution.QUEUED]
        if job.spec.HasField("cron"):
            _recurring(job)
            if still and job.spec.overlap == 2:
                raise FailedPrecondition("one of its executions waits or runs", reason="OVERLAP")
            if still:
                for one in still:
                    answer.hints.add(execution_id=one.execution_id, epoch=1, agent_id=one.host)
                return answer
            state = job.state
            execution = self._attempt(job, request.execution_id, job_pb2.Trigger.MANUAL)
            job.state = state
        elif job.state == Job.SCHEDULED:
            execution = self._of_job(job.job_id)[-1]
            execution.state = Execution.QUEUED
            job.state = Job.QUEUED
        else:
            raise FailedPrecondition("it waits for no time", reason="ILLEGAL_STATE")
        answer.execution_id = execution.execution_id
        self._add_head(answer, execution)
        return answer

    def delete(self: _Store, request: job_store_pb2.DeleteJobRequest) -> job_store_pb2.DeleteJobResponse:
        job = self.job(request.task_id, request.job_id)
        if job.state not in ENDED and not request.force:
            raise FailedPrecondition("the job has not ended", reason="NEEDS_FORCE")
        return _delete(self, job)

    def delete_task(self: _Store, request: job_store_pb2.DeleteTaskRequest) -> job_store_pb2.DeleteTaskResponse:
        jobs = [job for job in self.jobs.values() if job.task_id == request.task_id]
        if not jobs:
            raise NotFound("there is no such task", reason="TASK_NOT_FOUND")
        if not request.force:
            raise FailedPrecondition("the task has jobs", reason="NEEDS_FORCE")
        answer = job_store_pb2.DeleteTaskResponse(more=len(jobs) > request.limit)
        for job in jobs[: request.limit]:
            done = _delete(self, job)
            answer.deleted += not done.stopping
            answer.stopping += done.stopping
            answer.hints.extend(done.hints)
        return answer

    async def stop_many(self: _Store, request: job_store_pb2.ManyRequest) -> job_store_pb2.ManyResponse:
        async def one(job: Job, answer: job_store_pb2.ManyResponse) -> None:
            stopped = await self.stop(job_store_pb2.StopJobRequest(job_id=job.job_id))
            stopping = stopped.outcome == job_service_pb2.StopJobResponse.STOPPING
            answer.done += not stopping
            answer.stopping += stopping
            answer.hints.extend(stopped.hints)

        return await _many(self, request, one, lambda job: job.state not in ENDED)

    async def retry_many(self: _Store, request: job_store_pb2.ManyRequest) -> job_store_pb2.ManyResponse:
        async def one(job: Job, answer: job_store_pb2.ManyResponse) -> None:
            execution = self._attempt(job, f"retry-of-{job.job_id}", job_pb2.Trigger.MANUAL)
            answer.ready.add(execution_id=execution.execution_id, task_id=job.task_id)
            answer.done += 1

        return await _many(self, request, one, lambda job: job.state in ENDED)

    async def delete_many(self: _Store, request: job_store_pb2.ManyRequest) -> job_store_pb2.ManyResponse:
        async def one(job: Job, answer: job_store_pb2.ManyResponse) -> None:
            _delete(self, job)
            answer.done += 1

        return await _many(self, request, one, lambda job: job.state in ENDED)

    def count_executions(self: _Store, task_id: str) -> job_store_pb2.CountExecutionsResponse:
        mine = [one for one in self.executions.values() if one.task_id == task_id]
        return job_store_pb2.CountExecutionsResponse(
            queued=sum(one.state == Execution.QUEUED for one in mine), held=sum(one.state in HELD for one in mine)
        )

    def queued_tasks(self: _Store, after: str, limit: int) -> list[str]:
        names = {one.task_id for one in self.executions.values() if one.state == Execution.QUEUED}
        return sorted(name for name in names if name > after)[:limit]

    def list_waiting(self: _Store, request: Any) -> job_store_pb2.ListWaitingResponse:
        found = [
            one for one in self.executions.values() if one.task_id == request.task_id and one.state == Execution.QUEUED
        ]
        return job_store_pb2.ListWaitingResponse(items=found[: request.limit])

    def agent(self: _Store, agent_id: str) -> farm_service_pb2.Agent:
        for agent in self.agents:
            if agent.agent_id == agent_id:
                return agent
        raise NotFound(f"there is no agent {agent_id[:64]}", reason="AGENT_NOT_FOUND")

    def set_upkeep(self: Any, request: farm_store_pb2.SetUpkeepRequest) -> farm_store_pb2.SetUpkeepResponse:
        agent = self.agent(request.agent_id)
        for field in ("cordoned_at", "drained_at", "drain_deadline"):
            agent.ClearField(field)
        if request.upkeep.cordoned:
            self._stamp(agent.cordoned_at)
        if request.upkeep.draining:
            self._stamp(agent.drained_at)
        if request.upkeep.HasField("deadline_in"):
            agent.drain_deadline.seconds = agent.drained_at.seconds + request.upkeep.deadline_in.seconds
        self.wishes += 1
        told = records_pb2.Upkeep(version=self.wishes)
        told.MergeFrom(request.upkeep)
        return farm_store_pb2.SetUpkeepResponse(agent=agent, upkeep=told)

    def declare_dead(self: Any, agent_id: str) -> farm_store_pb2.DeclareDeadResponse:
        agent = self.agent(agent_id)
        agent.state = farm_service_pb2.Agent.DEAD
        answer = farm_store_pb2.DeclareDeadResponse(agent=agent)
        for execution in list(self.executions.values()):
            if execution.host == agent_id and execution.state in HELD:
                execution.state = Execution.LOST
                job = self.jobs[execution.job_id]
                again = self._attempt(job, f"again-{execution.execution_id}", job_pb2.Trigger.INFRA_RETRY)
                answer.ready.add(execution_id=again.execution_id, task_id=again.task_id)
                answer.lost += 1
        return answer


def _recurring(job: Job) -> Job:
    if not job.spec.HasField("cron"):
        raise FailedPrecondition("the job does not recur", reason="NOT_RECURRING")
    if job.state in ENDED:
        raise FailedPrecondition("the job has ended", reason="ILLEGAL_STATE")
    return job


def _delete(store: _Store, job: Job) -> job_store_pb2.DeleteJobResponse:
    answer = job_store_pb2.DeleteJobResponse()
    for execution in store._of_job(job.job_id):
        if execution.state in HELD:
            answer.stopping = True
            answer.hints.add(execution_id=execution.execution_id, epoch=1, agent_id=execution.host)
    if not answer.stopping:
        del store.jobs[job.job_id]
        store.order.remove(job.job_id)
        for execution in store._of_job(job.job_id):
            del store.executions[execution.execution_id]
    return answer


async def _many(
    store: _Store,
    request: job_store_pb2.ManyRequest,
    change: Callable[[Job, job_store_pb2.ManyResponse], Awaitable[None]],
    possible: Callable[[Job], bool],
) -> job_store_pb2.ManyResponse:
    """One page in the order of ids, so that a cursor holds while jobs go."""
    answer = job_store_pb2.ManyResponse()
    try:
        Pattern(request.selection.task_pattern)
    except ValueError as error:
        told = FieldProblem(field="taskPattern", message=str(error))
        raise InvalidArgument(f"taskPattern: {error}", fields=[told]) from error
    ids = [job_id for job_id in sorted(store.jobs) if job_id > request.cursor]
    for job_id in ids[: request.limit]:
        job = store.jobs[job_id]
        if possible(job) and selected(job, request.selection):
            answer.matched += 1
            if not request.dry_run:
                await change(job, answer)
    if len(ids) > request.limit:
        answer.next_cursor = ids[request.limit - 1]
    return answer


def selected(job: Job, selection: job_service_pb2.JobSelection) -> bool:
    """Whether a job matches all conditions."""
    labels = [pair.partition("=") for pair in selection.label]
    return (
        selection.task_id in {"", job.task_id}
        and (not selection.task_pattern or Pattern(selection.task_pattern).matches(job.task_id))
        and (not selection.state or job.state in selection.state)
        and (not selection.reason or job.error.reason in selection.reason)
        and all(job.spec.labels.get(key) == value for key, _, value in labels)
    )


def preview(request: scheduler_pb2.PreviewScheduleRequest, now_ms: int) -> scheduler_pb2.PreviewScheduleResponse:
    """A scheduler that knows the form of expressions, and fires every hour whatever they say."""
    answer = scheduler_pb2.PreviewScheduleResponse()
    spec = request.spec
    fields = spec.cron.split()
    if spec.cron not in _ALIASES and not (len(fields) in {5, 6} and all(_FIELD.fullmatch(one) for one in fields)):
        answer.problems.add(field="cron", message="is not a cron expression")
    try:
        ZoneInfo(spec.time_zone)
    except (ZoneInfoNotFoundError, ValueError):
        answer.problems.add(field="timeZone", message="is not a time zone")
    begin = max(request.anchor, request.cursor) or now_ms
    first = (max(begin, spec.start_after.ToMilliseconds() - 1) // HOUR_MS + 1) * HOUR_MS
    if not answer.problems and not request.anchor and spec.HasField("end_at") and spec.end_at.ToMilliseconds() < first:
        answer.problems.add(field="endAt", message="is before the first fire")
    if not answer.problems:
        answer.fires.extend(first + index * HOUR_MS for index in range(request.count))
    return answer
