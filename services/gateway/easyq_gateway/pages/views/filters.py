"""What a page's query asks lists for. Whoever types an address by hand is told what is wrong, as by the API."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from easyq_chassis.errors import FieldProblem, InvalidArgument
from easyq_gateway.pages.views.page import Query

_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,3})?)?)?Z?")


def states_of(query: Query, name: str, enum: Any, groups: Mapping[str, Sequence[int]] | None = None) -> list[Any]:
    """Returns the numbers of an enum's values that a parameter names, with commas; groups as `groups` has them."""
    found: list[Any] = []
    for word in filter(None, query.get(name, "").split(",")):
        if groups and word in groups:
            found += groups[word]
        elif word in enum.keys():  # noqa: SIM118 - no mapping
            found.append(enum.Value(word))
        else:
            raise _wrong(name, f"is none of {', '.join([*(groups or ()), *enum.keys()[1:]])}")
    return found


def labels_of(query: Query, name: str = "label") -> list[str]:
    """Returns the labels (or metadata) that a list is narrowed to, each `key=value`."""
    return [one for one in query.get(name, "").split(",") if one]


def set_time(message: Any, field: str, query: Query, name: str) -> None:
    """Sets a time of the message where the query has one, in UTC as browsers' fields give it."""
    text = query.get(name, "")
    if not text:
        return
    try:
        if not _TIME.fullmatch(text):
            raise ValueError
        at = datetime.fromisoformat(text.removesuffix("Z")).replace(tzinfo=UTC)
    except ValueError:
        raise _wrong(name, "must be a time in UTC, as 2030-01-31T08:00") from None
    getattr(message, field).FromDatetime(at)


def _wrong(name: str, text: str) -> InvalidArgument:
    fields = [FieldProblem(field=name, message=text)]
    return InvalidArgument(f"{name} {text}", reason="INVALID_FIELDS", fields=fields)
