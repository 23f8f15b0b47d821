"""Times, durations and free data: between JSON and the well-known messages."""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime, timedelta
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from easyq.durations import format_duration, parse_duration
from easyq_gateway.codec.json_text import MOST_DEPTH, JsonNumber, JsonObject, kind_of
from easyq_gateway.codec.scalars import check_text, finite, to_decimal
from easyq_gateway.domain.problems import Problems, key_path

#: The years 1 to 9999, in unix seconds.
EARLIEST, LATEST = -62_135_596_800, 253_402_300_799
#: Whole numbers up to here survive the way through a double.
MOST_INTEGER = 2**53

_TIME_FORMS = "unix seconds as a number, or RFC 3339 with an offset, as 2030-01-31T08:00:00Z"
_RFC_3339 = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,18}))?"
    r"([Zz]|([+-])([0-9]{2}):([0-9]{2}))?"
)
_INTEGER = re.compile(r"-?[0-9]+")
_EPOCH = date(1970, 1, 1).toordinal()


def fill_timestamp(value: Any, message: Any, path: str, problems: Problems) -> None:
    """Unix seconds as a number, or RFC 3339 with an offset, into a Timestamp."""
    try:
        if isinstance(value, JsonNumber):
            seconds, nanos = _unix_seconds(value)
        elif isinstance(value, str):
            seconds, nanos = _rfc_3339(value)
        else:
            raise ValueError(f"must be {_TIME_FORMS}, not {kind_of(value)}")
    except ValueError as error:
        problems.add(path, str(error))
        return
    if not EARLIEST <= seconds <= LATEST:
        problems.add(path, "is outside of the years 1 to 9999 (unix seconds, not milliseconds?)")
        return
    message.seconds, message.nanos = seconds, nanos


def _unix_seconds(text: str) -> tuple[int, int]:
    number = to_decimal(text)
    if number.adjusted() > 18:
        return LATEST + 1, 0
    whole = int(number // 1)
    whole -= number < whole  # `//` cuts towards zero
    return whole, min(int((number - whole) * 1_000_000_000), 999_999_999)


def _rfc_3339(text: str) -> tuple[int, int]:
    match = _RFC_3339.fullmatch(text)
    if match is None:
        raise ValueError(f"must be {_TIME_FORMS}")
    if match[8] is None:
        raise ValueError("needs an offset: Z for UTC, or one as +02:00")
    year, month, day, hour, minute, second = (int(match[part]) for part in range(1, 7))
    if match[9] and (int(match[10]) > 23 or int(match[11]) > 59):
        raise ValueError("has an offset that no clock has")
    try:
        local = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        raise ValueError("is a date or time that does not exist") from None
    seconds = (local.toordinal() - _EPOCH) * 86_400 + hour * 3600 + minute * 60 + second
    if match[9]:
        offset = int(match[10]) * 3600 + int(match[11]) * 60
        seconds -= offset if match[9] == "+" else -offset
    return seconds, int((match[7] or "0").ljust(9, "0")[:9])


def show_timestamp(message: Timestamp) -> str:
    """Returns UTC with milliseconds and `Z`."""
    time = datetime(1970, 1, 1) + timedelta(seconds=message.seconds, milliseconds=message.nanos // 1_000_000)  # noqa: DTZ001
    return time.isoformat(timespec="milliseconds") + "Z"


def fill_duration(value: Any, message: Any, path: str, problems: Problems) -> None:
    """`2h30m50s`, `9050s`, or seconds as a number, into a Duration."""
    try:
        if isinstance(value, JsonNumber):
            milliseconds = parse_duration(float(value))
        elif isinstance(value, str):
            milliseconds = parse_duration(value)
        else:
            raise ValueError(f"must be a duration like 2h30m50s, or seconds as a number, not {kind_of(value)}")
    except ValueError as error:
        problems.add(path, str(error))
        return
    message.FromMilliseconds(milliseconds)


def show_duration(message: Duration) -> str:
    """Returns seconds: `9050s`, `1.500s`."""
    return format_duration(message.ToMilliseconds())


def fill_struct(value: Any, message: Any, path: str, problems: Problems) -> None:
    """An object of free data, at most 32 levels deep, whose whole numbers a double can hold, into a Struct."""
    if isinstance(value, JsonObject):
        _fill_fields(value, message, path, problems, 1)
    else:
        problems.add(path, f"must be an object, not {kind_of(value)}")


def _fill_fields(tree: JsonObject, message: Struct, path: str, problems: Problems, depth: int) -> None:
    if _too_deep(path, problems, depth):
        return
    for key in tree.repeated:
        problems.add(key_path(path, key), "is there more than once")
    for key, value in tree.items():
        below = key_path(path, key)
        if check_text(key, below, problems) is not None:
            _fill_value(value, message.fields[key], below, problems, depth)


def _fill_items(tree: list[Any], message: ListValue, path: str, problems: Problems, depth: int) -> None:
    if _too_deep(path, problems, depth):
        return
    for index, value in enumerate(tree):
        _fill_value(value, message.values.add(), f"{path}[{index}]", problems, depth)


def _fill_value(value: Any, message: Value, path: str, problems: Problems, depth: int) -> None:
    if value is None:
        message.null_value = 0  # type: ignore[assignment]
    elif isinstance(value, bool):
        message.bool_value = value
    elif isinstance(value, JsonNumber):
        number = finite(value, path, problems)
        if number is not None and abs(number) >= MOST_INTEGER and _INTEGER.fullmatch(value):
            _check_integer(value, path, problems)
        message.number_value = 0.0 if number is None else number
    elif isinstance(value, str):
        message.string_value = check_text(value, path, problems) or ""
    elif isinstance(value, JsonObject):
        message.struct_value.SetInParent()
        _fill_fields(value, message.struct_value, path, problems, depth + 1)
    else:
        message.list_value.SetInParent()
        _fill_items(value, message.list_value, path, problems, depth + 1)


def _check_integer(text: str, path: str, problems: Problems) -> None:
    if text.lstrip("-") != str(MOST_INTEGER):
        problems.add(path, "is a whole number beyond 2^53, which would not be kept exactly; send it as a string")


def _too_deep(path: str, problems: Problems, depth: int) -> bool:
    if depth <= MOST_DEPTH:
        return False
    problems.add(path, f"is nested deeper than {MOST_DEPTH} levels")
    return True


def show_struct(message: Struct) -> dict[str, Any]:
    """Returns free data as JSON has it; whole numbers without a fraction."""
    return {key: _show_value(message.fields[key]) for key in sorted(message.fields)}


def _show_value(message: Value) -> Any:
    kind = message.WhichOneof("kind")
    if kind == "struct_value":
        return show_struct(message.struct_value)
    if kind == "list_value":
        return [_show_value(value) for value in message.list_value.values]
    if kind == "number_value":
        return show_number(message.number_value)
    return getattr(message, kind) if kind in {"string_value", "bool_value"} else None


def show_number(number: float) -> float | int | None:
    """Returns whole numbers as such; what JSON can't say as null."""
    minus_zero = number == 0 and math.copysign(1, number) < 0
    if number.is_integer() and abs(number) <= MOST_INTEGER and not minus_zero:
        return int(number)
    return number if number - number == 0 else None
