"""How often one cause is told. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


@dataclass(slots=True)
class _Seen:
    since: float
    told: int = 0
    left_out: int = 0


class Throttle(Generic[K]):
    """Lets the first `most` of each key through in each `window` of seconds, and counts the rest.

    It remembers the `keys` that came last.
    """

    def __init__(self, *, most: int, window: float, keys: int = 1_000) -> None:
        self._most = most
        self._window = window
        self._keys = keys
        self._seen: OrderedDict[K, _Seen] = OrderedDict()

    def admit(self, key: K, now: float) -> int | None:
        """Whether it is told now: how many were left out since the last one; None: it is left out itself."""
        seen = self._seen.setdefault(key, _Seen(since=now))
        self._seen.move_to_end(key)
        if len(self._seen) > self._keys:
            self._seen.popitem(last=False)
        if now - seen.since >= self._window:
            seen.since, seen.told = now, 0
        if seen.told >= self._most:
            seen.left_out += 1
            return None
        seen.told += 1
        left_out, seen.left_out = seen.left_out, 0
        return left_out
