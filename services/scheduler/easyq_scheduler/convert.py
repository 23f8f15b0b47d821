"""Between the messages and the domain: the timing of a spec, and refusals as errors of items."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from easyq.v1.error_reason_pb2 import ErrorReason
from easyq.v1.spec_pb2 import JobSpec
from easyq_chassis.errors import EasyQError, FieldProblem, InvalidArgument
from easyq_internal.store.v1.job_store_pb2 import SubmitResult
from easyq_internal.store.v1.records_pb2 import ItemError
from easyq_scheduler.domain.admission import Grounds, Refusal, Timing

_REASONS = {Grounds.INVALID: "INVALID_FIELDS", Grounds.NOT_SUPPORTED: "NOT_SUPPORTED"}


def timing_of(spec: JobSpec) -> Timing:
    """The times that a spec asks for."""
    return Timing(
        start_at_ms=_timestamp_ms(spec.start_at) if spec.HasField("start_at") else None,
        start_in_ms=_duration_ms(spec.start_in) if spec.HasField("start_in") else None,
        cron=spec.cron if spec.HasField("cron") else None,
        expiration_ms=_timestamp_ms(spec.expiration) if spec.HasField("expiration") else None,
    )


def refusal_error(refusal: Refusal) -> InvalidArgument:
    """A refusal as the error that a unary call raises."""
    return InvalidArgument(
        f"{refusal.field}: {refusal.problem}",
        reason=_REASONS[refusal.grounds],
        fields=(FieldProblem(field=refusal.field, message=refusal.problem),),
    )


def error_result(error: EasyQError) -> SubmitResult:
    """An error as the result of one item of a batch."""
    return SubmitResult(
        error=ItemError(
            code=error.code,
            reason=ErrorReason.Code.Value(error.reason),
            message=str(error),
        )
    )


def seconds(duration: Duration) -> float:
    """A Duration in seconds."""
    return duration.seconds + duration.nanos / 1e9


def _timestamp_ms(value: Timestamp) -> int:
    return value.seconds * 1000 + value.nanos // 1_000_000


def _duration_ms(value: Duration) -> int:
    return value.seconds * 1000 + value.nanos // 1_000_000
