"""Durations as people write them: ``2h30m50s``, ``9050s``, ``1.5s``, ``250ms``, or a number of seconds."""

from __future__ import annotations

import math
import re
from fractions import Fraction

_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d|w)")
_MILLISECONDS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_LONGEST = 315_360_000_000_000  # 10,000 years: what a protobuf Duration takes


def parse_duration(value: str | int | float) -> int:
    """Returns the duration in milliseconds, rounded half up.

    A string is one or more numbers with a unit each (w, d, h, m, s, ms), the largest first and each unit once, or a
    bare number of seconds. Raises ``ValueError`` for anything else, for negative, infinite and too large ones.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("is neither a duration like 2h30m50s nor a number of seconds")
    if isinstance(value, str):
        milliseconds = _parse_text(value.strip())
    elif not math.isfinite(value):
        raise ValueError("is not a finite number")
    else:
        milliseconds = Fraction(value) * 1_000
    if milliseconds < 0:
        raise ValueError("is negative")
    if milliseconds > _LONGEST:
        raise ValueError("is too long")
    return math.floor(milliseconds + Fraction(1, 2))


def _parse_text(text: str) -> Fraction:
    if re.fullmatch(r"-?[0-9]{1,20}(\.[0-9]{1,20})?", text):
        return Fraction(text) * 1_000
    total, position, last = Fraction(0), 0, math.inf
    for match in _PART.finditer(text[:200]):
        size = _MILLISECONDS[match[2]]
        if match.start() != position or size >= last:
            break
        total += Fraction(match[1]) * size
        position, last = match.end(), size
    if not text or position != len(text):
        raise ValueError("is not a duration like 2h30m50s, 9050s or 250ms")
    return total


def format_duration(milliseconds: int) -> str:
    """Returns seconds with an ``s``, as protobuf's JSON has durations: ``9050s``, ``1.500s``."""
    sign, rest = ("-", -milliseconds) if milliseconds < 0 else ("", milliseconds)
    seconds, millis = divmod(rest, 1_000)
    return f"{sign}{seconds}.{millis:03d}s" if millis else f"{sign}{seconds}s"
