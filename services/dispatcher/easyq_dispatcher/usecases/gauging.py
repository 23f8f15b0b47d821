"""Looks at the whole farm now and then, for metrics: what waits, what runs, what keeps it from running."""

from __future__ import annotations

from easyq_chassis.clock import Clock
from easyq_chassis.errors import EasyQError
from easyq_chassis.outages import OUTAGES
from easyq_dispatcher.ports import FarmStore, Gauged, Gauges, MatchIndex, Question, Queue, Survey
from easyq_dispatcher.usecases.breaker_news import BreakerNews
from easyq_dispatcher.usecases.keeper import Keeper
from easyq_dispatcher.usecases.roster import Roster
from easyq_dispatcher.usecases.rulebook import Rulebook

# Tasks asked about in one call, and in all: what is beyond counts for nobody.
_PAGE = 200
_MOST_TASKS = 5_000
# Share of the time that looking may take.
_SHARE = 0.05


class Gauging:
    """One look after the other; `interval` seconds between two at least."""

    def __init__(
        self,
        *,
        store: FarmStore,
        index: MatchIndex,
        keeper: Keeper,
        rules: Rulebook,
        roster: Roster,
        clock: Clock,
        gauges: Gauges,
        interval: float,
    ) -> None:
        self._store = store
        self._index = index
        self._keeper = keeper
        self._rules = rules
        self._roster = roster
        self._clock = clock
        self._gauges = gauges
        self._interval = interval
        self._news = BreakerNews()

    async def run_once(self) -> float:
        """One look; seconds until the next. Raises Unavailable where the store is away: nothing is shown then."""
        began = self._clock.monotonic()
        try:
            queues = await self._queues()
        except EasyQError:
            self._gauges.show(None)
            raise
        matching, survey = self._rules.matching, await self._survey()
        if survey is not None:
            self._news.hear(survey.breakers)
        self._gauges.show(
            Gauged(
                queues=[(queue, matching.route(queue.task_id).pool) for queue in queues],
                slots=self._slots(),
                running=None if survey is None else survey.running,
                limits=[
                    (limit.pattern, running, limit.max_running)
                    for limit, running in zip(matching.limits, survey.limits if survey else (), strict=False)
                ],
                breakers=survey.breakers if survey else (),
                now_ms=self._clock.now_ms(),
            )
        )
        return max(self._interval, (self._clock.monotonic() - began) / _SHARE)

    async def _queues(self) -> list[Queue]:
        found: list[Queue] = []
        while len(found) < _MOST_TASKS:
            page = await self._store.list_queues(found[-1].task_id if found else "", _PAGE)
            found += page
            if len(page) < _PAGE:
                break
        return found

    async def _survey(self) -> Survey | None:
        generation = self._keeper.generation
        if generation is None:
            return None
        try:
            return await self._index.survey(generation, Question(breakers=True))
        except EasyQError as error:
            self._keeper.doubt(error.message, away=isinstance(error, OUTAGES))
            return None

    def _slots(self) -> dict[str, int]:
        slots: dict[str, int] = {pool.name: 0 for pool in self._rules.matching.pools}
        for link in self._roster.links():
            for pool in link.agent.pools if link.agent.takes_work else ():
                slots[pool] = slots.get(pool, 0) + link.agent.slots
        return slots
