"""Texts of errors without what is secret in them. Pure.

Nobody knows what an error says: a driver may repeat its URL, a parser its input. So values are hidden that are known to
be secrets, and those that stand beside a name which says so, in the ways in which Python, JSON and protobuf write them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from easyq_chassis.redaction import MARKER, Redactor

_MOST_TEXT = 2_000
# A string that was cut has no end.
_QUOTED = r'"(?:\\.|[^"\\])*(?:"|\\?$)'
_SINGLE = r"'(?:\\.|[^'\\])*(?:'|\\?$)"
_NAMED = re.compile(
    rf"""(["']?)([A-Za-z_][A-Za-z0-9_.-]{{0,127}})\1(\s{{0,3}}[=:]\s{{0,3}})({_QUOTED}|{_SINGLE}|[^\s"',;&)}}\]]+)"""
)
# An entry of a map, as protobuf shows messages.
_ENTRY = re.compile(rf'(key:\s{{0,3}}"((?:\\.|[^"\\])*)"\s{{1,99}}value:\s{{0,3}})({_QUOTED})')
_SCHEME = re.compile(r"(?i)\b(bearer|basic|token)(\s+)[A-Za-z0-9._~+/=-]{8,}")


def fit(text: str, redactor: Redactor, secrets: Iterable[str] = ()) -> str:
    """Returns the text without secrets, at most about 2,000 characters of it; `secrets` are known values."""
    for secret in secrets:
        text = text.replace(secret, MARKER)
    return hidden(text if len(text) <= _MOST_TEXT else text[: _MOST_TEXT - 1] + "…", redactor)


def hidden(text: str, redactor: Redactor) -> str:
    """Returns the text, of whatever length, without what `redactor` knows and what stands beside a secret's name."""

    def named(found: re.Match[str]) -> str:
        quote, name, between = found[1], found[2], found[3]
        return f"{quote}{name}{quote}{between}{MARKER}" if redactor.secret_name(name) else found[0]

    def entry(found: re.Match[str]) -> str:
        return f"{found[1]}{MARKER}" if redactor.secret_name(found[2]) else found[0]

    text = redactor.hide(text)
    text = _SCHEME.sub(rf"\1\2{MARKER}", text)
    return _NAMED.sub(named, _ENTRY.sub(entry, text))


def one_line(text: str, most: int = 200) -> str:
    """Returns the text in one line of at most so many characters, as tags and titles have it."""
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"
