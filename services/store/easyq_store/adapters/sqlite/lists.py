"""The statements behind lists: each a walk down an index, newest first, from the place where the page before ended.

One filter with several values is several walks, one for each, put together afterwards. What the index has not is looked
at one record at a time; a walk then ends after so many of them.
"""

import heapq
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from easyq_store.adapters.sqlite.rows import EXECUTIONS, JOBS, RecordTable
from easyq_store.domain.images import is_named
from easyq_store.domain.records import Execution, Job
from easyq_store.domain.states import JOB_ENDED, ExecutionState
from easyq_store.ports import ExecutionFilter, Found, JobFilter, Place

R = TypeVar("R", Job, Execution)
Values = list[str | int]

IMAGES = """
SELECT image FROM image WHERE image BETWEEN ?1 AND ?2
UNION SELECT image FROM image WHERE short_name BETWEEN ?1 AND ?2
LIMIT ?3
"""
# The newest jobs of one image; values: image, limit.
JOBS_BY_IMAGE = f"{JOBS.select} WHERE image = ? ORDER BY created_at DESC LIMIT ?"
# The label after one, in their order; values: that one, the end.
NEXT_LABEL = "SELECT min(label) FROM job_label WHERE label > ? AND label <= ?"
# The newest jobs with one label; values: label, limit.
JOBS_BY_LABEL = f"""
{JOBS.select} WHERE job_id IN (SELECT job_id FROM job_label WHERE label = ? ORDER BY created_at DESC LIMIT ?)
"""  # noqa: S608 - the columns' names

_IMAGES_NAMED = "SELECT image FROM image WHERE image BETWEEN ?1 AND ?2 LIMIT 1000"
# Tags of one name that are walked each by itself.
_MOST_WALKS = 20
_IS_NAMED = """
(image = ?{0} OR (image > ?{0} AND image < ?{0} || char(0x10FFFF) AND substr(image, length(?{0}) + 1, 1) IN (':', '@')
    AND instr(substr(image, length(?{0}) + 1), '/') = 0))
"""
_HAS_LABEL = """
EXISTS (SELECT 1 FROM job_label o WHERE o.label = ? AND o.created_at = r.created_at AND o.job_id = r.job_id)
"""
_HAS_TERM = """
EXISTS (SELECT 1 FROM job_metadata o WHERE o.term = ? AND o.created_at = r.created_at AND o.job_id = r.job_id)
"""
_LAST = chr(0x10FFFF)


class Conditions:
    """Conditions joined by AND, with their values."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.values: Values = []

    @property
    def text(self) -> str:
        return " AND ".join(self.parts) or "1"

    def add(self, text: str, *values: str | int) -> None:
        self.parts.append(text)
        self.values += values

    def equal(self, column: str, value: str | int | None) -> None:
        if value is not None:
            self.add(f"{column} = ?", value)

    def among(self, column: str, values: Iterable[int]) -> None:
        numbers = [int(value) for value in values]
        if numbers:
            self.add(f"{column} IN ({', '.join('?' * len(numbers))})", *numbers)

    def within(self, column: str, start: int | None, end: int | None) -> None:
        if start is not None:
            self.add(f"{column} >= ?", start)
        if end is not None:
            self.add(f"{column} < ?", end)

    def named(self, image: str) -> None:
        if image:
            # Its value stands in it several times: it is the next one each time.
            text = _IS_NAMED.replace("?{0}", "?")
            self.add(text, *[image] * text.count("?"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Walk:
    """A way through an index, and what is looked at on it. `source` names the index, `key` what it knows records by."""

    source: str
    key: str
    conditions: Conditions
    rest: Conditions


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """Which part of a list."""

    after: Place | None
    limit: int
    examine: int | None
    oldest: bool


def page(connection: sqlite3.Connection, table: RecordTable[R], walks: Sequence[Walk], asked: Asked) -> Found[R]:
    """The page that the walks find between them."""
    # One look for all statements: else a record that goes meanwhile would move the place where the page ends.
    connection.execute("BEGIN")
    with connection:
        return _page(connection, table, walks, asked)


def _page(connection: sqlite3.Connection, table: RecordTable[R], walks: Sequence[Walk], asked: Asked) -> Found[R]:
    id_column = f"{table.name}_id"
    found: list[R] = []
    stops: list[tuple[int, str]] = []
    if asked.examine is not None:
        asked = replace(asked, examine=max(1, asked.examine // max(1, len(walks))))
    for walk in walks:
        some = [table.record(row) for row in connection.execute(*statement(table, walk, asked))]
        found += some
        if len(some) < asked.limit and walk.rest.parts and asked.examine is not None:
            stops += connection.execute(*stop(table, walk, asked)).fetchall()

    def place(record: Any) -> tuple[int, str]:
        return record.created_at, getattr(record, id_column)

    pick = heapq.nsmallest if asked.oldest else heapq.nlargest
    records: list[R] = pick(asked.limit, found, key=place)
    if not stops:
        return Found(records)
    # Beyond the first place where a walk ended others may have more, but that one may have too.
    first = min(stops) if asked.oldest else max(stops)
    records = [r for r in records if (place(r) <= first if asked.oldest else place(r) >= first)]
    return Found(records, Place(created_at=first[0], id=first[1]))


def _ordered(source: str, id_column: str, columns: str, walk: Walk, asked: Asked) -> tuple[str, Values]:
    way, beyond = ("ASC", ">") if asked.oldest else ("DESC", "<")
    text, values = walk.conditions.text, list(walk.conditions.values)
    if asked.after is not None:
        text += f" AND (created_at, {id_column}) {beyond} (?, ?)"
        values += [asked.after.created_at, asked.after.id]
    order = f"ORDER BY created_at {way}, {id_column} {way}"
    return f"SELECT {columns} FROM {source} WHERE {text} {order}", values  # noqa: S608 - our own words; values are bound


def statement(table: RecordTable[R], walk: Walk, asked: Asked) -> tuple[str, Values]:
    """The statement that walks, with its values."""
    id_column = f"{table.name}_id"
    text: str
    values: Values
    if not walk.rest.parts and walk.key == "row":
        text, values = _ordered(walk.source, id_column, table.listed, walk, asked)
        return f"{text} LIMIT ?", [*values, asked.limit]
    text, values = _ordered(walk.source, id_column, f'"{walk.key}" AS w', walk, asked)
    # SQLite goes the walk inside as far as the limit outside wants it, in its order: CROSS JOIN has it outside.
    outer = f"""
