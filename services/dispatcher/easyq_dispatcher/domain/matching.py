"""Which pool serves a task, which limits bound it, how much of a turn it has: regexes over task names."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from easyq_chassis.patterns import Pattern

DEFAULT_POOL = "default"
EVERYTHING = ".*"

# Raised where what the index holds is written in another way: such fillings are not each other's.
_FORMAT = 2

# Routes are kept for this many task names; beyond it they are worked out anew.
_MOST_ROUTES = 100_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Pool:
    """Agents that join `name` serve the tasks whose whole name matches `pattern`. `max_running` 0: no maximum."""

    name: str
    pattern: str
    max_running: int = 0
    lost_after_ms: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """Of all tasks whose whole name matches `pattern`, at most `max_running` executions at once in the farm."""

    pattern: str
    max_running: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Weight:
    """Tasks whose whole name matches `pattern` take so many heads a turn."""

    pattern: str
    weight: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """Where a task's executions go: the name of its pool, the numbers of the limits that bind them, heads a turn."""

    pool: str
    limits: tuple[int, ...]
    weight: int = 1


@dataclass(frozen=True, kw_only=True)
class Matching:
    """All pools and weights, in order of preference, and all limits. A limit's number is its place in `limits`.

    The last pool serves everything, so that each task has one. A task that no weight matches takes one head a turn.
    """

    pools: tuple[Pool, ...]
    limits: tuple[Limit, ...]
    weights: tuple[Weight, ...] = ()
    _routes: dict[str, Route] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def _pool_patterns(self) -> list[tuple[str, Pattern]]:
        return [(pool.name, Pattern(pool.pattern)) for pool in self.pools]

    @cached_property
    def _limit_patterns(self) -> list[Pattern]:
        return [Pattern(limit.pattern) for limit in self.limits]

    @cached_property
    def _weight_patterns(self) -> list[tuple[int, Pattern]]:
        return [(rule.weight, Pattern(rule.pattern)) for rule in self.weights]

    @cached_property
    def pool_by_name(self) -> dict[str, Pool]:
        """The pools by their names."""
        return {pool.name: pool for pool in self.pools}

    @cached_property
    def fingerprint(self) -> str:
        """The same for dispatchers that match alike: counts made under another one mean something else."""
        rules = [[p.name, p.pattern, p.max_running] for p in self.pools]
        limits = [[limit.pattern, limit.max_running] for limit in self.limits]
        weights = [[rule.pattern, rule.weight] for rule in self.weights]
        return hashlib.sha256(json.dumps([_FORMAT, rules, limits, weights]).encode()).hexdigest()[:16]

    def route(self, task_id: str) -> Route:
        """The route of a task: a question of its name alone."""
        known = self._routes.get(task_id)
        if known is None:
            known = self._work_out(task_id)
            if len(self._routes) >= _MOST_ROUTES:
                self._routes.clear()
            self._routes[task_id] = known
        return known

    def _work_out(self, task_id: str) -> Route:
        pool = next(name for name, pattern in self._pool_patterns if pattern.matches(task_id))
        limits = tuple(number for number, pattern in enumerate(self._limit_patterns) if pattern.matches(task_id))
        weight = next((weight for weight, pattern in self._weight_patterns if pattern.matches(task_id)), 1)
        return Route(pool=pool, limits=limits, weight=weight)

    def counted_pool(self, pool: str, task_id: str) -> str:
        """The pool that a held execution counts in: the one it was assigned by, if that still exists."""
        return pool if pool in self.pool_by_name else self.route(task_id).pool

    def lost_after_ms(self, pools: Sequence[str]) -> int:
        """Silence after which an agent of these pools is lost: the shortest of theirs, since its lease is one."""
        known = [self.pool_by_name[name].lost_after_ms for name in pools if name in self.pool_by_name]
        return min(known, default=self.pools[-1].lost_after_ms)
