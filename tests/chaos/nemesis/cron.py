"""Recurring jobs: each nominal time is decided once, run or skipped for a reason that its policy allows. Pure.

The load's expressions are such that their times need no evaluation: multiples of a period, of the epoch or of the job's
anchor. So this shares no code with what it judges.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

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
    skips = list({(s["first"], s["last"]): s for s in world.skips if s["job"] == job}.values())
    yield from _wrong_fires(world, job, ran, grid)
    yield from _wrong_skips(world, job, ran, skips, grid, cron=cron)
    yield from _missed(job, ran, skips, grid, schedule)


def _wrong_fires(world: World, job: str, ran: Counter[int], grid: Grid) -> Iterator[Violation]:
    for fire, count in ran.items():
        if fire not in grid:
            yield Violation("cron-doubled", job, f"ran for {fire}, which is no time of its schedule that was decided")
        elif count > 1:
            yield Violation("cron-doubled", job, f"ran {count} times for {fire}")
    for execution in world.executions_of(job):
        if execution["trigger"] in {"RETRY", "INFRA_RETRY"} and execution["fire"] not in ran:
            yield Violation("cron-doubled", job, f"attempt {execution['attempt']} follows no fire")


def _wrong_skips(
    world: World, job: str, ran: Counter[int], skips: list[Event], grid: Grid, *, cron: Event
) -> Iterator[Violation]:
    jumped = any(fault["fault"] == "clock" for fault in world.faults)
    end = -1
    for skip in sorted(skips, key=lambda one: one["first"]):
        title = f"{skip['reason']} {skip['first']}–{skip['last']}"
        if skip["first"] not in grid or skip["last"] not in grid:
            yield Violation("cron-skip", job, f"{title} is no time of its schedule that was decided")
        elif skip["count"] != grid.between(skip["first"], skip["last"]):
            yield Violation("cron-skip", job, f"{title} says that it has {skip['count']} times")
        if skip["first"] <= end:
            yield Violation("cron-doubled", job, f"{title} was skipped before")
        end = max(end, skip["last"])
        if both := [fire for fire in ran if skip["first"] <= fire <= skip["last"]]:
            yield Violation("cron-doubled", job, f"{title} was skipped, and {both[0]} ran")
        field, allowed = _ALLOWED.get(skip["reason"], ("", set()))
        if not field or cron[field] not in allowed:
            yield Violation("cron-skip", job, f"{title} is not its policy")
        if skip["reason"] == "OVERLAP" and not _was_open(world, job, skip):
            yield Violation("cron-skip", job, f"{title}, and nothing of the job was open")
        if skip["reason"] in _MISFIRES and not jumped:
            yield Violation("cron-skip", job, f"{title}, and no clock jumped")


def _was_open(world: World, job: str, skip: Event) -> bool:
    """Whether an earlier fire had not ended when the skip was decided, or a moment before."""
    return any(
        (execution["fire"] or 0) < skip["first"]
        and (execution["finished"] is None or execution["finished"] + _SETTLES_MS >= skip["decided"])
        for execution in world.executions_of(job)
    )


def _missed(job: str, ran: Counter[int], skips: list[Event], grid: Grid, schedule: Event) -> Iterator[Violation]:
    waiting = {schedule["waiting"]} - {None}
    if sum(skip["count"] for skip in skips) >= schedule["skipped"]:
        covered = set(ran) | waiting
        missed = [
            time
            for time in grid.all()
            if time not in covered and not any(skip["first"] <= time <= skip["last"] for skip in skips)
        ]
        if missed:
            yield Violation("cron-missed", job, f"{len(missed)} times were never decided: {missed[:5]}")
        return
    # The API shows the newest skips only: those that nobody saw are counted.
    decided = len(ran) + schedule["skipped"] + len(waiting - set(ran))
    expected = sum(1 for _ in grid.all())
    if decided != expected:
        yield Violation("cron-missed", job, f"{decided} of {expected} times were decided")
