"""Statistics of the farm and of each task: what a write adds to them, how they are kept, and what they say.

They are counters by name, in cells of a minute and of an hour. Cells are added up, never corrected: plots, not
accounting. Names are

- `j` and `c`: jobs, and executions, that were made;
- `e<state>`, or `e<state>_<exit code>` where there is one: executions that ended; `f<reason>`: failures;
- `r<bucket>`, `rs`, `rm`: run times (ms) of each size, their sum, the longest; `w…`: the same of waits in the queue.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from easyq_store.domain.changes import Note
from easyq_store.domain.records import Execution, Job
from easyq_store.domain.states import ExecutionState, FailureReason

MINUTE = 60_000
HOUR = 3_600_000
# How long cells are kept, by their span, in ms.
KEPT = {MINUTE: 48 * HOUR, HOUR: 90 * 24 * HOUR}

RUN, WAIT = "r", "w"
JOBS, EXECUTIONS = "j", "c"
# Counters of which the highest counts, not the sum.
HIGHEST = frozenset({RUN + "m", WAIT + "m"})
# Exit codes of Linux.
_MOST_CODE = 255
# Longer times count as this: 34 years.
_MOST_MS = 2**40 - 1

Counts = Mapping[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """What happened in a minute or an hour: of a task, or (with an empty one) of the farm."""

    # `MINUTE` or `HOUR`.
    span: int
    # When it begins: a multiple of `span`, ms since the epoch.
    at: int
    task_id: str
    counts: Counts


def add(into: dict[str, int], counts: Counts) -> None:
    """Adds counters to others, in place."""
    for name, count in counts.items():
        if name in HIGHEST:
            into[name] = max(into.get(name, 0), count)
        else:
            into[name] = into.get(name, 0) + count


def of_note(note: Note) -> tuple[str, Counts] | None:
    """What a write counts for: the task, and counters. None where it is nothing that is counted."""
    before, after = note
    if isinstance(after, Execution):
        if before is None:
            # One that expired before it was made.
            return after.task_id, {EXECUTIONS: 1, **(_ended(after) if after.ended else {})}
        if isinstance(before, Execution) and before.state is not after.state:
            return _of_move(before, after)
    elif before is None and isinstance(after, Job):
        return after.task_id, {JOBS: 1}
    return None


def _of_move(before: Execution, after: Execution) -> tuple[str, Counts] | None:
    counts: dict[str, int] = {}
    if before.waiting and after.held and after.assigned_at is not None:
        since = after.due_at if after.queued_at is None else max(after.queued_at, after.due_at)
        _time(counts, WAIT, after.assigned_at - since)
    if after.ended and not before.ended:
        counts |= _ended(after)
    return (after.task_id, counts) if counts else None


def _ended(execution: Execution) -> dict[str, int]:
    name = f"e{execution.state.value}"
    code = execution.exit_code
    counts = {name if code is None else f"{name}_{min(max(code, 0), _MOST_CODE)}": 1}
    if execution.failure is not None:
        counts[f"f{execution.failure.reason.value}"] = 1
    ran = execution.ran_ms
    if ran is None and execution.started_at is not None and execution.finished_at is not None:
        ran = execution.finished_at - execution.started_at
    if ran is not None:
        _time(counts, RUN, ran)
    return counts


def _time(counts: dict[str, int], kind: str, ms: int) -> None:
    ms = min(max(ms, 0), _MOST_MS)
    counts[f"{kind}{bucket(ms)}"] = 1
    counts[kind + "s"] = counts[kind + "m"] = ms


def bucket(ms: int) -> int:
    """Number of the bucket that a time falls into: four for each power of two, so within a quarter of the truth."""
    if ms < 4:
        return ms
    exponent = ms.bit_length() - 1
    return 4 * (exponent - 1) + (ms >> (exponent - 2) & 3)


def bounds(number: int) -> tuple[int, int]:
    """The times of a bucket, in ms: from the first to below the second."""
    if number < 4:
        return number, number + 1
    exponent, quarter = number // 4 + 1, number % 4
    width: int = 2 ** (exponent - 2)
    return (4 + quarter) * width, (5 + quarter) * width


@dataclass(frozen=True, kw_only=True, slots=True)
class Times:
    """Durations in ms. Percentiles are exact to a quarter, never above `longest`."""

    count: int
    mean: int
    p50: int
    p95: int
    longest: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """What happened from `at` on, for one step."""

    at: int
    jobs: int = 0
    executions: int = 0
    ended: Mapping[ExecutionState, int] = field(default_factory=dict)
    run: Times | None = None
    wait: Times | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Stats:
    """Points, what they are together, and how executions ended."""

    points: tuple[Point, ...]
    total: Point
    # By state and exit code (None: it has none), and by reason.
    exits: Mapping[tuple[ExecutionState, int | None], int]
    reasons: Mapping[FailureReason, int]


def summary(cells: Iterable[Cell], *, start: int, end: int, step: int) -> Stats:
    """The points from `start` to below `end`, one for each `step`, from cells within these."""
    bins: dict[int, dict[str, int]] = {at: {} for at in range(start, end, step)}
    total: dict[str, int] = {}
    for cell in cells:
        add(bins[start + (cell.at - start) // step * step], cell.counts)
        add(total, cell.counts)
    return Stats(
        points=tuple(_point(at, counts) for at, counts in bins.items()),
        total=_point(start, total),
        exits=_exits(total),
        reasons=_reasons(total),
    )


def _point(at: int, counts: Counts) -> Point:
    if not counts:
        return Point(at=at)
    ended: Counter[ExecutionState] = Counter()
    for (state, _), count in _exits(counts).items():
        ended[state] += count
    return Point(
        at=at,
        jobs=counts.get(JOBS, 0),
        executions=counts.get(EXECUTIONS, 0),
        ended=ended,
        run=_times(counts, RUN),
        wait=_times(counts, WAIT),
    )


def _exits(counts: Counts) -> dict[tuple[ExecutionState, int | None], int]:
    found: dict[tuple[ExecutionState, int | None], int] = {}
    for name, count in counts.items():
        if name[0] == "e":
            state, _, code = name[1:].partition("_")
            found[ExecutionState(int(state)), int(code) if code else None] = count
    return found


def _reasons(counts: Counts) -> dict[FailureReason, int]:
    return {FailureReason(int(name[1:])): count for name, count in counts.items() if name[0] == "f"}


def _times(counts: Counts, kind: str) -> Times | None:
    buckets = sorted((int(n[1:]), count) for n, count in counts.items() if n[0] == kind and n[1:].isdecimal())
    count = sum(several for _, several in buckets)
    if not count:
        return None
    longest = counts[kind + "m"]
    return Times(
        count=count,
        mean=counts[kind + "s"] // count,
        p50=min(longest, percentile(buckets, count, 0.5)),
        p95=min(longest, percentile(buckets, count, 0.95)),
        longest=longest,
    )


def percentile(buckets: Sequence[tuple[int, int]], count: int, share: float) -> int:
    """The time in ms below which this share of `count` times lie, by (bucket, how many) in ascending order."""
    wanted = share * count
    for number, several in buckets:
        if wanted <= several:
            low, high = bounds(number)
            return low + int((high - low) * wanted / several)
        wanted -= several
    raise ValueError("the buckets hold fewer times than that")
