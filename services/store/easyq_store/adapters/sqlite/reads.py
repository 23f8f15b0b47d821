"""Reads outside plans: in threads with connections of their own, so that they and commits don't wait for each other."""

import asyncio
import heapq
import json
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from easyq_store.adapters.sqlite import lists, rows, stats
from easyq_store.adapters.sqlite.connect import connect
from easyq_store.adapters.sqlite.errors import translating
from easyq_store.adapters.sqlite.lookups import Tables
from easyq_store.adapters.sqlite.rows import AGENTS, DELIVERIES, EXECUTIONS, JOBS
from easyq_store.domain.records import (
    Agent,
    Delivery,
    DueDelivery,
    DueHead,
    Execution,
    Head,
    HeldHead,
    Job,
    LogChunk,
    Skip,
    Task,
)
from easyq_store.domain.sites import Sites
from easyq_store.domain.states import JobState, Stream
from easyq_store.domain.stats import Cell
from easyq_store.ports import ABOVE_ALL, ExecutionFilter, Found, JobFilter, Place

R = TypeVar("R")

# Labels that a search looks at.
_MOST_LABELS = 20
_THREADS = 2
# Sorts after every text that begins with what stands before it.
_LAST = "\U0010ffff"
# Later than every time.
_LAST_TIME = 2**63 - 1

