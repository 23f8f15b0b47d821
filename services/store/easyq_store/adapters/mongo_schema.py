"""Collections, indexes and the schema's version of a MongoDB database.

`jobs`        one document a job, `_id` the job's id
`specs`       old revisions' specs, `_id` is `<job id>:<revision>`
`tasks`       one document a task, `_id` the task's id; what else a task shows is read from its jobs
`executions`  one document an execution, `_id` the execution's id
`agents`      one document an agent, `_id` the agent's id
`skips`       fires that did not run, `_id` is `<job id>:<first, 16 digits>:<reason>`
`stats`       counters of a minute or an hour, of a task or the farm, `_id` is `<span>:<task>:<at, 16 digits>`
`chunks`      log bytes, `_id` is `<execution id>:<stream>:<offset, 16 digits>`, so that its own index orders them
`meta`        `schema` {version} · `queueSeq`, `generation`, `clock` {value}

Indexes are created at each start. They are sparse where only few documents matter at a time: what has ended leaves
them, so that they stay small however many millions have ended. FerretDB ignores `sparse`, which changes no answer:
its unique indexes take any number of documents without the field, as sparse ones do. There is no TTL index:
retention is the store's own sweep, the same on every backend.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from pymongo import ASCENDING, DESCENDING, IndexModel
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError

from easyq_chassis.errors import FailedPrecondition
from easyq_chassis.logs import get_logger
from easyq_store.adapters.mongo_documents import Document, needs_document, spec_id
from easyq_store.convert.spec import needs_in

Database = AsyncDatabase[Document]
Migration = Callable[[Database], Awaitable[None]]

SCHEMA, QUEUE_SEQ, GENERATION, CLOCK = "schema", "queueSeq", "generation", "clock"

_NEWEST_FIRST = [("createdAt", DESCENDING), ("_id", DESCENDING)]


def _index(name: str, *keys: str | tuple[str, int], unique: bool = False, sparse: bool = False) -> IndexModel:
    options: dict[str, Any] = {"name": name}
    if unique:
        options["unique"] = True
    if sparse:
        options["sparse"] = True
    return IndexModel([(key, ASCENDING) if isinstance(key, str) else key for key in keys], **options)


INDEXES: dict[str, list[IndexModel]] = {
    "jobs": [
        # One job for a key: `idempotency` is `<task id>/<key>`, only where there is a key.
        _index("idempotency", "idempotency", unique=True, sparse=True),
        # What the sweep has to complete: `unsettledSince` only where something may be missing.
        _index("unsettled", "unsettledSince", sparse=True),
        # Recurring jobs whose fires are to be looked at.
        _index("fireAt", "fireAt", sparse=True),
        # Retention: `endedOf` is the task's id, and `endedAt` `lastModifiedAt`, of jobs that have ended.
        _index("endedOf", "endedOf", "state", "endedAt", sparse=True),
        # Jobs that are to be deleted and have ended.
        _index("doomed", "doomed", "_id", sparse=True),
        # Lists, newest first, by each filter that is worth it; counts by state, over the farm and by task.
        _index("newest", *_NEWEST_FIRST),
        _index("stateNewest", "state", *_NEWEST_FIRST),
        _index("taskStateNewest", "taskId", "state", *_NEWEST_FIRST),
        # A task's newest job and number of jobs as well.
        _index("taskNewest", "taskId", *_NEWEST_FIRST),
        _index("labelNewest", "labels", *_NEWEST_FIRST),
        _index("metadataNewest", "metadata", *_NEWEST_FIRST),
        # Those that failed for a reason, of whom there are as many as retention keeps; a page sorts them.
        _index("reason", "failure.reason", sparse=True),
        # Search by image; `shortImage` only where it isn't the image itself.
        _index("image", "image"),
        _index("shortImage", "shortImage", sparse=True),
    ],
    "executions": [
        # One execution for each attempt of a job; the newest; the next one.
        _index("jobAttempt", "jobId", "attempt", unique=True),
        # A job's executions that have not ended: `openOf` is the job's id until then, and until its successor is there.
        _index("openOf", "openOf", sparse=True),
        # The line, only while QUEUED: each task's in its order, and all by their places.
        _index("taskLine", "lineTask", ("linePriority", DESCENDING), "lineSeq", sparse=True),
        _index("line", "lineSeq", sparse=True),
        # What counts against limits: `heldBy` is the agent's name while ASSIGNED or RUNNING.
        _index("heldBy", "heldBy", sparse=True),
        # What is due: `firesAt` is `dueAt` while SCHEDULED.
        _index("firesAt", "firesAt", sparse=True),
        # What may not start any more: `expiresAt` is `latestStart` while SCHEDULED or QUEUED.
        _index("expiresAt", "expiresAt", sparse=True),
        _index("unsettled", "unsettledSince", sparse=True),
        # Retention of logs: `logsOf` is the task's id, `logsSince` `finishedAt`, of those that ended and may have some.
        _index("logsOf", "logsOf", "logsSince", sparse=True),
        # Lists, newest first.
        _index("newest", *_NEWEST_FIRST),
        _index("stateNewest", "state", *_NEWEST_FIRST),
        _index("taskNewest", "taskId", *_NEWEST_FIRST),
        _index("reason", "failure.reason", sparse=True),
    ],
    "tasks": [
        # Tasks that go with the last of their jobs; those that have none are shown to nobody.
        _index("deletedAt", "deletedAt", sparse=True),
    ],
    "stats": [
        # Retention.
        _index("age", "span", "at"),
    ],
    "skips": [
        # The newest of a job.
        _index("jobNewest", "jobId", ("_id", DESCENDING)),
    ],
}


# The migration at place n brings a database from version n + 1 to n + 2. Two processes may run it at once, and a
# crash may cut it short, so each one is written to be repeated. It also drops indexes whose keys change.
async def _second(database: Database) -> None:
    """Several executions of a job may be pending; those that are open know their image."""
    async for job in database.jobs.find({"pending.executionId": {"$exists": True}}, ("pending", "writeNo")):
        if isinstance(job["pending"], dict):
            same = {"_id": job["_id"], "writeNo": job["writeNo"]}
            await database.jobs.update_one(same, {"$set": {"pending": [job["pending"]]}})
    async for execution in database.executions.find({"openOf": {"$exists": True}}, ("jobId",)):
        found = await database.jobs.find_one({"_id": execution["jobId"]}, ("image",))
        if found is not None:
            await database.executions.update_one({"_id": execution["_id"]}, {"$set": {"image": found["image"]}})
    await _make_retainable(database)


async def _third(database: Database) -> None:
    """Executions that are open and older than the second version know what they need."""
    older: Document = {"openOf": {"$exists": True}, "needs": {"$exists": False}}
    async for execution in database.executions.find(older, ("jobId", "specRevision")):
        job_id, revision = execution["jobId"], execution["specRevision"]
        job = await database.jobs.find_one({"_id": job_id}, ("revision", "spec"))
        if job is not None and job["revision"] != revision:
            job = await database.specs.find_one({"_id": spec_id(job_id, revision)}, ("spec",))
        needs = needs_in(job["spec"]) if job is not None else None
        if needs is not None:
            same = {"_id": execution["_id"], "needs": {"$exists": False}}
            await database.executions.update_one(same, {"$set": {"needs": needs_document(needs)}})


async def _fourth(database: Database) -> None:
    """Jobs know how their newest attempt ended."""
    for state, end in ((5, 5), (6, 6), (7, 7), (8, 8), (9, 10)):
        where: Document = {"state": state, "lastEnd": {"$exists": False}}
        await database.jobs.update_many(where, {"$set": {"lastEnd": end}})


async def _make_retainable(database: Database) -> None:
    """What has ended is found by retention."""
    ended: Document = {"state": {"$in": [5, 6, 7, 8, 9]}, "endedOf": {"$exists": False}}
    async for job in database.jobs.find(ended, ("taskId", "lastModifiedAt")):
        fields = {"endedOf": job["taskId"], "endedAt": job["lastModifiedAt"]}
        await database.jobs.update_one({"_id": job["_id"]}, {"$set": fields})
    finished: Document = {"finishedAt": {"$exists": True}, "logsOf": {"$exists": False}}
    async for execution in database.executions.find(finished, ("taskId", "finishedAt", "stdoutSize", "stderrSize")):
        if (execution.get("stdoutSize"), execution.get("stderrSize")) != (0, 0):
            fields = {"logsOf": execution["taskId"], "logsSince": execution["finishedAt"]}
            await database.executions.update_one({"_id": execution["_id"]}, {"$set": fields})


MIGRATIONS: Sequence[Migration] = (_second, _third, _fourth)


async def bring_forward(database: Database, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Makes what is missing, and migrates up to the version after the last of `migrations`.

    Errors: FailedPrecondition (the database is of a newer version).
    """
    newest = len(migrations) + 1
    version = (await _stored(database, {"_id": SCHEMA, "version": newest}))["version"]
    if version > newest:
        raise FailedPrecondition(
            f"the MongoDB database {database.name!r} has schema version {version}, this program knows {newest}:"
            " it needs a newer EasyQ"
        )
    for old in range(version, newest):
        get_logger().info("schema_migration", backend="mongo", from_version=old, to_version=old + 1)
        await migrations[old - 1](database)
        await database.meta.update_one({"_id": SCHEMA, "version": old}, {"$set": {"version": old + 1}})
    for counter in (QUEUE_SEQ, GENERATION, CLOCK):
        await _stored(database, {"_id": counter, "value": 0})
    for collection in INDEXES:
        await _make_indexes(database, collection)


async def _make_indexes(database: Database, collection: str) -> None:
    there = {index["name"] async for index in await database[collection].list_indexes()}
    for index in INDEXES[collection]:
        # One by one: FerretDB breaks the connection if one of several is there already.
        if index.document["name"] not in there:
            await database[collection].create_indexes([index])


async def _stored(database: Database, document: Document) -> Document:
    """The document of that id in `meta`; this one if there was none."""
    while (found := await database.meta.find_one({"_id": document["_id"]})) is None:
        try:
            await database.meta.insert_one(document)
        except DuplicateKeyError:
            # Another process starts at the same moment.
            continue
        return document
    return found
