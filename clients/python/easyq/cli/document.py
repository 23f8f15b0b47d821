"""Messages as documents for programs: the JSON that REST gives, field for field, as JSON or YAML. Pure.

This is the schema that is kept: every declared field in its declared order, what is unset as null.
"""

from __future__ import annotations

import json
import math
from datetime import datetime, timedelta
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from easyq.cli.plain import in_json
from easyq.durations import format_duration

_MOST_INTEGER = 2**53


def to_tree(message: Message) -> Any:
    """Objects, lists and plain values, as REST shows the message."""
    known = _KNOWN.get(message.DESCRIPTOR.full_name)
    if known is not None:
        return known(message)
    return {field.json_name: _field(message, field) for field in message.DESCRIPTOR.fields}


def to_json(tree: Any, *, compact: bool = False) -> str:
    """JSON text that does a terminal no harm."""
    return in_json(json.dumps(tree, ensure_ascii=False, indent=None if compact else 2))


def to_yaml(tree: Any) -> str:
    """YAML text, without a line feed at its end. ASCII, so that it does a terminal no harm."""
    import yaml

    text: str = yaml.safe_dump(tree, sort_keys=False, allow_unicode=False, width=100)
    return text.removesuffix("\n")


def _field(message: Any, field: Any) -> Any:
    value = getattr(message, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return dict(sorted(value.items()))
    if is_repeated(field):
        return [_value(one, field) for one in value]
    if field.has_presence and not message.HasField(field.name):
        return None
    return _value(value, field)


def is_repeated(field: Any) -> bool:
    """Whether it is a list, or a map."""
    # Newer versions of protobuf have `is_repeated` and warn of `label`; the oldest one that we take has only that.
    found = getattr(field, "is_repeated", None)
    return bool(field.label == FieldDescriptor.LABEL_REPEATED if found is None else found)


def _value(value: Any, field: FieldDescriptor) -> Any:
    if field.message_type is not None:
        return to_tree(value)
    if field.enum_type is not None:
        # The zero value says that nothing was set; a number that this version doesn't know is shown as it is.
        known = field.enum_type.values_by_number.get(value)
        return None if value == 0 else value if known is None else known.name
    return _number(value) if field.type == FieldDescriptor.TYPE_DOUBLE else value


def _number(number: float) -> float | int | None:
    minus_zero = number == 0 and math.copysign(1, number) < 0
    if number.is_integer() and abs(number) <= _MOST_INTEGER and not minus_zero:
        return int(number)
    return number if math.isfinite(number) else None


def _timestamp(message: Any) -> str:
    time = datetime(1970, 1, 1) + timedelta(seconds=message.seconds, milliseconds=message.nanos // 1_000_000)  # noqa: DTZ001
    return time.isoformat(timespec="milliseconds") + "Z"


def _struct(message: Any) -> dict[str, Any]:
    return {key: _free(message.fields[key]) for key in sorted(message.fields)}


def _free(value: Any) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return _struct(value.struct_value)
    if kind == "list_value":
        return [_free(one) for one in value.list_value.values]
    if kind == "number_value":
        return _number(value.number_value)
    return getattr(value, kind) if kind in {"string_value", "bool_value"} else None


_KNOWN: dict[str, Any] = {
    "google.protobuf.Timestamp": _timestamp,
    "google.protobuf.Duration": lambda message: format_duration(message.ToMilliseconds()),
    "google.protobuf.Struct": _struct,
}
