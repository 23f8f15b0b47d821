"""Records as MongoDB documents, and back.

A document has the record's fields in lowerCamel, the record's id as `_id`, and `schemaVersion`. Enumerations are their
numbers, tuples are arrays, pairs are {key, value}, nested records are subdocuments. A field that is None is absent.
Beside these stand fields that only indexes need (see `mongo_schema`): each is computed from the record with every
write, is absent where it doesn't apply, and is ignored when the record is read.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import Enum
from types import NoneType
from typing import Any, Generic, TypeVar, get_args, get_origin, get_type_hints

from easyq_chassis.errors import FailedPrecondition
from easyq_store.domain.images import short_name
from easyq_store.domain.records import Agent, Execution, Job, Needs, Skip
from easyq_store.domain.states import ExecutionState

R = TypeVar("R", Job, Execution, Agent)
Document = dict[str, Any]

# Of the documents that this program writes. Raised together with a migration in `mongo_schema`.
SCHEMA_VERSION = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class _Codec:
    """How values of one type are stored."""

    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


_PLAIN = _Codec(encode=lambda value: value, decode=lambda value: value)
# Not an array: FerretDB stores none within arrays.
_PAIR = _Codec(
    encode=lambda pair: {"key": pair[0], "value": pair[1]}, decode=lambda stored: (stored["key"], stored["value"])
)


def _codec_of(hint: Any) -> _Codec:
    """The codec of a field's type; None is its owner's business."""
    arguments = get_args(hint)
    if NoneType in arguments:
        (inner,) = (argument for argument in arguments if argument is not NoneType)
        return _codec_of(inner)
    if get_origin(hint) is tuple:
        return _codec_of_tuple(arguments)
    if isinstance(hint, type) and is_dataclass(hint):
        nested = _Shape(hint)
        return _Codec(encode=nested.encode, decode=nested.decode)
    if issubclass(hint, Enum):
        return _Codec(encode=lambda value: value.value, decode=hint)
    if hint not in {int, str, bytes, bool}:
        raise TypeError(f"no codec for {hint}")
    return _PLAIN


def _codec_of_tuple(arguments: tuple[Any, ...]) -> _Codec:
    if arguments[-1] is not ...:
        return _PAIR
    element = _codec_of(arguments[0])
    return _Codec(
        encode=lambda values: [element.encode(value) for value in values],
        decode=lambda values: tuple(element.decode(value) for value in values),
    )


class _Shape:
    """The fields of one record type."""

    def __init__(self, record: type, id_field: str = "") -> None:
        self._record = record
        hints = get_type_hints(record)
        self._fields = [
            (field.name, "_id" if field.name == id_field else _camel(field.name), _codec_of(hints[field.name]))
            for field in fields(record)
        ]
        for field in fields(record):
            if NoneType in get_args(hints[field.name]) and field.default is not None:
                raise TypeError(f"absent means None: {field.name} needs None as its default")
        self.keys = frozenset(key for _, key, _ in self._fields)

    def encode(self, record: Any) -> Document:
        document: Document = {}
        for name, key, codec in self._fields:
            value = getattr(record, name)
            if value is not None:
                document[key] = codec.encode(value)
        return document

    def decode(self, document: Mapping[str, Any]) -> Any:
        return self._record(
            **{name: codec.decode(document[key]) for name, key, codec in self._fields if key in document}
        )


def _camel(name: str) -> str:
    return re.sub("_(.)", lambda found: found.group(1).upper(), name)


class Kind(Generic[R]):
    """One type of records that change, and the collection that holds them."""

    def __init__(self, record: type[R], collection: str, id_field: str, derive: Callable[[R], Document]) -> None:
        self._shape = _Shape(record, id_field)
        self._derive: Callable[[R], Document] = derive
        self.collection = collection

    def encode(self, record: R) -> Document:
        """The record's whole document."""
        derived = {key: value for key, value in self._derive(record).items() if value is not None}
        return {**self._shape.encode(record), **derived, "schemaVersion": SCHEMA_VERSION}

    def decode(self, document: Mapping[str, Any]) -> R:
        """The document's record. Errors: FailedPrecondition (a newer program wrote it)."""
        if document["schemaVersion"] > SCHEMA_VERSION:
            raise FailedPrecondition(
                f"a newer EasyQ wrote this in {self.collection}: schema version {document['schemaVersion']},"
                f" this program knows {SCHEMA_VERSION}"
            )
        record: R = self._shape.decode(document)
        return record

    def numbered(self, record: R, write_no: int) -> R:
        """The record with this write number."""
        return replace(record, write_no=write_no)

    def update(self, stored: Mapping[str, Any], record: R) -> Document:
        """What makes the stored document that of the record, as an update; other programs' fields stay."""
        wanted = self.encode(record)
        ours = self._shape.keys | self._derive(record).keys()
        update: Document = {
            "$set": {
                key: value
                for key, value in wanted.items()
                # True == 1: a flag that was a number must be written too.
                if key not in stored or stored[key] != value or type(stored[key]) is not type(value)
            }
        }
        if gone := [key for key in stored if key in ours and key not in wanted]:
            update["$unset"] = dict.fromkeys(gone, "")
        return update


