"""What the rules file may say: every table and each of its fields, whoever reads it.

Each service checks the whole file by this, so that a file is either taken by all or refused by all. Nothing here may
depend on a service's settings.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from easyq.durations import parse_duration
from easyq_chassis.patterns import LONGEST, Pattern

#: Returns nothing, and raises `ValueError` with words that follow on what the value is called.
Check = Callable[[Any], object]
Table = Mapping[str, Any]

_DAY = 86_400_000
_TEN_YEARS = 3_650 * _DAY
_POOL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_EXIT = re.compile(r"(?:([0-9]{1,3})(?:-([0-9]{1,3}))?|oom|timeout)")
_SHOWN = 64


class RuleProblem(ValueError):
    """Something in the file is wrong. `table` and `index` (from 0) say where, `field` too unless it is empty."""

    def __init__(self, table: str, index: int, field: str, words: str) -> None:
        self.table, self.index, self.field = table, index, field
        super().__init__(f"{table}[{index}]{f'.{field[:_SHOWN]}' if field else ''} {words}")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Kind:
    """What tables `[[name]]` have. No two may have the same `key`."""

    needed: Mapping[str, Check]
    possible: Mapping[str, Check]
    key: str = "pattern"

    @property
    def fields(self) -> Mapping[str, Check]:
        return {**self.needed, **self.possible}


def check(document: Mapping[str, Any]) -> None:
    """Raises `ValueError` for the first thing that is wrong, a `RuleProblem` if that is in a table."""
    for name, tables in document.items():
        if name not in TABLES:
            raise ValueError(f"{name[:_SHOWN]!r} is none of the tables {', '.join(TABLES)}{_near(name, TABLES)}")
        if not isinstance(tables, list) or not all(isinstance(one, Mapping) for one in tables):
            raise ValueError(f"{name} must be written as [[{name}]]")
        seen: set[str] = set()
        for index, table in enumerate(tables):
            _check_table(name, index, table)
            key = TABLES[name].key
            if table[key] in seen:
                raise RuleProblem(name, index, key, f"{table[key][:_SHOWN]!r} is there twice")
            seen.add(table[key])


def line_of(text: str, problem: RuleProblem) -> int:
    """The line of the file where it is, from 1; 0 where that can't be told."""
    lines = text.splitlines()
    header = re.compile(rf"\s*\[\[\s*[\"']?{problem.table}[\"']?\s*\]\]")
    starts = [number for number, line in enumerate(lines) if header.match(line)]
    if problem.index >= len(starts):
        return 0
    start = starts[problem.index]
    field = re.compile(rf"\s*[\"']?{re.escape(problem.field)}[\"']?\s*=")
    for number, line in enumerate(lines[start + 1 :], start + 1):
        if line.lstrip().startswith("["):
            break
        if problem.field and field.match(line):
            return number + 1
    return start + 1


def _check_table(name: str, index: int, table: Table) -> None:
    kind = TABLES[name]
    for field, value in table.items():
        if field not in kind.fields:
            words = f"is none of {', '.join(kind.fields)}{_near(field, kind.fields)}"
            raise RuleProblem(name, index, field, words)
        try:
            kind.fields[field](value)
        except ValueError as error:
            raise RuleProblem(name, index, field, str(error)) from error
    if missing := [field for field in kind.needed if field not in table]:
        raise RuleProblem(name, index, "", f"has no {' and no '.join(missing)}")
    if name == "pool" and table["name"] == "default" and table["pattern"] != ".*":
        raise RuleProblem(name, index, "pattern", "can only be .*, since the pool 'default' serves all that is left")
    least, most = (parse_duration(table.get(field, bound)) for field, bound in (("backoffMin", 0), ("backoffMax", 1e9)))
    if least > most:
        raise RuleProblem(name, index, "backoffMax", f"is less than backoffMin ({least / 1000:g}s)")