SELECT {table.listed} FROM ({text} LIMIT ?) CROSS JOIN {table.name} r ON r."{walk.key}" = w
WHERE {walk.rest.text} LIMIT ?
"""  # noqa: S608 - our own words; values are bound
    return outer, [*values, -1 if asked.examine is None else asked.examine, *walk.rest.values, asked.limit]


def stop(table: RecordTable[R], walk: Walk, asked: Asked) -> tuple[str, Values]:
    """The statement for the place of the last record that may be looked at, if there are so many."""
    id_column = f"{table.name}_id"
    text: str
    values: Values
    text, values = _ordered(walk.source, id_column, f"created_at, {id_column}", walk, asked)
    return f"{text} LIMIT 1 OFFSET ?", [*values, (asked.examine or 1) - 1]


# --------------------------------------------------------------------------------------------------------------- jobs
def jobs(connection: sqlite3.Connection, where: JobFilter) -> list[Walk]:
    """The walks of a list of jobs: by what is likely to leave the fewest."""
    if where.labels:
        return [_by_word(where, "job_label", "label")]
    if where.metadata:
        return [_by_word(where, "job_metadata", "term")]
    if where.reasons:
        index = "job_task_failure" if where.task_id else "job_failure"
        return [_by_reason(where, index, int(reason)) for reason in where.reasons]
    if where.ends and ExecutionState.SUCCEEDED not in where.ends:
        return [_by_end(where, int(end)) for end in where.ends]
    if where.image:
        names = connection.execute(_IMAGES_NAMED, (where.image, where.image + _LAST))
        images = [image for (image,) in names if is_named(image, where.image)]
        if len(images) <= _MOST_WALKS:
            return [_by_image(where, image) for image in images]
    states: Iterable[int | None] = sorted(int(state) for state in where.states) or [None]
    return [_by_state(where, state) for state in states]


def _spanned(where: JobFilter | ExecutionFilter) -> Conditions:
    walk = Conditions()
    # What ended before a time was made before it.
    befores = [bound for bound in (where.created_before, where.ended_before) if bound is not None]
    walk.within("created_at", where.created_from, min(befores, default=None))
    return walk


def _by_word(where: JobFilter, table: str, column: str) -> Walk:
    walk = _spanned(where)
    labels, metadata = list(where.labels), list(where.metadata)
    walk.equal(column, (labels or metadata).pop(0))
    return Walk(
        source=table, key="job_id", conditions=walk, rest=_rest_of_jobs(where, labels=labels, metadata=metadata)
    )


def _by_reason(where: JobFilter, index: str, reason: int) -> Walk:
    walk = _spanned(where)
    walk.add("failure_reason IS NOT NULL")
    walk.equal("failure_reason", reason)
    walk.equal("task_id", where.task_id or None)
    return Walk(
        source=f"job INDEXED BY {index}",
        key="row",
        conditions=walk,
        rest=_rest_of_jobs(where, task=False, reasons=False),
    )


def _by_end(where: JobFilter, end: int) -> Walk:
    walk = _spanned(where)
    walk.add("last_end <> 5")
    walk.equal("last_end", end)
    return Walk(source="job INDEXED BY job_last_end", key="row", conditions=walk, rest=_rest_of_jobs(where, ends=False))


def _by_image(where: JobFilter, image: str) -> Walk:
    walk = _spanned(where)
    walk.equal("image", image)
    return Walk(source="job INDEXED BY job_image", key="row", conditions=walk, rest=_rest_of_jobs(where, image=False))


def _by_state(where: JobFilter, state: int | None) -> Walk:
    index = {
        (False, False): "job_created",
        (True, False): "job_task",
        (False, True): "job_state",
        (True, True): "job_task_state",
    }[bool(where.task_id), state is not None]
    walk = _spanned(where)
    walk.equal("task_id", where.task_id or None)
    walk.equal("state", state)
    rest = _rest_of_jobs(where, task=False, states=False)
    return Walk(source=f"job INDEXED BY {index}", key="row", conditions=walk, rest=rest)


def _rest_of_jobs(
    where: JobFilter,
    *,
    task: bool = True,
    states: bool = True,
    reasons: bool = True,
    ends: bool = True,
    image: bool = True,
    labels: Sequence[str] = (),
    metadata: Sequence[str] = (),
) -> Conditions:
    rest = Conditions()
    if task:
        rest.equal("task_id", where.task_id or None)
    if states:
        rest.among("state", where.states)
    if reasons:
        rest.among("failure_reason", where.reasons)
    if ends:
        rest.among("last_end", where.ends)
    if image:
        rest.named(where.image)
    for label in labels:
        rest.add(_HAS_LABEL, label)
    for term in metadata:
        rest.add(_HAS_TERM, term)
    if where.kept_only:
        rest.add("delete_requested = 0")
    if where.ended_from is not None or where.ended_before is not None:
        rest.among("state", sorted(JOB_ENDED))
        rest.within("last_modified_at", where.ended_from, where.ended_before)
    return rest


# --------------------------------------------------------------------------------------------------------- executions
def executions(where: ExecutionFilter) -> list[Walk]:
    """The walks of a list of executions."""
    if where.job_id:
        return [_executions(where, "execution_job", job_id=where.job_id)]
    if where.exit_codes and 0 not in where.exit_codes:
        return [_executions(where, "execution_exit", exit_code=code) for code in where.exit_codes]
    if where.reasons:
        return [_executions(where, "execution_reason", failure_reason=int(reason)) for reason in where.reasons]
    if where.task_id:
        return [_executions(where, "execution_task", task_id=where.task_id)]
    if where.states:
        return [_executions(where, "execution_state", state=int(state)) for state in where.states]
    return [_executions(where, "execution_created")]


# What partial indices are of.
_PARTS = {"execution_exit": "exit_code <> 0", "execution_reason": "failure_reason IS NOT NULL"}


def _executions(where: ExecutionFilter, index: str, **walked: str | int) -> Walk:
    walk = _spanned(where)
    if index in _PARTS:
        walk.add(_PARTS[index])
    for column, value in walked.items():
        walk.equal(column, value)
    rest = Conditions()
    if "task_id" not in walked:
        rest.equal("task_id", where.task_id or None)
    for column, values in (
        ("state", where.states),
        ("failure_reason", where.reasons),
        ("exit_code", where.exit_codes),
        ('"trigger"', where.triggers),
    ):
        if column not in walked:
            rest.among(column, values)
    rest.equal("agent_id", where.agent_id or None)
    rest.named(where.image)
    rest.within("finished_at", where.ended_from, where.ended_before)
    return Walk(source=f"execution INDEXED BY {index}", key="row", conditions=walk, rest=rest)


def execution_page(connection: sqlite3.Connection, where: ExecutionFilter, asked: Asked) -> Found[Execution]:
    """A page of a list of executions."""
    return page(connection, EXECUTIONS, executions(where), asked)


def job_page(connection: sqlite3.Connection, where: JobFilter, asked: Asked) -> Found[Job]:
    """A page of a list of jobs."""
    return page(connection, JOBS, jobs(connection, where), asked)
