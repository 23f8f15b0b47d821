"""JSON tree → message. Plans are made from descriptors once; what can't be served is found at the start."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from easyq_gateway.codec import flavours, scalars, wellknown
from easyq_gateway.codec.json_text import JsonObject, kind_of
from easyq_gateway.codec.rules import bounds_of, choices
from easyq_gateway.codec.scalars import Reader
from easyq_gateway.domain.problems import MOST_FIELDS, Problems, key_path, member_path

#: Fills a message from a value of the tree, and notes what is wrong.
Filler: TypeAlias = Callable[[Any, Message, str, Problems], None]
#: Sets a field of a message from a value that is not null.
Setter: TypeAlias = Callable[[Any, Message, str, Problems], None]

_WELL_KNOWN: dict[str, Filler] = {
    Timestamp.DESCRIPTOR.full_name: wellknown.fill_timestamp,
    Duration.DESCRIPTOR.full_name: wellknown.fill_duration,
    Struct.DESCRIPTOR.full_name: wellknown.fill_struct,
}
_INTEGERS = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class FieldPlan:
    """How one field is read. `oneof` is set where it shares one with other fields; `set` never gets null."""

    name: str
    json_name: str
    oneof: str | None
    set: Setter


@dataclass(frozen=True, kw_only=True, slots=True)
class MessagePlan:
    """How a message is read: its fields by their JSON names, and the names of each oneof's members."""

    name: str
    fields: Mapping[str, FieldPlan]
    oneofs: Mapping[str, tuple[str, ...]]


def decode(tree: Any, message: Message, path: str, problems: Problems) -> None:
    """Fills `message` from `tree`, whose place in the request is `path`. Notes every error; raises none."""
    filler(message.DESCRIPTOR)(tree, message, path, problems)


@cache
def filler(descriptor: Descriptor) -> Filler:
    """Returns what fills messages of this kind. Raises `TypeError` for fields of kinds that REST has no form for."""
    known = _WELL_KNOWN.get(descriptor.full_name)
    if known is not None:
        return known
    plan = make_plan(descriptor)

    def fill(tree: Any, message: Message, path: str, problems: Problems) -> None:
        if isinstance(tree, JsonObject):
            _fill(plan, tree, message, path, problems)
        else:
            problems.add(path, f"must be an object, not {kind_of(tree)}")

    return fill


def make_plan(descriptor: Descriptor) -> MessagePlan:
    """Returns the plan of a message."""
    fields = {field.json_name: _field_plan(field) for field in descriptor.fields}
    oneofs: dict[str, tuple[str, ...]] = {
        oneof.name: tuple(field.json_name for field in oneof.fields)
        for oneof in descriptor.oneofs
        if len(oneof.fields) > 1
    }
    return MessagePlan(name=descriptor.name, fields=fields, oneofs=oneofs)


def _fill(plan: MessagePlan, tree: JsonObject, message: Message, path: str, problems: Problems) -> None:
    for key in tree.repeated:
        problems.add(field_path(plan, path, key), "is there more than once")
    for key, value in tree.items():
        field = plan.fields.get(key)
        if field is None:
            problems.add(field_path(plan, path, key), unknown_field(plan, key, len(problems)))
        elif value is not None:
            if field.oneof is not None:
                _check_oneof(plan, field, tree, path, problems)
            field.set(value, message, member_path(path, key), problems)


def _check_oneof(plan: MessagePlan, field: FieldPlan, tree: JsonObject, path: str, problems: Problems) -> None:
    members = plan.oneofs.get(field.oneof or "", ())
    given = [name for name in members if tree.get(name) is not None]
    if len(given) > 1 and field.json_name == given[-1]:
        problems.add(member_path(path, given[-1]), f"only one of {', '.join(members)} may be set, not {both(given)}")


def both(names: list[str]) -> str:
    """Returns `a and b`, `a, b and c`."""
    return f"{', '.join(names[:-1])} and {names[-1]}"


def field_path(plan: MessagePlan, path: str, key: str) -> str:
    """Returns the path of a member that may not be in the schema."""
    plain = key in plan.fields or (key.isidentifier() and key.isascii() and len(key) <= 64)
    return member_path(path, key) if plain else key_path(path, key)


def unknown_field(plan: MessagePlan, key: str, noted: int) -> str:
    """Returns words for a name that is not in the schema, with the name that was probably meant."""
    text = f"is not a field of {plan.name}"
    if len(key) > 64 or noted > MOST_FIELDS:
        return text
    head, *rest = key.split("_")
    camel = head + "".join(part.capitalize() for part in rest)
    near = [camel] if camel in plan.fields else difflib.get_close_matches(key, plan.fields, n=1, cutoff=0.7)
    return f"{text}; did you mean `{near[0]}`?" if near else text