def idempotency(task_id: str, key: str) -> str:
    """A job's key beside its task's id, which has no slash."""
    return f"{task_id}/{key}"


def _derive_job(job: Job) -> Document:
    short = short_name(job.image)
    return {
        "idempotency": idempotency(job.task_id, job.idempotency_key) if job.idempotency_key else None,
        "shortImage": short if short != job.image else None,
        "endedOf": job.task_id if job.ended else None,
        "endedAt": job.last_modified_at if job.ended else None,
        "doomed": True if job.ended and job.delete_requested else None,
    }


def _derive_execution(execution: Execution) -> Document:
    queued = execution.state is ExecutionState.QUEUED
    has_logs = _may_have_logs(execution)
    return {
        "openOf": execution.job_id if _of_open_series(execution) else None,
        "heldBy": execution.agent_id if execution.held else None,
        "lineTask": execution.task_id if queued else None,
        "linePriority": execution.priority if queued else None,
        "lineSeq": execution.queue_seq if queued else None,
        "firesAt": execution.due_at if execution.state is ExecutionState.SCHEDULED else None,
        "expiresAt": execution.latest_start if execution.waiting else None,
        "logsOf": execution.task_id if has_logs else None,
        "logsSince": execution.finished_at if has_logs else None,
    }


def _may_have_logs(execution: Execution) -> bool:
    if not execution.ended or execution.logs_removed_at is not None:
        return False
    sizes = execution.stdout_size, execution.stderr_size
    return sizes != (0, 0)


def _of_open_series(execution: Execution) -> bool:
    """Not ended, or with a successor that may not be inserted yet."""
    return not execution.ended or (execution.next is not None and execution.unsettled_since is not None)


def _derive_agent(_: Agent) -> Document:
    return {}


_NEEDS, _SKIP = _Shape(Needs), _Shape(Skip)


def needs(stored: Document | None) -> Needs | None:
    """What stands under `needs` in an execution's document."""
    decoded: Needs | None = None if stored is None else _NEEDS.decode(stored)
    return decoded


def stats_id(span: int, task_id: str, at: int) -> str:
    """The `_id` of a cell of statistics: those of a task are in the order of their times."""
    return f"{span}:{task_id}:{at:016}"


def spec_id(job_id: str, revision: int) -> str:
    """The id of a spec that is kept aside."""
    return f"{job_id}:{revision}"


def needs_document(record: Needs) -> Document:
    """What stands there for a record."""
    return _NEEDS.encode(record)


def skip_document(job_id: str, skip: Skip) -> Document:
    """A skip's document: its id is what makes a repeat harmless."""
    id_ = f"{job_id}:{skip.first:016}:{skip.reason.value}"
    return {"_id": id_, "jobId": job_id, **_SKIP.encode(skip), "schemaVersion": SCHEMA_VERSION}


def skip_record(document: Document) -> Skip:
    """A document's skip."""
    skip: Skip = _SKIP.decode(document)
    return skip


JOBS = Kind(Job, "jobs", "job_id", _derive_job)
EXECUTIONS = Kind(Execution, "executions", "execution_id", _derive_execution)
AGENTS = Kind(Agent, "agents", "agent_id", _derive_agent)
