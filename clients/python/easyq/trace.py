"""The trace that a program is part of: its calls go on with it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, MutableMapping

_PARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[\x21-\x7e]*)?", re.ASCII)
_STATE = re.compile(r"[\x20-\x7e]{1,512}", re.ASCII)


def metadata() -> tuple[tuple[str, str], ...] | None:
    """`traceparent` and `tracestate` for a call made now; None: it is of no trace.

    They are those of the OpenTelemetry span at hand, where the program has imported OpenTelemetry; else what
    TRACEPARENT and TRACESTATE say, which EasyQ gives to its containers.
    """
    found = _of_span() or _of_environment(os.environ)
    if not _PARENT.fullmatch(found.get("traceparent", "")):
        return None
    parent, state = ("traceparent", found["traceparent"]), found.get("tracestate", "")
    return (parent, ("tracestate", state)) if _STATE.fullmatch(state) else (parent,)


def _of_span() -> MutableMapping[str, str]:
    found: dict[str, str] = {}
    # Not imported for its own sake: whoever has a span has it already.
    if "opentelemetry.trace" in sys.modules:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        TraceContextTextMapPropagator().inject(found)
    return found


def _of_environment(environ: Mapping[str, str]) -> Mapping[str, str]:
    names = ("TRACEPARENT", "TRACESTATE")
    return {name.lower(): environ[name] for name in names if name in environ}
