"""The writes of plans, on the writer's connection. Nothing here waits: a plan runs through in one go."""

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace

from easyq_chassis.errors import Internal
from easyq_store.adapters.sqlite import stats
from easyq_store.adapters.sqlite.lookups import Tables
from easyq_store.adapters.sqlite.rows import AGENTS, DELIVERIES, EXECUTIONS, JOBS
from easyq_store.adapters.sqlite.tally import Tally
from easyq_store.domain.records import Agent, Delivery, Execution, Job, LogChunk, Skip, evolve
from easyq_store.domain.states import Stream
from easyq_store.domain.stats import Cell
from easyq_store.ports import MOST_SKIPS, Inserted

SET_META = "INSERT INTO meta (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2"
_LABEL = "INSERT INTO job_label (label, created_at, job_id) VALUES (?, ?, ?)"
_UNLABEL = "DELETE FROM job_label WHERE label = ? AND created_at = ? AND job_id = ?"
_TERM = "INSERT INTO job_metadata (term, created_at, job_id) VALUES (?, ?, ?)"
_UNTERM = "DELETE FROM job_metadata WHERE term = ? AND created_at = ? AND job_id = ?"
_KEEP_SPEC = "INSERT OR IGNORE INTO old_spec (job_id, revision, spec, asked) VALUES (?, ?, ?, ?)"
_SKIP = "INSERT OR IGNORE INTO skip (job_id, first, last, count, reason, decided_at) VALUES (?, ?, ?, ?, ?, ?)"
_OLD_SKIPS = """
DELETE FROM skip WHERE job_id = ?1 AND (first, reason) <=
    (SELECT first, reason FROM skip WHERE job_id = ?1 ORDER BY first DESC, reason DESC LIMIT 1 OFFSET ?2)
"""
_CHUNK = 'INSERT INTO chunk (execution_id, stream, "offset", size, at, data) VALUES (?, ?, ?, ?, ?, ?)'
_DELETE_CHUNKS = """
DELETE FROM chunk WHERE rowid IN (SELECT rowid FROM chunk WHERE execution_id = ? LIMIT ?)
"""
_DELETE_EXECUTION = "DELETE FROM execution WHERE execution_id = ? AND write_no = ?"
_DELETE_DELIVERIES = "DELETE FROM delivery WHERE execution_id = ?"
_DELETE_DELIVERY = "DELETE FROM delivery WHERE delivery_id = ?"
_DELETE_JOB = "DELETE FROM job WHERE job_id = ? AND write_no = ?"
_DELETE_SPECS = "DELETE FROM old_spec WHERE job_id = ?"
_DELETE_SKIPS = "DELETE FROM skip WHERE job_id = ?"


class Places:
    """Gives out places in line. `lease` is on disk: none above it was ever given out."""

    def __init__(self) -> None:
        self.given = 0
        self.lease = 0

    def next(self) -> int:
        """The next one, within the lease."""
        if self.given >= self.lease:
            raise Internal("one transaction wants more places in line than were set aside for it")
        self.given += 1
        return self.given


