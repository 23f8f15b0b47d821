"""Writing TOML: lists of tables of plain values, which the standard library can only read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any


def dump(tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """`[[name]]` for each table, in order. Raises ValueError for a value that is none of text, number, truth, list."""
    parts = [
        f"[[{name}]]\n" + "".join(f"{_text(key)} = {_value(value)}\n" for key, value in table.items())
        for name, several in tables.items()
        for table in several
    ]
    return "\n".join(parts)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list):
        return f"[{', '.join(_value(one) for one in value)}]"
    raise ValueError(f"{value!r} can't be written")


def _text(value: str) -> str:
    # As JSON, but that the one control character that JSON allows has to be escaped, and that surrogates don't exist.
    value.encode()
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
