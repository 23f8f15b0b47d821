"""Figures as plots, ready to be drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from easyq.v1 import job_pb2
from easyq_gateway.convert import ms_of
from easyq_gateway.domain import human, plots
from easyq_gateway.domain.plots import Box
from easyq_gateway.pages.figures import Point, Series, Span
from easyq_gateway.pages.sources import Sources, if_there


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One step of a plot of outcomes: its boxes, lowest first, and what it says."""

    title: str
    succeeded: Box
    failed: Box
    other: Box


@dataclass(frozen=True, kw_only=True, slots=True)
class Plot:
    """A plot. `marks` are the words below it, from left to right; `rows` the same as a table."""

    top: str
    middle: str
    marks: Sequence[str]
    rows: Sequence[Sequence[str]]
    columns: Sequence[Column] = ()
    p50: str = ""
    p95: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dot:
    """An execution in a plot of run times."""

    x: float
    y: float
    state: str
    title: str


async def series_of(sources: Sources, task_id: str, span: Span, now_ms: int) -> Series | None:
    """Returns the figures of the last `span`, its newest step still open; None where they can't be had."""
    end = (now_ms // span.step_ms + 1) * span.step_ms
    begin = end - span.length_ms
    return await if_there(sources.figures.series(task_id, begin_ms=begin, end_ms=end, step_ms=span.step_ms))


def outcome_plot(series: Series | None, span: Span) -> Plot | None:
    """What ended in each step; None where nothing did."""
    if series is None or not any(point.ended for point in series.points):
        return None
    most = plots.nice_most(max(point.ended for point in series.points))
    boxes = plots.stacked([(point.succeeded, point.failed, point.other) for point in series.points], most)
    columns = [
        Column(title=_outcome_title(point, span), succeeded=drawn[0], failed=drawn[1], other=drawn[2])
        for point, drawn in zip(series.points, boxes, strict=True)
    ]
    rows = [
        (_time(point, span), human.count(point.succeeded), human.count(point.failed), human.count(point.other))
        for point in series.points
        if point.ended
    ]
    return Plot(
        top=human.count(round(most)), middle=_half(most), marks=_marks(series, span), columns=columns, rows=rows[::-1]
    )


def time_plot(series: Series | None, span: Span) -> Plot | None:
    """Run times (p50, p95) of each step; None where nothing ran."""
    if series is None or not any(point.run_p95_ms is not None for point in series.points):
        return None
    most = plots.nice_duration(max(point.run_p95_ms or 0 for point in series.points))
    rows = [
        (_time(point, span), human.duration(point.run_p50_ms), human.duration(point.run_p95_ms))
        for point in series.points
        if point.run_p50_ms is not None and point.run_p95_ms is not None
    ]
    return Plot(
        top=human.duration(most),
        middle=human.duration(most / 2),
        marks=_marks(series, span),
        p50=plots.line([point.run_p50_ms for point in series.points], most),
        p95=plots.line([point.run_p95_ms for point in series.points], most),
        rows=rows[::-1],
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class DotPlot:
    """Run times of single executions, the newest at the right, on an axis of powers."""

    dots: Sequence[Dot]
    least: str
    most: str
    marks: Sequence[str]


def dot_plot(executions: Sequence[job_pb2.Execution]) -> DotPlot | None:
    """Run times of executions that have ended; None where there are fewer than two."""
    ran = []
    for execution in executions:
        began, ended = ms_of(execution, "started_at"), ms_of(execution, "finished_at")
        if began is not None and ended is not None:
            ran.append((ended, max(1, ended - began), execution))
    if len(ran) < 2:
        return None
    ran.sort(key=lambda one: one[0])
    least = 10.0 ** math.floor(math.log10(min(one[1] for one in ran)))
    most = 10.0 ** math.ceil(math.log10(max(one[1] for one in ran) * 1.001))
    step = plots.WIDTH / len(ran)
    dots = [
        Dot(
            x=round((at + 0.5) * step, 1),
            y=plots.log_height(took, least, most),
            state=job_pb2.Execution.State.Name(execution.state),
            title=f"{human.duration(took)}, {job_pb2.Execution.State.Name(execution.state).lower()}, "
            f"{human.exact(ended)}",
        )
        for at, (ended, took, execution) in enumerate(ran)
    ]
    length = ran[-1][0] - ran[0][0]
    marks = [human.clock(ran[0][0], length), human.clock(ran[-1][0], length)]
    return DotPlot(dots=dots, least=human.duration(least), most=human.duration(most), marks=marks)


def _marks(series: Series, span: Span) -> list[str]:
    points = series.points
    chosen = [points[0], points[len(points) // 2], points[-1]]
    return [human.clock(point.at_ms, span.length_ms) for point in chosen]


def _time(point: Point, span: Span) -> str:
    return human.clock(point.at_ms, span.length_ms)


def _half(most: float) -> str:
    return human.count(round(most / 2)) if most >= 2 else ""


def _outcome_title(point: Point, span: Span) -> str:
    parts = [f"{point.succeeded:,} succeeded", f"{point.failed:,} failed"]
    if point.other:
        parts.append(f"{point.other:,} otherwise")
    return f"{_time(point, span)} UTC: {', '.join(parts)}"
