"""Routes that stand by hand: what they are made of, and how they read their queries."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from aiohttp import web

from easyq_chassis.errors import InvalidArgument
from easyq_gateway.codec.query import BadQuery, split_query
from easyq_gateway.convert import refusal
from easyq_gateway.domain.problems import Problems, key_path
from easyq_gateway.places import Place
from easyq_gateway.rest.requests import target_of

Handler: TypeAlias = Callable[[web.BaseRequest, dict[str, str]], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """One route. `streams`: it may take as long as it likes. `guarded`: it counts against the bounds."""

    verb: str
    segments: Place
    handler: Handler
    streams: bool = False
    guarded: bool = True

    @property
    def template(self) -> str:
        """Its path, with names of what stands for anything: `/jobs/{job_id}`."""
        return "/" + "/".join(one if isinstance(one, str) else f"{{{one.field}}}" for one in self.segments)


def read_query(request: web.BaseRequest, known: Sequence[str]) -> dict[str, str]:
    """Returns the parameters. Raises `InvalidArgument` for unknown and repeated ones."""
    problems = Problems()
    found: dict[str, str] = {}
    try:
        pairs = split_query(target_of(request).query)
    except BadQuery as error:
        raise InvalidArgument(str(error)) from None
    for name, value in pairs:
        if name not in known:
            problems.add(name if name.isidentifier() and len(name) <= 64 else key_path("", name), _unknown(known))
        elif name in found:
            problems.add(name, "is there more than once")
        found[name] = value
    if problems:
        raise refusal(problems)
    return found


def _unknown(known: Sequence[str]) -> str:
    return f"is not a query parameter of this path, which takes {', '.join(known) or 'none'}"
