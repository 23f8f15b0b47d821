"""The writes of a plan on MongoDB: each step is one document, and atomic by itself; the plan is not."""

import asyncio
import random
from collections.abc import Callable, Sequence

from easyq_chassis.errors import EasyQError, Unavailable
from easyq_store.adapters.mongo_documents import (
    AGENTS,
    EXECUTIONS,
    JOBS,
    SCHEMA_VERSION,
    Document,
    Kind,
    R,
    skip_document,
    spec_id,
)
from easyq_store.adapters.mongo_lookups import MongoLookups, chunk_id
from easyq_store.adapters.mongo_schema import Database
from easyq_store.adapters.mongo_writes import MongoWrites
from easyq_store.domain.records import Agent, Execution, Job, LogChunk, Skip
from easyq_store.domain.stats import Cell
from easyq_store.ports import Inserted

# Changes of other processes that one change outlives.
_MOST_TRIES = 100
# Tries that follow at once; seconds that the later ones wait at most.
_QUICK_TRIES = 3
_LONGEST_WAIT = 0.02


class MongoSteps(MongoLookups):
    """`easyq_store.ports.Steps` for one plan."""

    def __init__(self, database: Callable[[], Database], writes: MongoWrites) -> None:
        super().__init__(database)
        self._writes = writes
        # What this plan wrote last, by collection and id: a change need not read it again, since compare-and-set
        # finds out if it is stale.
        self._written: dict[tuple[str, str], Document] = {}

    @property
    def atomic(self) -> bool:
        return False

    async def insert_job(self, job: Job) -> Inserted:
        if await self._insert(JOBS, job.job_id, job):
            # After the job, so that there is no task without one. If a crash comes between, the change that settles
            # the job does it.
            await self._writes.make_task_known(job, new=True)
            return Inserted.DONE
        return Inserted.KEY_TAKEN if await self.get_job(job.job_id) is None else Inserted.ID_TAKEN

    async def change_job(self, job_id: str, decide: Callable[[Job], Job]) -> Job | None:
        job = await self._change(JOBS, job_id, decide)
        if job is not None:
            await self._writes.make_task_known(job)
        return job

    async def keep_spec(self, job_id: str, revision: int, spec: bytes, asked: bytes | None = None) -> None:
        document = {"_id": spec_id(job_id, revision), "spec": spec, "schemaVersion": SCHEMA_VERSION}
        if asked is not None:
            document["asked"] = asked
        await self._writes.insert("specs", document)

    async def keep_skips(self, job_id: str, skips: Sequence[Skip]) -> None:
        for skip in skips:
            await self._writes.insert("skips", skip_document(job_id, skip))
        if skips:
            await self._writes.drop_old_skips(job_id)

    async def insert_execution(self, execution: Execution) -> bool:
        return await self._insert(EXECUTIONS, execution.execution_id, execution)

    async def change_execution(self, execution_id: str, decide: Callable[[Execution], Execution]) -> Execution | None:
        return await self._change(EXECUTIONS, execution_id, decide)

    async def next_seq(self) -> int:
        return await self._writes.next_seq()

    async def insert_agent(self, agent: Agent) -> bool:
        return await self._writes.insert(AGENTS.collection, AGENTS.encode(agent))

    async def change_agent(self, agent_id: str, decide: Callable[[Agent], Agent]) -> Agent | None:
        return await self._change(AGENTS, agent_id, decide)

    async def raise_generation(self, from_: int) -> bool:
        return await self._writes.raise_generation(from_)

    async def insert_chunk(self, chunk: LogChunk) -> bool:
        document = {
            "_id": chunk_id(chunk.execution_id, chunk.stream, chunk.offset),
            "end": chunk.end,
            "at": chunk.at,
            "data": chunk.data,
            "schemaVersion": SCHEMA_VERSION,
        }
        return await self._writes.insert("chunks", document)

    async def delete_chunks(self, execution_id: str, limit: int) -> int:
        return await self._writes.delete_chunks(execution_id, limit)

    async def delete_execution(self, execution: Execution) -> bool:
        return await self._delete(EXECUTIONS, execution.execution_id, execution)

    async def delete_job(self, job: Job) -> bool:
        # The job comes last: while it is there, a sweep knows what is left.
        await self._writes.delete_beside(job.job_id)
        return await self._delete(JOBS, job.job_id, job)

    async def delete_task(self, task_id: str) -> None:
        await self._writes.delete_task(task_id)

    async def add_stats(self, cells: Sequence[Cell]) -> None:
        await self._writes.add_stats(cells)

    async def delete_stats(self, span: int, before: int, limit: int) -> int:
        return await self._writes.delete_stats(span, before, limit)

    async def raise_clock(self, mark: int) -> int:
        return await self._writes.raise_clock(mark)

    # ---------------------------------------------------------------------------------------- what they are made of
    async def _insert(self, kind: Kind[R], record_id: str, record: R) -> bool:
        document = kind.encode(record)
        inserted = await self._writes.insert_together(kind, document)
        if inserted:
            self._written[kind.collection, record_id] = document
        return inserted

    async def _delete(self, kind: Kind[R], record_id: str, record: R) -> bool:
        self._written.pop((kind.collection, record_id), None)
        async with self._writes.turn(kind.collection, record_id):
            return await self._writes.delete_if(kind, record_id, record.write_no)

    async def _change(self, kind: Kind[R], record_id: str, decide: Callable[[R], R]) -> R | None:
        """Compare-and-set, again and again until nobody comes between."""
        async with self._writes.turn(kind.collection, record_id):
            for tries in range(_MOST_TRIES):
                remembered = self._written.pop((kind.collection, record_id), None)
                stored = remembered or await self._first(kind.collection, {"_id": record_id})
                if stored is None:
                    return None
                old = kind.decode(stored)
                new = _decided(old, decide, fresh=remembered is None)
                if new is None:
                    continue
                if new is old:
                    return old
                new = kind.numbered(new, old.write_no + 1)
                if await self._writes.replace_if(kind, stored, new):
                    self._written[kind.collection, record_id] = kind.encode(new)
                    return new
                await _pause(tries)
        raise Unavailable(f"too many others change {record_id} of {kind.collection} at once", retry_after=1.0)


def _decided(old: R, decide: Callable[[R], R], *, fresh: bool) -> R | None:
    """What is decided, or None where only a fresh read can tell: neither a refusal nor "no change" is compared."""
    try:
        new = decide(old)
    except EasyQError:
        if fresh:
            raise
        return None
    return new if fresh or new is not old else None


async def _pause(tries: int) -> None:
    if tries >= _QUICK_TRIES:
        await asyncio.sleep(random.uniform(0, _LONGEST_WAIT))  # noqa: S311 - spreading load, not a secret
