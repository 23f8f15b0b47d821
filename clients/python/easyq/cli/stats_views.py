"""Statistics for people. Pure."""

from __future__ import annotations

from easyq.cli import words
from easyq.cli.document import to_tree
from easyq.cli.frame import View
from easyq.cli.job_views import execution_state
from easyq.cli.table import Cell, Column, Screen, render
from easyq.v1.job_pb2 import Failure
from easyq.v1.stats_pb2 import Durations, ExitCount, ReasonCount, StatPoint, Stats

_DAY = 86_400
# Ends in the order of the columns, with the style of those that there are.
_ENDS = (
    ("OK", "succeeded", "good"),
    ("FAILED", "failed", "bad"),
    ("TIMED OUT", "timed_out", "bad"),
    ("STOPPED", "stopped", ""),
    ("LOST", "lost", "warn"),
    ("EXPIRED", "expired", "warn"),
)


def stats_view(found: Stats, *, everything: bool) -> View:
    """A line for each step (without `everything`: in which something happened), their total, and how things ended."""

    def lines(screen: Screen) -> list[str]:
        period = f"{words.exact(found.from_time)} to {words.exact(found.to_time)}, by {words.lasting(found.step)}"
        shown = [point for point in found.points if everything or _counts(point)]
        if not shown:
            return [f"nothing happened: {period}"]
        rows = [[_when(point, found), *_cells(point)] for point in shown]
        rows.append(["total", *_cells(found.total)])
        return [period, *render(_columns(), rows, screen), *_ends(found, screen)]

    return View(to_tree(found), lines)


def _columns() -> list[Column]:
    columns = [Column("FROM"), Column("JOBS", right=True), Column("RUNS", right=True)]
    # Where the screen is narrow the rarest ends go last.
    columns += [Column(title, right=True, drop=2 if at > 1 else 0) for at, (title, _, _) in enumerate(_ENDS)]
    columns += [Column("RUN P50", right=True, drop=3), Column("RUN P95", right=True, drop=4)]
    return [*columns, Column("WAIT P50", right=True, drop=5), Column("WAIT P95", right=True, drop=6)]


def _cells(point: StatPoint) -> list[str | Cell]:
    row: list[str | Cell] = [_number(point.jobs), _number(point.executions)]
    for _, name, style in _ENDS:
        count = getattr(point, name)
        row.append(Cell(_number(count), style if count else ""))
    row += _taken(point.run_time) if point.HasField("run_time") else [words.NONE] * 2
    row += _taken(point.queue_wait) if point.HasField("queue_wait") else [words.NONE] * 2
    return row


def _taken(found: Durations) -> list[str]:
    return [words.lasting(found.p50), words.lasting(found.p95)]


def _ends(found: Stats, screen: Screen) -> list[str]:
    lines: list[str] = []
    if found.exits:
        columns = [Column("ENDED"), Column("EXIT CODE", right=True), Column("TIMES", right=True)]
        lines += ["", *render(columns, [_exit_row(one) for one in found.exits], screen)]
    if found.reasons:
        columns = [Column("FAILED BY"), Column("TIMES", right=True)]
        lines += ["", *render(columns, [[_reason(one), f"{one.count:,}"] for one in found.reasons], screen)]
    return lines


def _exit_row(one: ExitCount) -> list[str | Cell]:
    code = str(one.exit_code) if one.HasField("exit_code") else words.NONE
    return [execution_state(one.state), code, f"{one.count:,}"]


def _reason(one: ReasonCount) -> str:
    return Failure.Reason.Name(one.reason) if one.reason in Failure.Reason.values() else str(int(one.reason))


def _counts(point: StatPoint) -> bool:
    return any(number for field, number in point.ListFields() if field.name != "at")


def _when(point: StatPoint, found: Stats) -> str:
    """The time of day where all is of one day."""
    text = words.exact(point.at)
    one_day = found.from_time.seconds // _DAY == (found.to_time.seconds - 1) // _DAY
    return text[11:16] if one_day else f"{text[:10]} {text[11:16]}"


def _number(count: int) -> str:
    return f"{count:,}" if count else words.NONE
