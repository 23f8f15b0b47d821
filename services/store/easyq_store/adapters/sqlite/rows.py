"""Records as rows: the only conversion between them."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from itertools import compress
from operator import attrgetter, is_not
from typing import Any, Generic, TypeVar

from easyq_store.domain.records import (
    Agent,
    Delivery,
    Execution,
    Failure,
    Job,
    LogChunk,
    Needs,
    Planned,
    Schedule,
    Skip,
    Task,
    WaitingFire,
)
from easyq_store.domain.states import (
    AgentState,
    DeliveryState,
    ExecutionState,
    FailureReason,
    JobState,
    NoticeChannel,
    NoticeEvent,
    Outcome,
    SkipReason,
    Stream,
    Trigger,
)

Record = TypeVar("Record", Job, Execution, Agent, Delivery)

# What sqlite3 reads and writes.
Value = str | int | bytes | None
_Convert = Callable[[Any], Any]

_PLANNED = tuple(field.name for field in fields(Planned))
_planned_values = attrgetter(*_PLANNED)
_SCHEDULE = tuple(field.name for field in fields(Schedule))
_schedule_values = attrgetter(*_SCHEDULE)


def _dump_needs(needs: Needs) -> str:
    return _json([needs.cpu_millis, needs.memory, needs.gpus, needs.labels])


def load_needs(text: str | None) -> Needs | None:
    """What stands in a column `needs`."""
    if text is None:
        return None
    cpu_millis, memory, gpus, labels = json.loads(text)
    return Needs(cpu_millis=cpu_millis, memory=memory, gpus=gpus, labels=tuple((k, v) for k, v in labels))


def _planned_list(planned: Planned) -> list[Any]:
    values = list(_planned_values(planned))
    if planned.needs is not None:
        values[_PLANNED.index("needs")] = _dump_needs(planned.needs)
    return values


def _planned_of(stored: list[Any]) -> Planned:
    # Version 1 wrote fewer of them.
    values = dict(zip(_PLANNED, stored, strict=False))
    return Planned(**{**values, "trigger": Trigger(values["trigger"]), "needs": load_needs(values.get("needs"))})


def _dump_planned(planned: Planned) -> str:
    return _json(_planned_list(planned))


def _load_planned(text: str) -> Planned:
    return _planned_of(json.loads(text))


def _dump_all_planned(all_planned: Sequence[Planned]) -> str | None:
    return _json([_planned_list(planned) for planned in all_planned]) if all_planned else None


def _load_all_planned(text: str | None) -> tuple[Planned, ...]:
    return tuple(_planned_of(stored) for stored in json.loads(text)) if text else ()


def _dump_schedule(schedule: Schedule) -> str:
    values = zip(_SCHEDULE, _schedule_values(schedule), strict=True)
    stored = {name: value for name, value in values if value is not None and value != ()}
    if schedule.waiting is not None:
        stored["waiting"] = asdict(schedule.waiting)
    if schedule.unkept:
        stored["unkept"] = [asdict(skip) for skip in schedule.unkept]
    return _json(stored)


def _load_schedule(text: str) -> Schedule:
    stored = json.loads(text)
    if waiting := stored.get("waiting"):
        stored["waiting"] = WaitingFire(**{**waiting, "trigger": Trigger(waiting["trigger"])})
    stored["unkept"] = tuple(
        Skip(**{**skip, "reason": SkipReason(skip["reason"])}) for skip in stored.get("unkept", ())
    )
    return Schedule(**stored)


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _dump_failure(failure: Failure) -> str:
    return _json([failure.reason, failure.message])


def _load_failure(text: str) -> Failure:
    reason, message = json.loads(text)
    return Failure(reason=FailureReason(reason), message=message)


def _dump_list(values: Sequence[Any]) -> str | None:
    return _json(values) if values else None


def _load_list(text: str | None) -> tuple[str, ...]:
    return tuple(json.loads(text)) if text else ()


def _load_pairs(text: str | None) -> tuple[tuple[str, str], ...]:
    return tuple((key, value) for key, value in json.loads(text)) if text else ()


class RecordTable(Generic[Record]):
    """A table whose columns bear the names of a record's fields, with the statements on it.

    `dump` and `load` hold the conversions of the fields that are no plain values; NULL is converted by those in
    `load_null` only.
    """

    def __init__(
        self,
        name: str,
        record: type[Record],
        key: str,
        *,
        dump: Mapping[str, _Convert],
        load: Mapping[str, _Convert],
        load_null: frozenset[str] = frozenset(),
    ) -> None:
        self._name = name
        self._record: Any = record
        self._key = key
        self.columns = tuple(field.name for field in fields(record))
        self._indices = range(len(self.columns))
        self._has_slots = hasattr(record, "__slots__")
        self._values = attrgetter(*self.columns)
        self._dump = [(self.columns.index(column), convert) for column, convert in dump.items()]
        self._dump_by_index = dict(self._dump)
        self._load = [(self.columns.index(column), convert, column in load_null) for column, convert in load.items()]
        listed = ", ".join(f'"{column}"' for column in self.columns)
        marks = ", ".join("?" * len(self.columns))
        self.name = name
        self.listed = listed
        self.select = f"SELECT {listed} FROM {name}"  # noqa: S608 - names of this module
        self.insert = f"INSERT INTO {name} ({listed}) VALUES ({marks})"  # noqa: S608
        self.by_key = f'{self.select} WHERE "{key}" = ?'
        self._updates: dict[tuple[int, ...], str] = {}

    def row(self, record: Record) -> list[Value]:
        """The record's values in the order of the columns."""
        values = list(self._values(record))
        for index, convert in self._dump:
            if values[index] is not None:
                values[index] = convert(values[index])
        return values

    def record(self, row: Sequence[Any]) -> Record:
        """The record of a row of `select`."""
        values = list(row)
        for index, convert, even_null in self._load:
            if even_null or values[index] is not None:
                values[index] = convert(values[index])
        return self._made(values)

    def update(self, old: Record, new: Record) -> tuple[str, list[Value]]:
        """The statement that writes what differs, if the row still has the old `write_no`; and its values."""
        before, after = self._values(old), self._values(new)
        replaced = compress(self._indices, map(is_not, before, after))
        changed = tuple(index for index in replaced if before[index] != after[index])
        statement = self._updates.get(changed)
        if statement is None:
            assigned = ", ".join(f'"{self.columns[index]}" = ?' for index in changed)
            statement = f'UPDATE {self._name} SET {assigned} WHERE "{self._key}" = ? AND write_no = ?'  # noqa: S608
            self._updates[changed] = statement
        values: list[Value] = [self._dumped(index, after[index]) for index in changed]
        return statement, [*values, getattr(old, self._key), old.write_no]

    def _made(self, values: Sequence[Any]) -> Record:
        """A record of these values, in the order of the columns."""
        made: Record
        if self._has_slots:
            made = self._record(**dict(zip(self.columns, values, strict=True)))
        else:
            # As `evolve` does, and for the same reason: all fields are there, and nothing else happens in `__init__`.
            made = object.__new__(self._record)
            made.__dict__.update(zip(self.columns, values, strict=True))
        return made

    def _dumped(self, index: int, value: Any) -> Value:
        convert = self._dump_by_index.get(index)
        dumped: Value = convert(value) if convert is not None and value is not None else value
        return dumped


