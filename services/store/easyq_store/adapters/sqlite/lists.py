"""The statements behind lists: each a walk along an index, from either end or the place where the page before ended.

A filter with several states is several walks, one for each, put together afterwards.
"""

from collections.abc import Iterable, Sequence

from easyq_store.adapters.sqlite.rows import EXECUTIONS, JOBS
from easyq_store.ports import ExecutionFilter, JobFilter, Place

_HAS_LABEL = """
EXISTS (SELECT 1 FROM job_label o WHERE o.label = ? AND o.created_at = l.created_at AND o.job_id = l.job_id)
"""

Query = tuple[str, list[str | int]]

IMAGES = """
SELECT image FROM image WHERE image BETWEEN ?1 AND ?2
UNION SELECT image FROM image WHERE short_name BETWEEN ?1 AND ?2
LIMIT ?3
"""


# The newest jobs of one image; values: image, limit.
JOBS_BY_IMAGE = f"{JOBS.select} WHERE image = ? ORDER BY created_at DESC LIMIT ?"


def jobs(where: JobFilter, after: Place | None, limit: int) -> list[Query]:
    """Statements that find the page between them."""
    if where.labels:
        return [_labelled(where, after, limit)]
    if where.reasons:
        return [_walk_failed(where, reason, after, limit) for reason in where.reasons]
    walks: Iterable[int | None] = sorted(where.states) or [None]
    return [_walk_jobs(where, state, after, limit) for state in walks]


def _walk_jobs(where: JobFilter, state: int | None, after: Place | None, limit: int) -> Query:
    index = {
        (False, False): "job_created",
        (True, False): "job_task",
        (False, True): "job_state",
        (True, True): "job_task_state",
    }[bool(where.task_id), state is not None]
    conditions = _Conditions("job_id", oldest=where.oldest)
    conditions.equal("task_id", where.task_id or None)
    conditions.equal("state", state)
    if where.kept_only:
        conditions.add("delete_requested = 0")
    conditions.span(where.created_from, where.created_before, after)
    return conditions.query(f"{JOBS.select} INDEXED BY {index}", limit)


def _walk_failed(where: JobFilter, reason: int, after: Place | None, limit: int) -> Query:
    """Walks the jobs that failed for a reason. Nearly all of them have given up: states are looked at one by one."""
    conditions = _Conditions("job_id", oldest=where.oldest)
    conditions.add("failure_reason IS NOT NULL")
    conditions.equal("failure_reason", int(reason))
    conditions.equal("task_id", where.task_id or None)
    conditions.among("state", [int(state) for state in where.states])
    if where.kept_only:
        conditions.add("delete_requested = 0")
    conditions.span(where.created_from, where.created_before, after)
    index = "job_task_failure" if where.task_id else "job_failure"
    return conditions.query(f"{JOBS.select} INDEXED BY {index}", limit)


def _labelled(where: JobFilter, after: Place | None, limit: int) -> Query:
    """Walks the first label's jobs; the other conditions are looked at one job at a time."""
    first, *others = where.labels
    walk = _Conditions("job_id", oldest=where.oldest)
    walk.equal("label", first)
    walk.span(where.created_from, where.created_before, after)
    for label in others:
        walk.add(_HAS_LABEL, label)
    if where.task_id or where.states or where.reasons or where.kept_only:
        job = _Conditions("job_id", oldest=where.oldest)
        if where.kept_only:
            job.add("delete_requested = 0")
        job.equal("task_id", where.task_id or None)
        job.among("state", [int(state) for state in where.states])
        job.among("failure_reason", [int(reason) for reason in where.reasons])
        walk.add(f"EXISTS (SELECT 1 FROM job j WHERE j.job_id = l.job_id AND {job.text})", *job.values)  # noqa: S608 - our own words; values are bound
    ids, values = walk.query("SELECT job_id FROM job_label l", limit)
    return f"{JOBS.select} WHERE job_id IN ({ids})", values


def executions(where: ExecutionFilter, after: Place | None, limit: int) -> list[Query]:
    """Statements that find the page between them."""
    if where.job_id:
        return [_walk_executions(where, after, limit, index="execution_job")]
    if where.reasons:
        index = "execution_reason"
        return [_walk_executions(where, after, limit, index=index, reason=reason) for reason in where.reasons]
    if where.task_id:
        return [_walk_executions(where, after, limit, index="execution_task")]
    if where.states:
        index = "execution_state"
        return [_walk_executions(where, after, limit, index=index, state=state) for state in where.states]
    return [_walk_executions(where, after, limit, index="execution_created")]


def _walk_executions(
    where: ExecutionFilter,
    after: Place | None,
    limit: int,
    *,
    index: str,
    state: int | None = None,
    reason: int | None = None,
) -> Query:
    conditions = _Conditions("execution_id", oldest=where.oldest)
    conditions.equal("job_id", where.job_id or None)
    conditions.equal("task_id", where.task_id or None)
    if state is None:
        conditions.among("state", [int(s) for s in where.states])
    else:
        conditions.equal("state", int(state))
    if reason is None:
        conditions.among("failure_reason", [int(r) for r in where.reasons])
    else:
        conditions.add("failure_reason IS NOT NULL")
        conditions.equal("failure_reason", int(reason))
    conditions.span(where.created_from, where.created_before, after)
    return conditions.query(f"{EXECUTIONS.select} INDEXED BY {index}", limit)


class _Conditions:
    """Conditions joined by AND, with their values. `oldest`: the walk goes up the index, else down."""

    def __init__(self, id_column: str, *, oldest: bool) -> None:
        self._id = id_column
        self._beyond, self._direction = (">", "ASC") if oldest else ("<", "DESC")
        self._parts: list[str] = []
        self.values: list[str | int] = []

    @property
    def text(self) -> str:
        return " AND ".join(self._parts) or "1"

    def add(self, text: str, *values: str | int) -> None:
        self._parts.append(text)
        self.values += values

    def equal(self, column: str, value: str | int | None) -> None:
        if value is not None:
            self.add(f"{column} = ?", value)

    def among(self, column: str, values: Sequence[int]) -> None:
        if values:
            self.add(f"{column} IN ({', '.join('?' * len(values))})", *values)

    def span(self, created_from: int | None, created_before: int | None, after: Place | None) -> None:
        if created_from is not None:
            self.add("created_at >= ?", created_from)
        if created_before is not None:
            self.add("created_at < ?", created_before)
        if after is not None:
            self.add(f"(created_at, {self._id}) {self._beyond} (?, ?)", after.created_at, after.id)

    def query(self, select: str, limit: int) -> Query:
        way = self._direction
        text = f"{select} WHERE {self.text} ORDER BY created_at {way}, {self._id} {way} LIMIT ?"
        return text, [*self.values, limit]
