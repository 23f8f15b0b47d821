"""Checks of messages that no schema rule makes: what JSON can't even say may still come by gRPC."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, TypeAlias

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.unknown_fields import UnknownFieldSet

from easyq_gateway.codec.json_text import MOST_DEPTH
from easyq_gateway.codec.wellknown import EARLIEST, LATEST
from easyq_gateway.domain.problems import Problems, key_path, member_path

Check: TypeAlias = Callable[[Any, str, Problems], None]

_LONGEST_DURATION = 315_576_000_000
_MOST_NANOS = 999_999_999
_NUL = "must not contain NUL"


def check_message(message: Message, path: str, problems: Problems) -> None:
    """Notes unknown fields at any depth, NUL in texts, times and durations out of range, and unsound free data."""
    checker(message.DESCRIPTOR)(message, path, problems)


@cache
def checker(descriptor: Descriptor) -> Check:
    """Returns the check for messages of this kind."""
    known = _WELL_KNOWN.get(descriptor.full_name)
    if known is not None:
        return known
    texts = [field.name for field in descriptor.fields if _is_text(field) and not field.is_repeated]
    checks = [
        (field.name, field.json_name, field.has_presence, check_field)
        for field in descriptor.fields
        if (check_field := _field_check(field)) is not None
    ]

    def check(message: Any, path: str, problems: Problems) -> None:
        check_unknown(message, path, problems)
        for name in texts:
            if "\0" in getattr(message, name):
                problems.add(member_path(path, descriptor.fields_by_name[name].json_name), _NUL)
        for name, json_name, presence, check_field in checks:
            if message.HasField(name) if presence else getattr(message, name):
                check_field(getattr(message, name), member_path(path, json_name), problems)

    return check


def _is_text(field: FieldDescriptor) -> bool:
    return bool(field.type == FieldDescriptor.TYPE_STRING)


def _field_check(field: FieldDescriptor) -> Check | None:
    """Returns the check of a field that is more than one text."""
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return _check_text_map
    if field.message_type is not None:
        below = checker(field.message_type)
        return _each(below) if field.is_repeated else below
    return _each(_check_text) if _is_text(field) and field.is_repeated else None


def _each(check: Check) -> Check:
    def check_items(items: Iterable[Any], path: str, problems: Problems) -> None:
        for index, item in enumerate(items):
            check(item, f"{path}[{index}]", problems)

    return check_items


def check_unknown(message: Message, path: str, problems: Problems) -> None:
    """Notes fields of this message that are not in the schema."""
    unknown = UnknownFieldSet(message)
    if len(unknown):
        numbers = ", ".join(dict.fromkeys(str(unknown[at].field_number) for at in range(min(len(unknown), 16))))
        problems.add(path, f"has fields that this version does not know (numbers {numbers})")


def _check_text(text: str, path: str, problems: Problems) -> None:
    if "\0" in text:
        problems.add(path, _NUL)


def _check_text_map(entries: Any, path: str, problems: Problems) -> None:
    for key, text in entries.items():
        if "\0" in text or "\0" in key:
            problems.add(key_path(path, key), _NUL)


def _check_timestamp(message: Timestamp, path: str, problems: Problems) -> None:
    check_unknown(message, path, problems)
    if not (EARLIEST <= message.seconds <= LATEST and 0 <= message.nanos <= _MOST_NANOS):
        problems.add(path, "is outside of the years 1 to 9999, or has nanos beyond a second")


def _check_duration(message: Duration, path: str, problems: Problems) -> None:
    check_unknown(message, path, problems)
    out_of_range = abs(message.seconds) > _LONGEST_DURATION or abs(message.nanos) > _MOST_NANOS
    if out_of_range or message.seconds * message.nanos < 0:
        problems.add(path, "is beyond 10,000 years, or has nanos beyond a second or of another sign")


def _check_struct(message: Struct, path: str, problems: Problems, depth: int = 1) -> None:
    check_unknown(message, path, problems)
    if _too_deep(path, problems, depth):
        return
    for key, value in message.fields.items():
        below = key_path(path, key)
        _check_text(key, below, problems)
        _check_value(value, below, problems, depth)


def _check_list(message: ListValue, path: str, problems: Problems, depth: int) -> None:
    check_unknown(message, path, problems)
    if _too_deep(path, problems, depth):
        return
    for index, value in enumerate(message.values):
        _check_value(value, f"{path}[{index}]", problems, depth)


def _check_value(message: Value, path: str, problems: Problems, depth: int) -> None:
    check_unknown(message, path, problems)
    kind = message.WhichOneof("kind")
    if kind is None:
        problems.add(path, "has no value")
    elif kind == "struct_value":
        _check_struct(message.struct_value, path, problems, depth + 1)
    elif kind == "list_value":
        _check_list(message.list_value, path, problems, depth + 1)
    elif kind == "string_value":
        _check_text(message.string_value, path, problems)
    elif kind == "number_value" and message.number_value - message.number_value != 0:
        problems.add(path, "must be a finite number")


def _too_deep(path: str, problems: Problems, depth: int) -> bool:
    if depth > MOST_DEPTH:
        problems.add(path, f"is nested deeper than {MOST_DEPTH} levels")
    return depth > MOST_DEPTH


_WELL_KNOWN: dict[str, Check] = {
    Timestamp.DESCRIPTOR.full_name: _check_timestamp,
    Duration.DESCRIPTOR.full_name: _check_duration,
    Struct.DESCRIPTOR.full_name: _check_struct,
}
