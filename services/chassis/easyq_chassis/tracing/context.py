"""A place in a trace, as it travels: W3C Trace Context (https://www.w3.org/TR/trace-context/). Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_KEY = r"(?:[a-z0-9][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})"
_MEMBER = re.compile(_KEY + r"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]", re.ASCII)
_MOST_MEMBERS = 32
_MOST_STATE = 512
_SAMPLED = 1

NO_SPAN = "0" * 16
_NO_TRACE = "0" * 32


@dataclass(frozen=True, kw_only=True, slots=True)
class TraceContext:
    """A span that others may be children of. Ids are lower-case hex digits, 32 and 16 of them."""

    trace_id: str
    span_id: str
    # Whether what happens in the trace is recorded.
    sampled: bool
    # `tracestate`: what other systems carry along; empty: nothing.
    state: str = ""

    @property
    def traceparent(self) -> str:
        """The header of this name."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"

    @property
    def text(self) -> str:
        """As it travels between the services, and is kept: traceparent, then a space and tracestate if there is one."""
        return f"{self.traceparent} {self.state}" if self.state else self.traceparent

    def at(self, span_id: str) -> TraceContext:
        """The same trace at another span."""
        return replace(self, span_id=span_id)


def from_headers(parents: Sequence[str], states: Sequence[str] = ()) -> TraceContext | None:
    """What a caller sent in its headers (or metadata) of these names; None where that is no place in a trace.

    A `tracestate` that breaks its rules is left out, as the standard asks.
    """
    if len(parents) != 1:
        return None
    found = _PARENT.fullmatch(parents[0].strip(" \t"))
    if found is None:
        return None
    version, trace_id, span_id, flags, rest = found.groups()
    # Versions to come may say more; of version 0 that is all.
    if version == "ff" or (version == "00" and rest is not None) or trace_id == _NO_TRACE or span_id == NO_SPAN:
        return None
    return TraceContext(
        trace_id=trace_id, span_id=span_id, sampled=bool(int(flags, 16) & _SAMPLED), state=_state(states)
    )


def parse(text: str) -> TraceContext | None:
    """What `TraceContext.text` wrote; None for an empty text, or another one."""
    parent, _, state = text.partition(" ")
    return from_headers((parent,), (state,)) if parent else None


def derived_id(*parts: str) -> str:
    """The id of a span that whoever knows these parts can name before it is written, and after a restart."""
    return blake2b("/".join(parts).encode(), digest_size=8).hexdigest()


def derived_trace(*parts: str) -> str:
    """The same for the id of a trace."""
    return blake2b("/".join(parts).encode(), digest_size=16).hexdigest()


def _state(texts: Sequence[str]) -> str:
    members = [member for text in texts for part in text.split(",") if (member := part.strip(" \t"))]
    keys = {member.partition("=")[0] for member in members}
    sound = len(keys) == len(members) <= _MOST_MEMBERS and all(map(_MEMBER.fullmatch, members))
    state = ",".join(members)
    return state if sound and len(state) <= _MOST_STATE else ""
