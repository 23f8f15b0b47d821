"""Whether a service can do its work, and what is in its way."""

from __future__ import annotations

from collections.abc import Callable

from easyq_chassis.loops import failing


class Readiness:
    """`ready`: it can do its work. `why`: what is in its way; with `ready` it is degraded, and does its work all the
    same. Loops that fail again and again are in its way, and what those say who were added by `ask`."""

    __slots__ = ("_asked", "_why", "operations", "ready")

    def __init__(self, *, ready: bool = False, why: str = "it is starting") -> None:
        self.ready = ready
        self._why = why
        self._asked: list[Callable[[], str]] = []
        #: Where it is told to operators' programs (`host:port`); empty: nowhere.
        self.operations = ""

    def ask(self, about: Callable[[], str]) -> None:
        """From now on `about` is asked each time that anybody asks: what is wrong, in words; empty: nothing."""
        self._asked.append(about)

    def set(self, ready: bool, why: str = "") -> None:
        """Tells it."""
        self.ready, self._why = ready, why

    @property
    def why(self) -> str:
        """What is in its way, in words; empty: nothing."""
        return self._why or "; ".join([*filter(None, (about() for about in self._asked)), *failing()])

    @property
    def degraded(self) -> bool:
        """Whether it does its work, but not all of it, or not well."""
        return self.ready and bool(self.why)

    def text(self) -> str:
        """What there is to say, one reason a line."""
        why = self.why
        if not why:
            return "ready\n" if self.ready else "it is not ready\n"
        return f"degraded: {why}\n" if self.ready else f"{why}\n"
