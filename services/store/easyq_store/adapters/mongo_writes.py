"""Writes on MongoDB that the plans of one process share: each inserts or changes single documents, atomically.

Every write is acknowledged by a majority and journaled before it returns; the database handed in is set so.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any

from pymongo import ReturnDocument, UpdateOne
from pymongo.errors import BulkWriteError, DuplicateKeyError

from easyq_chassis.errors import Internal, Unavailable
from easyq_store.adapters.mongo_documents import EXECUTIONS, JOBS, SCHEMA_VERSION, Document, Kind, R, stats_id
from easyq_store.adapters.mongo_errors import translated
from easyq_store.adapters.mongo_schema import CLOCK, GENERATION, QUEUE_SEQ, Database
from easyq_store.adapters.mongo_together import Together, Turns
from easyq_store.domain.records import Job
from easyq_store.domain.stats import HIGHEST, Cell
from easyq_store.ports import MOST_SKIPS

# Documents of one insert, places in line of one round.
_MOST_TOGETHER = 100
# Tasks remembered as known; some ten MiB.
_MOST_TASKS = 100_000
# Seconds for which that is taken for granted; a task that was deleted is dropped after more than that.
_REMEMBERED = 10.0
_DROPPED_AFTER_MS = 60_000
_DUPLICATE_KEY = 11000


class MongoWrites:
    """Shared by all plans from opening to closing."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._turns = Turns()
        self._seqs: Together[None, int] = Together(self._take_seqs, _MOST_TOGETHER)
        self._inserters = {
            kind.collection: _Inserter(database, kind.collection).together for kind in (JOBS, EXECUTIONS)
        }
        # When this process last made sure that they are there.
        self._tasks: dict[str, float] = {}

    def turn(self, collection: str, record_id: str) -> AbstractAsyncContextManager[None]:
        """One change of a record at a time in this process, so that its own plans don't disturb each other."""
        return self._turns.at((collection, record_id))

    async def insert_together(self, kind: Kind[R], document: Document) -> bool:
        """Inserts a record's document, with others that come meanwhile; False if its id or a unique key is taken."""
        return await self._inserters[kind.collection].call(document)

    async def insert(self, collection: str, document: Document) -> bool:
        """Inserts a document; False if its id is taken."""
        with translated():
            try:
                await self._database[collection].insert_one(document)
            except DuplicateKeyError:
                return False
        return True

    async def replace_if(self, kind: Kind[R], stored: Mapping[str, Any], record: R) -> bool:
        """Compare-and-set: makes the document that of the record, if it has the write number of `stored` still."""
        with translated():
            answer = await self._database[kind.collection].update_one(
                {"_id": stored["_id"], "writeNo": stored["writeNo"]}, kind.update(stored, record)
            )
        return answer.matched_count == 1

    async def make_task_known(self, job: Job, *, new: bool = False) -> None:
        """Inserts the job's task unless it is there. With a `new` job, one that was to go stays."""
        now = time.monotonic()
        seen = self._tasks.get(job.task_id)
        if seen is not None and (not new or now - seen < _REMEMBERED):
            return
        update: Document = {"$setOnInsert": {"createdAt": job.created_at, "schemaVersion": SCHEMA_VERSION}}
        if new:
            update["$unset"] = {"deletedAt": ""}
        # A duplicate: another plan inserted it between this one's look and its insert.
        with translated(), suppress(DuplicateKeyError):
            await self._database.tasks.update_one({"_id": job.task_id}, update, upsert=True)
        if len(self._tasks) >= _MOST_TASKS:
            self._tasks.clear()
        # To a new job this says nothing: it has to look itself.
        self._tasks[job.task_id] = now if new else now - _REMEMBERED

    async def delete_task(self, task_id: str) -> None:
        """Marks a task as one that goes with the last of its jobs, and drops those that went so a while ago.

        Other processes may remember for `_REMEMBERED` seconds that it is there and insert jobs of it. It is dropped
        only after that time; until then, and for ever where nobody comes to drop it, it is shown if it has jobs.
        """
        now = int(time.time() * 1000)
        self._tasks.pop(task_id, None)
        tasks = self._database.tasks
        with translated():
            await tasks.update_one({"_id": task_id, "deletedAt": {"$exists": False}}, {"$set": {"deletedAt": now}})
            old = {"deletedAt": {"$lt": now - _DROPPED_AFTER_MS}}
            async for gone in tasks.find(old, ("deletedAt",), limit=_MOST_TOGETHER):
                if await self._database.jobs.find_one({"taskId": gone["_id"]}, ("_id",)) is None:
                    await tasks.delete_one({"_id": gone["_id"], "deletedAt": gone["deletedAt"]})

    async def delete_if(self, kind: Kind[R], record_id: str, write_no: int) -> bool:
        """Deletes a record's document if it has this write number still."""
        with translated():
            answer = await self._database[kind.collection].delete_one({"_id": record_id, "writeNo": write_no})
        return answer.deleted_count == 1

    async def delete_chunks(self, execution_id: str, limit: int) -> int:
        """Deletes up to `limit` chunks of an execution; how many."""
        chunks = self._database.chunks
        ids = {"$gte": f"{execution_id}:", "$lt": f"{execution_id};"}
        with translated():
            found = await chunks.find({"_id": ids}, ("_id",), limit=limit).to_list() if limit > 0 else []
            if found:
                await chunks.delete_many({"_id": {"$in": [chunk["_id"] for chunk in found]}})
        return len(found)

    async def delete_beside(self, job_id: str) -> None:
        """Deletes what stands beside a job: old specs, skips."""
        with translated():
            await self._database.specs.delete_many({"_id": {"$gte": f"{job_id}:", "$lt": f"{job_id};"}})
            await self._database.skips.delete_many({"jobId": job_id})

    async def drop_old_skips(self, job_id: str) -> None:
        """Drops a job's skips before the newest that are kept."""
        skips = self._database.skips
        with translated():
            oldest = await skips.find_one({"jobId": job_id}, ("_id",), sort=[("_id", -1)], skip=MOST_SKIPS)
            if oldest is not None:
                await skips.delete_many({"jobId": job_id, "_id": {"$lte": oldest["_id"]}})

    async def add_stats(self, cells: Sequence[Cell]) -> None:
        """Adds to cells, several processes to the same ones."""
        for begin in range(0, len(cells), _MOST_TOGETHER):
            orders = [
                UpdateOne({"_id": stats_id(cell.span, cell.task_id, cell.at)}, _addition(cell), upsert=True)
                for cell in cells[begin : begin + _MOST_TOGETHER]
            ]
            with translated():
                await self._database.stats.bulk_write(orders, ordered=False)

    async def delete_stats(self, span: int, before: int, limit: int) -> int:
        """Deletes up to `limit` old cells; how many."""
        where: Document = {"span": span, "at": {"$lt": before}}
        with translated():
            found = await self._database.stats.find(where, ("_id",), limit=limit).to_list() if limit > 0 else []
            if found:
                await self._database.stats.delete_many({"_id": {"$in": [cell["_id"] for cell in found]}})
        return len(found)

    async def next_seq(self) -> int:
        """The next place in line; those who ask meanwhile share one round trip, in their order."""
        return await self._seqs.call(None)

    async def raise_generation(self, from_: int) -> bool:
        """Raises the generation by one if it is `from_`."""
        async with self.turn("meta", GENERATION):
            with translated():
                answer = await self._database.meta.update_one(
                    {"_id": GENERATION, "value": from_}, {"$inc": {"value": 1}}
                )
        return answer.matched_count == 1

    async def raise_clock(self, mark: int) -> int:
        """Raises the clock's mark if `mark` is higher; the one that holds."""
        return await self._counted(CLOCK, {"$max": {"value": mark}})

    async def _take_seqs(self, askers: Sequence[None]) -> Sequence[int]:
        last = await self._counted(QUEUE_SEQ, {"$inc": {"value": len(askers)}})
        return range(last - len(askers) + 1, last + 1)

    async def _counted(self, counter: str, update: Document) -> int:
        async with self.turn("meta", counter):
            with translated():
                found = await self._database.meta.find_one_and_update(
                    {"_id": counter}, update, return_document=ReturnDocument.AFTER
                )
        if found is None:
            raise Internal(f"the MongoDB database lost its {counter}: it was emptied under a running store")
        value: int = found["value"]
        return value


