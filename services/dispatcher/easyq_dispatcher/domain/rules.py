"""Pools and limits as operators write them: `NAME=REGEX[:MAX]`, `REGEX=N`, `NAME=DURATION`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from easyq_dispatcher.domain.matching import DEFAULT_POOL, EVERYTHING, Limit, Matching, Pool

_POOL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MOST = 1_000_000


class RuleError(ValueError):
    """A rule is wrong; the message quotes it and says what is expected."""


def build_matching(
    pools: Iterable[str], limits: Iterable[str], *, lost_after_ms: int, lost_after_by_pool: Mapping[str, int]
) -> Matching:
    """Returns all rules together, with the pool `default` (everything) as the last. Raises RuleError.

    `lost_after_ms` holds for the pools that `lost_after_by_pool` (in milliseconds) does not name.
    """
    parsed = [parse_pool(text) for text in pools]
    names = [name for name, _, _ in parsed]
    _refuse_twins(names, "pool")
    parsed.sort(key=lambda rule: rule[0] == DEFAULT_POOL)
    if DEFAULT_POOL not in names:
        parsed.append((DEFAULT_POOL, EVERYTHING, 0))
    unknown = set(lost_after_by_pool) - {name for name, _, _ in parsed}
    if unknown:
        raise RuleError(f"there is no pool named {', '.join(sorted(unknown))}")
    bounds = tuple(parse_limit(text) for text in limits)
    _refuse_twins([limit.pattern for limit in bounds], "limit")
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
        limits=bounds,
    )


def parse_pool(text: str) -> tuple[str, str, int]:
    """Returns name, regex and maximum (0: none) of `NAME=REGEX[:MAX]`. Raises RuleError."""
    name, equals, rest = text.partition("=")
    if not equals or not rest:
        raise RuleError(f"{text!r} is not NAME=REGEX or NAME=REGEX:MAX")
    if not _POOL_NAME.fullmatch(name):
        raise RuleError(f"{text!r}: a pool's name has letters, digits, '.', '_' and '-', at most 64")
    pattern, most = rest, 0
    head, colon, tail = rest.rpartition(":")
    if colon and tail.isascii() and tail.isdigit():
        pattern, most = head, int(tail)
        if not 1 <= most <= _MOST:
            raise RuleError(f"{text!r}: the maximum is 1 to {_MOST}")
    if name == DEFAULT_POOL and pattern != EVERYTHING:
        raise RuleError(f"{text!r}: the pool {DEFAULT_POOL} serves all that is left, its regex is {EVERYTHING}")
    _check_regex(pattern, text)
    return name, pattern, most


def parse_limit(text: str) -> Limit:
    """Returns the limit of `REGEX=N`; 0 holds its tasks back. Raises RuleError."""
    pattern, equals, number = text.rpartition("=")
    if not equals or not pattern or not (number.isascii() and number.isdigit()):
        raise RuleError(f"{text!r} is not REGEX=N")
    most = int(number)
    if most > _MOST:
        raise RuleError(f"{text!r}: the limit is 0 to {_MOST}")
    _check_regex(pattern, text)
    return Limit(pattern=pattern, max_running=most)


def _check_regex(pattern: str, text: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise RuleError(f"{text!r}: {pattern!r} is not a regular expression: {error}") from error


def _refuse_twins(names: list[str], kind: str) -> None:
    twins = {name for name in names if names.count(name) > 1}
    if twins:
        raise RuleError(f"{kind} {', '.join(sorted(twins))} is given twice")
