"""Rules as operators write them: pools `NAME=REGEX[:MAX]`, limits and weights `REGEX=N`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from easyq_chassis.patterns import Pattern
from easyq_dispatcher.domain.matching import DEFAULT_POOL, EVERYTHING, Limit, Matching, Pool, Weight

T = TypeVar("T")

_POOL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MOST = 1_000_000
_MOST_WEIGHT = 1_000


class RuleError(ValueError):
    """A rule is wrong; the message quotes it and says what is expected."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Additions:
    """Rules of a file, as parsed. `pools` are (name, regex, maximum or 0), `lost_after_by_pool` is in milliseconds."""

    pools: tuple[tuple[str, str, int], ...] = ()
    limits: tuple[Limit, ...] = ()
    weights: tuple[Weight, ...] = ()
    lost_after_by_pool: Mapping[str, int] = field(default_factory=dict)


def build_matching(
    pools: Iterable[str],
    limits: Iterable[str],
    *,
    weights: Iterable[str] = (),
    lost_after_ms: int,
    lost_after_by_pool: Mapping[str, int],
    added: Additions | None = None,
) -> Matching:
    """Returns all rules together, with the pool `default` (everything) as the last. Raises RuleError.

    `lost_after_ms` holds for the pools that `lost_after_by_pool` (in milliseconds) does not name. What is `added` comes
    before the others, and takes the place of a pool of the same name, or a limit or weight of the same regex.
    """
    added = added or Additions()
    parsed = _together([parse_pool(text) for text in pools], added.pools, "pool", lambda rule: rule[0])
    names = [name for name, _, _ in parsed]
    parsed.sort(key=lambda rule: rule[0] == DEFAULT_POOL)
    if DEFAULT_POOL not in names:
        parsed.append((DEFAULT_POOL, EVERYTHING, 0))
    lost_after_by_pool = {**lost_after_by_pool, **added.lost_after_by_pool}
    unknown = set(lost_after_by_pool) - {name for name, _, _ in parsed}
    if unknown:
        raise RuleError(f"there is no pool named {', '.join(sorted(unknown))}")
    bounds = _together([parse_limit(text) for text in limits], added.limits, "limit", lambda limit: limit.pattern)
    shares = _together([parse_weight(text) for text in weights], added.weights, "weight", lambda rule: rule.pattern)
    return Matching(
        pools=tuple(
            Pool(
                name=name,
                pattern=pattern,
                max_running=most,
                lost_after_ms=lost_after_by_pool.get(name, lost_after_ms),
            )
            for name, pattern, most in parsed
        ),
        limits=tuple(bounds),
        weights=tuple(shares),
    )


def parse_pool(text: str) -> tuple[str, str, int]:
    """Returns name, regex and maximum (0: none) of `NAME=REGEX[:MAX]`. Raises RuleError."""
    name, equals, rest = text.partition("=")
    if not equals or not rest:
        raise RuleError(f"{text!r} is not NAME=REGEX or NAME=REGEX:MAX")
    pattern, most = rest, 0
    head, colon, tail = rest.rpartition(":")
    if colon and tail.isascii() and tail.isdigit():
        pattern, most = head, int(tail)
        if not most:
            raise RuleError(f"{text!r}: the maximum is 1 to {_MOST}")
    return check_pool(name, pattern, most, text)


def check_pool(name: str, pattern: str, most: int, text: str) -> tuple[str, str, int]:
    """Returns them if they make a pool (maximum 0: none). Raises RuleError, quoting `text`."""
    if not _POOL_NAME.fullmatch(name):
        raise RuleError(f"{text!r}: a pool's name has letters, digits, '.', '_' and '-', at most 64")
    if not 0 <= most <= _MOST:
        raise RuleError(f"{text!r}: the maximum is 1 to {_MOST}")
    if name == DEFAULT_POOL and pattern != EVERYTHING:
        raise RuleError(f"{text!r}: the pool {DEFAULT_POOL} serves all that is left, its regex is {EVERYTHING}")
    _check_regex(pattern, text)
    return name, pattern, most


def parse_limit(text: str) -> Limit:
    """Returns the limit of `REGEX=N`; 0 holds its tasks back. Raises RuleError."""
    return check_limit(*_pair(text), text)


def check_limit(pattern: str, most: int, text: str) -> Limit:
    """Returns the limit. Raises RuleError, quoting `text`."""
    if not 0 <= most <= _MOST:
        raise RuleError(f"{text!r}: the limit is 0 to {_MOST}")
    _check_regex(pattern, text)
    return Limit(pattern=pattern, max_running=most)


def parse_weight(text: str) -> Weight:
    """Returns the weight of `REGEX=N`. Raises RuleError."""
    return check_weight(*_pair(text), text)


def check_weight(pattern: str, weight: int, text: str) -> Weight:
    """Returns the weight. Raises RuleError, quoting `text`."""
    if not 1 <= weight <= _MOST_WEIGHT:
        raise RuleError(f"{text!r}: the weight is 1 to {_MOST_WEIGHT}")
    _check_regex(pattern, text)
    return Weight(pattern=pattern, weight=weight)


def _pair(text: str) -> tuple[str, int]:
    pattern, equals, number = text.rpartition("=")
    if not equals or not pattern or not (number.isascii() and number.isdigit()):
        raise RuleError(f"{text!r} is not REGEX=N")
    return pattern, int(number)


def _together(given: list[T], added: Iterable[T], kind: str, name: Callable[[T], str]) -> list[T]:
    """What is added, then what is given under other names."""
    added = list(added)
    _refuse_twins([name(rule) for rule in given], kind)
    _refuse_twins([name(rule) for rule in added], kind)
    taken = {name(rule) for rule in added}
    return [*added, *(rule for rule in given if name(rule) not in taken)]


def _check_regex(pattern: str, text: str) -> None:
    try:
        Pattern(pattern)
    except ValueError as error:
        raise RuleError(f"{text!r}: {pattern!r} {error}") from error


def _refuse_twins(names: list[str], kind: str) -> None:
    twins = {name for name in names if names.count(name) > 1}
    if twins:
        raise RuleError(f"{kind} {', '.join(sorted(twins))} is given twice")
