"""What is wrong with a request: collected, merged and cut to what an answer may carry."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

INVALID_FIELDS = "INVALID_FIELDS"
TOO_LARGE = "TOO_LARGE"
NOT_SUPPORTED = "NOT_SUPPORTED"

MOST_FIELDS = 16
# Of the 4 KiB that an error answer may have; the rest is for what stands around the fields.
MOST_FIELD_BYTES = 3_300
MOST_ECHO_BYTES = 64
# Of one problem's own texts.
_MOST_PATH = 192
_MOST_MESSAGE = 320


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One wrong field. `path` is in lowerCamel (`spec.envs["A"]`), empty for the body as a whole."""

    path: str
    message: str
    reason: str = INVALID_FIELDS


class Problems(list[Problem]):
    """Problems while they are collected."""

    __slots__ = ()

    def add(self, path: str, message: str) -> None:
        """Notes that the field at `path` is wrong."""
        self.append(Problem(path=path, message=message))


def key_path(base: str, key: str) -> str:
    """Returns the path of a map's entry or of a name that is not in the schema: `base["key"]`, long keys cut."""
    return f"{base}[{json.dumps(echo(key), ensure_ascii=False)}]"


def member_path(base: str, name: str) -> str:
    """Returns the path of a member of a message."""
    return f"{base}.{name}" if base else name


def echo(text: str) -> str:
    """Returns text of a caller's as it may be shown: at most 64 bytes, printable, valid Unicode."""
    shown = "".join(c if c.isprintable() else "�" for c in text[:MOST_ECHO_BYTES])
    raw = shown.encode("utf-8", "replace")
    if len(text) <= MOST_ECHO_BYTES and len(raw) <= MOST_ECHO_BYTES:
        return shown
    return raw[: MOST_ECHO_BYTES - 3].decode("utf-8", "ignore") + "…"


def merge(*groups: Iterable[Problem]) -> list[Problem]:
    """Returns the problems of all groups, one for each path.

    A problem at or below a path that an earlier group named is left out: where a value could not be read, what the
    later checks say about it is said about a value that nobody sent.
    """
    merged: dict[str, Problem] = {}
    for group in groups:
        known = tuple(merged)
        for problem in group:
            if problem.path not in merged and not any(_below(problem.path, path) for path in known):
                merged[problem.path] = problem
    return list(merged.values())


def _below(path: str, other: str) -> bool:
    return other != "" and path.startswith(other) and path[len(other) : len(other) + 1] in {".", "["}


def common_reason(problems: Sequence[Problem]) -> str:
    """Returns the reason that all problems share, or INVALID_FIELDS."""
    reasons = {problem.reason for problem in problems}
    return reasons.pop() if len(reasons) == 1 else INVALID_FIELDS


def bounded(problems: Sequence[Problem]) -> list[Problem]:
    """Returns the first problems that fit an answer: at most 16, and about 3.3 KiB of JSON."""
    kept: list[Problem] = []
    room = MOST_FIELD_BYTES
    for problem in problems[:MOST_FIELDS]:
        short = Problem(
            path=_cut(problem.path, _MOST_PATH), message=_cut(problem.message, _MOST_MESSAGE), reason=problem.reason
        )
        room -= len(json.dumps([short.path, short.message], ensure_ascii=False).encode()) + 32
        if room < 0 and kept:
            break
        kept.append(short)
    return kept


def summary(problems: Sequence[Problem], shown: int) -> str:
    """Returns the sentence that stands above the fields."""
    first = problems[0]
    where = first.path or "the body"
    if len(problems) == 1:
        return f"{where}: {_cut(first.message, _MOST_MESSAGE)}"
    rest = f"; the first {shown} are listed" if shown < len(problems) else ""
    return f"{len(problems)} fields are wrong{rest}"


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
