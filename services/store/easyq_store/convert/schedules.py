"""Recurring jobs: their schedules, what is due of them, what schedulers decide."""

from collections.abc import Sequence

from easyq.v1.job_pb2 import Schedule as ScheduleMessage
from easyq.v1.job_pb2 import Skip as SkipMessage
from easyq_chassis.errors import FieldProblem, InvalidArgument
from easyq_internal.store.v1 import time_store_pb2 as pb
from easyq_internal.store.v1.job_store_pb2 import StopHint
from easyq_internal.store.v1.records_pb2 import DueSchedule
from easyq_store.convert.basics import duration, ready, timestamp, timestamp_ms
from easyq_store.convert.spec import about_time
from easyq_store.domain.records import Execution, Job, Schedule, Skip
from easyq_store.domain.recurring import Fire, FireDecision
from easyq_store.domain.states import SkipReason, Trigger
from easyq_store.usecases.schedules import DueSchedules, Fired


def schedule(record: Schedule | None, skips: Sequence[Skip]) -> ScheduleMessage | None:
    """How far a recurring job's schedule is; None: it does not recur."""
    if record is None:
        return None
    return ScheduleMessage(
        anchor=timestamp(record.anchor),
        # Planning alone puts the cursor where the times are counted from.
        decided_until=timestamp(record.cursor) if record.cursor > record.anchor else None,
        next_fire_at=timestamp(record.next_fire),
        runs=record.runs,
        skipped=record.skipped,
        paused_at=timestamp(record.paused_at),
        waiting_fire_at=timestamp(record.waiting.nominal) if record.waiting is not None else None,
        skips=[_skip(skip) for skip in skips],
    )


def _skip(record: Skip) -> SkipMessage:
    return SkipMessage(
        reason=SkipMessage.Reason.ValueType(record.reason),
        first=timestamp(record.first),
        last=timestamp(record.last),
        count=record.count,
        decided_at=timestamp(record.decided_at),
    )


def due_schedule(job: Job | None) -> DueSchedule | None:
    """A recurring job as far as its fires need it, if it is one."""
    if job is None or job.schedule is None:
        return None
    waiting = job.schedule.waiting
    # A fire that waits will run: there is no room for it twice within `max_runs`.
    waits = waiting is not None and waiting.trigger is Trigger.SCHEDULE
    return DueSchedule(
        job_id=job.job_id,
        task_id=job.task_id,
        revision=job.revision,
        anchor=job.schedule.anchor,
        cursor=job.schedule.cursor,
        runs=job.schedule.runs + waits,
        spec=about_time(job.spec),
    )


def due_schedules(due: DueSchedules) -> pb.ListDueSchedulesResponse:
    """What is due."""
    items = [message for message in map(due_schedule, due.items) if message is not None]
    return pb.ListDueSchedulesResponse(items=items, next_in=duration(due.next_in_ms), now=due.now)


def decision(message: pb.ScheduleDecision, *, now: int) -> FireDecision:
    """What a scheduler decided. Errors: INVALID_ARGUMENT (a reason that this version doesn't know)."""
    return FireDecision(
        job_id=message.job_id,
        revision=message.revision,
        cursor=message.cursor,
        fires=tuple(Fire(nominal=fire.nominal, due_at=fire.due_at) for fire in message.fires),
        skips=tuple(_decided_skip(skip, now) for skip in message.skips),
        new_cursor=message.new_cursor,
        next_at=message.next_at or None,
        next_fire=message.next_fire or None,
    )


def _decided_skip(message: SkipMessage, now: int) -> Skip:
    if message.reason not in SkipReason._value2member_map_:
        problem = FieldProblem(field="skips.reason", message="has a value that this version doesn't know")
        raise InvalidArgument(f"skips.reason: {message.reason}", fields=[problem])
    return Skip(
        first=timestamp_ms(message.first),
        last=timestamp_ms(message.last),
        count=message.count,
        reason=SkipReason(message.reason),
        decided_at=now,
    )


def fired(result: Fired) -> pb.FireSchedulesResponse:
    """What decisions came to."""
    return pb.FireSchedulesResponse(
        ready=[ready(head) for head in result.ready],
        stops=stop_hints(result.stops),
        recorded=result.recorded,
    )


def stop_hints(executions: Sequence[Execution]) -> list[StopHint]:
    """Who must be told to end a container."""
    return [StopHint(execution_id=e.execution_id, epoch=e.epoch, agent_id=e.agent_id) for e in executions]