class SqliteSteps:
    """`easyq_store.ports.Steps` on a connection with a transaction open."""

    def __init__(self, tables: Tables, tally: Tally, places: Places) -> None:
        self._tables = tables
        self._connection = tables.connection
        self._tally = tally
        self._places = places
        # What every assignment asks for, as read in this transaction.
        self._agents: dict[str, Agent] = {}
        self._generation: int | None = None
        # The job that was read or written last: a plan asks for its own again and again.
        self._job: Job | None = None

    def forget(self) -> None:
        """Reads everything anew: a transaction begins, or writes of this one were undone."""
        self._agents.clear()
        self._generation = None
        self._job = None

    @property
    def atomic(self) -> bool:
        return True

    async def get_job(self, job_id: str) -> Job | None:
        if self._job is None or self._job.job_id != job_id:
            self._job = self._tables.job(job_id)
        return self._job

    async def job_by_key(self, task_id: str, idempotency_key: str) -> Job | None:
        return self._tables.job_by_key(task_id, idempotency_key)

    async def get_spec(self, job_id: str, revision: int) -> bytes | None:
        return self._tables.spec(job_id, revision)

    async def get_asked(self, job_id: str, revision: int) -> bytes | None:
        return self._tables.asked(job_id, revision)

    async def get_execution(self, execution_id: str) -> Execution | None:
        return self._tables.execution(execution_id)

    async def newest_execution(self, job_id: str) -> Execution | None:
        return self._tables.newest_execution(job_id)

    async def open_executions(self, job_id: str) -> list[Execution]:
        return self._tables.open_executions(job_id)

    async def open_series(self, job_id: str) -> list[Execution]:
        return self._tables.open_executions(job_id)

    async def first_executions(self, job_id: str, limit: int) -> list[Execution]:
        return self._tables.first_executions(job_id, limit)

    async def held_by(self, agent_id: str) -> list[Execution]:
        return self._tables.held_by(agent_id)

    async def get_agent(self, agent_id: str) -> Agent | None:
        agent = self._agents.get(agent_id)
        if agent is None:
            agent = self._tables.agent(agent_id)
            if agent is not None:
                self._agents[agent_id] = agent
        return agent

    async def get_delivery(self, delivery_id: str) -> Delivery | None:
        return self._tables.delivery(delivery_id)

    async def has_unsent(self, job_id: str, execution_id: str = "") -> bool:
        return self._tables.has_unsent(job_id, execution_id)

    async def generation(self) -> int:
        if self._generation is None:
            self._generation = self._tables.meta("generation")
        return self._generation

    async def log_end(self, execution_id: str, stream: Stream) -> int:
        return self._tables.log_end(execution_id, stream)

    async def insert_job(self, job: Job) -> Inserted:
        if not self._insert(JOBS.insert, JOBS.row(job)):
            return Inserted.KEY_TAKEN if self._tables.job(job.job_id) is None else Inserted.ID_TAKEN
        self._for_each(_LABEL, job.labels, job)
        self._for_each(_TERM, job.metadata, job)
        self._tally.job_inserted(job.task_id, job.image, job.state, job.created_at)
        return Inserted.DONE

    async def change_job(self, job_id: str, decide: Callable[[Job], Job]) -> Job | None:
        old = await self.get_job(job_id)
        if old is None or (decided := decide(old)) is old:
            return old
        new = evolve(decided, write_no=old.write_no + 1)
        self._connection.execute(*JOBS.update(old, new))
        self._job = new
        if new.labels != old.labels:
            self._for_each(_UNLABEL, old.labels, old)
            self._for_each(_LABEL, new.labels, new)
        if new.metadata != old.metadata:
            self._for_each(_UNTERM, old.metadata, old)
            self._for_each(_TERM, new.metadata, new)
        if new.state is not old.state or new.image != old.image:
            self._tally.job_moved(new.task_id, new.image, old.state, new.state)
        return new

    async def keep_spec(self, job_id: str, revision: int, spec: bytes, asked: bytes | None = None) -> None:
        self._connection.execute(_KEEP_SPEC, (job_id, revision, spec, asked))

    async def keep_skips(self, job_id: str, skips: Sequence[Skip]) -> None:
        self._connection.executemany(
            _SKIP, [(job_id, s.first, s.last, s.count, int(s.reason), s.decided_at) for s in skips]
        )
        self._connection.execute(_OLD_SKIPS, (job_id, MOST_SKIPS))

    async def insert_execution(self, execution: Execution) -> bool:
        return self._insert(EXECUTIONS.insert, EXECUTIONS.row(execution))

    async def change_execution(self, execution_id: str, decide: Callable[[Execution], Execution]) -> Execution | None:
        old = self._tables.execution(execution_id)
        if old is None or (decided := decide(old)) is old:
            return old
        new = evolve(decided, write_no=old.write_no + 1)
        self._connection.execute(*EXECUTIONS.update(old, new))
        return new

    async def next_seq(self) -> int:
        return self._places.next()

    async def insert_agent(self, agent: Agent) -> bool:
        return self._insert(AGENTS.insert, AGENTS.row(agent))

    async def change_agent(self, agent_id: str, decide: Callable[[Agent], Agent]) -> Agent | None:
        old = self._tables.agent(agent_id)
        if old is None or (decided := decide(old)) is old:
            return old
        new = replace(decided, write_no=old.write_no + 1)
        self._connection.execute(*AGENTS.update(old, new))
        self._agents[agent_id] = new
        return new

    async def insert_delivery(self, delivery: Delivery) -> bool:
        return self._insert(DELIVERIES.insert, DELIVERIES.row(delivery))

    async def change_delivery(self, delivery_id: str, decide: Callable[[Delivery], Delivery]) -> Delivery | None:
        old = self._tables.delivery(delivery_id)
        if old is None or (decided := decide(old)) is old:
            return old
        new = replace(decided, write_no=old.write_no + 1)
        self._connection.execute(*DELIVERIES.update(old, new))
        return new

    async def delete_delivery(self, delivery_id: str) -> None:
        self._connection.execute(_DELETE_DELIVERY, (delivery_id,))

    async def raise_generation(self, from_: int) -> bool:
        if self._tables.meta("generation") != from_:
            return False
        self._connection.execute(SET_META, ("generation", from_ + 1))
        self._generation = None
        return True

    async def insert_chunk(self, chunk: LogChunk) -> bool:
        return self._insert(
            _CHUNK,
            [chunk.execution_id, int(chunk.stream), chunk.offset, len(chunk.data), chunk.at, chunk.data],
        )

    async def delete_chunks(self, execution_id: str, limit: int) -> int:
        return self._connection.execute(_DELETE_CHUNKS, (execution_id, limit)).rowcount

    async def delete_execution(self, execution: Execution) -> bool:
        if not self._deleted(_DELETE_EXECUTION, execution.execution_id, execution.write_no):
            return False
        self._connection.execute(_DELETE_DELIVERIES, (execution.execution_id,))
        return True

    async def delete_job(self, job: Job) -> bool:
        if not self._deleted(_DELETE_JOB, job.job_id, job.write_no):
            return False
        self._job = None
        self._connection.execute(_DELETE_SPECS, (job.job_id,))
        self._connection.execute(_DELETE_SKIPS, (job.job_id,))
        self._for_each(_UNLABEL, job.labels, job)
        self._for_each(_UNTERM, job.metadata, job)
        self._tally.job_deleted(job.task_id, job.image, job.state)
        return True

    async def delete_task(self, task_id: str) -> None:
        self._tally.task_deleted(task_id)

    async def add_stats(self, cells: Sequence[Cell]) -> None:
        stats.add_cells(self._connection, cells)

    async def delete_stats(self, span: int, before: int, limit: int) -> int:
        return self._connection.execute(stats.DELETE, (span, before, limit)).rowcount

    async def raise_clock(self, mark: int) -> int:
        kept = self._tables.meta("clock")
        if mark > kept:
            self._connection.execute(SET_META, ("clock", mark))
        return max(mark, kept)

    def _for_each(self, statement: str, words: Sequence[str], job: Job) -> None:
        for word in words:
            self._connection.execute(statement, (word, job.created_at, job.job_id))

    def _deleted(self, statement: str, record_id: str, write_no: int) -> bool:
        return self._connection.execute(statement, (record_id, write_no)).rowcount == 1

    def _insert(self, statement: str, values: list[str | int | bytes | None]) -> bool:
        """Whether it was inserted: not, if a unique index has it already."""
        try:
            self._connection.execute(statement, values)
        except sqlite3.IntegrityError as error:
            if error.sqlite_errorcode not in _TAKEN:
                raise
            return False
        return True


_TAKEN = frozenset({sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY})
