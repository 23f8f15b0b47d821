"""How often a log may repeat itself: what goes wrong a thousand times is one line a minute with a count."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

#: Lines of one kind that come at once; after those, one each `EVERY` seconds while it goes on.
BURST = 10
EVERY = 60.0
#: Causes of one event that are told apart, and kinds of lines in all: what comes beyond shares a bound.
MOST_CAUSES = 20
MOST_KINDS = 2_000

# What differs from one time to the next though the cause is the same: numbers, ids, ports, what is quoted.
_VARYING = re.compile(r"'[^']*'|\"[^\"]*\"|\b[0-9A-Fa-f-]*[0-9][0-9A-Fa-f.:-]*")
_MOST_CAUSE = 160
_BEYOND = "(others)"

Kind = tuple[str, str]


def cause_of(text: str) -> str:
    """The text without what varies from one time to the next."""
    return _VARYING.sub("#", text[: 2 * _MOST_CAUSE])[:_MOST_CAUSE]


@dataclass(slots=True)
class _Bucket:
    """`tokens` lines may come now. `held` were held back since the last one that came, `line` the newest of them."""

    tokens: float
    at: float
    last: float
    held: int = 0
    line: Any = None


@dataclass(slots=True)
class _Event:
    causes: dict[str, _Bucket] = field(default_factory=dict)


class RateBound:
    """A bucket of tokens for each event and cause. Safe for threads.

    `now` gives seconds that only grow.
    """

    def __init__(
        self,
        *,
        burst: int = BURST,
        every: float = EVERY,
        most_causes: int = MOST_CAUSES,
        most_kinds: int = MOST_KINDS,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._burst = burst
        self._every = every
        self._most_causes = most_causes
        self._most_kinds = most_kinds
        self._now = now
        self._events: dict[str, _Event] = {}
        self._kinds = 0
        self._lock = threading.Lock()

    def admit(self, event: str, cause: str, line: Any, burst: int | None = None) -> int | None:
        """Whether a line may come now: how many like it were held back before it; None: it is held back itself.

        The newest line that is held back is kept, for `overdue`. `burst`: other than the bound's own.
        """
        with self._lock:
            now = self._now()
            most = float(self._burst if burst is None else burst)
            bucket = self._bucket(event, cause, now, most)
            bucket.tokens = min(most, bucket.tokens + (now - bucket.at) / self._every)
            bucket.at = now
            if bucket.tokens < 1:
                bucket.held += 1
                bucket.line = line
                return None
            bucket.tokens -= 1
            held, bucket.held, bucket.line, bucket.last = bucket.held, 0, None, now
            return held

    def overdue(self, *, all_of_them: bool = False) -> list[tuple[Any, int]]:
        """The newest line of each kind of which some were held back and none has come for long, with how many were
        held back beside it. What has been silent for long is forgotten. `all_of_them`: however long it is.
        """
        found = []
        with self._lock:
            now = self._now()
            for name, event in list(self._events.items()):
                for cause, bucket in list(event.causes.items()):
                    if bucket.held and (all_of_them or now - bucket.last >= self._every):
                        found.append((bucket.line, bucket.held - 1))
                        # It takes the token that has come meanwhile.
                        bucket.tokens = max(0.0, bucket.tokens + (now - bucket.at) / self._every - 1)
                        bucket.at = bucket.last = now
                        bucket.held, bucket.line = 0, None
                    elif not bucket.held and now - bucket.last >= self._burst * self._every:
                        del event.causes[cause]
                        self._kinds -= 1
                if not event.causes:
                    del self._events[name]
        return found

    def _bucket(self, event: str, cause: str, now: float, tokens: float) -> _Bucket:
        if event not in self._events and self._kinds >= self._most_kinds:
            event, cause = _BEYOND, ""
        causes = self._events.setdefault(event, _Event()).causes
        if cause not in causes and len(causes) >= self._most_causes:
            cause = _BEYOND
        bucket = causes.get(cause)
        if bucket is None:
            bucket = causes[cause] = _Bucket(tokens=tokens, at=now, last=now)
            self._kinds += 1
        return bucket


def kind_of(event: Mapping[str, Any]) -> Kind:
    """What a line is alike to: its level and event, and the cause that it names."""
    cause = str(event.get("error") or event.get("problem") or "")
    if not cause:
        # Of a traceback the end says most.
        cause = str(event.get("exception") or "")[-_MOST_CAUSE:]
    return f"{event.get('level', '')} {cause_of(str(event.get('event', '')))}", cause_of(cause)
