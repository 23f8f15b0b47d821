"""How far somebody has read the feeds of all stores, as text: `<boot>-<number>`, one for each store, with dots.

The last part may be `t-<ms since the epoch>`, by the store's clock: nothing that came later was read. By that whoever
comes back to stores that began anew is told what it missed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_ONE = re.compile(r"([0-9A-Za-z]{1,32})-([0-9]{1,18})", re.ASCII)


_TIME = "t"


def show(position: Mapping[str, int], at_ms: int | None = None) -> str:
    """Returns the position, and its time if known, as text; the same for the same position."""
    parts = [f"{boot}-{position[boot]}" for boot in sorted(position)]
    return ".".join(parts if at_ms is None else [*parts, f"{_TIME}-{at_ms}"])


def read(text: str) -> dict[str, int] | None:
    """Returns the position that the text stands for, None where it is none."""
    parts = _parts(text)
    if parts is not None:
        parts.pop(_TIME, None)
    return parts


def time_of(text: str) -> int | None:
    """Returns the time that a position names, in ms since the epoch."""
    return (_parts(text) or {}).get(_TIME)


def _parts(text: str) -> dict[str, int] | None:
    found: dict[str, int] = {}
    for part in text.split("."):
        match = _ONE.fullmatch(part)
        if match is None or match[1] in found:
            return None
        found[match[1]] = int(match[2])
    return found
