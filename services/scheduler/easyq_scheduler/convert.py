"""Between the messages and the domain: the timing of a spec, and refusals as errors of items."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from easyq.v1 import job_pb2, spec_pb2
from easyq.v1.error_reason_pb2 import ErrorReason
from easyq.v1.job_service_pb2 import FieldError
from easyq.v1.spec_pb2 import JobSpec
from easyq_chassis.errors import EasyQError, FieldProblem, InvalidArgument
from easyq_internal.scheduler.v1.scheduler_pb2 import PreviewScheduleRequest
from easyq_internal.store.v1.job_store_pb2 import PutJobResponse, SubmitResult
from easyq_internal.store.v1.records_pb2 import DueSchedule, ItemError
from easyq_internal.store.v1.time_store_pb2 import Fire, ScheduleDecision
from easyq_scheduler.domain.admission import Refusal, Timing
from easyq_scheduler.domain.plan import Misfire, Plan, Reason, Rules, Skip, State
from easyq_scheduler.domain.schedule import Schedule

_REASONS = {
    Reason.MISFIRED: job_pb2.Skip.MISFIRED,
    Reason.COALESCED: job_pb2.Skip.COALESCED,
    Reason.MISFIRE_BOUND: job_pb2.Skip.MISFIRE_BOUND,
}
_MISFIRES = {spec_pb2.Misfire.SKIP: Misfire.SKIP, spec_pb2.Misfire.ALL: Misfire.ALL}
_MISFIRE_DEADLINE_MS = 60_000


def timing_of(spec: JobSpec) -> Timing:
    """The times that a spec asks for."""
    return Timing(
        start_at_ms=_timestamp_ms(spec.start_at) if spec.HasField("start_at") else None,
        start_in_ms=_duration_ms(spec.start_in) if spec.HasField("start_in") else None,
        cron=spec.cron if spec.HasField("cron") else None,
        expiration_ms=_timestamp_ms(spec.expiration) if spec.HasField("expiration") else None,
    )


def rules_of(spec: JobSpec, job_id: str, *, anchor_ms: int = 0) -> Rules:
    """When a recurring job fires. A fire after the job's expiration could never start, so there is none."""
    ends = [_timestamp_ms(getattr(spec, name)) for name in ("end_at", "expiration") if spec.HasField(name)]
    return Rules(
        schedule=Schedule(expression=spec.cron, job_id=job_id, zone=spec.time_zone or "UTC", anchor_ms=anchor_ms),
        jitter_ms=_duration_ms(spec.jitter),
        start_after_ms=_timestamp_ms(spec.start_after) if spec.HasField("start_after") else None,
        end_at_ms=min(ends, default=None),
        max_runs=spec.max_runs or None,
        misfire=_MISFIRES.get(spec.misfire, Misfire.ONCE),
        misfire_deadline_ms=(
            _duration_ms(spec.misfire_deadline) if spec.HasField("misfire_deadline") else _MISFIRE_DEADLINE_MS
        ),
    )


def end_of_window(spec: JobSpec) -> int | None:
    """The latest time that a fire may have, ms since the epoch, as far as it was asked for as such."""
    return _timestamp_ms(spec.end_at) if spec.HasField("end_at") else None


def state_of(due: DueSchedule) -> State:
    """How far a job's fires are decided."""
    return State(cursor_ms=due.cursor or due.anchor, runs=due.runs)


def preview_state(request: PreviewScheduleRequest, now: int) -> State:
    """From where a preview goes on: never into the past, whose fires are decided by the misfire policy."""
    return State(cursor_ms=max(request.cursor, now), runs=request.runs)


def decision(due: DueSchedule, plan: Plan) -> ScheduleDecision:
    """What was decided, for the store to record."""
    return ScheduleDecision(
        job_id=due.job_id,
        revision=due.revision,
        cursor=due.cursor,
        fires=[Fire(nominal=fire.nominal_ms, due_at=fire.due_ms) for fire in plan.fires],
        skips=[_skip(skip) for skip in plan.skips],
        new_cursor=plan.state.cursor_ms,
        next_at=plan.next.due_ms if plan.next else 0,
        next_fire=plan.next.nominal_ms if plan.next else 0,
    )


def show_first_fire(response: PutJobResponse, decided: ScheduleDecision) -> None:
    """Tells in the answer of a PUT when the job fires next."""
    if decided.next_fire:
        response.job.next_run_at.FromMilliseconds(decided.next_at)
        response.job.schedule.next_fire_at.FromMilliseconds(decided.next_fire)


def undecided(due: DueSchedule, *, next_at: int) -> ScheduleDecision:
    """Nothing was decided; the job is looked at again at `next_at` (ms)."""
    return ScheduleDecision(
        job_id=due.job_id, revision=due.revision, cursor=due.cursor, new_cursor=due.cursor, next_at=next_at
    )


def refusal_error(refusals: Sequence[Refusal]) -> InvalidArgument:
    """Refusals as the error that a unary call raises."""
    return InvalidArgument(
        "; ".join(f"{refusal.field}: {refusal.problem}" for refusal in refusals),
        reason="INVALID_FIELDS",
        fields=tuple(FieldProblem(field=refusal.field, message=refusal.problem) for refusal in refusals),
    )


def field_error(refusal: Refusal) -> FieldError:
    """A refusal as a field of a preview's answer."""
    return FieldError(field=refusal.field, message=refusal.problem)


def error_result(error: EasyQError) -> SubmitResult:
    """An error as the result of one item of a batch."""
    return SubmitResult(
        error=ItemError(
            code=error.code,
            reason=ErrorReason.Code.Value(error.reason),
            message=str(error),
            fields=[FieldError(field=one.field, message=one.message) for one in error.fields],
        )
    )


def seconds(duration: Duration) -> float:
    """A Duration in seconds."""
    return duration.seconds + duration.nanos / 1e9


def _skip(skip: Skip) -> job_pb2.Skip:
    told = job_pb2.Skip(reason=_REASONS[skip.reason], count=skip.count)
    told.first.FromMilliseconds(skip.first_ms)
    told.last.FromMilliseconds(skip.last_ms)
    return told


def _timestamp_ms(value: Timestamp) -> int:
    return value.seconds * 1000 + value.nanos // 1_000_000


def _duration_ms(value: Duration) -> int:
    return value.seconds * 1000 + value.nanos // 1_000_000
