"""YAML and JSON as trees whose nodes know their lines, so that whatever is wrong can be told with its line.

Plain scalars are read as YAML 1.2 does (`no` and `on` are words), and keep their spelling.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["null", "bool", "int", "float", "str", "list", "object"]

_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_BOOLS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
# What a file may hold by aliases of aliases.
_MOST_NODES = 1_000_000
_MOST_DEPTH = 64


class TreeError(Exception):
    """A file that is not what it should be. The message is one line; `line` counts from 1."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.message = message
        self.line = line


@dataclass(frozen=True, slots=True)
class Node:
    """One value: `text` is a scalar's spelling, `items` what a list or an object holds."""

    kind: Kind
    line: int
    text: str = ""
    items: tuple[Node, ...] = ()
    keys: tuple[str, ...] = ()

    def members(self) -> Iterator[tuple[str, Node]]:
        """Of an object."""
        return zip(self.keys, self.items, strict=True)

    def get(self, key: str) -> Node | None:
        """A member of an object, if it is there and not null."""
        for name, node in self.members():
            if name == key and node.kind != "null":
                return node
        return None

    def value(self) -> Any:
        """As plain Python values."""
        if self.kind == "object":
            return {key: node.value() for key, node in self.members()}
        if self.kind == "list":
            return [node.value() for node in self.items]
        if self.kind == "bool":
            return _BOOLS[self.text]
        if self.kind == "int":
            return int(self.text)
        return float(self.text) if self.kind == "float" else None if self.kind == "null" else self.text


def parse(data: bytes) -> list[Node]:
    """The documents of a file of YAML, or of JSON. Raises TreeError."""
    text = _text(data)
    if text.lstrip()[:1] in {"{", "["}:
        # JSON may have tabs where YAML may not. What is not JSON may still be YAML.
        try:
            return [_from_json(json.loads(text, object_pairs_hook=_Pairs), 1, 0)]
        except (ValueError, RecursionError):
            pass
    return _parse_yaml(text)


def parse_lines(data: bytes) -> Iterator[Node]:
    """The documents of a file with one of JSON in each line. Raises TreeError."""
    for number, line in enumerate(data.split(b"\n"), 1):
        if line.strip():
            yield parse_line(line, number)


def parse_line(line: bytes, number: int) -> Node:
    """One line of JSON. Raises TreeError."""
    try:
        return _from_json(json.loads(line, object_pairs_hook=_Pairs), number, 0)
    except RecursionError as error:
        raise TreeError("is nested too deep", number) from error
    except json.JSONDecodeError as error:
        raise TreeError(f"is not JSON: {error.msg} (column {error.colno})", number) from error
    except UnicodeDecodeError as error:
        raise TreeError("is not UTF-8", number) from error


class _Pairs(list[tuple[str, Any]]):
    """The members of an object, repeated ones too."""


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TreeError("is not UTF-8", data.count(b"\n", 0, error.start) + 1) from error


def _from_json(value: Any, line: int, depth: int) -> Node:
    if depth > _MOST_DEPTH:
        raise TreeError("is nested too deep", line)
    if isinstance(value, _Pairs):
        keys = tuple(key for key, _ in value)
        _check_keys(keys, [line] * len(keys))
        return Node("object", line, keys=keys, items=tuple(_from_json(one, line, depth + 1) for _, one in value))
    if isinstance(value, list):
        return Node("list", line, items=tuple(_from_json(one, line, depth + 1) for one in value))
    if value is None:
        return Node("null", line)
    if isinstance(value, bool):
        return Node("bool", line, str(value).lower())
    if isinstance(value, int | float):
        return Node("int" if isinstance(value, int) else "float", line, repr(value))
    return Node("str", line, str(value))


def _parse_yaml(text: str) -> list[Node]:
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        composed = list(yaml.compose_all(text, Loader=loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" (column {mark.column + 1})" if mark else ""
        raise TreeError(
            f"is not YAML: {error.problem or error.context}{where}", mark.line + 1 if mark else 1
        ) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise TreeError("is not YAML: it contains a control character", line) from error
    except RecursionError as error:
        raise TreeError("is nested too deep", 1) from error
    return [_Converter().node(one, 0) for one in composed]


class _Converter:
    def __init__(self) -> None:
        self._count = 0

    def node(self, found: Any, depth: int) -> Node:
        line = found.start_mark.line + 1
        self._count += 1
        if self._count > _MOST_NODES:
            raise TreeError("holds more than it seems: its aliases multiply", line)
        if depth > _MOST_DEPTH:
            raise TreeError("is nested too deep", line)
        if found.id == "mapping":
            keys = tuple(self._key(key) for key, _ in found.value)
            _check_keys(keys, [key.start_mark.line + 1 for key, _ in found.value])
            # A member is told by the line of its key: what stands below it may begin on the next one.
            items = tuple(_at(self.node(value, depth + 1), key) for key, value in found.value)
            return Node("object", line, keys=keys, items=items)
        if found.id == "sequence":
            return Node("list", line, items=tuple(self.node(one, depth + 1) for one in found.value))
        return Node(_kind(found), line, found.value)

    def _key(self, found: Any) -> str:
        if found.id != "scalar":
            raise TreeError("has a key that is not a word", found.start_mark.line + 1)
        return str(found.value)


def _at(node: Node, key: Any) -> Node:
    line = key.start_mark.line + 1
    return node if node.line == line else Node(node.kind, line, node.text, node.items, node.keys)


def _kind(found: Any) -> Kind:
    # libyaml says "" of a plain scalar, the loader in Python None.
    if found.style or found.tag == "tag:yaml.org,2002:binary":
        return "str"
    text = found.value
    if text in _NULLS:
        return "null"
    if text in _BOOLS:
        return "bool"
    if _INT.fullmatch(text) and len(text) < 400:
        return "int"
    return "float" if _FLOAT.fullmatch(text) and len(text) < 400 else "str"


def _check_keys(keys: tuple[str, ...], lines: list[int]) -> None:
    seen: set[str] = set()
    for key, line in zip(keys, lines, strict=True):
        if key in seen:
            raise TreeError(f"has `{key[:40]}` more than once", line)
        seen.add(key)
