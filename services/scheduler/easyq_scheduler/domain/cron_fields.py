"""The grammar of cron expressions: from text to the values that each field takes.

Five fields (minute, hour, day of month, month, day of week) or six, seconds last. A field is a list, by commas, of

- ``*``, ``a``, ``a-b``, each with an optional step: ``*/15``, ``5/15`` (from 5 on), ``10-50/5``. A range whose end is
  smaller than its start goes over the field's end: ``22-2``, ``fri-mon``, ``nov-feb``. ``5-5`` is 5 alone;
- names in any case: ``jan``–``dec``, ``sun``–``sat``. Sunday is 0 or 7;
- ``H``, ``H/15``, ``H(0-29)``, ``H(0-29)/10``: values hashed from the job's id, so that many jobs spread. In the day of
  month a bare ``H`` is 1–28, so that it is in every month;
- ``L`` as day of month: the last one. ``L5``, ``Lfri``, ``5L``, ``friL`` as day of week: the last Friday of the month;
- ``fri#2`` or ``5#2``: the second Friday of the month, 1 to 5.

Where both day fields are restricted, a day matches that fits either. A step longer than its field is refused: ``*/90``
would mean once an hour and not every 90 minutes.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from easyq_scheduler.domain.schedule import InvalidSchedule

LONGEST = 256
LAST = 0  # in place of the n of an n-th weekday


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """One field of an expression: its bounds (inclusive), and the names of its values, the first of which is `low`."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    highest_hashed: int | None = None


MINUTE = Field(name="minute", low=0, high=59)
HOUR = Field(name="hour", low=0, high=23)
DAY = Field(name="day of month", low=1, high=31, highest_hashed=28)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
MONTH = Field(name="month", low=1, high=12, names=_MONTHS)
WEEKDAY = Field(name="day of week", low=0, high=6, names=("sun", "mon", "tue", "wed", "thu", "fri", "sat"))
SECOND = Field(name="second", low=0, high=59)
_ORDER = (MINUTE, HOUR, DAY, MONTH, WEEKDAY, SECOND)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fields:
    """The values of each field, ascending. Weekdays count from Sunday, 0."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    months: tuple[int, ...]
    seconds: tuple[int, ...]  # (0,) for an expression of five fields
    days: tuple[int, ...] | None  # None: a star, no restriction
    last_day: bool
    weekdays: tuple[int, ...] | None
    nth_weekdays: tuple[tuple[int, int], ...]  # weekday and 1–5 or LAST
    subminute: bool  # whether there is a field of seconds


_NUMBER = r"[0-9]{1,4}"
_VALUE = rf"{_NUMBER}|[a-z]{{3}}"
_STEP = rf"(?:/(?P<step>{_NUMBER}))?"
_RANGE = re.compile(rf"(?:(?P<star>\*)|(?P<low>{_VALUE})(?:-(?P<high>{_VALUE}))?){_STEP}")
_HASH = re.compile(rf"h(?:\((?P<low>{_NUMBER})-(?P<high>{_NUMBER})\))?{_STEP}")
_NTH = re.compile(rf"(?P<day>{_VALUE})#(?P<n>[1-5])")
_LAST_WEEKDAY = re.compile(rf"l(?P<before>{_VALUE})|(?P<after>{_VALUE})l")
_HASHED = re.compile(r"(?:^|[\s,])h", re.IGNORECASE)


def uses_hash(expression: str) -> bool:
    """Whether the values depend on the job's id."""
    return _HASHED.search(expression) is not None


def parse_fields(expression: str, job_id: str) -> Fields:
    """Raises `InvalidSchedule` for what the grammar above doesn't have, and for days that no month has."""
    texts = [text.split(",") for text in expression.lower().split()]
    if len(texts) not in {5, 6}:
        counted = f"{len(texts)} field{'s' * (len(texts) != 1)}"
        raise _invalid(f"has {counted} instead of five (minute, hour, day, month, day of week) or six (seconds last)")
    by_field = dict(zip(_ORDER, texts, strict=False))
    nth = {special for item in by_field[WEEKDAY] if (special := _special_weekday(item))}
    fields = Fields(
        minutes=_values(MINUTE, by_field[MINUTE], job_id),
        hours=_values(HOUR, by_field[HOUR], job_id),
        months=_values(MONTH, by_field[MONTH], job_id),
        seconds=_values(SECOND, by_field.get(SECOND, ["0"]), job_id),
        days=_days(by_field[DAY], job_id, special={"l"}, field=DAY),
        last_day="l" in by_field[DAY],
        weekdays=_days(
            by_field[WEEKDAY], job_id, special={i for i in by_field[WEEKDAY] if _special_weekday(i)}, field=WEEKDAY
        ),
        nth_weekdays=tuple(sorted(nth)),
        subminute=SECOND in by_field,
    )
    if not _has_days(fields):
        raise _invalid("never fires: none of its months has such a day")
    return fields


