"""Times, failures, errors of items, bounds."""

from collections.abc import Iterable
from enum import IntEnum
from typing import TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from easyq.v1.error_reason_pb2 import ErrorReason
from easyq.v1.job_pb2 import Failure as FailureMessage
from easyq.v1.job_service_pb2 import FieldError
from easyq_chassis.errors import EasyQError, FieldProblem, InvalidArgument
from easyq_internal.store.v1.records_pb2 import Head as HeadMessage
from easyq_internal.store.v1.records_pb2 import ItemError
from easyq_internal.store.v1.records_pb2 import Needs as NeedsMessage
from easyq_store.domain.records import Failure, Head, Needs
from easyq_store.domain.states import FailureReason

_MOST = 5_000

Member = TypeVar("Member", bound=IntEnum)


def timestamp(ms: int | None) -> Timestamp | None:
    """Milliseconds since the epoch as a message."""
    return None if ms is None else Timestamp(seconds=ms // 1000, nanos=ms % 1000 * 1_000_000)


def timestamp_ms(message: Timestamp) -> int:
    """A message as milliseconds since the epoch."""
    return message.seconds * 1000 + message.nanos // 1_000_000


def duration(ms: int | None) -> Duration | None:
    """Milliseconds as a message; not negative."""
    return None if ms is None else Duration(seconds=ms // 1000, nanos=ms % 1000 * 1_000_000)


def duration_ms(message: Duration) -> int:
    """A message as milliseconds."""
    return message.seconds * 1000 + message.nanos // 1_000_000


def failure(record: Failure | None) -> FailureMessage | None:
    """A failure as a message."""
    if record is None:
        return None
    return FailureMessage(reason=FailureMessage.Reason.ValueType(record.reason), message=record.message)


def failure_of(message: FailureMessage) -> Failure:
    """A message as a failure; a reason that this version doesn't know is kept as its sentence only."""
    known = FailureReason._value2member_map_
    reason = FailureReason(message.reason) if message.reason in known else FailureReason.UNSPECIFIED
    return Failure(reason=reason, message=message.message)


def head(record: Head | None) -> HeadMessage | None:
    """A ready execution as a message, if it is one."""
    return None if record is None else ready(record)


def ready(record: Head) -> HeadMessage:
    """A ready execution as a message."""
    return HeadMessage(
        execution_id=record.execution_id,
        task_id=record.task_id,
        priority=record.priority,
        queue_seq=record.queue_seq,
        epoch=record.epoch,
        needs=needs(record.needs),
        image=record.image,
    )


def needs(record: Needs | None) -> NeedsMessage | None:
    """What an execution asks of its host, if it asks for anything."""
    if record is None:
        return None
    return NeedsMessage(
        cpu_millis=record.cpu_millis, memory=record.memory, gpus=record.gpus, labels=dict(record.labels)
    )


def item_error(error: EasyQError) -> ItemError:
    """Why one item of a batch was refused."""
    return ItemError(
        code=error.code,
        reason=ErrorReason.Code.Value(error.reason),
        message=error.message,
        fields=[FieldError(field=problem.field, message=problem.message) for problem in error.fields],
    )


def members(kind: type[Member], numbers: Iterable[int], field: str) -> tuple[Member, ...]:
    """Numbers of an enumeration as its members, each once, sorted; UNSPECIFIED is left out.

    Errors: INVALID_ARGUMENT naming the field, where this version doesn't know a number.
    """
    try:
        return tuple(sorted({kind(number) for number in numbers if number}))
    except ValueError as error:
        problem = FieldProblem(field=field, message="has a value that this version doesn't know")
        raise InvalidArgument(f"{field}: {error}", fields=[problem]) from error


def limit(asked: int) -> int:
    """A limit within 1 to 5,000."""
    return max(1, min(asked, _MOST))
