"""How far somebody has read the feeds of all stores, as text: `<boot>-<number>`, one for each store, with dots."""

from __future__ import annotations

import re
from collections.abc import Mapping

_ONE = re.compile(r"([0-9A-Za-z]{1,32})-([0-9]{1,18})", re.ASCII)


def show(position: Mapping[str, int]) -> str:
    """Returns the position as text; the same for the same position."""
    return ".".join(f"{boot}-{position[boot]}" for boot in sorted(position))


def read(text: str) -> dict[str, int] | None:
    """Returns the position that the text stands for, None where it is none."""
    found: dict[str, int] = {}
    for part in text.split("."):
        match = _ONE.fullmatch(part)
        if match is None or match[1] in found:
            return None
        found[match[1]] = int(match[2])
    return found
