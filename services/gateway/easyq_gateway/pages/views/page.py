"""A page before it is rendered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: The query of a page's address, each name with its first value; names that a page doesn't know are ignored.
Query = Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """A template, and what it shows. `live`: parameters of the feed that it follows; None: it stands still."""

    template: str
    context: Mapping[str, Any]
    live: Mapping[str, str] | None = field(default_factory=dict)
    status: int = 200
