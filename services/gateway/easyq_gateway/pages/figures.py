"""Figures over time, for plots: what they look like here, and who has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from easyq.v1 import stats_pb2
from easyq_gateway.convert import to_ms
from easyq_gateway.usecases.stats import Statistics

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


class StatisticsFigures:
    """Those of the API: as GetStats and GetTaskStats tell them."""

    def __init__(self, statistics: Statistics) -> None:
        self._statistics = statistics

    async def series(self, task_id: str, *, begin_ms: int, end_ms: int, step_ms: int) -> Series:
        """Returns them as they are kept: minutes for 48 hours, hours for 90 days."""
        asked: stats_pb2.GetStatsRequest | stats_pb2.GetTaskStatsRequest
        asked = stats_pb2.GetTaskStatsRequest(task_id=task_id) if task_id else stats_pb2.GetStatsRequest()
        asked.from_time.FromMilliseconds(begin_ms)
        asked.to_time.FromMilliseconds(end_ms)
        asked.step.FromMilliseconds(step_ms)
        if isinstance(asked, stats_pb2.GetTaskStatsRequest):
            answer = await self._statistics.of_task(asked)
        else:
            answer = await self._statistics.of_farm(asked)
        exits = [(one.exit_code, one.count) for one in answer.exits if one.HasField("exit_code")]
        return Series(step_ms=step_ms, points=[_point(one) for one in answer.points], exit_codes=exits)


def _point(point: stats_pb2.StatPoint) -> Point:
    return Point(
        at_ms=to_ms(point.at),
        succeeded=point.succeeded,
        failed=point.failed + point.timed_out,
        other=point.stopped + point.lost + point.expired,
        run_p50_ms=_of(point, "run_time", "p50"),
        run_p95_ms=_of(point, "run_time", "p95"),
        wait_p50_ms=_of(point, "queue_wait", "p50"),
        wait_p95_ms=_of(point, "queue_wait", "p95"),
    )


def _of(point: stats_pb2.StatPoint, field: str, which: str) -> int | None:
    return to_ms(getattr(getattr(point, field), which)) if point.HasField(field) else None  # type: ignore[arg-type]


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
