"""Rounds of what the clock brings: due executions become ready, those that waited too long expire."""

from __future__ import annotations

from easyq_chassis.clock import Clock
from easyq_chassis.faults import point
from easyq_chassis.logs import get_logger
from easyq_scheduler import convert
from easyq_scheduler.domain.pacing import seconds_until_next
from easyq_scheduler.ports import ReadyNews, TimeStore

log = get_logger()


class DueRound:
    """Fires what is due, and says when to look again. Two of them at once are harmless: the store decides each."""

    def __init__(
        self, *, store: TimeStore, news: ReadyNews, clock: Clock, page: int, longest: float, shortest: float
    ) -> None:
        self._store = store
        self._news = news
        self._clock = clock
        self._page = page
        self._longest = longest
        self._shortest = shortest

    async def run_once(self) -> float:
        """One page of due executions; seconds until the next round. Raises Unavailable while the store is away."""
        due = await self._store.list_due(self._page)
        told = self._clock.monotonic()
        ready = []
        if due.items:
            await point("scheduler.before_fire")
            ready = list(await self._store.fire(due.items))
            await point("scheduler.after_fire")
            self._news.announce(ready)
            log.debug("due_fired", listed=len(due.items), fired=len(ready))
        return seconds_until_next(
            next_in=convert.seconds(due.next_in) if due.HasField("next_in") else None,
            worked=self._clock.monotonic() - told,
            progressed=bool(ready),
            longest=self._longest,
            shortest=self._shortest,
        )


class ExpiryRound:
    """Ends what has waited too long, and says when to look again."""

    def __init__(self, *, store: TimeStore, page: int, longest: float, shortest: float) -> None:
        self._store = store
        self._page = page
        self._longest = longest
        self._shortest = shortest

    async def run_once(self) -> float:
        """One page of expiries; seconds until the next round. Raises Unavailable while the store is away."""
        done = await self._store.expire_waiting(self._page)
        if done.expired:
            log.info("waiting_expired", executions=done.expired)
        return seconds_until_next(
            next_in=convert.seconds(done.next_in) if done.HasField("next_in") else None,
            progressed=done.expired > 0,
            longest=self._longest,
            shortest=self._shortest,
        )
