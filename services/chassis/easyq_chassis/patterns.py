"""Regexes that a task's whole name has to match, in time that no pattern can blow up.

They are RE2's, which follows all ways through a pattern at once: a name of n characters takes at most n steps over the
pattern's states. Python's own matcher goes back and tries again instead, which takes ages for some patterns, and holds
the whole process meanwhile.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import re2

#: Most characters of a pattern.
LONGEST = 1_024
# Bytes that a compiled pattern may take: some 10,000 states, over which a name of 128 characters goes in milliseconds.
# RE2 keeps the last 128 patterns by itself.
_MOST_MEMORY = 256 * 1024
_SHOWN = 40
# RE2 refuses more than 1,000 repeats, and takes a count of nine digits for plain characters.
_DIGITS = 4

# What is found before RE2 sees the pattern: what it can't do, and what it would take for plain characters while
# Python's regexes mean repetitions. Alternatives in which such things are no more than characters come first.
_PIECES = re.compile(
    r"\\Q.*?(?:\\E|$)"
    r"|(?P<beyond>\\[1-9]|\(\?(?:<?[=!]|P=))"
    r"|\\."
    r"|\[\^?\]?(?:\\.|[^\]\\])*\]"
    r"|\{(?P<least>[0-9]*)(?P<comma>,?)(?P<most>[0-9]*)\}",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Pattern:
    """A regex in RE2's syntax. Two of the same text are equal.

    Raises `ValueError` with words that follow on what the pattern is called.
    """

    text: str
    _regex: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_regex", _compiled(self.text))

    def matches(self, name: str) -> bool:
        """Whether the whole name matches."""
        return self._regex.fullmatch(name.encode(errors="surrogatepass")) is not None


def _compiled(text: str) -> Any:
    if len(text) > LONGEST:
        raise ValueError(f"has more than {LONGEST} characters")
    for piece in _PIECES.finditer(text):
        if piece["beyond"]:
            raise ValueError(f"looks around or refers back ({piece[0]}), which can't be matched in bounded time")
        if piece["comma"] and not piece["least"]:
            raise ValueError(f"has {piece[0][:_SHOWN]}, which has to be written {{0,{piece['most'][:_SHOWN]}}}")
        if max(len(piece["least"] or ""), len(piece["most"] or "")) > _DIGITS:
            raise ValueError(f"has {piece[0][:_SHOWN]}, which repeats too often")
    options = re2.Options()
    options.max_mem = _MOST_MEMORY
    options.log_errors = False
    # Only whether a name matches is ever asked, not where.
    options.never_capture = True
    try:
        return re2.compile(text.encode(), options)
    except UnicodeEncodeError as error:
        raise ValueError("has characters that are none of Unicode's") from error
    except re2.error as error:
        raise ValueError(f"is no regex that RE2 takes: {_words(error)}") from error


def _words(error: Exception) -> str:
    """What the library says, which quotes the pattern."""
    told = error.args[0]
    text = told.decode(errors="replace") if isinstance(told, bytes) else str(told)
    return "".join(char if char.isprintable() else "?" for char in text[: 2 * _SHOWN])