def _field_plan(field: FieldDescriptor) -> FieldPlan:
    oneof = field.containing_oneof
    return FieldPlan(
        name=field.name,
        json_name=field.json_name,
        oneof=oneof.name if oneof is not None and len(oneof.fields) > 1 else None,
        set=_setter(field),
    )


def _setter(field: FieldDescriptor) -> Setter:
    flavour = flavours.VALUES.get(field.full_name)
    if flavour is not None:
        return _repeated_value(field.name, flavour) if field.is_repeated else _single(field.name, flavour)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return _map(field)
    if field.message_type is not None:
        return _messages(field) if field.is_repeated else _message(field)
    reader = scalar_reader(field)
    if not field.is_repeated:
        return _single(field.name, reader)
    return _repeated(field.name, reader, "" if field.type == FieldDescriptor.TYPE_STRING else 0)


def scalar_reader(field: FieldDescriptor) -> Reader:
    """Returns the reader of a field's single value. Raises `TypeError` for kinds that REST has no form for."""
    if field.type == FieldDescriptor.TYPE_STRING:
        return scalars.read_string
    if field.type == FieldDescriptor.TYPE_BOOL:
        return scalars.read_bool
    if field.type == FieldDescriptor.TYPE_DOUBLE:
        return scalars.read_double
    if field.enum_type is not None:
        return scalars.enum_reader(field.enum_type, choices(field))
    bounds = _INTEGERS.get(field.type)
    if bounds is None:
        raise TypeError(f"{field.full_name}: REST has no form for this kind of field")
    return scalars.integer_reader(*bounds, told=bounds_of(field, *bounds))


def _single(name: str, reader: Reader) -> Setter:
    def set_it(value: Any, message: Message, path: str, problems: Problems) -> None:
        read = reader(value, path, problems)
        if read is not None:
            setattr(message, name, read)

    return set_it


def _repeated_value(name: str, reader: Reader) -> Setter:
    def set_it(value: Any, message: Message, path: str, problems: Problems) -> None:
        read = reader(value, path, problems)
        if read is not None:
            getattr(message, name).extend(read)

    return set_it


def _repeated(name: str, reader: Reader, blank: str | int) -> Setter:
    def set_it(value: Any, message: Message, path: str, problems: Problems) -> None:
        if not isinstance(value, list):
            problems.add(path, f"must be a list, not {kind_of(value)}")
            return
        items = getattr(message, name)
        for index, item in enumerate(value):
            read = reader(item, f"{path}[{index}]", problems)
            # A wrong item keeps its place, so that what is said of later ones names them rightly.
            items.append(blank if read is None else read)

    return set_it


def _message(field: FieldDescriptor) -> Setter:
    fill = filler(field.message_type)
    name = field.name

    def set_it(value: Any, message: Message, path: str, problems: Problems) -> None:
        below = getattr(message, name)
        below.SetInParent()
        fill(value, below, path, problems)

    return set_it


def _messages(field: FieldDescriptor) -> Setter:
    fill = filler(field.message_type)
    name = field.name

    def set_it(value: Any, message: Message, path: str, problems: Problems) -> None:
        if not isinstance(value, list):
            problems.add(path, f"must be a list, not {kind_of(value)}")
            return
        items = getattr(message, name)
        for index, item in enumerate(value):
            fill(item, items.add(), f"{path}[{index}]", problems)

    return set_it


def _map(field: Any) -> Setter:
    entry = field.message_type.fields_by_name
    if entry["key"].type != FieldDescriptor.TYPE_STRING or entry["value"].message_type is not None:
        raise TypeError(f"{field.full_name}: REST has no form for this kind of map")
    flavour = flavours.MAP_VALUES.get(field.full_name)
    reader = flavour or scalar_reader(entry["value"])
    name = field.name

    def set_it(value: Any, message: Message, path: str, problems: Problems) -> None:
        if not isinstance(value, JsonObject):
            problems.add(path, f"must be an object, not {kind_of(value)}")
            return
        for key in value.repeated:
            problems.add(key_path(path, key), "is there more than once")
        entries = getattr(message, name)
        for key, item in value.items():
            if item is None and flavour is None:
                continue
            below = key_path(path, key)
            read = reader(item, below, problems)
            if scalars.check_text(key, below, problems) is not None and read is not None:
                entries[key] = read

    return set_it
