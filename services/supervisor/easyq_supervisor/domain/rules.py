"""Pools, limits, weights and the other rules, as they stand in flags and in tables of a file."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from easyq_supervisor.domain.checks import (
    age,
    between,
    checked_table,
    duration,
    is_name,
    number,
    number_at_end,
    patience,
    pool_name,
    regex,
    texts,
)

DEFAULT_POOL = "default"
EVERYTHING = ".*"

Table = Mapping[str, Any]

_MOST_RUNNING = 1_000_000
_MOST_WEIGHT = 1_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Pool:
    """A named set of agents: the regex of the task names it serves, how many run at once (0: all its slots), and after
    which silence an agent of it is lost (a duration; empty: the dispatcher's own setting)."""

    name: str
    pattern: str
    max_running: int = 0
    lost_after: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """At most this many at once of the tasks whose names the regex matches; 0 holds them back."""

    pattern: str
    max_running: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Weight:
    """Jobs that a task takes when it is its turn."""

    pattern: str
    weight: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """What services read again while they run. `defaults` and `retention` are tables as the rules file has them."""

    pools: tuple[Pool, ...] = ()
    limits: tuple[Limit, ...] = ()
    weights: tuple[Weight, ...] = ()
    defaults: tuple[Table, ...] = ()
    retention: tuple[Table, ...] = ()


def read_pool(item: object) -> Pool:
    """`NAME=REGEX[:max]`, or a table. Raises ValueError with what is wrong."""
    if isinstance(item, str):
        return _parse_pool(item)
    table = checked_table(
        item, {"name": pool_name}, {"pattern": regex, "max_running": between(1, _MOST_RUNNING), "lost_after": patience}
    )
    if "pattern" not in table:
        if table["name"] != DEFAULT_POOL:
            raise ValueError("has no pattern")
        table["pattern"] = EVERYTHING
    return Pool(**table)


def read_limit(item: object) -> Limit:
    """`REGEX=N`, or a table. Raises ValueError with what is wrong."""
    if isinstance(item, str):
        pattern, most = _pair(item)
        return Limit(pattern=regex(pattern), max_running=number_at_end(most, 0, _MOST_RUNNING))
    return Limit(**checked_table(item, {"pattern": regex, "max_running": between(0, _MOST_RUNNING)}, {}))


def read_weight(item: object) -> Weight:
    """`REGEX=N`, or a table. Raises ValueError with what is wrong."""
    if isinstance(item, str):
        pattern, weight = _pair(item)
        return Weight(pattern=regex(pattern), weight=number_at_end(weight, 1, _MOST_WEIGHT))
    return Weight(**checked_table(item, {"pattern": regex, "weight": between(1, _MOST_WEIGHT)}, {}))


def read_default(item: object) -> Table:
    """A table of defaults for the jobs of some tasks, in the words of a job's spec. Raises ValueError."""
    return checked_table(item, {"pattern": regex}, _DEFAULTS, dashes=False)


def read_retention(item: object) -> Table:
    """A table of what is kept for how long, in the store's words. Raises ValueError."""
    return checked_table(item, {"pattern": regex}, _RETENTION)


def check_rules(rules: Rules) -> list[str]:
    """What is wrong with them beside each other, one sentence each."""
    problems = [f"the pool {name!r} is named twice" for name in twins([pool.name for pool in rules.pools])]
    if any(pool.name == DEFAULT_POOL and pool.pattern != EVERYTHING for pool in rules.pools):
        problems.append(
            f"the pool {DEFAULT_POOL!r} is there by itself, for every task that no other pool serves: its regex can "
            f"only be {EVERYTHING}"
        )
    for words, patterns in (
        ("is limited twice", [limit.pattern for limit in rules.limits]),
        ("is weighted twice", [weight.pattern for weight in rules.weights]),
        ("has defaults twice", [table["pattern"] for table in rules.defaults]),
        ("has retention twice", [table["pattern"] for table in rules.retention]),
    ):
        problems += [f"{pattern!r} {words}" for pattern in twins(patterns)]
    return problems


def rules_tables(rules: Rules) -> dict[str, list[Table]]:
    """As the tables of the rules file, by their names."""
    pools = [
        {
            "name": pool.name,
            "pattern": pool.pattern,
            **({"max_running": pool.max_running} if pool.max_running else {}),
            **({"lost_after": pool.lost_after} if pool.lost_after else {}),
        }
        for pool in rules.pools
    ]
    return {
        "pool": list(pools),
        "limit": [{"pattern": limit.pattern, "max_running": limit.max_running} for limit in rules.limits],
        "weight": [{"pattern": weight.pattern, "weight": weight.weight} for weight in rules.weights],
        "default": list(rules.defaults),
        "retention": list(rules.retention),
    }


def twins(names: list[str]) -> list[str]:
    """Those that are there more than once."""
    return sorted({name for name in names if names.count(name) > 1})


def _parse_pool(text: str) -> Pool:
    name, equals, rest = text.partition("=")
    if not equals or not is_name(name):
        raise ValueError("is not NAME=REGEX[:max]")
    # Task names have no colons, so that one before digits at the end is never part of a useful regex.
    pattern, colon, most = rest.rpartition(":")
    if not colon or not re.fullmatch(r"[0-9]+", most):
        return Pool(name=name, pattern=regex(rest))
    return Pool(name=name, pattern=regex(pattern), max_running=number_at_end(most, 1, _MOST_RUNNING))


def _pair(text: str) -> tuple[str, str]:
    pattern, equals, most = text.rpartition("=")
    if not equals:
        raise ValueError("is not REGEX=N")
    return pattern, most


# What the gateway takes; it checks them again, by the schema of specs.
_DEFAULTS: Mapping[str, Callable[[Any], Any]] = {
    "retries": between(0, 1_000),
    "backoffMin": duration,
    "backoffFactor": number(1, 100),
    "backoffMax": duration,
    "backoffJitter": number(0, 1),
    "backoffMaxElapsed": duration,
    "retryOn": texts,
    "infraRetries": between(0, 100),
    "timeout": duration,
    "stopGrace": duration,
    "priority": between(-(2**31), 2**31 - 1),
    "startDeadline": duration,
}

_OUTCOMES = ("succeeded", "failed", "stopped", "expired")
_ages: Mapping[str, Callable[[Any], Any]] = dict.fromkeys((*_OUTCOMES, "logs"), age)
_counts: Mapping[str, Callable[[Any], Any]] = {
    name: between(0, 1_000_000_000) for name in (*(f"{outcome}_count" for outcome in _OUTCOMES), "executions")
}
# What the store takes.
_RETENTION = {**_ages, **_counts}
