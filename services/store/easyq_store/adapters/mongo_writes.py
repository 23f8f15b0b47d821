"""Writes on MongoDB that the plans of one process share: each inserts or changes single documents, atomically.

Every write is acknowledged by a majority and journaled before it returns; the database handed in is set so.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any

from pymongo import ReturnDocument
from pymongo.errors import BulkWriteError, DuplicateKeyError

from easyq_chassis.errors import Internal, Unavailable
from easyq_store.adapters.mongo_documents import EXECUTIONS, JOBS, SCHEMA_VERSION, Document, Kind, R
from easyq_store.adapters.mongo_errors import translated
from easyq_store.adapters.mongo_schema import CLOCK, GENERATION, QUEUE_SEQ, Database
from easyq_store.adapters.mongo_together import Together, Turns
from easyq_store.domain.records import Job
from easyq_store.ports import MOST_SKIPS

# Documents of one insert, places in line of one round.
_MOST_TOGETHER = 100
# Tasks remembered as known; some ten MiB.
_MOST_TASKS = 100_000
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
        self._tasks: set[str] = set()

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

    async def make_task_known(self, job: Job) -> None:
        """Inserts the job's task unless it is there."""
        if job.task_id in self._tasks:
            return
        task = {"createdAt": job.created_at, "schemaVersion": SCHEMA_VERSION}
        # A duplicate: another plan inserted it between this one's look and its insert.
        with translated(), suppress(DuplicateKeyError):
            await self._database.tasks.update_one({"_id": job.task_id}, {"$setOnInsert": task}, upsert=True)
        if len(self._tasks) >= _MOST_TASKS:
            self._tasks.clear()
        self._tasks.add(job.task_id)

    async def drop_old_skips(self, job_id: str) -> None:
        """Drops a job's skips before the newest that are kept."""
        skips = self._database.skips
        with translated():
            oldest = await skips.find_one({"jobId": job_id}, ("_id",), sort=[("_id", -1)], skip=MOST_SKIPS)
            if oldest is not None:
                await skips.delete_many({"jobId": job_id, "_id": {"$lte": oldest["_id"]}})

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
