"""TOML whose reading takes time in proportion to its length: keys of few parts, arrays and tables that nest little.

The standard reader goes through all parts of a dotted key once for each part, and calls itself for each array or table
in another: 16 KiB of dots hold it for seconds, and brackets end it with words that name no line.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any

#: Most parts of a dotted key, in a line or in a table's header.
MOST_PARTS = 8
#: Most arrays and inline tables that are within each other.
MOST_DEPTH = 16

# Texts and comments, in which no mark means anything, each as far as the reader takes it; and the marks. Nothing is
# gone over twice, whatever is left open: what follows the middle of a text always fits, so that there is no way back.
# That is not written as possessive groups, which Python before 3.11.5 gets wrong.
_TOKENS = re.compile(
    r"#[^\n]*+"
    r'|"""(?:[^"\\]+|\\(?:.|\Z)|"(?!""))*(?:"{3,5}|\Z)'
    r"|'''(?:[^']+|'(?!''))*(?:'{3,5}|\Z)"
    r'|"(?:[^"\\\n]+|\\[^\n])*"?'
    r"|'[^'\n]*+'?"
    r"|[.,=\n\[\]{}]",
    re.DOTALL,
)


def read(text: str) -> dict[str, Any]:
    """The document. Raises ValueError, which names the line where it can."""
    _require_bounded(text)
    return tomllib.loads(text)


def _require_bounded(text: str) -> None:
    dots = depth = 0
    for token in _TOKENS.finditer(text):
        mark = text[token.start()]
        if mark == ".":
            dots += 1
            if dots >= MOST_PARTS:
                raise ValueError(f"line {_line(text, token)}: a key has more than {MOST_PARTS} parts (a.b.c)")
            continue
        # The parts of a key may be texts: `"a"."b"`.
        if mark in "\"'":
            continue
        dots = 0
        if mark in "[{":
            depth += 1
            if depth > MOST_DEPTH:
                raise ValueError(f"line {_line(text, token)}: more than {MOST_DEPTH} arrays or tables in each other")
        elif mark in "]}":
            depth = max(0, depth - 1)


def _line(text: str, token: re.Match[str]) -> int:
    return text.count("\n", 0, token.start()) + 1
