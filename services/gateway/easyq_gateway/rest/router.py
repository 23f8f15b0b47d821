"""Which handler a request is for: by raw path segments, each decoded once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar
from urllib.parse import unquote_to_bytes

from easyq_chassis.errors import InvalidArgument, NotFound, Unimplemented
from easyq_gateway.http_rules import Variable
from easyq_gateway.rest.answers import Refused

H = TypeVar("H")


@dataclass(slots=True)
class _Node(Generic[H]):
    """One place in the tree of paths."""

    literals: dict[str, _Node[H]] = field(default_factory=dict)
    variable: _Node[H] | None = None
    # By verb: the handler, and the names of the variables on the way.
    handlers: dict[str, tuple[H, tuple[str, ...]]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Match(Generic[H]):
    """A handler and the values of its path's variables."""

    handler: H
    variables: dict[str, str]


class Router(Generic[H]):
    """A tree of paths. A literal segment is preferred to a variable; a variable takes any segment but an empty one."""

    def __init__(self) -> None:
        self._root: _Node[H] = _Node()

    def add(self, verb: str, segments: Sequence[str | Variable], handler: H) -> None:
        """Adds a route. Raises `ValueError` where it is taken."""
        node = self._root
        for segment in segments:
            if isinstance(segment, Variable):
                node.variable = node.variable or _Node()
                node = node.variable
            else:
                node = node.literals.setdefault(segment, _Node())
        if verb in node.handlers:
            raise ValueError(f"{verb} {segments} is routed twice")
        names = tuple(segment.field for segment in segments if isinstance(segment, Variable))
        node.handlers[verb] = (handler, names)

    def match(self, verb: str, raw_path: str) -> Match[H]:
        """Finds the handler; HEAD is served by GET. Raises `Refused` (404, 405 with Allow) or `InvalidArgument`."""
        segments = split_path(raw_path)
        allowed: set[str] = set()
        for node, values in _find(self._root, segments, 0, ()):
            found = node.handlers.get(verb) or (node.handlers.get("GET") if verb == "HEAD" else None)
            if found is not None:
                handler, names = found
                return Match(handler=handler, variables=dict(zip(names, values, strict=True)))
            allowed.update(node.handlers)
        if not allowed:
            raise Refused(NotFound("there is no such path", reason="ROUTE_NOT_FOUND"), status=404)
        if "GET" in allowed:
            allowed.add("HEAD")
        choices = ", ".join(sorted(allowed))
        error = Unimplemented(f"this path takes {choices}", reason="METHOD_NOT_ALLOWED")
        raise Refused(error, status=405, headers={"Allow": choices})


def split_path(raw_path: str) -> list[str]:
    """Returns the decoded segments; one trailing slash is left out. Raises `InvalidArgument` for what is not UTF-8."""
    path = raw_path.removeprefix("/")
    path = path.removesuffix("/")
    try:
        return [unquote_to_bytes(segment).decode("utf-8") for segment in path.split("/")]
    except UnicodeError:
        raise InvalidArgument("the path is not UTF-8") from None


def _find(
    node: _Node[H], segments: Sequence[str], at: int, values: tuple[str, ...]
) -> Iterator[tuple[_Node[H], tuple[str, ...]]]:
    if at == len(segments):
        if node.handlers:
            yield node, values
        return
    segment = segments[at]
    literal = node.literals.get(segment)
    if literal is not None:
        yield from _find(literal, segments, at + 1, values)
    if node.variable is not None and segment:
        yield from _find(node.variable, segments, at + 1, (*values, segment))
