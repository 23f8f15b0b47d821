"""Hiding secrets where a spec or an execution is shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from easyq_chassis.redaction import DEFAULT_SEGMENTS, MARKER, Redactor

__all__ = ("DEFAULT_SEGMENTS", "MARKER", "Redactor", "Restored", "restore")


@dataclass(frozen=True, kw_only=True, slots=True)
class Restored:
    """Variables with stored values in place of markers, and the names for which nothing is stored."""

    values: dict[str, str]
    missing: tuple[str, ...]


def restore(redactor: Redactor, sent: Mapping[str, str], stored: Mapping[str, str]) -> Restored:
    """Puts stored values where `sent` has what was shown of them."""
    values: dict[str, str] = {}
    missing: list[str] = []
    for name, value in sent.items():
        if not redactor.is_marked(name, value):
            continue
        if name in stored and redactor.show(name, stored[name]) == value:
            values[name] = stored[name]
        else:
            missing.append(name)
    return Restored(values=values, missing=tuple(missing))
