"""Conditions of queries on MongoDB: pure."""

import re
from collections.abc import Iterable
from enum import Enum
from typing import Any

from easyq_store.adapters.mongo_documents import Document
from easyq_store.ports import ExecutionFilter, JobFilter, Place


def listed(where: JobFilter | ExecutionFilter, after: Place | None) -> tuple[Document, Document]:
    """The conditions of a list: those that one index has, and the rest."""
    every = _own(where)
    walked = next((keys for keys in _WALKS if every.keys() >= set(keys)), ())
    walk: Document = {key: every.pop(key) for key in walked}
    # More than one label, or term: an index has them one by one.
    for key in ("labels", "metadata"):
        if isinstance(several := walk.get(key), dict):
            first, *others = several["$all"]
            walk[key] = first
            every[key] = {"$all": others}
    created: Document = {}
    if where.created_from is not None:
        created["$gte"] = where.created_from
    # What ended before a time was made before it.
    befores = [bound for bound in (where.created_before, where.ended_before) if bound is not None]
    if befores:
        created["$lt"] = min(befores)
    if after is not None:
        # The first bound is the index's; the other only passes over those of that very millisecond.
        if where.oldest:
            created["$gte"] = max(after.created_at, created.get("$gte", after.created_at))
            walk["$or"] = [{"createdAt": {"$gt": after.created_at}}, {"_id": {"$gt": after.id}}]
        else:
            created["$lte"] = after.created_at
            walk["$or"] = [{"createdAt": {"$lt": after.created_at}}, {"_id": {"$lt": after.id}}]
    if created:
        walk["createdAt"] = created
    return walk, every


def up_to(place: Place, *, oldest: bool) -> list[Document]:
    """Conditions: in the list's order it is not behind this place."""
    sign = "$l" if oldest else "$g"
    beside = [{"createdAt": {f"{sign}t": place.created_at}}, {"_id": {f"{sign}te": place.id}}]
    return [{"createdAt": {f"{sign}te": place.created_at}}, {"$or": beside}]


# What indexes have, best first.
_WALKS = (
    *(("jobId",), ("labels",), ("metadata",), ("failure.reason",)),
    *(("taskId", "state"), ("taskId",), ("state",)),
)


def _own(where: JobFilter | ExecutionFilter) -> Document:
    conditions: Document = {}
    if where.task_id:
        conditions["taskId"] = where.task_id
    if where.states:
        conditions["state"] = one_of(where.states)
    if where.reasons:
        conditions["failure.reason"] = one_of(where.reasons)
    if where.image:
        conditions["image"] = {"$regex": f"^{re.escape(where.image)}([:@][^/]*)?$"}
    ended = {"$gte": where.ended_from, "$lt": where.ended_before}
    within = {sign: bound for sign, bound in ended.items() if bound is not None}
    if isinstance(where, JobFilter):
        if where.kept_only:
            conditions["deleteRequested"] = {"$ne": True}
        if where.labels:
            conditions["labels"] = _all(where.labels)
        if where.metadata:
            conditions["metadata"] = _all(where.metadata)
        if where.ends:
            conditions["lastEnd"] = one_of(where.ends)
        if within:
            # There only where it has ended.
            conditions["endedAt"] = within
    else:
        if where.job_id:
            conditions["jobId"] = where.job_id
        if where.exit_codes:
            conditions["exitCode"] = {"$in": list(where.exit_codes)}
        if where.agent_id:
            conditions["agentId"] = where.agent_id
        if where.triggers:
            conditions["trigger"] = one_of(where.triggers)
        if within:
            conditions["finishedAt"] = within
    return conditions


def _all(words: tuple[str, ...]) -> Any:
    return words[0] if len(words) == 1 else {"$all": list(words)}


def one_of(values: Iterable[Enum]) -> Any:
    """Condition: the number is that of one of the values."""
    numbers = [value.value for value in values]
    return numbers[0] if len(numbers) == 1 else {"$in": numbers}


def beginning(key: str, prefix: str) -> Document:
    """Condition: the string begins with the prefix. A range, which every index serves."""
    bounds: Document = {"$gte": prefix}
    stem = prefix.rstrip(chr(0x10FFFF))
    if stem:
        # UTF-16's surrogates are no characters.
        following = ord(stem[-1]) + 1
        bounds["$lt"] = stem[:-1] + chr(0xE000 if 0xD800 <= following <= 0xDFFF else following)
    return {key: bounds}
