"""Reads that plans need as well, on MongoDB."""

from collections.abc import Callable, Sequence
from typing import Any

from easyq_store.adapters.mongo_documents import (
    AGENTS,
    DELIVERIES,
    EXECUTIONS,
    JOBS,
    Document,
    Kind,
    R,
    idempotency,
    spec_id,
)
from easyq_store.adapters.mongo_errors import translated
from easyq_store.adapters.mongo_schema import GENERATION, Database
from easyq_store.domain.records import Agent, Delivery, Execution, Job
from easyq_store.domain.states import Stream

# What is asked for in one go at most, where a port's list has no limit of its own.
_MANY = 1_000_000

Sort = Sequence[tuple[str, int]]


def chunk_id(execution_id: str, stream: Stream, offset: int) -> str:
    """The id of a chunk; within a stream, ids sort as the offsets do."""
    return f"{execution_id}:{stream.value}:{offset:016}"


def chunk_ids(execution_id: str, stream: Stream) -> Document:
    """Condition on `_id`: the chunks of a stream."""
    return {"$gte": f"{execution_id}:{stream.value}:", "$lt": f"{execution_id}:{stream.value};"}


class MongoLookups:
    """`easyq_store.ports.Lookups`."""

    def __init__(self, database: Callable[[], Database]) -> None:
        self._database = database

    async def get_job(self, job_id: str) -> Job | None:
        return await self._record(JOBS, {"_id": job_id})

    async def job_by_key(self, task_id: str, idempotency_key: str) -> Job | None:
        return await self._record(JOBS, {"idempotency": idempotency(task_id, idempotency_key)})

    async def get_spec(self, job_id: str, revision: int) -> bytes | None:
        return await self._of_revision(job_id, revision, "spec")

    async def get_asked(self, job_id: str, revision: int) -> bytes | None:
        return await self._of_revision(job_id, revision, "asked")

    async def get_execution(self, execution_id: str) -> Execution | None:
        return await self._record(EXECUTIONS, {"_id": execution_id})

    async def newest_execution(self, job_id: str) -> Execution | None:
        return await self._record(EXECUTIONS, {"jobId": job_id}, sort=[("attempt", -1)])

    async def open_executions(self, job_id: str) -> list[Execution]:
        return [execution for execution in await self.open_series(job_id) if not execution.ended]

    async def open_series(self, job_id: str) -> list[Execution]:
        return await self._records(EXECUTIONS, {"openOf": job_id}, sort=[("attempt", 1)])

    async def first_executions(self, job_id: str, limit: int) -> list[Execution]:
        return await self._records(EXECUTIONS, {"jobId": job_id}, sort=[("attempt", 1)], limit=limit)

    async def held_by(self, agent_id: str) -> list[Execution]:
        return await self._records(EXECUTIONS, {"heldBy": agent_id}, sort=[("_id", 1)])

    async def get_agent(self, agent_id: str) -> Agent | None:
        return await self._record(AGENTS, {"_id": agent_id})

    async def get_delivery(self, delivery_id: str) -> Delivery | None:
        return await self._record(DELIVERIES, {"_id": delivery_id})

    async def has_unsent(self, job_id: str, execution_id: str = "") -> bool:
        about = {"executionId": execution_id} if execution_id else {"jobId": job_id}
        where = {**about, "nextAt": {"$exists": True}}
        return await self._first("deliveries", where, only=("_id",)) is not None

    async def generation(self) -> int:
        return await self._counter(GENERATION)

    async def log_end(self, execution_id: str, stream: Stream) -> int:
        last = await self._first("chunks", {"_id": chunk_ids(execution_id, stream)}, sort=[("_id", -1)], only=("end",))
        return last["end"] if last else 0

    # ---------------------------------------------------------------------------------------- what they are made of
    async def _first(
        self, collection: str, where: Document, *, sort: Sort | None = None, only: Sequence[str] | None = None
    ) -> Document | None:
        with translated():
            found: Document | None = await self._database()[collection].find_one(where, only, sort=sort)
        return found

    async def _all(
        self,
        collection: str,
        where: Document,
        *,
        sort: Sort | None = None,
        limit: int = _MANY,
        only: Sequence[str] | None = None,
        hint: str | None = None,
    ) -> list[Document]:
        if limit <= 0:
            # To MongoDB, none is no limit.
            return []
        with translated():
            # One batch, as far as 16 MiB go.
            found = self._database()[collection].find(where, only, sort=sort, limit=limit, batch_size=limit, hint=hint)
            return await found.to_list()

    async def _of_revision(self, job_id: str, revision: int, field: str) -> bytes | None:
        # In this order: a revision is kept aside before the job takes the next one.
        job = await self._first("jobs", {"_id": job_id}, only=("revision", field))
        if job is None or job["revision"] != revision:
            job = await self._first("specs", {"_id": spec_id(job_id, revision)})
        return job.get(field) if job else None

    async def _record(self, kind: Kind[R], where: Document, *, sort: Sort | None = None) -> R | None:
        found = await self._first(kind.collection, where, sort=sort)
        return None if found is None else kind.decode(found)

    async def _records(self, kind: Kind[R], where: Document, *, sort: Sort, limit: int = _MANY) -> list[R]:
        return [kind.decode(found) for found in await self._all(kind.collection, where, sort=sort, limit=limit)]

    async def _counter(self, name: str) -> int:
        counter: dict[str, Any] | None = await self._first("meta", {"_id": name})
        return counter["value"] if counter else 0
