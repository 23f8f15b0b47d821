"""HTTP byte ranges (RFC 9110, section 14) over a text that may still grow."""

from __future__ import annotations

import re
from dataclasses import dataclass

# More digits than any size has; longer numbers are not worth converting.
_ONE_RANGE = re.compile(r"bytes=\s*([0-9]{0,19})-([0-9]{0,19})\s*")


@dataclass(frozen=True, kw_only=True, slots=True)
class ByteRange:
    """Bytes from `first` up to, not including, `end`."""

    first: int
    end: int

    def __len__(self) -> int:
        return self.end - self.first


class Unsatisfiable(ValueError):
    """No byte of the range exists."""


def parse_range(header: str, size: int) -> ByteRange | None:
    """Returns the bytes that a Range header asks for, or None where the header is to be ignored.

    Ignored is, as the RFC allows, what is malformed, of another unit, or more than one range. Raises `Unsatisfiable`
    where the range begins at or behind the end.
    """
    match = _ONE_RANGE.fullmatch(header)
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        suffix = int(match[2])
        if suffix == 0 or size == 0:
            raise Unsatisfiable
        return ByteRange(first=max(0, size - suffix), end=size)
    first = int(match[1])
    if match[2] and int(match[2]) < first:
        return None
    if first >= size:
        raise Unsatisfiable
    return ByteRange(first=first, end=min(size, int(match[2]) + 1) if match[2] else size)
