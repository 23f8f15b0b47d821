"""Reads outside plans, on MongoDB. Each says by its shape which index of `mongo_schema` serves it."""

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import TypeVar

from easyq_store.adapters.mongo_conditions import beginning, listed, up_to
from easyq_store.adapters.mongo_documents import (
    AGENTS,
    DELIVERIES,
    EXECUTIONS,
    JOBS,
    Document,
    Kind,
    R,
    needs,
    skip_record,
    spec_id,
    stats_id,
)
from easyq_store.adapters.mongo_errors import translated
from easyq_store.adapters.mongo_lookups import MongoLookups, Sort, chunk_id, chunk_ids
from easyq_store.adapters.mongo_schema import QUEUE_SEQ
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
from easyq_store.domain.sites import Sites, lanes_of
from easyq_store.domain.states import JobState, Stream
from easyq_store.domain.stats import Cell
from easyq_store.ports import ABOVE_ALL, ExecutionFilter, Found, JobFilter, Place

T = TypeVar("T")
Item = TypeVar("Item")

_NEWEST_FIRST: Sort = [("createdAt", -1), ("_id", -1)]
_OLDEST_FIRST: Sort = [("createdAt", 1), ("_id", 1)]

# Questions on the wire at once for the sake of one answer.
_BESIDE = 16
# Deliveries looked at in one go.
_DELIVERIES = 500
# Chunks read in one go.
_MOST_CHUNKS = 1000
_USUAL_CHUNK = 64 * 1024


