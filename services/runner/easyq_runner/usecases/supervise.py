"""Watches a running container until it has ended, and ends it where that is asked for."""

from __future__ import annotations

import asyncio

from easyq_chassis.logs import get_logger
from easyq_runner.domain.journal import EndingBegun
from easyq_runner.domain.outcome import Ending, choose_ending
from easyq_runner.domain.records import OnLost, Terms
from easyq_runner.errors import EngineError, EngineUnreachable, NoSuchContainer, NotNow
from easyq_runner.usecases.commands import Commands
from easyq_runner.usecases.daemon import Watch
from easyq_runner.usecases.tools import Tools
from easyq_runner.usecases.waiting import first_of

# Suspended time moves a timeout closer than a timer knows.
_LONGEST_NAP = 5.0


class Supervision:
    """One running container. `started_at` is by CLOCK_BOOTTIME; `ending` is why an earlier agent began to end it."""

    def __init__(
        self,
        tools: Tools,
        terms: Terms,
        commands: Commands,
        watch: Watch,
        container_id: str,
        *,
        started_at: float,
        ending: Ending | None = None,
    ) -> None:
        self._tools = tools
        self._terms = terms
        self._commands = commands
        self._watch = watch
        self._container_id = container_id
        self._started_at = started_at
        self._log = get_logger()
        # Why the container was ended, once a signal was sent for it.
        self.ending = ending

    async def until_ended(self) -> None:
        """Returns when the container has ended, or seems to."""
        while not self._watch.ended.is_set():
            wish = self._wish() or self.ending
            if wish is None:
                await first_of(self._watch.ended.wait(), self._commands.changes.wait(), timeout=self._nap())
            else:
                await self._end(wish)

    def _wish(self) -> Ending | None:
        wishes = self._commands.wishes
        return choose_ending(
            # What waits for its host, waits.
            lost=wishes.lost and self._terms.on_lost is not OnLost.WAIT,
            stop=wishes.stop,
            overdue=self._overdue(),
            drain=wishes.drain,
        )

    def _overdue(self) -> bool:
        timeout = self._terms.timeout
        return timeout is not None and self._tools.clock.boot() >= self._started_at + timeout

    def _nap(self) -> float | None:
        if self._terms.timeout is None:
            return None
        left = self._started_at + self._terms.timeout - self._tools.clock.boot()
        return max(0.0, min(_LONGEST_NAP, left))

    async def _end(self, wish: Ending) -> None:
        """SIGTERM, the job's grace, SIGKILL; without grace where it is lost."""
        self._log.info("ending", execution=self._terms.key.execution_id, why=wish.value)
        if self.ending is not wish:
            await self._tools.note(EndingBegun(key=self._terms.key, ending=wish))
        if wish is not Ending.LOST and self._terms.stop_grace > 0:
            if not await self._signal("SIGTERM", wish):
                return
            await first_of(self._watch.ended.wait(), self._until_worse(), timeout=self._terms.stop_grace)
        while not self._watch.ended.is_set() and await self._signal("SIGKILL", self._worst(wish)):
            await first_of(self._watch.ended.wait(), timeout=self._tools.times.kill_again)

    async def _until_worse(self) -> None:
        """Returns when there is no more time for grace."""
        while self._wish() is not Ending.LOST:
            await self._commands.changes.wait()

    def _worst(self, wish: Ending) -> Ending:
        return Ending.LOST if self._wish() is Ending.LOST else wish

    async def _signal(self, name: str, wish: Ending) -> bool:
        """False if the container has ended meanwhile."""
        while not self._watch.ended.is_set():
            try:
                await self._tools.engine.kill(self._container_id, name)
            except (NotNow, NoSuchContainer):
                self._watch.ended.set()
            except EngineUnreachable as error:
                self._tools.daemon.doubt(error)
                await self._tools.daemon.until_answering_or(self._watch)
            except EngineError as error:
                self._log.warning("signal_failed", execution=self._terms.key.execution_id, error=str(error))
                await asyncio.sleep(self._tools.times.signal_again)
            else:
                self.ending = wish
                return True
        return False
