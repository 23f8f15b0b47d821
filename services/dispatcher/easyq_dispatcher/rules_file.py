"""The file of rules: TOML with `[[pool]]`, `[[limit]]` and `[[weight]]`; other services read other tables of it."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from easyq.durations import parse_duration
from easyq_dispatcher.domain.matching import Limit, Weight
from easyq_dispatcher.domain.rules import Additions, RuleError, check_limit, check_pool, check_weight

T = TypeVar("T")
Item = Mapping[str, Any]

_KEYS: Mapping[str, Mapping[str, type]] = {
    "pool": {"name": str, "pattern": str, "max_running": int, "lost_after": str},
    "limit": {"pattern": str, "max_running": int},
    "weight": {"pattern": str, "weight": int},
}
_OF_OTHERS = {"default", "retention"}
_OPTIONAL = {"pool": {"max_running", "lost_after"}}
_LEAST_LOST_AFTER_MS = 1_000


def parse(text: str) -> Additions:
    """The rules of a file. Raises RuleError, which names the entry."""
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RuleError(f"it is not TOML: {error}") from error
    unknown = set(content) - set(_KEYS) - _OF_OTHERS
    if unknown:
        raise RuleError(f"there is no {', '.join(sorted(unknown))}: it may have [[pool]], [[limit]] and [[weight]]")
    pools = _each(content, "pool", _pool)
    patient = [item for item in content.get("pool", ()) if "lost_after" in item]
    return Additions(
        pools=pools,
        limits=_each(content, "limit", _limit),
        weights=_each(content, "weight", _weight),
        lost_after_by_pool={item["name"]: _lost_after(item) for item in patient},
    )


def _each(content: Item, kind: str, make: Callable[[Item, str], T]) -> tuple[T, ...]:
    items = content.get(kind, [])
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise RuleError(f"{kind} has to be a list of tables: [[{kind}]]")
    return tuple(make(_checked(item, kind, number), f"{kind} {number}") for number, item in enumerate(items, 1))


def _checked(item: Item, kind: str, number: int) -> Item:
    keys = _KEYS[kind]
    unknown, missing = set(item) - set(keys), set(keys) - set(item) - _OPTIONAL.get(kind, set())
    if unknown:
        raise RuleError(f"{kind} {number}: there is no {', '.join(sorted(unknown))}; it may have {', '.join(keys)}")
    if missing:
        raise RuleError(f"{kind} {number}: {', '.join(sorted(missing))} is missing")
    for key, value in item.items():
        if type(value) is not keys[key]:
            raise RuleError(f"{kind} {number}: {key} has to be {'text' if keys[key] is str else 'a whole number'}")
    return item


def _pool(item: Item, where: str) -> tuple[str, str, int]:
    return check_pool(item["name"], item["pattern"], item.get("max_running", 0), where)


def _limit(item: Item, where: str) -> Limit:
    return check_limit(item["pattern"], item["max_running"], where)


def _weight(item: Item, where: str) -> Weight:
    return check_weight(item["pattern"], item["weight"], where)


def _lost_after(item: Item) -> int:
    text = item["lost_after"]
    try:
        milliseconds = parse_duration(text)
    except ValueError as error:
        raise RuleError(f"pool {item['name']}: lost_after: {error}") from error
    if milliseconds < _LEAST_LOST_AFTER_MS:
        raise RuleError(f"pool {item['name']}: lost_after {text!r} is less than a second")
    return milliseconds
