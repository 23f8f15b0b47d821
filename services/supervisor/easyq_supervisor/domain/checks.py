"""Checks of single values, and of tables of them.

Each returns what it got, and raises ValueError with words that follow on what the value is called.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DSN = re.compile(r"https?://[^\s/?#:@]+(:[^\s/?#:@]*)?@[^\s/?#@]+/([^\s?#]*/)?[0-9]+")
_SIZE = re.compile(r"[0-9]{1,15}(\.[0-9]{1,6})?\s*[bkmgt]?b?", re.IGNORECASE)


def checked_table(
    item: object,
    needed: Mapping[str, Callable[[Any], Any]],
    possible: Mapping[str, Callable[[Any], Any]],
) -> dict[str, Any]:
    """The table with each value as its check returns it; dashes in keys count as underscores. Raises ValueError."""
    if not isinstance(item, Mapping):
        raise ValueError("is neither a text nor a table")
    checks = {**needed, **possible}
    found: dict[str, Any] = {}
    for key, value in item.items():
        name = key.replace("-", "_")
        if name not in checks:
            raise ValueError(f"has {key!r}, which is none of {', '.join(checks)}")
        if name in found:
            raise ValueError(f"has {key!r} twice")
        try:
            found[name] = checks[name](value)
        except ValueError as error:
            raise ValueError(f"{key} {error}") from error
    missing = [name for name in needed if name not in found]
    if missing:
        raise ValueError(f"has no {' and no '.join(missing)}")
    return found


def between(least: int, most: int) -> Callable[[Any], int]:
    """A check of integers."""

    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError(f"must be an integer between {least} and {most}")
        return value

    return check


def number(least: float, most: float, what: str = "a number") -> Callable[[Any], float]:
    """A check of numbers."""

    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise ValueError(f"must be {what} between {least:g} and {most:g}")
        return value

    return check


def one_of(*allowed: str) -> Callable[[Any], str]:
    """A check of words."""

    def check(value: Any) -> str:
        if value not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}")
        return str(value)

    return check


def url(*schemes: str) -> Callable[[Any], str]:
    """A check of addresses."""

    def check(value: Any) -> str:
        if not text(value).startswith(tuple(f"{scheme}://" for scheme in schemes)):
            raise ValueError(f"must be a URL that begins with {' or '.join(f'{scheme}://' for scheme in schemes)}")
        return str(value)

    return check


def dsn(value: Any) -> str:
    """A check of Sentry's URLs: a key instead of a user, and a number as the last piece of the path."""
    if not _DSN.fullmatch(text(value)):
        raise ValueError("must be like https://KEY@sentry.example.org/7")
    return str(value)


def without_secret(value: str) -> str:
    """The same address to be shown: a user and password before its host are left out."""
    head, slashes, rest = value.partition("://") if "://" in value else ("", "", value)
    return value if rest.startswith("/") or "@" not in rest else f"{head}{slashes}***@{rest.rpartition('@')[2]}"


def text(value: Any) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value:
        raise ValueError("must be a text that is not empty")
    return value


def pool_name(value: object) -> str:
    """The name of a pool."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError("is no name of a pool: letters, digits, '.', '_' and '-', at most 64")
    return value


def size(value: Any) -> str:
    """Bytes, as a number or as Docker's users write them, as text."""
    written = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(written, str) or not _SIZE.fullmatch(written):
        raise ValueError("must be a number of bytes, or a size such as 512m or 20g")
    return written
