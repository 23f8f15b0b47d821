"""Message → JSON: every declared field in its declared order, what is unset as null."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from easyq_gateway.codec import wellknown

#: A value of a field → its JSON form.
Shower: TypeAlias = Callable[[Any], Any]

_WELL_KNOWN: dict[str, Shower] = {
    Timestamp.DESCRIPTOR.full_name: wellknown.show_timestamp,
    Duration.DESCRIPTOR.full_name: wellknown.show_duration,
    Struct.DESCRIPTOR.full_name: wellknown.show_struct,
}


def to_json(message: Message) -> str:
    """Returns the message as JSON text, with a space after `:` and `,`."""
    return json.dumps(to_tree(message), ensure_ascii=False)


def to_tree(message: Message) -> Any:
    """Returns the message as objects, lists and plain values."""
    return shower(message.DESCRIPTOR)(message)


@cache
def shower(descriptor: Descriptor) -> Shower:
    """Returns what shows messages of this kind. Raises `TypeError` for fields of kinds that REST has no form for."""
    known = _WELL_KNOWN.get(descriptor.full_name)
    if known is not None:
        return known
    fields: list[tuple[str, Shower]] = []

    def show(message: Any) -> dict[str, Any]:
        return {json_name: show_field(message) for json_name, show_field in fields}

    fields += [(field.json_name, _field_shower(field)) for field in descriptor.fields]
    return show


def _field_shower(field: FieldDescriptor) -> Shower:
    name = field.name
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return lambda message: dict(sorted(getattr(message, name).items()))
    show = _value_shower(field)
    if field.is_repeated:
        if show is None:
            return lambda message: list(getattr(message, name))
        return lambda message: [show(value) for value in getattr(message, name)]
    if field.has_presence:
        if show is None:
            return lambda message: getattr(message, name) if message.HasField(name) else None
        return lambda message: show(getattr(message, name)) if message.HasField(name) else None
    if show is None:
        return lambda message: getattr(message, name)
    return lambda message: show(getattr(message, name))


def _value_shower(field: FieldDescriptor) -> Shower | None:
    """Returns what shows a single value, or None where it is shown as it is."""
    if field.message_type is not None:
        return shower(field.message_type)
    if field.enum_type is not None:
        return _enum_shower(field.enum_type)
    if field.type == FieldDescriptor.TYPE_DOUBLE:
        return wellknown.show_number
    if field.type == FieldDescriptor.TYPE_BYTES:
        raise TypeError(f"{field.full_name}: REST has no form for this kind of field")
    return None


def _enum_shower(descriptor: EnumDescriptor) -> Shower:
    # The zero value says that nothing was set; a number that this version doesn't know is shown as it is.
    names: dict[int, str | None] = {value.number: value.name for value in descriptor.values}
    names[0] = None
    return lambda number: names.get(number, number)
