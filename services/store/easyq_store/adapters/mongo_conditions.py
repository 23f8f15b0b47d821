"""Conditions of queries on MongoDB: pure."""

from collections.abc import Iterable
from enum import Enum
from typing import Any

from easyq_store.adapters.mongo_documents import Document
from easyq_store.ports import ExecutionFilter, JobFilter, Place


def listed(where: JobFilter | ExecutionFilter, after: Place | None) -> Document:
    """The conditions that both lists have."""
    conditions: Document = {}
    if where.task_id:
        conditions["taskId"] = where.task_id
    if where.states:
        conditions["state"] = one_of(where.states)
    if where.reasons:
        conditions["failure.reason"] = one_of(where.reasons)
    if isinstance(where, JobFilter) and where.kept_only:
        conditions["deleteRequested"] = {"$ne": True}
    created: Document = {}
    if where.created_from is not None:
        created["$gte"] = where.created_from
    if where.created_before is not None:
        created["$lt"] = where.created_before
    if after is not None:
        # The first bound is the index's; the other only passes over those of that very millisecond.
        if where.oldest:
            created["$gte"] = after.created_at
            conditions["$or"] = [{"createdAt": {"$gt": after.created_at}}, {"_id": {"$gt": after.id}}]
        else:
            created["$lte"] = after.created_at
            conditions["$or"] = [{"createdAt": {"$lt": after.created_at}}, {"_id": {"$lt": after.id}}]
    if created:
        conditions["createdAt"] = created
    return conditions


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
