"""Where things stand in a picture: bars, lines, dots and strips, in the units of an SVG's view box.

Pictures are as wide as the page lets them be, and all of their words stand beside them as text, so that only shapes are
drawn here: from 0 to `WIDTH`, and from 0 (above) to `HEIGHT`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 1000.0, 100.0
_SECOND, _MINUTE, _HOUR, _DAY = 1_000, 60_000, 3_600_000, 86_400_000
_DURATIONS = (
    *(10, 20, 50, 100, 200, 500),
    *(number * _SECOND for number in (1, 2, 4, 10, 20, 40)),
    *(number * _MINUTE for number in (1, 2, 4, 10, 20, 40)),
    *(number * _HOUR for number in (1, 2, 4, 8, 12, 24)),
)


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle."""

    x: float
    y: float
    width: float
    height: float


def nice_most(value: float) -> float:
    """Returns a round number at or above the value, for the top of an axis: 1, 2 or 5 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next((step for step in (1, 2, 5) if value <= step * power * (1 + 1e-9)), 10) * power


def nice_duration(ms: float) -> float:
    """Returns a round length of time at or above the value, for the top of an axis whose middle is round as well."""
    for most in _DURATIONS:
        if ms <= most:
            return most
    return nice_most(ms / _DAY) * _DAY


def stacked(columns: Sequence[Sequence[float]], most: float) -> list[list[Box]]:
    """Returns a box for each value of each column, the first of a column lowest. `most` is the top of the axis."""
    if not columns:
        return []
    step = WIDTH / len(columns)
    gap = min(step * 0.15, 4.0)
    return [_column(values, x=at * step + gap / 2, width=step - gap, most=most) for at, values in enumerate(columns)]


def _column(values: Sequence[float], *, x: float, width: float, most: float) -> list[Box]:
    boxes, top = [], HEIGHT
    for value in values:
        # What is there at all is to be seen.
        height = max(1.5, HEIGHT * value / most) if value > 0 else 0.0
        height = min(height, top)
        top -= height
        boxes.append(Box(_round(x), _round(top), _round(width), _round(height)))
    return boxes


def line(values: Sequence[float | None], most: float) -> str:
    """Returns the path of a line through the middles of columns; where a value is None the line is broken."""
    if not values:
        return ""
    step = WIDTH / len(values)
    path: list[str] = []
    pen_down = False
    for at, value in enumerate(values):
        if value is None:
            pen_down = False
            continue
        x, y = _round((at + 0.5) * step), _round(HEIGHT - HEIGHT * min(value, most) / most)
        alone = not pen_down and (at + 1 == len(values) or values[at + 1] is None)
        path.append(f"{'L' if pen_down else 'M'}{x} {y}" + (f"h{_round(min(step, 12.0))}" if alone else ""))
        pen_down = True
    return "".join(path)


def log_height(value: float, least: float, most: float) -> float:
    """Returns where a value stands on an axis of powers, from `least` (below) to `most`."""
    value = min(max(value, least), most)
    share = math.log(value / least) / math.log(most / least) if most > least else 0.0
    return _round(HEIGHT * (1 - share))


def span(begin: float, end: float, first: float, last: float) -> Box | None:
    """Returns the box of a stretch of time on a strip that goes from `first` to `last`; None where it is outside."""
    if last <= first or end < first or begin > last:
        return None
    begin, end = max(begin, first), min(end, last)
    x = WIDTH * (begin - first) / (last - first)
    width = max(WIDTH * (end - begin) / (last - first), 3.0)
    x = min(x, WIDTH - width)
    return Box(_round(x), 0.0, _round(width), HEIGHT)


def _round(value: float) -> float:
    return round(value, 2)