_HEAD = "SELECT execution_id, task_id, priority, queue_seq, epoch, needs, image FROM execution"
_QUEUED_AFTER = f"{_HEAD} INDEXED BY execution_seq WHERE state = 2 AND queue_seq > ? ORDER BY queue_seq LIMIT ?"
_TASK_QUEUE = (
    f"{_HEAD} INDEXED BY execution_queue WHERE state = 2 AND task_id = ? ORDER BY priority DESC, queue_seq LIMIT ?"
)
_WAITING = (
    f"{EXECUTIONS.select} INDEXED BY execution_queue"
    " WHERE state = 2 AND task_id = ? ORDER BY priority DESC, queue_seq LIMIT ?"
)
# Skips from one task to the next: costs a search in the index for each task, however many executions it has.
_QUEUED_TASKS = """
WITH RECURSIVE found (task_id) AS (
    SELECT (SELECT min(task_id) FROM execution INDEXED BY execution_queue WHERE state = 2 AND task_id > ?1)
    UNION ALL
    SELECT (SELECT min(task_id) FROM execution INDEXED BY execution_queue
            WHERE state = 2 AND task_id > found.task_id)
    FROM found WHERE found.task_id IS NOT NULL LIMIT ?2
)
SELECT task_id FROM found WHERE task_id IS NOT NULL
"""
_HELD_COLUMNS = "SELECT execution_id, task_id, agent_id, session, pool, epoch, needs FROM execution"
_HELD = (
    f"{_HELD_COLUMNS} INDEXED BY execution_held"
    " WHERE state IN (3, 4) AND execution_id > ? ORDER BY execution_id LIMIT ?"
)
_HELD_OF = (
    f"{_HELD_COLUMNS} INDEXED BY execution_agent"
    " WHERE state IN (3, 4) AND execution_id > ? AND agent_id = ? ORDER BY execution_id LIMIT ?"
)
_DUE = (
    "SELECT execution_id, epoch, due_at FROM execution INDEXED BY execution_due"
    " WHERE state = 1 AND due_at <= ? ORDER BY due_at LIMIT ?"
)
_NEXT_DUE = "SELECT min(due_at) FROM execution INDEXED BY execution_due WHERE state = 1 AND due_at > ?"
_EXPIRED = (
    "SELECT execution_id FROM execution INDEXED BY execution_latest"
    " WHERE state IN (1, 2) AND latest_start IS NOT NULL AND latest_start < ? ORDER BY latest_start LIMIT ?"
)
_NEXT_EXPIRY = (
    "SELECT min(latest_start) FROM execution INDEXED BY execution_latest"
    " WHERE state IN (1, 2) AND latest_start IS NOT NULL AND latest_start > ?"
)
_DUE_SCHEDULES = (
    f"{JOBS.select} INDEXED BY job_fire WHERE fire_at IS NOT NULL AND fire_at <= ? ORDER BY fire_at LIMIT ?"
)
_NEXT_SCHEDULE = "SELECT min(fire_at) FROM job INDEXED BY job_fire WHERE fire_at IS NOT NULL AND fire_at > ?"
# Skips from one lane to the next: costs two searches in the index for each lane, however much waits in it.
_LANES = """
WITH RECURSIVE found (lane) AS (
    SELECT (SELECT min(lane) FROM delivery INDEXED BY delivery_lane WHERE next_at IS NOT NULL)
    UNION ALL
    SELECT (SELECT min(lane) FROM delivery INDEXED BY delivery_lane WHERE next_at IS NOT NULL AND lane > found.lane)
    FROM found WHERE found.lane IS NOT NULL
)
SELECT lane, (SELECT min(next_at) FROM delivery INDEXED BY delivery_lane
              WHERE next_at IS NOT NULL AND lane = found.lane) AS oldest
FROM found WHERE lane IS NOT NULL AND oldest <= ? ORDER BY oldest, lane
"""
_DUE_IN_LANE = (
    "SELECT delivery_id FROM delivery INDEXED BY delivery_lane"
    " WHERE next_at IS NOT NULL AND lane = ? AND next_at <= ? ORDER BY next_at, delivery_id LIMIT ?"
)
_NEXT_DELIVERY = "SELECT min(next_at) FROM delivery INDEXED BY delivery_next WHERE next_at IS NOT NULL AND next_at > ?"
_DELIVERIES_OF = (
    f"{DELIVERIES.select} WHERE job_id = ? AND (created_at, delivery_id) < (?, ?)"
    " ORDER BY created_at DESC, delivery_id DESC LIMIT ?"
)
_COUNT_OPEN = """
SELECT (SELECT count(*) FROM execution INDEXED BY execution_queue WHERE state = 2 AND task_id = ?1),
       (SELECT count(*) FROM execution INDEXED BY execution_held WHERE state IN (3, 4) AND task_id = ?1)
"""
# The first of the next lower priority.
_NEXT_PRIORITY = (
    "SELECT priority, queued_at FROM execution INDEXED BY execution_queue"
    " WHERE state = 2 AND task_id = ? AND priority < ? ORDER BY priority DESC, queue_seq LIMIT 1"
)
_ENDED = (
    "SELECT last_modified_at, job_id FROM job INDEXED BY job_ended WHERE state IN (5, 6, 7, 8, 9)"
    " AND task_id = ? AND state = ? AND last_modified_at < ? ORDER BY last_modified_at, job_id LIMIT ?"
)
_DOOMED = (
    "SELECT job_id FROM job INDEXED BY job_doomed WHERE delete_requested = 1 AND state IN (5, 6, 7, 8, 9)"
    " AND job_id > ? ORDER BY job_id LIMIT ?"
)
_WITH_LOGS = (
    "SELECT execution_id FROM execution INDEXED BY execution_logs WHERE finished_at IS NOT NULL"
    " AND logs_removed_at IS NULL AND coalesce(stdout_size + stderr_size, 1) > 0"
    " AND task_id = ? AND finished_at < ? ORDER BY finished_at, execution_id LIMIT ?"
)
_UNSETTLED_JOBS = (
    "SELECT job_id FROM job WHERE unsettled_since IS NOT NULL AND unsettled_since < ? ORDER BY unsettled_since LIMIT ?"
)
_UNSETTLED_EXECUTIONS = (
    "SELECT execution_id FROM execution WHERE unsettled_since IS NOT NULL AND unsettled_since < ?"
    " ORDER BY unsettled_since LIMIT ?"
)
_CHUNKS = f"""
{rows.CHUNK_SELECT} WHERE execution_id = ?1 AND stream = ?2 AND "offset" >= coalesce(
    (SELECT max("offset") FROM chunk WHERE execution_id = ?1 AND stream = ?2 AND "offset" <= ?3), 0)
ORDER BY "offset"
"""  # noqa: S608 - the columns' names


