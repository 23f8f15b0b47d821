"""Recurring jobs: each nominal time is decided once, run or skipped for a reason that its policy allows. Pure.

The load's expressions are such that their times need no evaluation: multiples of a period, of the epoch or of the job's
anchor. So this shares no code with what it judges.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

from tests.chaos.nemesis.history import Event
from tests.chaos.nemesis.violation import Violation
from tests.chaos.nemesis.world import World

_ALLOWED = {
    "MISFIRED": ("misfire", {"SKIP"}),
    "COALESCED": ("misfire", {"ONCE"}),
    "MISFIRE_BOUND": ("misfire", {"ALL"}),
    "OVERLAP": ("overlap", {"SKIP"}),
    "ONE_WAITS": ("overlap", {"QUEUE"}),
    "REPLACED": ("overlap", {"REPLACE"}),
}
# An end counts once what follows it is settled, which a crash may put off.
_SETTLES_MS = 30_000
_MISFIRES = frozenset({"MISFIRED", "COALESCED", "MISFIRE_BOUND"})
_OVERLAPS = frozenset({"OVERLAP", "ONE_WAITS"})
# A decision may be made before a jump of the clock and stored after it.
_FELT_MS = 25_000
_NS_PER_MS = 1_000_000
_FOREVER = 1 << 62


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The nominal times: `zero` and every multiple of `every` after it, beyond `after` and up to `until`. ms."""

    every: int
    zero: int
    after: int
    until: int

    def __contains__(self, time: int) -> bool:
        return self.after < time <= self.until and (time - self.zero) % self.every == 0

    def between(self, first: int, last: int) -> int:
        """How many lie between the two, both included."""
        return max(0, (last - self.zero) // self.every - (first - 1 - self.zero) // self.every)

    def all(self) -> Iterator[int]:
        time = self.zero + ((self.after - self.zero) // self.every + 1) * self.every
        while time <= self.until:
            yield time
            time += self.every


def cron_violations(world: World) -> Iterator[Violation]:
    for job, record in world.jobs.items():
        intent = world.intent_of(job)
        if intent is None or not intent.get("cron"):
            continue
        if not record["schedule"]:
            yield Violation("cron-missed", job, "has no schedule")
            continue
        yield from _job_violations(world, job, record["schedule"], intent["cron"])


def _job_violations(world: World, job: str, schedule: Event, cron: Event) -> Iterator[Violation]:
    anchor = schedule["anchor"]
    grid = Grid(
        every=cron["every"],
        zero=0 if cron["aligned"] else anchor,
        after=anchor,
        until=schedule["decided"] or anchor,
    )
    ran: Counter[int] = Counter(e["fire"] or 0 for e in world.executions_of(job) if e["trigger"] == "SCHEDULE")
    skips = sorted({(s["first"], s["last"]): s for s in world.skips_of(job)}.values(), key=lambda one: one["first"])
    yield from _wrong_fires(world, job, ran, grid)
    yield from _wrong_skips(world, job, sorted(ran), skips, grid, cron=cron)
    yield from _missed(job, ran, skips, grid, schedule)


def _wrong_fires(world: World, job: str, ran: Counter[int], grid: Grid) -> Iterator[Violation]:
    for fire, count in ran.items():
        if fire not in grid:
            yield Violation("cron-doubled", job, f"ran for {fire}, which is no time of its schedule that was decided")
        elif count > 1:
            yield Violation("cron-doubled", job, f"ran {count} times for {fire}")
    by_hand = any(execution["trigger"] == "MANUAL" for execution in world.executions_of(job))
    for execution in world.executions_of(job):
        if execution["trigger"] in {"RETRY", "INFRA_RETRY"}:
            follows = by_hand if execution["fire"] is None else execution["fire"] in ran
            if not follows:
                yield Violation("cron-doubled", job, f"attempt {execution['attempt']} follows no fire")
        elif execution["trigger"] == "MANUAL" and execution["fire"] is not None:
            yield Violation("cron-doubled", job, f"attempt {execution['attempt']} was run by hand, and has a time")


def _wrong_skips(
    world: World, job: str, ran: list[int], skips: list[Event], grid: Grid, *, cron: Event
) -> Iterator[Violation]:
    jumps = [fault for fault in world.faults if fault["fault"] == "clock"]
    busy = _Busy(world, job)
    end = -1
    for skip in skips:
        title = f"{skip['reason']} {skip['first']}–{skip['last']}"
        if skip["first"] not in grid or skip["last"] not in grid:
            yield Violation("cron-skip", job, f"{title} is no time of its schedule that was decided")
        elif skip["count"] != grid.between(skip["first"], skip["last"]):
            yield Violation("cron-skip", job, f"{title} says that it has {skip['count']} times")
        if skip["first"] <= end:
            yield Violation("cron-doubled", job, f"{title} was skipped before")
        end = max(end, skip["last"])
        after = bisect_left(ran, skip["first"])
        if after < len(ran) and ran[after] <= skip["last"]:
            yield Violation("cron-doubled", job, f"{title} was skipped, and {ran[after]} ran")
        field, allowed = _ALLOWED.get(skip["reason"], ("", set()))
        if not field or cron[field] not in allowed:
            yield Violation("cron-skip", job, f"{title} is not its policy")
        if skip["reason"] in _OVERLAPS and not busy.before(skip):
            yield Violation("cron-skip", job, f"{title}, and nothing of the job was open")
        if skip["reason"] in _MISFIRES and not _was_late(skip, cron["deadline"], jumps):
            yield Violation("cron-skip", job, f"{title}, decided {skip['decided']}: it was in time")


class _Busy:
    """What was open of a job at a moment, by the ends of its executions."""

    def __init__(self, world: World, job: str) -> None:
        executions = world.executions_of(job)
        # A run by hand may have been open at any time; fires count for the times after them.
        self._always = [one["finished"] for one in executions if one["fire"] is None]
        fires = sorted(
            (one["fire"], _FOREVER if one["finished"] is None else one["finished"]) for one in executions if one["fire"]
        )
        self._fires = [fire for fire, _ in fires]
        self._latest = list(accumulate((finished for _, finished in fires), max))

    def before(self, skip: Event) -> bool:
        """Whether an earlier fire had not ended when the skip was decided, or a moment before."""
        known = bisect_left(self._fires, skip["first"])
        latest = [self._latest[known - 1]] if known else []
        latest += [_FOREVER if finished is None else finished for finished in self._always]
        return any(finished + _SETTLES_MS >= skip["decided"] for finished in latest)


def _was_late(skip: Event, deadline: int, jumps: list[Event]) -> bool:
    """Whether all of its times were missed when it was decided, by the store's clock, which may have jumped then."""
    if skip["decided"] - skip["last"] > deadline:
        return True
    for jump in jumps:
        wrong = int(jump.get("detail") or 0)
        begin, end = jump["began"] // _NS_PER_MS, jump["ended"] // _NS_PER_MS
        for moment in (skip["decided"], skip["decided"] - wrong):
            if begin - _FELT_MS <= moment <= end + _FELT_MS:
                return True
    return False


def _missed(job: str, ran: Counter[int], skips: list[Event], grid: Grid, schedule: Event) -> Iterator[Violation]:
    waiting = {schedule["waiting"]} - {None}
    if sum(skip["count"] for skip in skips) >= schedule["skipped"]:
        covered = set(ran) | waiting
        begins = [skip["first"] for skip in skips]
        missed = []
        for time in grid.all():
            before = bisect_right(begins, time)
            if time not in covered and not (before and time <= skips[before - 1]["last"]):
                missed.append(time)
        if missed:
            yield Violation("cron-missed", job, f"{len(missed)} times were never decided: {missed[:5]}")
        return
    # The API shows the newest skips only: those that nobody saw are counted.
    decided = len(ran) + schedule["skipped"] + len(waiting - set(ran))
    expected = sum(1 for _ in grid.all())
    if decided != expected:
        yield Violation("cron-missed", job, f"{decided} of {expected} times were decided")
