"""Figures over time, for plots: what they look like here, and who has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """What happened in one step of time, which begins at `at_ms`. Times in ms; None where nothing ended."""

    at_ms: int
    succeeded: int = 0
    failed: int = 0
    other: int = 0
    run_p50_ms: float | None = None
    run_p95_ms: float | None = None
    wait_p50_ms: float | None = None
    wait_p95_ms: float | None = None

    @property
    def ended(self) -> int:
        """All that ended."""
        return self.succeeded + self.failed + self.other


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """Steps without a gap, the oldest first, and what ended with which exit code over all of them."""

    step_ms: int
    points: Sequence[Point]
    exit_codes: Sequence[tuple[int, int]] = ()


class Figures(Protocol):
    """Has figures."""

    async def series(self, task_id: str, *, begin_ms: int, end_ms: int, step_ms: int) -> Series:
        """Returns the figures of a task, or with an empty id of the farm. Raises `Unavailable`, `NotFound`."""
        ...


class NoFigures:
    """None are kept."""

    async def series(self, task_id: str, *, begin_ms: int, end_ms: int, step_ms: int) -> Series:  # noqa: ARG002
        return Series(step_ms=step_ms, points=())


@dataclass(frozen=True, slots=True)
class Span:
    """How far back a plot goes, and its steps."""

    name: str
    words: str
    length_ms: int
    step_ms: int


SPANS = {
    "hour": Span("hour", "last hour", HOUR, MINUTE),
    "day": Span("day", "last 24 hours", DAY, 15 * MINUTE),
}
