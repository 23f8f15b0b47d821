"""Trees as specs, in the forms that REST takes: `2h30m`, `512m`, a command as a string, enums in any case. Pure.

Only forms are checked here; what values are allowed is the server's to say.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import ParseDict

from easyq.cli.document import is_repeated
from easyq.cli.tree import Node
from easyq.durations import parse_duration
from easyq.v1.spec_pb2 import JobSpec

_SIZES = frozenset({"easyq.v1.JobSpec.shm_size", "easyq.v1.JobSpec.log_limit", "easyq.v1.Resources.memory"})
_COMMANDS = frozenset({"easyq.v1.JobSpec.command", "easyq.v1.JobSpec.entrypoint"})
_SIZE = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,20})?)\s*([bkmg]?)", re.IGNORECASE)
_FACTOR = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_SCALARS = frozenset({"bool", "int", "float", "str"})
_RANGES = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Wrong:
    """One thing that is wrong: where, in words, and in which line."""

    line: int
    path: str
    message: str


@dataclass(slots=True)
class Reading:
    """What was read so far: what is wrong, and the line of each path."""

    wrong: list[Wrong] = field(default_factory=list)
    lines: dict[str, int] = field(default_factory=dict)

    def add(self, node: Node, path: str, message: str) -> None:
        self.wrong.append(Wrong(line=node.line, path=path, message=message))

    def line_of(self, path: str) -> int | None:
        """The line of a path, or of the nearest one above it that is in the file."""
        while path:
            if path in self.lines:
                return self.lines[path]
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return None


def read_spec(node: Node, reading: Reading, path: str = "spec") -> JobSpec:
    """The spec that a tree stands for; what is wrong goes into `reading`."""
    spec = JobSpec()
    _fill(node, spec, path, reading)
    return spec


def _fill(node: Node, message: Any, path: str, reading: Reading) -> None:
    reading.lines[path] = node.line
    if node.kind != "object":
        reading.add(node, path, f"must be an object, not {_named(node)}")
        return
    fields = {one.json_name: one for one in message.DESCRIPTOR.fields}
    for key, value in node.members():
        below = f"{path}.{key}"
        found = fields.get(key)
        if found is None:
            reading.add(value, below, f"is not a field of {message.DESCRIPTOR.name}{_near(key, fields)}")
            continue
        reading.lines[below] = value.line
        if value.kind == "null":
            continue
        oneof = found.containing_oneof
        if oneof is not None and len(oneof.fields) > 1 and message.WhichOneof(oneof.name):
            other = message.DESCRIPTOR.fields_by_name[message.WhichOneof(oneof.name)].json_name
            reading.add(value, below, f"and {other} exclude each other")
            continue
        try:
            _set(value, message, found, below, reading)
        except ValueError as error:
            reading.add(value, below, str(error))


def _set(node: Node, message: Any, found: FieldDescriptor, path: str, reading: Reading) -> None:
    name = found.name
    if found.full_name in _COMMANDS:
        getattr(message, name).extend(_words(node))
    elif found.message_type is not None and found.message_type.GetOptions().map_entry:
        _set_map(node, getattr(message, name), path, reading)
    elif is_repeated(found):
        if node.kind != "list":
            raise ValueError(f"must be a list, not {_named(node)}")
        for index, item in enumerate(node.items):
            below = f"{path}[{index}]"
            reading.lines[below] = item.line
            if found.message_type is not None:
                _fill(item, getattr(message, name).add(), below, reading)
            else:
                getattr(message, name).append(_scalar(item, found))
    elif found.message_type is not None:
        _set_message(node, getattr(message, name), path, reading)
    else:
        setattr(message, name, _scalar(node, found))


def _set_message(node: Node, message: Any, path: str, reading: Reading) -> None:
    message.SetInParent()
    kind = message.DESCRIPTOR.full_name
    if kind == "google.protobuf.Duration":
        message.FromMilliseconds(parse_duration(_spelled(node)))
    elif kind == "google.protobuf.Timestamp":
        _set_time(node, message)
    elif kind == "google.protobuf.Struct":
        if node.kind != "object":
            raise ValueError(f"must be an object, not {_named(node)}")
        ParseDict(node.value(), message)
    else:
        _fill(node, message, path, reading)


def _set_time(node: Node, message: Any) -> None:
    text = _spelled(node)
    if node.kind in {"int", "float"}:
        seconds = Fraction(text)
        if abs(seconds) > 10**12:
            raise ValueError("is no time: unix seconds, not milliseconds?")
        message.FromMilliseconds(int(seconds * 1000))
        return
    try:
        message.FromJsonString(text.replace(" ", "T", 1).replace("t", "T").replace("z", "Z"))
    except ValueError:
        raise ValueError(
            "must be unix seconds as a number, or RFC 3339 with an offset, as 2030-01-31T08:00:00Z"
        ) from None


def _set_map(node: Node, entries: Any, path: str, reading: Reading) -> None:
    if node.kind != "object":
        raise ValueError(f"must be an object, not {_named(node)}")
    for key, value in node.members():
        below = f'{path}["{key}"]'
        reading.lines[below] = value.line
        if value.kind in _SCALARS:
            entries[key] = value.text
        else:
            hint = '; leave it out, or write ""' if value.kind == "null" else ""
            reading.add(value, below, f"must be a string, not {_named(value)}{hint}")


def _scalar(node: Node, found: FieldDescriptor) -> Any:
    if found.type == FieldDescriptor.TYPE_BOOL:
        if node.kind != "bool":
            raise ValueError(f"must be true or false, not {_named(node)}")
        return node.value()
    if found.enum_type is not None:
        numbers = {value.name: value.number for value in found.enum_type.values if value.number}
        number = numbers.get(_spelled(node).upper())
        if number is None:
            raise ValueError(f"must be one of {', '.join(numbers)}")
        return number
    if found.type == FieldDescriptor.TYPE_STRING:
        return _spelled(node)
    if found.full_name in _SIZES:
        return _size(node)
    if node.kind not in {"int", "float"}:
        raise ValueError(f"must be a number, not {_named(node)}")
    if found.type == FieldDescriptor.TYPE_DOUBLE:
        return float(node.text)
    whole = Fraction(node.text)
    least, most = _RANGES[found.type]
    if whole.denominator != 1:
        raise ValueError("must be a whole number")
    # What the number's kind has room for is no limit that anybody should try: those are the server's to tell.
    if whole < least:
        raise ValueError("must be a whole number, 0 or more" if least == 0 else "is too small")
    if whole > most:
        raise ValueError("is too large")
    return int(whole)


def _size(node: Node) -> int:
    match = _SIZE.fullmatch(_spelled(node).strip())
    size = Fraction(match[1]) * _FACTOR[match[2].lower()] if match else Fraction(1, 2)
    if size.denominator != 1 or size >= 2**63:
        raise ValueError("is not a size: bytes as a number, or with b, k, m or g (powers of 1024), as 512m")
    return int(size)


def _words(node: Node) -> list[str]:
    if node.kind == "list":
        return [_spelled(item) for item in node.items]
    try:
        return shlex.split(_spelled(node))
    except ValueError as error:
        raise ValueError(f"can't be split into words: {error}") from error


def _spelled(node: Node) -> str:
    """A scalar as it was written: `command: [sleep, 5]` is what it looks like."""
    if node.kind not in _SCALARS:
        raise ValueError(f"must be a string, not {_named(node)}")
    if "\0" in node.text or (not node.text.isascii() and any("\ud800" <= one <= "\udfff" for one in node.text)):
        raise ValueError("contains what is no text")
    return node.text


def _named(node: Node) -> str:
    return {"object": "an object", "list": "a list", "null": "null"}.get(node.kind, "a plain value")


def _near(key: str, fields: Mapping[str, Any]) -> str:
    head, *rest = key[:64].split("_")
    camel = head + "".join(part.capitalize() for part in rest)
    near = [camel] if camel in fields else difflib.get_close_matches(key[:64], fields, n=1, cutoff=0.7)
    return f"; did you mean `{near[0]}`?" if near else ""
