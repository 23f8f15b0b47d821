"""Single values: a value of the JSON tree → what a field of a message takes.

A reader notes what is wrong and returns None; it raises nothing, whatever the value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, TypeAlias

from google.protobuf.descriptor import EnumDescriptor

from easyq_gateway.codec.json_text import JsonNumber, kind_of
from easyq_gateway.domain.problems import Problems

Reader: TypeAlias = Callable[[Any, str, Problems], Any]

_PLAIN_INTEGER = re.compile(r"-?[0-9]{1,19}")
# Longer spellings and larger exponents are beyond every range.
_LONGEST_NUMBER = 64
_MOST_DIGITS = 30


def read_string(value: Any, path: str, problems: Problems) -> str | None:
    """A string without NUL and lone surrogates."""
    if isinstance(value, JsonNumber) or not isinstance(value, str):
        problems.add(path, f"must be a string, not {kind_of(value)}")
        return None
    return check_text(value, path, problems)


def check_text(value: str, path: str, problems: Problems) -> str | None:
    """The text itself, if a message can hold it."""
    if "\0" in value:
        problems.add(path, "must not contain NUL")
        return None
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            problems.add(path, "contains half of a surrogate pair, which is not Unicode text")
            return None
    return value


def read_bool(value: Any, path: str, problems: Problems) -> bool | None:
    """`true` or `false`."""
    if isinstance(value, bool):
        return value
    problems.add(path, f"must be true or false, not {kind_of(value)}")
    return None


def read_double(value: Any, path: str, problems: Problems) -> float | None:
    """A finite number."""
    if not isinstance(value, JsonNumber):
        problems.add(path, f"must be a number, not {kind_of(value)}")
        return None
    return finite(value, path, problems)


def finite(value: JsonNumber, path: str, problems: Problems) -> float | None:
    """The number as a double."""
    number = float(value)
    if math.isfinite(number):
        return number
    problems.add(path, "is too large" if value.finite else "NaN and Infinity are not JSON")
    return None


def integer_reader(least: int, most: int, *, told: tuple[int, int] | None = None) -> Reader:
    """Returns a reader of whole numbers from `least` to `most`; `3.0` and `1e3` are whole.

    `told`: narrower bounds, which are checked elsewhere. A refusal names those: nobody shall try the wider ones.
    """
    lower, upper = told or (least, most)

    def read(value: Any, path: str, problems: Problems) -> int | None:
        if not isinstance(value, JsonNumber):
            problems.add(path, f"must be a whole number, not {kind_of(value)}")
            return None
        try:
            number = to_integer(value)
        except ValueError as error:
            problems.add(path, str(error))
            return None
        if not least <= number <= most:
            problems.add(path, f"must be from {lower} to {upper}")
            return None
        return number

    return read


def to_integer(text: str) -> int:
    """Returns the whole number that a JSON number spells. Raises `ValueError` with words for people."""
    if _PLAIN_INTEGER.fullmatch(text):
        return int(text)
    number = to_decimal(text)
    if number.adjusted() > _MOST_DIGITS:
        raise ValueError("is too large")
    whole = number.to_integral_value()
    if whole != number:
        raise ValueError("must be a whole number")
    return int(whole)


def to_decimal(text: str) -> Decimal:
    """Returns the exact number that a JSON number spells. Raises `ValueError` with words for people."""
    try:
        number = Decimal(text) if len(text) <= _LONGEST_NUMBER else None
    except ArithmeticError:
        number = None
    if number is None:
        raise ValueError("is not a number of a reasonable size")
    if not number.is_finite():
        raise ValueError("NaN and Infinity are not JSON")
    return number


def enum_reader(descriptor: EnumDescriptor, names: Sequence[str]) -> Reader:
    """Returns a reader of those names of an enum, in any case."""
    numbers = {name: descriptor.values_by_name[name].number for name in names}
    choices = ", ".join(names)

    def read(value: Any, path: str, problems: Problems) -> int | None:
        if isinstance(value, JsonNumber) or not isinstance(value, str):
            problems.add(path, f"must be one of {choices}, not {kind_of(value)}")
            return None
        number = numbers.get(value.upper()) if len(value) <= _LONGEST_NUMBER else None
        if number is None:
            problems.add(path, f"must be one of {choices}")
        return number

    return read
