"""Pools, limits, weights and the other rules, as they stand in flags and in tables of a file.

They are kept as tables of the rules file. Whether one is right is said by that file's contract, which is an argument.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

DEFAULT_POOL = "default"
EVERYTHING = ".*"

Table = Mapping[str, Any]
#: Raises ValueError with what is wrong with a document of the rules file.
Contract = Callable[[Mapping[str, Sequence[Table]]], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """What services read again while they run, as tables of the rules file."""

    pools: tuple[Table, ...] = ()
    limits: tuple[Table, ...] = ()
    weights: tuple[Table, ...] = ()
    defaults: tuple[Table, ...] = ()
    retention: tuple[Table, ...] = ()


def read_pool(item: object) -> Table:
    """`NAME=REGEX[:max]`, or a table. Raises ValueError with what is wrong."""
    if isinstance(item, str):
        return _parse_pool(item)
    table = read_table(item)
    return {"pattern": EVERYTHING, **table} if table.get("name") == DEFAULT_POOL else table


def read_limit(item: object) -> Table:
    """`REGEX=N`, or a table. Raises ValueError with what is wrong."""
    return _parse_pair(item, "max_running") if isinstance(item, str) else read_table(item)


def read_weight(item: object) -> Table:
    """`REGEX=N`, or a table. Raises ValueError with what is wrong."""
    return _parse_pair(item, "weight") if isinstance(item, str) else read_table(item)


def read_default(item: object) -> Table:
    """A table, in the words of a job's spec. Raises ValueError with what is wrong."""
    if not isinstance(item, Mapping):
        raise ValueError("is no table")
    return item


def read_table(item: object) -> Table:
    """A table; dashes in its keys count as underscores. Raises ValueError with what is wrong."""
    found: dict[str, Any] = {}
    for key, value in read_default(item).items():
        name = key.replace("-", "_")
        if name in found:
            raise ValueError(f"has {key!r} twice")
        found[name] = value
    return found


def rules_tables(rules: Rules) -> dict[str, list[Table]]:
    """As the tables of the rules file, by their names."""
    return {
        "pool": list(rules.pools),
        "limit": list(rules.limits),
        "weight": list(rules.weights),
        "default": list(rules.defaults),
        "retention": list(rules.retention),
    }


def twins(names: list[str]) -> list[str]:
    """Those that are there more than once."""
    return sorted({name for name in names if names.count(name) > 1})


def _parse_pool(text: str) -> Table:
    name, equals, rest = text.partition("=")
    if not equals:
        raise ValueError("is not NAME=REGEX[:max]")
    # Task names have no colons, so that one before digits at the end is never part of a useful regex.
    pattern, colon, most = rest.rpartition(":")
    if not colon or not re.fullmatch(r"[0-9]{1,9}", most):
        return {"name": name, "pattern": rest}
    return {"name": name, "pattern": pattern, "max_running": int(most)}


def _parse_pair(text: str, field: str) -> Table:
    pattern, equals, number = text.rpartition("=")
    if not equals or not re.fullmatch(r"[0-9]{1,9}", number):
        raise ValueError("is not REGEX=N")
    return {"pattern": pattern, field: int(number)}
