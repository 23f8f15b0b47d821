"""Splitting a command line into words as a POSIX shell would, without running one."""

from __future__ import annotations

import re

# `shlex.split` gives the same words, but takes quadratic time: a megabyte would hold up every other request.
_PIECE = re.compile(
    r"""
    (?P<space>[ \t\r\n]+)
    | '(?P<single>[^']*)'
    | "(?P<double>[^"\\]*(?:\\.[^"\\]*)*)"
    | \\(?P<escaped>.)
    | (?P<plain>[^ \t\r\n'"\\]+)
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE_IN_DOUBLE_QUOTES = re.compile(r'\\(["\\])')


def split_words(text: str) -> list[str]:
    """Returns the words of `text`: quotes and backslashes as in a shell; `$`, `|`, `>`, `*` and `#` are literal.

    Raises `ValueError` where a quote is not closed, or nothing follows the last backslash.
    """
    words: list[str] = []
    word: list[str] | None = None
    position = 0
    while position < len(text):
        match = _PIECE.match(text, position)
        if match is None:
            raise ValueError(_why(text[position]))
        position = match.end()
        kind = match.lastgroup
        if kind == "space":
            if word is not None:
                words.append("".join(word))
            word = None
            continue
        piece = match[kind] if kind else ""
        word = [] if word is None else word
        word.append(_ESCAPE_IN_DOUBLE_QUOTES.sub(r"\1", piece) if kind == "double" else piece)
    if word is not None:
        words.append("".join(word))
    return words


def _why(stopper: str) -> str:
    if stopper == "\\":
        return "ends with a backslash that escapes nothing"
    return f"has a quote ({stopper}) that is not closed"