def _near(name: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _whole(least: int, most: int) -> Check:
    def check(value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")

    return check


def _number(least: float, most: float) -> Check:
    def check(value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise ValueError(f"must be a number from {least:g} to {most:g}")

    return check


def _duration(least_ms: int, most_ms: int) -> Check:
    def check(value: Any) -> None:
        if not least_ms <= parse_duration(value) <= most_ms:
            raise ValueError(f"must be from {_shown(least_ms)} to {_shown(most_ms)}")

    return check


def _shown(milliseconds: int) -> str:
    unit, size = next((unit, size) for unit, size in (("d", _DAY), ("s", 1000), ("ms", 1)) if not milliseconds % size)
    return f"{milliseconds // size}{unit}" if milliseconds else "0"


def _age(value: Any) -> None:
    if value != "":
        parse_duration(value)


def _patience(value: Any) -> None:
    if not isinstance(value, str):
        raise ValueError('must be a duration as text, such as "45s"')
    if parse_duration(value) < 1_000:
        raise ValueError(f"{value!r} is less than a second")


def _pool_name(value: Any) -> None:
    if not isinstance(value, str) or not _POOL_NAME.fullmatch(value):
        raise ValueError("is no pool's name: letters, digits, '.', '_' and '-', at most 64")


def _pattern(value: Any) -> None:
    if not isinstance(value, str) or not 1 <= len(value) <= LONGEST:
        raise ValueError(f"must be a regex of 1 to {LONGEST} characters")
    try:
        Pattern(value)
    except ValueError as error:
        raise ValueError(f"{value[:_SHOWN]!r} {error}") from error


def _exits(value: Any) -> None:
    if not isinstance(value, list) or len(value) > 64:
        raise ValueError("must be a list of at most 64 texts")
    for one in value:
        match = _EXIT.fullmatch(one) if isinstance(one, str) else None
        if match is None:
            raise ValueError(f'has {str(one)[:_SHOWN]!r}: an exit code ("75"), a range ("100-110"), "oom" or "timeout"')
        low, high = int(match[1] or 0), int(match[2] or match[1] or 0)
        if not low <= high <= 255:
            raise ValueError(f"has {one!r}: exit codes go from 0 to 255, ranges upwards")


def _report(value: Any) -> None:
    if not isinstance(value, str) or value.lower() not in _REPORTS:
        raise ValueError(f"must be one of {', '.join(_REPORTS)}")


_REPORTS = ("none", "final", "all")
_OUTCOMES = ("succeeded", "failed", "stopped", "expired")
_AGES: dict[str, Check] = dict.fromkeys((*_OUTCOMES, "logs"), _age)
_COUNTS: dict[str, Check] = dict.fromkeys(
    (*(f"{outcome}_count" for outcome in _OUTCOMES), "executions"), _whole(0, 1_000_000_000)
)

#: Every table. `pool`, `limit` and `weight` are the dispatcher's, `default` is the gateway's (its bounds are those of a
#: job's spec), `retention` is the store's.
TABLES: Mapping[str, _Kind] = {
    "pool": _Kind(
        needed={"name": _pool_name, "pattern": _pattern},
        possible={"max_running": _whole(1, 1_000_000), "lost_after": _patience},
        key="name",
    ),
    "limit": _Kind(needed={"pattern": _pattern, "max_running": _whole(0, 1_000_000)}, possible={}),
    "weight": _Kind(needed={"pattern": _pattern, "weight": _whole(1, 1_000)}, possible={}),
    "default": _Kind(
        needed={"pattern": _pattern},
        possible={
            "retries": _whole(0, 1_000),
            "backoffMin": _duration(0, _DAY),
            "backoffFactor": _number(1, 100),
            "backoffMax": _duration(0, 30 * _DAY),
            "backoffJitter": _number(0, 1),
            "backoffMaxElapsed": _duration(1, _TEN_YEARS),
            "retryOn": _exits,
            "infraRetries": _whole(0, 100),
            "timeout": _duration(1, _TEN_YEARS),
            "stopGrace": _duration(0, 3_600_000),
            "priority": _whole(-100, 100),
            "startDeadline": _duration(1, _TEN_YEARS),
            "reportFailure": _report,
        },
    ),
    "retention": _Kind(needed={"pattern": _pattern}, possible={**_AGES, **_COUNTS}),
}
