"""The tables `[[retention]]` of the rules file → what tasks keep."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from easyq.durations import parse_duration
from easyq_chassis.rules_file import tables
from easyq_store.domain.retention import OUTCOMES, Keep, Retention, RetentionRule

_LONGEST_PATTERN = 1024
_MOST = 1_000_000_000
AGES = (*OUTCOMES, "logs")
COUNTS = (*(f"{outcome}_count" for outcome in OUTCOMES), "executions")


def parser(base: Keep) -> Callable[[Mapping[str, Any]], Retention]:
    """Returns what makes the rules of a rules file; `base` is what they leave as it is."""

    def parse(document: Mapping[str, Any]) -> Retention:
        """Raises `ValueError` naming the table and its field."""
        found = tables(document, "retention")
        rules = (_rule(f"retention[{index}]", table, base) for index, table in enumerate(found))
        return Retention(rules=tuple(rules), otherwise=base)

    return parse


def _rule(where: str, table: Mapping[str, Any], base: Keep) -> RetentionRule:
    for name in table:
        if name not in {"pattern", *AGES, *COUNTS}:
            raise ValueError(f"{where}.{name[:64]} is none of pattern, {', '.join(AGES)}, {', '.join(COUNTS)}")
    said = {name: value for name, value in table.items() if name != "pattern"}
    return RetentionRule(pattern=_pattern(f"{where}.pattern", table.get("pattern")), keep=keep_from(said, base, where))


def keep_from(said: Mapping[str, Any], base: Keep, where: str = "") -> Keep:
    """What is kept where something is said by these names (`AGES`, `COUNTS`). Raises `ValueError` naming the field."""
    ages, counts = dict(base.ages), dict(base.counts)
    logs, executions = base.logs, base.executions
    for name, value in said.items():
        path = f"{where}.{name}" if where else name
        bound = age(path, value) if name in AGES else count(path, value)
        if name == "logs":
            logs = bound
        elif name == "executions":
            executions = bound
        else:
            of, outcome = (ages, name) if name in AGES else (counts, name.removesuffix("_count"))
            of.pop(outcome, None)
            if bound is not None:
                of[outcome] = bound
    return Keep(ages=ages, counts=counts, logs=logs, executions=executions)


def age(path: str, value: object) -> int | None:
    """Milliseconds; None where it is 0 or empty: for ever. Raises `ValueError`."""
    if value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{path} must be a duration like 30d, or seconds as a number")
    try:
        return parse_duration(value) or None
    except ValueError as error:
        raise ValueError(f"{path} {error}") from error


def count(path: str, value: object) -> int | None:
    """How many; None where it is 0: all. Raises `ValueError`."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST:
        raise ValueError(f"{path} must be a whole number from 0 to {_MOST}")
    return value or None


def _pattern(where: str, text: object) -> re.Pattern[str]:
    if not isinstance(text, str) or not 1 <= len(text) <= _LONGEST_PATTERN:
        raise ValueError(f"{where} must be a regex of 1 to {_LONGEST_PATTERN} characters")
    try:
        return re.compile(text)
    except re.error as error:
        raise ValueError(f"{where} is no regex: {error}") from error
