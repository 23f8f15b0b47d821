"""JSON text → a tree that keeps what `json.loads` loses: how numbers were spelled, and keys that came twice."""

from __future__ import annotations

import json
from typing import Any

#: Objects and lists within each other, in free data.
MOST_DEPTH = 32


class Malformed(ValueError):
    """The text is not JSON. The message says where, and echoes nothing of it."""


class JsonNumber(str):
    """A number as it was spelled: `1.50` stays that. Also NaN and the infinities, which are no JSON."""

    __slots__ = ()

    @property
    def finite(self) -> bool:
        return self not in {"NaN", "Infinity", "-Infinity"}


class JsonObject(dict[str, Any]):
    """An object. `repeated` names the keys that came more than once, of which the last counts."""

    __slots__ = ("repeated",)

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.repeated: tuple[str, ...] = ()
        if len(self) != len(pairs):
            seen: set[str] = set()
            self.repeated = tuple(dict.fromkeys(key for key, _ in pairs if key in seen or seen.add(key)))  # type: ignore[func-returns-value]


_DECODER = json.JSONDecoder(
    object_pairs_hook=JsonObject, parse_float=JsonNumber, parse_int=JsonNumber, parse_constant=JsonNumber
)


def parse_json(body: bytes) -> Any:
    """Returns the tree: JsonObject, list, str, JsonNumber, bool, None. Raises `Malformed`."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed(f"is not UTF-8 at byte {error.start}") from None
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise Malformed(f"is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise Malformed(f"is nested deeper than {MOST_DEPTH} levels") from None


def kind_of(value: object) -> str:
    """Returns what a value of the tree is, for people."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, JsonNumber):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "an object" if isinstance(value, dict) else "a list"