class SqliteReads:
    """`easyq_store.ports.Reads`."""

    def __init__(self, path: Path, last_seq: Callable[[], int]) -> None:
        self._path = path
        self._last_seq = last_seq
        self._local = threading.local()
        self._opened: list[sqlite3.Connection] = []
        self._threads = ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="sqlite-read")

    def close(self) -> None:
        """Waits for reads under way, then closes."""
        self._threads.shutdown()
        for connection in self._opened:
            connection.close()

    async def get_job(self, job_id: str) -> Job | None:
        return await self._read(lambda t: t.job(job_id))

    async def job_by_key(self, task_id: str, idempotency_key: str) -> Job | None:
        return await self._read(lambda t: t.job_by_key(task_id, idempotency_key))

    async def get_spec(self, job_id: str, revision: int) -> bytes | None:
        return await self._read(lambda t: t.spec(job_id, revision))

    async def get_asked(self, job_id: str, revision: int) -> bytes | None:
        return await self._read(lambda t: t.asked(job_id, revision))

    async def get_execution(self, execution_id: str) -> Execution | None:
        return await self._read(lambda t: t.execution(execution_id))

    async def newest_execution(self, job_id: str) -> Execution | None:
        return await self._read(lambda t: t.newest_execution(job_id))

    async def open_executions(self, job_id: str) -> list[Execution]:
        return await self._read(lambda t: t.open_executions(job_id))

    async def open_series(self, job_id: str) -> list[Execution]:
        # An end and its successor are inserted in one transaction.
        return await self.open_executions(job_id)

    async def first_executions(self, job_id: str, limit: int) -> list[Execution]:
        return await self._read(lambda t: t.first_executions(job_id, limit))

    async def held_by(self, agent_id: str) -> list[Execution]:
        return await self._read(lambda t: t.held_by(agent_id))

    async def get_agent(self, agent_id: str) -> Agent | None:
        return await self._read(lambda t: t.agent(agent_id))

    async def generation(self) -> int:
        return await self._read(lambda t: t.meta("generation"))

    async def log_end(self, execution_id: str, stream: Stream) -> int:
        return await self._read(lambda t: t.log_end(execution_id, stream))

    async def list_jobs(
        self, where: JobFilter, after: Place | None, limit: int, *, examine: int | None = None
    ) -> Found[Job]:
        asked = lists.Asked(after=after, limit=limit, examine=examine, oldest=where.oldest)
        return await self._read(lambda t: lists.job_page(t.connection, where, asked))

    async def count_listed(self, where: JobFilter) -> int:
        return await self._read(lambda t: lists.job_count(t.connection, where))

    async def list_executions(
        self, where: ExecutionFilter, after: Place | None, limit: int, *, examine: int | None = None
    ) -> Found[Execution]:
        asked = lists.Asked(after=after, limit=limit, examine=examine, oldest=where.oldest)
        return await self._read(lambda t: lists.execution_page(t.connection, where, asked))

    async def executions_of(self, job_id: str, limit: int) -> list[Execution]:
        statement = f"{EXECUTIONS.select} WHERE job_id = ? ORDER BY attempt DESC LIMIT ?"
        return [EXECUTIONS.record(row) for row in await self._rows(statement, job_id, limit)]

    async def next_attempt(self, job_id: str, after: int) -> Execution | None:
        statement = f"{EXECUTIONS.select} WHERE job_id = ? AND attempt > ? ORDER BY attempt LIMIT 1"
        found = await self._rows(statement, job_id, after)
        return EXECUTIONS.record(found[0]) if found else None

    async def specs(self, keys: Collection[tuple[str, int]]) -> Mapping[tuple[str, int], bytes]:
        def read(tables: Tables) -> dict[tuple[str, int], bytes]:
            return {key: spec for key in keys if (spec := tables.spec(*key)) is not None}

        return await self._read(read)

    async def get_task(self, task_id: str) -> Task | None:
        found = await self._rows(f"{rows.TASK_SELECT} WHERE task_id = ?", task_id)
        return rows.task(found[0]) if found else None

    async def list_tasks(self, after: str, limit: int) -> list[Task]:
        statement = f"{rows.TASK_SELECT} WHERE task_id > ? ORDER BY task_id LIMIT ?"
        return [rows.task(row) for row in await self._rows(statement, after, limit)]

    async def count_jobs(self, task_id: str = "") -> Mapping[JobState, int]:
        if task_id:
            found = await self._rows("SELECT state, jobs FROM task_state WHERE task_id = ?", task_id)
        else:
            found = await self._rows("SELECT state, sum(jobs) FROM task_state GROUP BY state")
        return {JobState(state): jobs for state, jobs in found if jobs}

    async def task_ids(self, after: str, limit: int) -> list[str]:
        statement = "SELECT task_id FROM task WHERE task_id > ? ORDER BY task_id LIMIT ?"
        return [task_id for (task_id,) in await self._rows(statement, after, limit)]

    async def count_open(self, task_id: str) -> tuple[int, int]:
        ((queued, held),) = await self._rows(_COUNT_OPEN, task_id)
        return queued, held

    async def oldest_queued(self, task_id: str) -> int | None:
        def read(tables: Tables) -> int | None:
            oldest: int | None = None
            below = ABOVE_ALL
            while found := tables.connection.execute(_NEXT_PRIORITY, (task_id, below)).fetchone():
                below, queued_at = found
                if queued_at is not None:
                    oldest = queued_at if oldest is None else min(oldest, queued_at)
            return oldest

        return await self._read(read)

    async def ended_jobs(self, task_id: str, states: Collection[JobState], before: int, limit: int) -> list[str]:
        def read(tables: Tables) -> list[str]:
            walks = [
                tables.connection.execute(_ENDED, (task_id, int(state), before, limit)).fetchall() for state in states
            ]
            return [job_id for _, job_id in heapq.nsmallest(limit, (pair for walk in walks for pair in walk))]

        return await self._read(read)

    async def doomed_jobs(self, after: str, limit: int) -> list[str]:
        return [job_id for (job_id,) in await self._rows(_DOOMED, after, limit)]

    async def with_logs(self, task_id: str, before: int, limit: int) -> list[str]:
        return [execution_id for (execution_id,) in await self._rows(_WITH_LOGS, task_id, before, limit)]

    async def tasks_beginning(self, prefix: str, limit: int) -> list[Task]:
        statement = f"{rows.TASK_SELECT} WHERE task_id BETWEEN ? AND ? ORDER BY task_id LIMIT ?"
        return [rows.task(row) for row in await self._rows(statement, prefix, prefix + _LAST, limit)]

    async def jobs_beginning(self, prefix: str, limit: int) -> list[Job]:
        statement = f"{JOBS.select} WHERE job_id BETWEEN ? AND ? ORDER BY job_id LIMIT ?"
        return [JOBS.record(row) for row in await self._rows(statement, prefix, prefix + _LAST, limit)]

    async def executions_beginning(self, prefix: str, limit: int) -> list[Execution]:
        statement = f"{EXECUTIONS.select} WHERE execution_id BETWEEN ? AND ? ORDER BY execution_id LIMIT ?"
        return [EXECUTIONS.record(row) for row in await self._rows(statement, prefix, prefix + _LAST, limit)]

    async def jobs_by_image(self, prefix: str, limit: int) -> list[Job]:
        statement = lists.JOBS_BY_IMAGE
        bounds = (prefix, prefix + _LAST)

        def read(tables: Tables) -> list[Job]:
            images = [image for (image,) in tables.connection.execute(lists.IMAGES, (*bounds, limit))]
            found = (
                JOBS.record(row) for image in images for row in tables.connection.execute(statement, (image, limit))
            )
            return _first(found, lambda job: (job.created_at, job.job_id), limit)

        return await self._read(read)

    async def jobs_by_label(self, prefix: str, limit: int) -> list[Job]:
        def read(tables: Tables) -> list[Job]:
            found: dict[str, Job] = {}
            label, last = prefix, prefix + _LAST
            # One that is the prefix itself, then the others.
            labels = [prefix]
            while len(labels) < _MOST_LABELS:
                (label,) = tables.connection.execute(lists.NEXT_LABEL, (label, last)).fetchone()
                if label is None:
                    break
                labels.append(label)
            for label in labels:
                for row in tables.connection.execute(lists.JOBS_BY_LABEL, (label, limit - len(found))):
                    job = JOBS.record(row)
                    found[job.job_id] = job
                if len(found) >= limit:
                    break
            return list(found.values())

        return await self._read(read)

    async def queued_after(self, seq: int, limit: int) -> list[Head]:
        return [_head(row) for row in await self._rows(_QUEUED_AFTER, seq, limit)]

    async def last_seq(self) -> int:
        return self._last_seq()

    async def task_queue(self, task_id: str, limit: int) -> list[Head]:
        return [_head(row) for row in await self._rows(_TASK_QUEUE, task_id, limit)]

    async def waiting(self, task_id: str, limit: int) -> list[Execution]:
        return [EXECUTIONS.record(row) for row in await self._rows(_WAITING, task_id, limit)]

    async def queued_tasks(self, after: str, limit: int) -> list[str]:
        return [task_id for (task_id,) in await self._rows(_QUEUED_TASKS, after, limit)]

    async def held(self, after: str, limit: int, agent_id: str = "") -> list[HeldHead]:
        if agent_id:
            found = await self._rows(_HELD_OF, after, agent_id, limit)
        else:
            found = await self._rows(_HELD, after, limit)
        return [_held(row) for row in found]

    async def due(self, now: int, limit: int) -> list[DueHead]:
        found = await self._rows(_DUE, now, limit)
        return [DueHead(execution_id=id_, epoch=epoch, due_at=due_at) for id_, epoch, due_at in found]

    async def next_due(self, after: int) -> int | None:
        ((due_at,),) = await self._rows(_NEXT_DUE, after)
        return None if due_at is None else int(due_at)

    async def expired(self, now: int, limit: int) -> list[str]:
        return [execution_id for (execution_id,) in await self._rows(_EXPIRED, now, limit)]

    async def next_expiry(self, after: int) -> int | None:
        ((latest_start,),) = await self._rows(_NEXT_EXPIRY, after)
        return None if latest_start is None else int(latest_start)

    async def due_schedules(self, now: int, limit: int) -> list[Job]:
        return [JOBS.record(row) for row in await self._rows(_DUE_SCHEDULES, now, limit)]

    async def next_schedule(self, after: int) -> int | None:
        ((fire_at,),) = await self._rows(_NEXT_SCHEDULE, after)
        return None if fire_at is None else int(fire_at)

    async def skips(self, job_id: str, limit: int) -> list[Skip]:
        return await self._read(lambda t: t.skips(job_id, limit))

    async def stats(self, span: int, task_id: str, start: int, end: int) -> list[Cell]:
        def read(tables: Tables) -> list[Cell]:
            found = tables.connection.execute(stats.RANGE, (span, task_id, start, end))
            return [Cell(span=span, task_id=task_id, at=at, counts=json.loads(counts)) for at, counts in found]

        return await self._read(read)

    async def get_delivery(self, delivery_id: str) -> Delivery | None:
        return await self._read(lambda t: t.delivery(delivery_id))

    async def has_unsent(self, job_id: str, execution_id: str = "") -> bool:
        return await self._read(lambda t: t.has_unsent(job_id, execution_id))

    async def deliveries_of(self, job_id: str, after: Place | None, limit: int) -> list[Delivery]:
        place = (_LAST_TIME, "") if after is None else (after.created_at, after.id)
        return [DELIVERIES.record(row) for row in await self._rows(_DELIVERIES_OF, job_id, *place, limit)]

    async def due_deliveries(
        self, now: int, per_lane: int, limit: int, *, full: Collection[str], sites: Sites | None = None
    ) -> list[DueDelivery]:
        room = sites or Sites()

        def read(tables: Tables) -> list[DueDelivery]:
            due: list[DueDelivery] = []
            for lane, _ in tables.connection.execute(_LANES, (now,)):
                if lane in full:
                    continue
                if len(due) >= limit:
                    break
                most = room.room(lane, min(per_lane, limit - len(due)))
                found = tables.connection.execute(_DUE_IN_LANE, (lane, now, most)).fetchall() if most else []
                room.take(lane, len(found))
                due += [DueDelivery(delivery_id=id_, lane=lane) for (id_,) in found]
            return due

        return await self._read(read)

    async def next_delivery(self, after: int) -> int | None:
        ((next_at,),) = await self._rows(_NEXT_DELIVERY, after)
        return None if next_at is None else int(next_at)

    async def agents(self) -> list[Agent]:
        return [AGENTS.record(row) for row in await self._rows(f"{AGENTS.select} ORDER BY agent_id")]

    async def unsettled_jobs(self, before: int, limit: int) -> list[str]:
        return [job_id for (job_id,) in await self._rows(_UNSETTLED_JOBS, before, limit)]

    async def unsettled_executions(self, before: int, limit: int) -> list[str]:
        return [execution_id for (execution_id,) in await self._rows(_UNSETTLED_EXECUTIONS, before, limit)]

    async def log_ends(self, execution_ids: Collection[str]) -> Mapping[str, tuple[int, int]]:
        def read(tables: Tables) -> dict[str, tuple[int, int]]:
            ends = {
                id_: (tables.log_end(id_, Stream.STDOUT), tables.log_end(id_, Stream.STDERR)) for id_ in execution_ids
            }
            return {id_: pair for id_, pair in ends.items() if pair != (0, 0)}

        return await self._read(read) if execution_ids else {}

    async def read_chunks(self, execution_id: str, stream: Stream, offset: int, max_bytes: int) -> list[LogChunk]:
        def read(tables: Tables) -> list[LogChunk]:
            found: list[LogChunk] = []
            room = max_bytes
            for row in tables.connection.execute(_CHUNKS, (execution_id, int(stream), offset)):
                chunk = rows.chunk(row)
                if chunk.end <= offset:
                    continue
                room -= len(chunk.data)
                if found and room < 0:
                    break
                found.append(chunk)
            return found

        return await self._read(read)

    async def _rows(self, statement: str, *values: str | int) -> list[Any]:
        return await self._read(lambda t: t.connection.execute(statement, values).fetchall())

    async def _read(self, read: Callable[[Tables], R]) -> R:
        def in_thread() -> R:
            with translating():
                return read(self._tables())

        return await asyncio.get_running_loop().run_in_executor(self._threads, in_thread)

    def _tables(self) -> Tables:
        tables: Tables | None = getattr(self._local, "tables", None)
        if tables is None:
            connection = connect(self._path, writes=False)
            self._opened.append(connection)
            tables = self._local.tables = Tables(connection)
        return tables


def _head(row: Any) -> Head:
    execution_id, task_id, priority, queue_seq, epoch, needs, image = row
    return Head(
        execution_id=execution_id,
        task_id=task_id,
        priority=priority,
        queue_seq=queue_seq,
        epoch=epoch,
        needs=rows.load_needs(needs),
        image=image,
    )


def _held(row: Any) -> HeldHead:
    execution_id, task_id, agent_id, session, pool, epoch, needs = row
    return HeldHead(
        execution_id=execution_id,
        task_id=task_id,
        agent_id=agent_id,
        session=session,
        pool=pool,
        epoch=epoch,
        needs=rows.load_needs(needs),
    )


def _first(found: Iterable[R], key: Callable[[R], tuple[int, str]], limit: int, *, oldest: bool = False) -> list[R]:
    return heapq.nsmallest(limit, found, key=key) if oldest else heapq.nlargest(limit, found, key=key)