def _addition(cell: Cell) -> Document:
    highest = {f"counts.{name}": count for name, count in cell.counts.items() if name in HIGHEST}
    added = {f"counts.{name}": count for name, count in cell.counts.items() if name not in HIGHEST}
    update: Document = {"$setOnInsert": {"span": cell.span, "at": cell.at, "schemaVersion": SCHEMA_VERSION}}
    if added:
        update["$inc"] = added
    if highest:
        update["$max"] = highest
    return update


class _Inserter:
    """Inserts into one collection, those that come at once in one command."""

    def __init__(self, database: Database, collection: str) -> None:
        self._collection = database[collection]
        self.together: Together[Document, bool] = Together(self._insert, _MOST_TOGETHER)

    async def _insert(self, documents: Sequence[Document]) -> Sequence[bool | Exception]:
        with translated():
            try:
                await self._collection.insert_many(documents, ordered=False)
            except BulkWriteError as error:
                return insert_results(error, len(documents))
        return [True] * len(documents)


def insert_results(error: BulkWriteError, count: int) -> Sequence[bool | Exception]:
    """The result of each of `count` documents: inserted, duplicate, or an error of ours."""
    details: Mapping[str, Any] = error.details or {}
    unconfirmed = Unavailable("MongoDB did not confirm in time that the write is durable", retry_after=1.0)
    unconfirmed.__cause__ = error
    results: list[bool | Exception] = [unconfirmed if details["writeConcernErrors"] else True] * count
    for failed in details["writeErrors"]:
        if failed["code"] == _DUPLICATE_KEY:
            results[failed["index"]] = False
        else:
            refusal = Internal(f"MongoDB refused an insert: code {failed['code']}")
            refusal.__cause__ = error
            results[failed["index"]] = refusal
    return results