class MongoReads(MongoLookups):
    """`easyq_store.ports.Reads`."""

    # -------------------------------------------------------------------------------------------------------- lists
    async def list_jobs(
        self, where: JobFilter, after: Place | None, limit: int, *, examine: int | None = None
    ) -> Found[Job]:
        return await self._list(JOBS, where, after, limit, examine)

    async def count_listed(self, where: JobFilter) -> int:
        walk, rest = listed(where, None)
        return await self._count("jobs", {**walk, **rest} if walk.keys().isdisjoint(rest) else {"$and": [walk, rest]})

    async def list_executions(
        self, where: ExecutionFilter, after: Place | None, limit: int, *, examine: int | None = None
    ) -> Found[Execution]:
        return await self._list(EXECUTIONS, where, after, limit, examine)

    async def _list(
        self,
        kind: Kind[R],
        where: JobFilter | ExecutionFilter,
        after: Place | None,
        limit: int,
        examine: int | None,
    ) -> Found[R]:
        walk, rest = listed(where, after)
        sort = _order(where)
        if not rest or examine is None:
            both = {"$and": [walk, rest]} if walk and rest else walk or rest
            return Found(await self._records(kind, both, sort=sort, limit=limit))
        if limit <= 0:
            return Found()
        first: list[Document] = [{"$match": walk}, {"$sort": dict(sort)}, {"$limit": examine}]
        records = await self._aggregated(kind, first, rest, limit)
        if len(records) == limit:
            return Found(records)
        with translated():
            collection = self._database()[kind.collection]
            last = await collection.find_one(walk, ("createdAt",), sort=sort, skip=examine - 1)
        if last is None:
            return Found(records)
        # What came or went between the two has moved the place where the page ends: so it is what lies before that one.
        stop: Place = Place(created_at=last["createdAt"], id=last["_id"])
        until: list[Document] = [{"$match": {"$and": [walk, *up_to(stop, oldest=where.oldest)]}}, {"$sort": dict(sort)}]
        return Found(await self._aggregated(kind, until, rest, limit), stop)

    async def _aggregated(self, kind: Kind[R], walked: Sequence[Document], rest: Document, limit: int) -> list[R]:
        stages = [*walked, {"$match": rest}, {"$limit": limit}]
        with translated():
            found = await (await self._database()[kind.collection].aggregate(stages)).to_list()
        return [kind.decode(document) for document in found]

    async def executions_of(self, job_id: str, limit: int) -> list[Execution]:
        return await self._records(EXECUTIONS, {"jobId": job_id}, sort=[("attempt", -1)], limit=limit)

    async def next_attempt(self, job_id: str, after: int) -> Execution | None:
        return await self._record(EXECUTIONS, {"jobId": job_id, "attempt": {"$gt": after}}, sort=[("attempt", 1)])

    async def specs(self, keys: Collection[tuple[str, int]]) -> Mapping[tuple[str, int], bytes]:
        if not keys:
            return {}
        job_ids = sorted({job_id for job_id, _ in keys})
        # In this order: a revision is kept aside before the job takes the next one.
        jobs = await self._all("jobs", {"_id": {"$in": job_ids}}, only=("revision", "spec"))
        found = {(job["_id"], job["revision"]): job["spec"] for job in jobs}
        others = {spec_id(*key): key for key in keys if key not in found}
        kept = await self._all("specs", {"_id": {"$in": sorted(others)}}) if others else []
        found |= {others[spec["_id"]]: spec["spec"] for spec in kept}
        return {key: found[key] for key in keys if key in found}

    # -------------------------------------------------------------------------------------------- tasks and counts
    async def get_task(self, task_id: str) -> Task | None:
        task = await self._first("tasks", {"_id": task_id})
        return await self._task(task) if task else None

    async def list_tasks(self, after: str, limit: int) -> list[Task]:
        return await self._tasks({"_id": {"$gt": after}}, limit)

    async def tasks_beginning(self, prefix: str, limit: int) -> list[Task]:
        return await self._tasks(beginning("_id", prefix), limit)

    async def count_jobs(self, task_id: str = "") -> Mapping[JobState, int]:
        # Each a count of index entries, without a document read.
        of_task: Document = {"taskId": task_id} if task_id else {}
        counts = await _beside(lambda state: self._count("jobs", {**of_task, "state": state.value}), JobState)
        return {state: count for state, count in zip(JobState, counts, strict=True) if count}

    async def task_ids(self, after: str, limit: int) -> list[str]:
        return await self._ids("tasks", {"_id": {"$gt": after}}, [("_id", 1)], limit)

    async def count_open(self, task_id: str) -> tuple[int, int]:
        queued, held = await asyncio.gather(
            self._count("executions", {"lineTask": task_id}),
            # Those held are few.
            self._count("executions", {"heldBy": {"$exists": True}, "taskId": task_id}, hint="heldBy"),
        )
        return queued, held

    async def oldest_queued(self, task_id: str) -> int | None:
        oldest: int | None = None
        below = ABOVE_ALL
        while True:
            where = {"lineTask": task_id, "linePriority": {"$lt": below}}
            line: Sort = [("linePriority", -1), ("lineSeq", 1)]
            first = await self._records(EXECUTIONS, where, sort=line, limit=1)
            if not first:
                return oldest
            below, at = first[0].priority, first[0].queued_at
            if at is not None:
                oldest = at if oldest is None else min(oldest, at)

    async def ended_jobs(self, task_id: str, states: Collection[JobState], before: int, limit: int) -> list[str]:
        where = {"endedOf": task_id, "state": {"$in": [s.value for s in states]}, "endedAt": {"$lt": before}}
        return await self._ids("jobs", where, [("endedAt", 1), ("_id", 1)], limit)

    async def doomed_jobs(self, after: str, limit: int) -> list[str]:
        return await self._ids("jobs", {"doomed": True, "_id": {"$gt": after}}, [("_id", 1)], limit)

    async def with_logs(self, task_id: str, before: int, limit: int) -> list[str]:
        where = {"logsOf": task_id, "logsSince": {"$lt": before}}
        return await self._ids("executions", where, [("logsSince", 1), ("_id", 1)], limit)

    async def _tasks(self, where: Document, limit: int) -> list[Task]:
        tasks: list[Task] = []
        while limit > len(tasks):
            found = await self._all("tasks", where, sort=[("_id", 1)], limit=limit - len(tasks))
            tasks += [task for task in await _beside(self._task, found) if task is not None]
            if not found:
                break
            where = {"$and": [where, {"_id": {"$gt": found[-1]["_id"]}}]}
        return tasks

    async def _task(self, task: Document) -> Task | None:
        """The task; None if it was deleted and has no jobs."""
        jobs = {"taskId": task["_id"]}
        newest = await self._first("jobs", jobs, sort=_NEWEST_FIRST, only=("createdAt",))
        if newest is None and "deletedAt" in task:
            return None
        return Task(
            task_id=task["_id"],
            created_at=task["createdAt"],
            last_job_at=newest["createdAt"] if newest else task["createdAt"],
            job_count=await self._count("jobs", jobs),
        )

    async def _count(self, collection: str, where: Document, *, hint: str | None = None) -> int:
        with translated():
            # The plain command: `count_documents` is an aggregation, which may read documents.
            database = self._database()
            options: Document = {"hint": hint} if hint else {}
            answer = await database.command(
                "count", collection, query=where, readConcern=database.read_concern.document, **options
            )
        return int(answer["n"])

    # ------------------------------------------------------------------------------------------------------- search
    async def jobs_beginning(self, prefix: str, limit: int) -> list[Job]:
        return await self._records(JOBS, beginning("_id", prefix), sort=[("_id", 1)], limit=limit)

    async def executions_beginning(self, prefix: str, limit: int) -> list[Execution]:
        return await self._records(EXECUTIONS, beginning("_id", prefix), sort=[("_id", 1)], limit=limit)

    async def jobs_by_image(self, prefix: str, limit: int) -> list[Job]:
        either = {"$or": [beginning("image", prefix), beginning("shortImage", prefix)]}
        return await self._records(JOBS, either, sort=_NEWEST_FIRST, limit=limit)

    async def jobs_by_label(self, prefix: str, limit: int) -> list[Job]:
        # No range: several labels together would meet its bounds (on FerretDB within `$elemMatch` too).
        where: Document = {"labels": {"$regex": f"^{re.escape(prefix)}"}}
        return await self._records(JOBS, where, sort=[("labels", 1)], limit=limit)

    # -------------------------------------------------------------------------------------------- the line and time
    async def queued_after(self, seq: int, limit: int) -> list[Head]:
        return await self._heads({"lineSeq": {"$gt": seq}}, [("lineSeq", 1)], limit)

    async def last_seq(self) -> int:
        return await self._counter(QUEUE_SEQ)

    async def task_queue(self, task_id: str, limit: int) -> list[Head]:
        return await self._heads({"lineTask": task_id}, [("linePriority", -1), ("lineSeq", 1)], limit)

    async def waiting(self, task_id: str, limit: int) -> list[Execution]:
        line: Sort = [("linePriority", -1), ("lineSeq", 1)]
        return await self._records(EXECUTIONS, {"lineTask": task_id}, sort=line, limit=limit)

    async def queued_tasks(self, after: str, limit: int) -> list[str]:
        if limit <= 0:
            return []
        # Grouping by an index's first key alone lets MongoDB skip from task to task in it.
        stages: list[Document] = [
            {"$match": {"lineTask": {"$gt": after}}},
            {"$group": {"_id": "$lineTask"}},
            {"$sort": {"_id": 1}},
            {"$limit": limit},
        ]
        with translated():
            cursor = await self._database().executions.aggregate(stages)
            return [task["_id"] for task in await cursor.to_list()]

    async def held(self, after: str, limit: int, agent_id: str = "") -> list[HeldHead]:
        found = await self._all(
            "executions",
            {"heldBy": agent_id or {"$exists": True}, "_id": {"$gt": after}},
            sort=[("_id", 1)],
            limit=limit,
            only=("taskId", "agentId", "session", "pool", "epoch", "needs"),
            # Those held are few: sorting them is cheaper than passing over all ids.
            hint="heldBy",
        )
        return [
            HeldHead(
                execution_id=held["_id"],
                task_id=held["taskId"],
                agent_id=held["agentId"],
                session=held["session"],
                pool=held["pool"],
                epoch=held["epoch"],
                needs=needs(held.get("needs")),
            )
            for held in found
        ]

    async def due(self, now: int, limit: int) -> list[DueHead]:
        found = await self._all(
            "executions", {"firesAt": {"$lte": now}}, sort=[("firesAt", 1)], limit=limit, only=("epoch", "firesAt")
        )
        return [DueHead(execution_id=due["_id"], epoch=due["epoch"], due_at=due["firesAt"]) for due in found]

    async def next_due(self, after: int) -> int | None:
        return await self._lowest("executions", "firesAt", after)

    async def expired(self, now: int, limit: int) -> list[str]:
        return await self._ids_below("executions", "expiresAt", now, limit)

    async def next_expiry(self, after: int) -> int | None:
        return await self._lowest("executions", "expiresAt", after)

    async def due_schedules(self, now: int, limit: int) -> list[Job]:
        return await self._records(JOBS, {"fireAt": {"$lte": now}}, sort=[("fireAt", 1)], limit=limit)

    async def next_schedule(self, after: int) -> int | None:
        return await self._lowest("jobs", "fireAt", after)

    async def skips(self, job_id: str, limit: int) -> list[Skip]:
        found = await self._all("skips", {"jobId": job_id}, sort=[("_id", -1)], limit=limit)
        return [skip_record(document) for document in found]

    async def stats(self, span: int, task_id: str, start: int, end: int) -> list[Cell]:
        ids = {"$gte": stats_id(span, task_id, start), "$lt": stats_id(span, task_id, end)}
        found = await self._all("stats", {"_id": ids}, sort=[("_id", 1)])
        return [Cell(span=span, task_id=task_id, at=cell["at"], counts=cell["counts"]) for cell in found]

    async def deliveries_of(self, job_id: str, after: Place | None, limit: int) -> list[Delivery]:
        where: Document = {"jobId": job_id}
        if after is not None:
            where["createdAt"] = {"$lte": after.created_at}
            where["$or"] = [{"createdAt": {"$lt": after.created_at}}, {"_id": {"$lt": after.id}}]
        return await self._records(DELIVERIES, where, sort=_NEWEST_FIRST, limit=limit)

    async def due_deliveries(
        self, now: int, per_lane: int, limit: int, *, full: Collection[str], sites: Sites | None = None
    ) -> list[DueDelivery]:
        due: list[DueDelivery] = []
        taken: Counter[str] = Counter()
        room = sites or Sites()
        while len(due) < limit:
            # Each look leaves out the lanes and sites that have had their share: so a long one hides no others.
            done = {*full, *(lane for lane, count in taken.items() if count >= per_lane)}
            where: Document = {"nextAt": {"$lte": now}}
            if done:
                where["waitsIn"] = {"$nin": sorted(done)}
            if room.full:
                where["$nor"] = [{"waitsIn": {"$regex": lanes_of(site)}} for site in room.full]
            known = {each.delivery_id for each in due}
            size = _DELIVERIES + len(known)
            found = await self._all("deliveries", where, sort=[("nextAt", 1)], limit=size, only=("waitsIn", "nextAt"))
            for document in found:
                lane = document["waitsIn"]
                if document["_id"] not in known and taken[lane] < per_lane and room.room(lane, 1):
                    taken[lane] += 1
                    room.take(lane)
                    due.append(DueDelivery(delivery_id=document["_id"], lane=lane))
            if len(found) < size:
                break
        return due[:limit]

    async def next_delivery(self, after: int) -> int | None:
        return await self._lowest("deliveries", "nextAt", after)

    async def agents(self) -> list[Agent]:
        return await self._records(AGENTS, {}, sort=[("_id", 1)])

    async def unsettled_jobs(self, before: int, limit: int) -> list[str]:
        return await self._ids_below("jobs", "unsettledSince", before, limit)

    async def unsettled_executions(self, before: int, limit: int) -> list[str]:
        return await self._ids_below("executions", "unsettledSince", before, limit)

    async def _heads(self, where: Document, sort: Sort, limit: int) -> list[Head]:
        found = await self._all(
            "executions",
            where,
            sort=sort,
            limit=limit,
            only=("lineTask", "linePriority", "lineSeq", "epoch", "needs", "image"),
        )
        return [
            Head(
                execution_id=head["_id"],
                task_id=head["lineTask"],
                priority=head["linePriority"],
                queue_seq=head["lineSeq"],
                epoch=head["epoch"],
                needs=needs(head.get("needs")),
                image=head.get("image", ""),
            )
            for head in found
        ]

    async def _lowest(self, collection: str, key: str, after: int) -> int | None:
        found = await self._first(collection, {key: {"$gt": after}}, sort=[(key, 1)], only=(key,))
        return found[key] if found else None

    async def _ids_below(self, collection: str, key: str, bound: int, limit: int) -> list[str]:
        return await self._ids(collection, {key: {"$lt": bound}}, [(key, 1)], limit)

    async def _ids(self, collection: str, where: Document, sort: Sort, limit: int) -> list[str]:
        found = await self._all(collection, where, sort=sort, limit=limit, only=("_id",))
        return [document["_id"] for document in found]

    # --------------------------------------------------------------------------------------------------------- logs
    async def log_ends(self, execution_ids: Collection[str]) -> Mapping[str, tuple[int, int]]:
        async def ends(execution_id: str) -> tuple[int, int]:
            stdout = await self.log_end(execution_id, Stream.STDOUT)
            return stdout, await self.log_end(execution_id, Stream.STDERR)

        found = await _beside(ends, execution_ids)
        return {id_: pair for id_, pair in zip(execution_ids, found, strict=True) if pair != (0, 0)}

    async def read_chunks(self, execution_id: str, stream: Stream, offset: int, max_bytes: int) -> list[LogChunk]:
        chunks: list[LogChunk] = []
        room = max_bytes
        ids = chunk_ids(execution_id, stream)
        ids["$gte"] = await self._chunk_with(execution_id, stream, offset)
        wanted = max_bytes // _USUAL_CHUNK + 1
        while page := await self._all("chunks", {"_id": ids}, sort=[("_id", 1)], limit=min(wanted, _MOST_CHUNKS)):
            for document in page:
                chunk = _chunk(execution_id, stream, document)
                if chunk.end <= offset:
                    continue
                room -= len(chunk.data)
                if chunks and room < 0:
                    return chunks
                chunks.append(chunk)
            if room <= 0:
                break
            # As many as fit if they are as large as those so far.
            wanted = room * len(chunks) // max(1, max_bytes - room) + 1
            ids = {"$gt": page[-1]["_id"], "$lt": ids["$lt"]}
        return chunks

    async def _chunk_with(self, execution_id: str, stream: Stream, offset: int) -> str:
        """The id of the last chunk that begins at `offset` or before; where there is none, where one would be."""
        at = chunk_id(execution_id, stream, offset)
        if offset == 0:
            return at
        ids = {"$gte": chunk_id(execution_id, stream, 0), "$lte": at}
        last = await self._first("chunks", {"_id": ids}, sort=[("_id", -1)], only=("_id",))
        return last["_id"] if last else at


def _order(where: JobFilter | ExecutionFilter) -> Sort:
    return _OLDEST_FIRST if where.oldest else _NEWEST_FIRST


def _chunk(execution_id: str, stream: Stream, document: Document) -> LogChunk:
    data: bytes = document["data"]
    return LogChunk(
        execution_id=execution_id,
        stream=stream,
        offset=document["end"] - len(data),
        data=data,
        at=document["at"],
    )


async def _beside(ask: Callable[[Item], Awaitable[T]], items: Iterable[Item]) -> list[T]:
    """The answers in their order, with a bound on how many are asked at once.

    A question is made when its turn comes: whoever is cancelled before leaves none that was made and never asked.
    """
    gate = asyncio.Semaphore(_BESIDE)

    async def one(item: Item) -> T:
        async with gate:
            return await ask(item)

    return await asyncio.gather(*(one(item) for item in items))
