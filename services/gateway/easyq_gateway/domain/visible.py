"""Characters that do something to a text instead of being seen, made visible.

Marks of direction can make a name read otherwise than it is, so that `exe.txt` ends in `txt.exe`; control characters
and those without a width can hide in it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

# C0 and C1 controls but tab and line feed; marks and overrides of direction; without a width; line separators; tags.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff]"
)
# By number, from U+0000 on.
_CONTROLS = (
    "NUL SOH STX ETX EOT ENQ ACK BEL BS HT LF VT FF CR SO SI DLE DC1 DC2 DC3 DC4 NAK SYN ETB CAN EM SUB ESC FS GS RS US"
)
_SHORT = {
    "\u200b": "ZWSP", "\u200c": "ZWNJ", "\u200d": "ZWJ", "\u200e": "LRM", "\u200f": "RLM", "\u061c": "ALM",
    "\u202a": "LRE", "\u202b": "RLE", "\u202c": "PDF", "\u202d": "LRO", "\u202e": "RLO",
    "\u2066": "LRI", "\u2067": "RLI", "\u2068": "FSI", "\u2069": "PDI", "\ufeff": "BOM", "\u2028": "LS", "\u2029": "PS",
    "\x7f": "DEL",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a text. `hidden`: it stands for a character that would not be seen; `name` says which."""

    text: str
    hidden: bool = False
    name: str = ""


def pieces(text: str) -> Iterator[Piece]:
    """Yields a text in parts, each hidden character as one of its own."""
    begin = 0
    for match in _HIDDEN.finditer(text):
        if match.start() > begin:
            yield Piece(text[begin : match.start()])
        yield Piece(_symbol(match[0]), hidden=True, name=_name(match[0]))
        begin = match.end()
    if begin < len(text):
        yield Piece(text[begin:])


def plain(text: str) -> str:
    """Returns a text with hidden characters as symbols, for places that take no markup."""
    return _HIDDEN.sub(lambda match: _symbol(match[0]), text)


def _symbol(character: str) -> str:
    if character < " ":
        return f"⟨{_CONTROLS.split()[ord(character)]}⟩"
    return f"⟨{_SHORT.get(character) or f'U+{ord(character):04X}'}⟩"


def _name(character: str) -> str:
    return f"U+{ord(character):04X} {unicodedata.name(character, 'control character').lower()}"
