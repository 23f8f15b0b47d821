"""Text of others for terminals: nothing in it moves the cursor, changes colours, or turns the reading order. Pure."""

from __future__ import annotations

import re
import unicodedata

# Controls (C0, DEL, C1), marks of direction, what has no width, line separators, lone surrogates.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def plain(text: str) -> str:
    """The text with what is unsafe to print as visible escapes: `\\x1b`, `\\u202e`, `\\n`."""
    return _UNSAFE.sub(lambda match: _escape(match[0]), text)


def sentence_of(text: str) -> str:
    """The text as one line: white space is one blank each, the rest as `plain`."""
    return plain(" ".join(text.split()))


def in_json(text: str) -> str:
    """JSON text with what is unsafe to print as JSON's own escapes; it can only stand in strings."""
    return _UNSAFE.sub(lambda match: match[0] if match[0] == "\n" else f"\\u{ord(match[0]):04x}", text)


def width(text: str) -> int:
    """Columns that the text takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(_width(character) for character in text)


def clip(text: str, most: int) -> str:
    """The text in at most `most` columns; `…` stands for what was cut."""
    if width(text) <= most:
        return text
    if most < 1:
        return ""
    kept, used = [], 1
    for character in text:
        used += _width(character)
        if used > most:
            break
        kept.append(character)
    return "".join(kept) + "…"


def _escape(character: str) -> str:
    number = ord(character)
    return _SHORT.get(character) or (f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}")


def _width(character: str) -> int:
    if unicodedata.category(character) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1
