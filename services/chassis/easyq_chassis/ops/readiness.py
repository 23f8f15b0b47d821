"""Whether a service can do its work, and what is in its way."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(kw_only=True, slots=True)
class Readiness:
    """`ready`: it can do its work. `why`: what is in its way; with `ready` it is degraded, and does its work all the
    same."""

    ready: bool = False
    why: str = "it is starting"

    def set(self, ready: bool, why: str = "") -> None:
        """Tells it."""
        self.ready, self.why = ready, why

    @property
    def degraded(self) -> bool:
        """Whether it does its work, but not all of it, or not well."""
        return self.ready and bool(self.why)

    def text(self) -> str:
        """What there is to say, one reason a line."""
        if not self.why:
            return "ready\n" if self.ready else "it is not ready\n"
        return f"degraded: {self.why}\n" if self.ready else f"{self.why}\n"
