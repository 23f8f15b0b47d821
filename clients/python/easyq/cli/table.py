"""Tables for people. Pure: the terminal's width and whether it shows colours are arguments."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from easyq.cli.plain import clip, plain, width

_GAP = "  "
# Below this a cut text says nothing any more.
_LEAST = 8
# A column that may go goes before the others have less than this.
_COMFORT = 11

#: Select Graphic Rendition: good, bad, in between, and what may be overlooked.
STYLES = {"good": "32", "bad": "31", "warn": "33", "busy": "36", "dim": "2", "bold": "1"}


@dataclass(frozen=True, slots=True)
class Cell:
    """A text with a style of `STYLES`, or without one."""

    text: str
    style: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """`cut`: may be shortened where the terminal is too narrow; never done to ids and states. `drop`: may be left out
    there, the greatest number first, and where all of its cells are empty. What is no terminal gets every column."""

    title: str
    cut: bool = False
    right: bool = False
    drop: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Screen:
    """What is written to: columns (None: no bound, as for files and pipes), and whether there are colours."""

    columns: int | None = None
    colours: bool = False


def render(columns: Sequence[Column], rows: Iterable[Sequence[str | Cell]], screen: Screen) -> list[str]:
    """The lines of a table, with its head. Texts are made safe for terminals here."""
    body = [[_cell(value) for value in row] for row in rows]
    kept = _kept(columns, body, screen.columns)
    shown = [columns[index] for index in kept]
    lines = [[Cell(column.title, "bold") for column in shown], *([row[index] for index in kept] for row in body)]
    widths = _fit(shown, lines, screen.columns)
    return [_line(row, shown, widths, screen) for row in lines]


def _kept(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], most: int | None) -> list[int]:
    kept = list(range(len(columns)))
    if most is None:
        return kept
    kept = [at for at in kept if not columns[at].drop or any(row[at].text not in {"", "-"} for row in rows)]
    wide = {at: max(width(columns[at].title), *(width(row[at].text) for row in rows), 0) for at in kept}
    least = {at: min(wide[at], max(_COMFORT, width(columns[at].title))) if columns[at].cut else wide[at] for at in kept}
    while sum(least[at] for at in kept) + len(_GAP) * (len(kept) - 1) > most:
        may_go = [at for at in kept if columns[at].drop]
        if not may_go:
            break
        kept.remove(max(may_go, key=lambda at: columns[at].drop))
    return kept


def pairs(rows: Iterable[tuple[str, str | Cell]], screen: Screen) -> list[str]:
    """Lines of `name  value`; values are shown whole, over several lines where they are long."""
    body = [(name, _cell(value)) for name, value in rows]
    left = max((width(name) for name, _ in body), default=0)
    lines = []
    for name, cell in body:
        room = None if screen.columns is None else max(20, screen.columns - left - len(_GAP))
        for number, part in enumerate(wrap(cell.text, room)):
            label = name if number == 0 else ""
            lines.append(_pad(label, left) + _GAP + paint(part, cell.style, screen))
    return [line.rstrip() for line in lines]


def wrap(text: str, room: int | None) -> list[str]:
    """The text in pieces of at most `room` columns, broken at blanks where there are some."""
    if room is None or width(text) <= room:
        return [text]
    lines, line = [], ""
    for word in text.split(" "):
        rest = word
        if line and width(line) + 1 + width(rest) <= room:
            line = f"{line} {rest}"
            continue
        if line:
            lines.append(line)
        while width(rest) > room:
            head = _head(rest, room)
            lines.append(head)
            rest = rest[len(head) :]
        line = rest
    return [*lines, line]


def paint(text: str, style: str, screen: Screen) -> str:
    """The text in a style, where the screen has any."""
    return f"\x1b[{STYLES[style]}m{text}\x1b[0m" if style and text and screen.colours else text


def _head(text: str, room: int) -> str:
    used = 0
    for index, character in enumerate(text):
        used += width(character)
        if used > room:
            return text[: max(index, 1)]
    return text


def _cell(value: str | Cell) -> Cell:
    return Cell(plain(value.text), value.style) if isinstance(value, Cell) else Cell(plain(value))


def _fit(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], most: int | None) -> list[int]:
    widths = [max(width(row[index].text) for row in rows) for index in range(len(columns))]
    if most is None:
        return widths
    widths = [min(wide, most) if column.cut else wide for wide, column in zip(widths, columns, strict=True)]
    least = [max(_LEAST, width(column.title)) for column in columns]
    for _ in range(sum(widths) + len(_GAP) * (len(columns) - 1) - most):
        may_shrink = [index for index, column in enumerate(columns) if column.cut and widths[index] > least[index]]
        if not may_shrink:
            break
        widths[max(may_shrink, key=lambda index: widths[index])] -= 1
    return widths


def _line(row: Sequence[Cell], columns: Sequence[Column], widths: Sequence[int], screen: Screen) -> str:
    parts = []
    last = len(row) - 1
    for index, (cell, column, wide) in enumerate(zip(row, columns, widths, strict=True)):
        text = clip(cell.text, wide) if column.cut else cell.text
        blanks = " " * (wide - width(text))
        shown = paint(text, cell.style, screen)
        if column.right:
            parts.append(blanks + shown)
        else:
            parts.append(shown if index == last else shown + blanks)
    return _GAP.join(parts).rstrip()


def _pad(text: str, wide: int) -> str:
    return text + " " * (wide - width(text))
