"""Recurring jobs: decides which of their fires run, and tells the store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from easyq_chassis.clock import Clock
from easyq_chassis.faults import point
from easyq_chassis.logs import get_logger
from easyq_internal.scheduler.v1.scheduler_pb2 import PreviewScheduleRequest, PreviewScheduleResponse
from easyq_internal.store.v1.records_pb2 import DueSchedule
from easyq_internal.store.v1.time_store_pb2 import ScheduleDecision
from easyq_scheduler import convert
from easyq_scheduler.domain.checking import schedule_problems, window_problems
from easyq_scheduler.domain.firing import plan_fires, preview
from easyq_scheduler.domain.pacing import seconds_until_next
from easyq_scheduler.domain.schedule import InvalidSchedule
from easyq_scheduler.ports import ReadyNews, TimeStore

log = get_logger()

# Decisions between two looks at what else there is to do: some milliseconds. They are also what goes to the store at
# once, which begins with the first of a thousand when the next are not decided yet.
_AT_ONCE = 50
# A schedule that can't be evaluated any more (its zone has left the database, say) is looked at so often.
_AGAIN_AFTER_MS = 60_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Recorded:
    """How many decisions held, and when the first of their jobs is looked at next (ms, by the store's clock)."""

    held: int
    soonest: int | None


class Planner:
    """Decides, and has the store record it. Two of them at once are harmless: the store takes each decision once."""

    def __init__(self, *, store: TimeStore, news: ReadyNews) -> None:
        self._store = store
        self._news = news

    async def record(self, schedules: Sequence[DueSchedule], *, now: int) -> Recorded:
        """Decides on what is due at `now` (ms, by the store's clock)."""
        recorded = 0
        looks: list[int] = []
        decisions: list[ScheduleDecision] = []
        for first in range(0, len(schedules) + _AT_ONCE, _AT_ONCE):
            # These are decided while the store records the ones before.
            held, decisions = await asyncio.gather(
                self._record(decisions), _decide_all(schedules[first : first + _AT_ONCE], now)
            )
            recorded += held
            looks += [one.next_at for one in decisions if one.next_at]
        return Recorded(held=recorded, soonest=min(looks, default=None))

    async def _record(self, decisions: Sequence[ScheduleDecision]) -> int:
        if not decisions:
            return 0
        await point("scheduler.before_fires")
        told = await self._store.fire_schedules(decisions)
        await point("scheduler.after_fires")
        self._news.announce(told.ready, told.stops)
        return told.recorded


class ScheduleRound:
    """Fires recurring jobs, and says when to look again."""

    def __init__(
        self, *, store: TimeStore, planner: Planner, clock: Clock, page: int, longest: float, shortest: float
    ) -> None:
        self._store = store
        self._planner = planner
        self._clock = clock
        self._page = page
        self._longest = longest
        self._shortest = shortest

    async def run_once(self) -> float:
        """One page of due schedules; seconds until the next round. Raises Unavailable while the store is away."""
        due = await self._store.list_due_schedules(self._page)
        told = self._clock.monotonic()
        recorded = Recorded(held=0, soonest=None)
        if due.items:
            recorded = await self._planner.record(due.items, now=due.now)
            log.debug("schedules_fired", listed=len(due.items), recorded=recorded.held)
        looks = [convert.seconds(due.next_in)] if due.HasField("next_in") else []
        if recorded.soonest is not None:
            looks.append((recorded.soonest - due.now) / 1000)
        return seconds_until_next(
            next_in=min(looks, default=None),
            worked=self._clock.monotonic() - told,
            progressed=recorded.held > 0,
            longest=self._longest,
            shortest=self._shortest,
        )


async def _decide_all(schedules: Sequence[DueSchedule], now: int) -> list[ScheduleDecision]:
    # Whatever else has come goes first: calls, and the decisions that are on their way to the store.
    await asyncio.sleep(0)
    return [decide(one, now) for one in schedules]


def decide(due: DueSchedule, now: int) -> ScheduleDecision:
    """What is decided at `now` about the job's fires, and when it is looked at next."""
    rules = convert.rules_of(due.spec, due.job_id, anchor_ms=due.anchor)
    try:
        plan = plan_fires(convert.state_of(due), rules, now)
    except InvalidSchedule as invalid:
        log.error("schedule_not_evaluated", job=due.job_id, field=invalid.field, problem=invalid.problem)
        return convert.undecided(due, next_at=now + _AGAIN_AFTER_MS)
    return convert.decision(due, plan)


def preview_schedule(request: PreviewScheduleRequest, now: int) -> PreviewScheduleResponse:
    """What is wrong with a schedule, or its coming fires. `now` (ms) stands for an anchor and a cursor that are 0."""
    rules = convert.rules_of(request.spec, request.job_id, anchor_ms=request.anchor or now)
    state = convert.preview_state(request, now)
    problems = schedule_problems(rules) or window_problems(state, rules, convert.end_of_window(request.spec))
    if problems:
        return PreviewScheduleResponse(problems=[convert.field_error(one) for one in problems])
    return PreviewScheduleResponse(fires=preview(state, rules, request.count))
