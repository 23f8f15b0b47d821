"""Back-pressure: what is beyond a bound is refused at once, and told when to come again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from easyq_chassis.errors import ResourceExhausted
from easyq_chassis.metrics import REGISTRY

_RETRY_AFTER = 1.0
_REFUSED = REGISTRY.counter(
    "easyq.gateway.refused", "What the gateway refused for being at its bound.", unit="{request}", labels=("kind",)
)


class Gate:
    """Lets `most` in at a time. `what` is what they are, for the refusal: `requests`."""

    def __init__(self, most: int, what: str) -> None:
        self._most = most
        self.what = what
        self._inside = 0

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Counts one while inside. Raises `ResourceExhausted`."""
        if self._inside >= self._most:
            raise self._full()
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    @contextmanager
    def left(self) -> Iterator[None]:
        """Steps out of `entered` for a while. Raises `ResourceExhausted` where there is no room to come back to."""
        self._inside -= 1
        try:
            yield
        finally:
            self._inside += 1
        if self._inside > self._most:
            raise self._full()

    @contextmanager
    def exchanged(self, other: Gate) -> Iterator[None]:
        """Counts one of `other` in place of `entered` for a while. Raises `ResourceExhausted` where that is full.

        Whoever comes back has been taken in already, and is not refused after all the time that it took.
        """
        with other.entered():
            self._inside -= 1
            try:
                yield
            finally:
                self._inside += 1

    @property
    def inside(self) -> int:
        """How many there are now."""
        return self._inside

    def _full(self) -> ResourceExhausted:
        _REFUSED.add(1, self.what)
        return ResourceExhausted(
            f"{self._most} {self.what} are under way, and more are not taken; come again in a moment",
            retry_after=_RETRY_AFTER,
        )