JOBS = RecordTable(
    "job",
    Job,
    "job_id",
    dump={
        "state": int,
        "labels": _dump_list,
        "metadata": _dump_list,
        "last_end": int,
        "pending": _dump_all_planned,
        "failure": _dump_failure,
        "delete_requested": int,
        "schedule": _dump_schedule,
        "requests": _dump_list,
    },
    load={
        "state": JobState,
        "labels": _load_list,
        "metadata": _load_list,
        "last_end": ExecutionState,
        "pending": _load_all_planned,
        "failure": _load_failure,
        "delete_requested": bool,
        "schedule": _load_schedule,
        "requests": _load_list,
    },
    load_null=frozenset({"labels", "metadata", "pending", "requests"}),
)

EXECUTIONS = RecordTable(
    "execution",
    Execution,
    "execution_id",
    dump={
        "trigger": int,
        "state": int,
        "outcome": int,
        "failure": _dump_failure,
        "next": _dump_planned,
        "needs": _dump_needs,
        "stdout_truncated": int,
        "stderr_truncated": int,
        "logs_complete": int,
    },
    load={
        "trigger": Trigger,
        "state": ExecutionState,
        "outcome": Outcome,
        "failure": _load_failure,
        "next": _load_planned,
        "needs": load_needs,
        "stdout_truncated": bool,
        "stderr_truncated": bool,
        "logs_complete": bool,
    },
)

AGENTS = RecordTable(
    "agent",
    Agent,
    "agent_id",
    dump={"state": int, "pools": _dump_list, "labels": _dump_list, "healthy": int, "declared_dead": int},
    load={"state": AgentState, "pools": _load_list, "labels": _load_pairs, "healthy": bool, "declared_dead": bool},
    load_null=frozenset({"pools", "labels"}),
)

DELIVERIES = RecordTable(
    "delivery",
    Delivery,
    "delivery_id",
    dump={"event": int, "channel": int, "state": int, "outcome": int},
    load={"event": NoticeEvent, "channel": NoticeChannel, "state": DeliveryState, "outcome": JobState},
)

TASK_SELECT = "SELECT task_id, created_at, last_job_at, job_count FROM task"


def task(row: Sequence[Any]) -> Task:
    """The record of a row of TASK_SELECT."""
    task_id, created_at, last_job_at, job_count = row
    return Task(task_id=task_id, created_at=created_at, last_job_at=last_job_at, job_count=job_count)


SKIP_SELECT = "SELECT first, last, count, reason, decided_at FROM skip"


def skip(row: Sequence[Any]) -> Skip:
    """The record of a row of SKIP_SELECT."""
    first, last, count, reason, decided_at = row
    return Skip(first=first, last=last, count=count, reason=SkipReason(reason), decided_at=decided_at)


CHUNK_SELECT = 'SELECT execution_id, stream, "offset", data, at FROM chunk'


def chunk(row: Sequence[Any]) -> LogChunk:
    """The record of a row of CHUNK_SELECT."""
    execution_id, stream, offset, data, at = row
    return LogChunk(execution_id=execution_id, stream=Stream(stream), offset=offset, data=data, at=at)
