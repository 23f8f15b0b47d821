"""Output of programs for terminals, as runs of text with the colours that it asks for.

Of the escape sequences (https://ecma-international.org/publications-and-standards/standards/ecma-48/) only SGR, the
colours and styles, has an effect; all others are left out. Every colour becomes the nearest of the sixteen that
the page's two themes have, so that none can be unreadable.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

# CSI, then OSC and the other strings (title, link, image) up to their end or the line's, then short ones.
_ESCAPE = re.compile(
    r"\x1b\[(?P<numbers>[0-9;:]*)(?P<sgr>m)|\x1b\[[0-?]*[ -/]*[@-~]?|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?"
    r"|\x1b[ -/]*[0-~]?"
)
_MOST_NUMBERS = 64
# xterm's sixteen, by which others are judged.
_BASE = (
    (0, 0, 0), (205, 0, 0), (0, 205, 0), (205, 205, 0), (0, 0, 238), (205, 0, 205), (0, 205, 205), (229, 229, 229),
    (127, 127, 127), (255, 0, 0), (0, 255, 0), (255, 255, 0), (92, 92, 255), (255, 0, 255), (0, 255, 255),
    (255, 255, 255),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Style:
    """How text looks. Colours are 0 to 15, None for the page's own."""

    bold: bool = False
    dim: bool = False
    italic: bool = False
    underline: bool = False
    inverse: bool = False
    struck: bool = False
    ink: int | None = None
    ground: int | None = None

    @property
    def classes(self) -> str:
        """The names of its CSS classes; empty for plain text."""
        names = [name for name in ("bold", "dim", "italic", "underline", "struck") if getattr(self, name)]
        ink, ground = (self.ground, self.ink) if self.inverse else (self.ink, self.ground)
        if self.inverse and ink is None and ground is None:
            names.append("inverse")
        if ink is not None:
            names.append(f"ink{ink}")
        if ground is not None:
            names.append(f"ground{ground}")
        return " ".join(f"ansi-{name}" for name in names)


PLAIN = Style()


@dataclass(frozen=True, slots=True)
class Run:
    """Text of one look."""

    text: str
    style: Style


class Ansi:
    """Reads a stream line by line: a style holds over the ends of lines until it is changed."""

    def __init__(self) -> None:
        self._style = PLAIN

    def line(self, text: str) -> Iterator[Run]:
        """Yields the runs of one line. What a carriage return overwrites, as progress bars do, is left out."""
        text = text.rstrip("\r")
        overwritten, _, shown = text.rpartition("\r")
        for _run in self._runs(overwritten):
            pass
        yield from self._runs(shown)

    def _runs(self, text: str) -> Iterator[Run]:
        begin = 0
        for match in _ESCAPE.finditer(text):
            if match.start() > begin:
                yield Run(text[begin : match.start()], self._style)
            begin = match.end()
            if match["sgr"]:
                self._style = changed(self._style, match["numbers"])
        if begin < len(text):
            yield Run(text[begin:], self._style)


def changed(style: Style, numbers: str) -> Style:
    """Returns the style after one SGR sequence with these parameters."""
    left = [int(one[:4]) if one else 0 for one in re.split("[;:]", numbers)[:_MOST_NUMBERS]]
    while left:
        number = left.pop(0)
        if number in {38, 48}:
            colour, left = _extended(left)
            if colour is not None:
                style = replace(style, ink=colour) if number == 38 else replace(style, ground=colour)
        else:
            style = _simple(style, number)
    return style


def _simple(style: Style, number: int) -> Style:
    found = _CHANGES.get(number)
    if found is not None:
        return replace(style, **found) if found else PLAIN
    for first, name, base in ((30, "ink", 0), (90, "ink", 8), (40, "ground", 0), (100, "ground", 8)):
        if first <= number < first + 8:
            change: dict[str, Any] = {name: base + number - first}
            return replace(style, **change)
    return style


def _extended(left: list[int]) -> tuple[int | None, list[int]]:
    """The colour of `5;n` or `2;r;g;b`, and what follows."""
    if left[:1] == [5] and len(left) > 1:
        return _indexed(left[1]), left[2:]
    if left[:1] == [2] and len(left) > 3:
        return nearest(left[1], left[2], left[3]), left[4:]
    return None, []


def _indexed(number: int) -> int | None:
    if number < 16:
        return number
    if number < 232:
        number -= 16
        levels = [0 if one == 0 else 55 + 40 * one for one in (number // 36, number // 6 % 6, number % 6)]
        return nearest(*levels)
    if number < 256:
        grey = 8 + 10 * (number - 232)
        return nearest(grey, grey, grey)
    return None


def nearest(red: int, green: int, blue: int) -> int:
    """Returns the one of the sixteen colours that is nearest."""
    given = (red, green, blue)
    return min(range(16), key=lambda at: sum((one - two) ** 2 for one, two in zip(_BASE[at], given, strict=True)))


_CHANGES: dict[int, dict[str, Any]] = {
    0: {},
    1: {"bold": True},
    2: {"dim": True},
    3: {"italic": True},
    4: {"underline": True},
    7: {"inverse": True},
    9: {"struck": True},
    21: {"underline": True},
    22: {"bold": False, "dim": False},
    23: {"italic": False},
    24: {"underline": False},
    27: {"inverse": False},
    29: {"struck": False},
    39: {"ink": None},
    49: {"ground": None},
}