def _has_days(fields: Fields) -> bool:
    if fields.days is None or fields.last_day or fields.weekdays is not None:
        return True
    longest = max(29 if month == 2 else 30 if month in {4, 6, 9, 11} else 31 for month in fields.months)
    return min(fields.days) <= longest


def _days(items: list[str], job_id: str, *, special: set[str], field: Field) -> tuple[int, ...] | None:
    """The plain values among the items of a day field, None where a star lifts the restriction."""
    plain = [item for item in items if item not in special]
    return None if {"*", "*/1"} & set(plain) else _values(field, plain, job_id)


def _values(field: Field, items: list[str], job_id: str) -> tuple[int, ...]:
    return tuple(sorted({value for item in items for value in _item(field, item, job_id)}))


def _item(field: Field, item: str, job_id: str) -> list[int]:
    if match := _HASH.fullmatch(item):
        return _hashed(field, match, job_id)
    match = _RANGE.fullmatch(item)
    if match is None:
        raise _invalid(f"has {_quoted(item)} as {field.name}, which is nothing that this field takes")
    step = _step(field, match["step"])
    if match["star"]:
        low, high = field.low, field.high
    else:
        low = _value(field, match["low"])
        high = _upper(field, match)
    if low <= high:
        return [value % 7 if field is WEEKDAY else value for value in range(low, high + 1, step)]
    return [*range(low, field.high + 1), *range(field.low, high + 1)][::step]


def _upper(field: Field, match: re.Match[str]) -> int:
    low, high = match["low"], match["high"]
    if high is None:
        return field.high if match["step"] else _value(field, low)
    if field is WEEKDAY and high == "7" != low:  # the Sunday after: 0-7, 5-7
        return 7
    return _value(field, high)


def _hashed(field: Field, match: re.Match[str], job_id: str) -> list[int]:
    low, high = field.low, field.high
    if match["low"]:
        low, high = _value(field, match["low"]), _value(field, match["high"])
        if low > high:
            raise _invalid(f"has {_quoted(match[0])} as {field.name}, whose range ends before it begins")
    elif not match["step"] and field.highest_hashed:
        high = field.highest_hashed
    # Not hash(): that differs from process to process.
    digest = hashlib.sha256(f"{field.name}\0{job_id}".encode(errors="surrogatepass")).digest()
    number = int.from_bytes(digest[:8], "big")
    if not match["step"]:
        return [low + number % (high - low + 1)]
    step = _step(field, match["step"])
    return list(range(low + number % min(step, high - low + 1), high + 1, step))


def _special_weekday(item: str) -> tuple[int, int] | None:
    if match := _NTH.fullmatch(item):
        return _value(WEEKDAY, match["day"]), int(match["n"])
    if match := _LAST_WEEKDAY.fullmatch(item):
        return _value(WEEKDAY, match["before"] or match["after"]), LAST
    return None


def _step(field: Field, text: str | None) -> int:
    step = int(text) if text else 1
    if not 1 <= step <= field.high - field.low + 1:
        raise _invalid(f"has a step of {step} as {field.name}, where 1 to {field.high - field.low + 1} fit")
    return step


def _value(field: Field, text: str) -> int:
    if text in field.names:
        return field.low + field.names.index(text)
    if not text.isdecimal():
        raise _invalid(f"has {_quoted(text)} as {field.name}, which is no such name")
    value = int(text)
    if field is WEEKDAY and value == 7:
        return 0
    if not field.low <= value <= field.high:
        raise _invalid(f"has {value} as {field.name}, which is not within {field.low}–{field.high}")
    return value


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 20 else f"{text[:20]}…")


def _invalid(problem: str) -> InvalidSchedule:
    return InvalidSchedule("cron", problem)
