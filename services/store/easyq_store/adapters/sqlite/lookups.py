"""Reads that plans and readers share, on one connection. Fast: each is a search in an index."""

import sqlite3
from typing import Any

from easyq_store.adapters.sqlite import rows
from easyq_store.adapters.sqlite.rows import AGENTS, DELIVERIES, EXECUTIONS, JOBS
from easyq_store.domain.records import Agent, Delivery, Execution, Job, Skip
from easyq_store.domain.states import Stream

_JOB_BY_KEY = f"{JOBS.select} WHERE task_id = ? AND idempotency_key = ? AND idempotency_key <> ''"
_SPEC = "SELECT spec FROM job WHERE job_id = ?1 AND revision = ?2"
_OLD_SPEC = "SELECT spec FROM old_spec WHERE job_id = ?1 AND revision = ?2"
_ASKED = "SELECT asked FROM job WHERE job_id = ?1 AND revision = ?2"
_OLD_ASKED = "SELECT asked FROM old_spec WHERE job_id = ?1 AND revision = ?2"
_NEWEST = f"{EXECUTIONS.select} WHERE job_id = ? ORDER BY attempt DESC LIMIT 1"
_FIRST = f"{EXECUTIONS.select} WHERE job_id = ? ORDER BY attempt LIMIT ?"
_OPEN = f"{EXECUTIONS.select} WHERE job_id = ? AND state IN (1, 2, 3, 4) ORDER BY attempt"
_HELD_BY = (
    f"{EXECUTIONS.select} INDEXED BY execution_agent WHERE agent_id = ? AND state IN (3, 4) ORDER BY execution_id"
)
_SKIPS = f"{rows.SKIP_SELECT} WHERE job_id = ? ORDER BY first DESC, reason DESC LIMIT ?"
_UNSENT = "SELECT 1 FROM delivery INDEXED BY delivery_job WHERE job_id = ? AND next_at IS NOT NULL LIMIT 1"
_UNSENT_OF_ONE = (
    "SELECT 1 FROM delivery INDEXED BY delivery_execution WHERE execution_id = ? AND next_at IS NOT NULL LIMIT 1"
)
_META = "SELECT value FROM meta WHERE name = ?"
_LOG_END = 'SELECT "offset" + size FROM chunk WHERE execution_id = ? AND stream = ? ORDER BY "offset" DESC LIMIT 1'


class Tables:
    """Plain, synchronous reads."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def job(self, job_id: str) -> Job | None:
        row = self._one(JOBS.by_key, job_id)
        return None if row is None else JOBS.record(row)

    def job_by_key(self, task_id: str, idempotency_key: str) -> Job | None:
        row = self._one(_JOB_BY_KEY, task_id, idempotency_key)
        return None if row is None else JOBS.record(row)

    def spec(self, job_id: str, revision: int) -> bytes | None:
        row = self._one(_SPEC, job_id, revision) or self._one(_OLD_SPEC, job_id, revision)
        return None if row is None else row[0]

    def asked(self, job_id: str, revision: int) -> bytes | None:
        row = self._one(_ASKED, job_id, revision) or self._one(_OLD_ASKED, job_id, revision)
        return None if row is None else row[0]

    def execution(self, execution_id: str) -> Execution | None:
        row = self._one(EXECUTIONS.by_key, execution_id)
        return None if row is None else EXECUTIONS.record(row)

    def newest_execution(self, job_id: str) -> Execution | None:
        row = self._one(_NEWEST, job_id)
        return None if row is None else EXECUTIONS.record(row)

    def open_executions(self, job_id: str) -> list[Execution]:
        return [EXECUTIONS.record(row) for row in self.connection.execute(_OPEN, (job_id,))]

    def first_executions(self, job_id: str, limit: int) -> list[Execution]:
        return [EXECUTIONS.record(row) for row in self.connection.execute(_FIRST, (job_id, limit))]

    def skips(self, job_id: str, limit: int) -> list[Skip]:
        return [rows.skip(row) for row in self.connection.execute(_SKIPS, (job_id, limit))]

    def held_by(self, agent_id: str) -> list[Execution]:
        return [EXECUTIONS.record(row) for row in self.connection.execute(_HELD_BY, (agent_id,))]

    def agent(self, agent_id: str) -> Agent | None:
        row = self._one(AGENTS.by_key, agent_id)
        return None if row is None else AGENTS.record(row)

    def has_unsent(self, job_id: str, execution_id: str) -> bool:
        statement, about = (_UNSENT_OF_ONE, execution_id) if execution_id else (_UNSENT, job_id)
        return self._one(statement, about) is not None

    def delivery(self, delivery_id: str) -> Delivery | None:
        row = self._one(DELIVERIES.by_key, delivery_id)
        return None if row is None else DELIVERIES.record(row)

    def meta(self, name: str) -> int:
        row = self._one(_META, name)
        return 0 if row is None else row[0]

    def log_end(self, execution_id: str, stream: Stream) -> int:
        row = self._one(_LOG_END, execution_id, int(stream))
        return 0 if row is None else row[0]

    def _one(self, statement: str, *values: str | int) -> Any:
        return self.connection.execute(statement, values).fetchone()
