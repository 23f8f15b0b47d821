"""Query parameters → fields of a request."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from easyq_gateway.codec.decode import scalar_reader
from easyq_gateway.codec.json_text import JsonNumber
from easyq_gateway.codec.scalars import Reader, check_text
from easyq_gateway.codec.wellknown import fill_duration, fill_timestamp
from easyq_gateway.domain.problems import Problems, key_path

_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
# A plus in a query stands for a space; in the offset of a time it was meant.
_LOST_PLUS = re.compile(r"(T[0-9:.]+) ([0-9]{2}:[0-9]{2})", re.IGNORECASE)
_SCALARS = frozenset(
    {
        FieldDescriptor.TYPE_STRING,
        FieldDescriptor.TYPE_BOOL,
        FieldDescriptor.TYPE_ENUM,
        FieldDescriptor.TYPE_INT32,
        FieldDescriptor.TYPE_UINT32,
        FieldDescriptor.TYPE_INT64,
        FieldDescriptor.TYPE_UINT64,
        FieldDescriptor.TYPE_DOUBLE,
    }
)


class BadQuery(ValueError):
    """The query can't be decoded."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """A field that may be given as a query parameter. `reader` is None for a time or a duration."""

    field: FieldDescriptor
    reader: Reader | None


def split_query(raw: str) -> list[tuple[str, str]]:
    """Returns the names and values of a raw query, each decoded once. Raises `BadQuery` for what is not UTF-8."""
    pairs = []
    for part in raw.split("&"):
        if part:
            name, _, value = part.partition("=")
            pairs.append((_unquote(name), _unquote(value)))
    return pairs


def _unquote(text: str) -> str:
    try:
        return unquote_to_bytes(text.replace("+", " ")).decode("utf-8")
    except UnicodeDecodeError:
        raise BadQuery("the query is not UTF-8") from None


def parameters(descriptor: Descriptor, taken: Iterable[str]) -> dict[str, Parameter]:
    """Returns the parameters of a request by their names: its plain fields but for `taken` (by path or body)."""
    return {
        field.json_name: parameter
        for field in descriptor.fields
        if field.name not in taken and (parameter := _parameter(field)) is not None
    }


def _parameter(field: FieldDescriptor) -> Parameter | None:
    if field.type in _SCALARS:
        return Parameter(field=field, reader=scalar_reader(field))
    if field.message_type in (Timestamp.DESCRIPTOR, Duration.DESCRIPTOR) and not field.is_repeated:
        return Parameter(field=field, reader=None)
    return None


def fill_from_query(
    pairs: Iterable[tuple[str, str]], known: Mapping[str, Parameter], message: Message, problems: Problems
) -> None:
    """Sets the fields that the query names; notes unknown and repeated names and wrong values."""
    seen: dict[str, int] = {}
    for name, text in pairs:
        parameter = known.get(name)
        if parameter is None:
            problems.add(name if name.isidentifier() and len(name) <= 64 else key_path("", name), _unknown(known))
            continue
        index = seen[name] = seen.get(name, -1) + 1
        if parameter.field.is_repeated:
            _set(parameter, text, message, f"{name}[{index}]", problems)
        elif index:
            problems.add(name, "is there more than once")
        else:
            _set(parameter, text, message, name, problems)


def _unknown(known: Mapping[str, Parameter]) -> str:
    return f"is not a query parameter of this path, which takes {', '.join(known) or 'none'}"


def _set(parameter: Parameter, text: str, message: Message, path: str, problems: Problems) -> None:
    field = parameter.field
    if parameter.reader is None:
        text = _LOST_PLUS.sub(r"\1+\2", text)
        value = JsonNumber(text) if _NUMBER.fullmatch(text) else text
        below = getattr(message, field.name)
        below.SetInParent()
        fill = fill_timestamp if field.message_type is Timestamp.DESCRIPTOR else fill_duration
        fill(value, below, path, problems)
        return
    if check_text(text, path, problems) is None:
        return
    read = parameter.reader(_typed(field, text), path, problems)
    if read is not None and field.is_repeated:
        getattr(message, field.name).append(read)
    elif read is not None:
        setattr(message, field.name, read)


def _typed(field: FieldDescriptor, text: str) -> Any:
    """Returns the text as the value that JSON would have for this field, where it can be one."""
    if field.type == FieldDescriptor.TYPE_BOOL:
        return {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)
    plain = field.type in {FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_ENUM}
    return JsonNumber(text) if not plain and _NUMBER.fullmatch(text) else text
