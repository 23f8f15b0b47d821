"""Sizes in bytes as Docker's users write them."""

from __future__ import annotations

import re
from fractions import Fraction

_SIZE = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,20})?)\s*([bkmg]?)", re.IGNORECASE)
_FACTOR = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def parse_size(text: str) -> int:
    """Returns the bytes that `512m`, `1.5g`, `64k`, `1024b` or `1024` stand for (powers of 1024).

    Raises `ValueError` with words for people.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError("is not a size: bytes as a number, or with b, k, m or g (powers of 1024), as 512m")
    size = Fraction(match[1]) * _FACTOR[match[2].lower()]
    if size.denominator != 1:
        raise ValueError("is not a whole number of bytes")
    return int(size)
