"""Ends containers of the farm that no execution claims: left by an agent whose data is gone, say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from easyq_chassis.errors import EasyQError
from easyq_chassis.logs import get_logger
from easyq_chassis.loops import Loop
from easyq_runner.domain.orphans import Stray, due, seen_since, strays
from easyq_runner.errors import EngineError, NoSuchContainer, NotNow
from easyq_runner.ports import AgentClock, Claims, ContainerEngine
from easyq_runner.usecases.daemon import Daemon
from easyq_runner.usecases.lease import LeaseKeeper

# Seconds between two looks at a container that was told to end.
_LOOK = 0.2


class Orphans:
    """Looks for them again and again. `after` are the seconds that one has to be seen before anything is done.

    A container is an orphan if the farm says that no agent holds its execution. While the farm can't be asked,
    nothing is.
    """

    def __init__(
        self,
        engine: ContainerEngine,
        daemon: Daemon,
        claims: Claims,
        lease: LeaseKeeper,
        clock: AgentClock,
        *,
        farm: str,
        agent_id: str,
        after: float,
        lost_after: Callable[[], float],
        every: float,
    ) -> None:
        self._engine = engine
        self._daemon = daemon
        self._claims = claims
        self._lease = lease
        self._clock = clock
        self._farm = farm
        self._agent_id = agent_id
        self._after = after
        self._lost_after = lost_after
        # By container: by CLOCK_BOOTTIME, since when it has been seen.
        self._seen: dict[str, float] = {}
        self._ending: dict[str, asyncio.Task[None]] = {}
        self._log = get_logger()
        self._loop = Loop("orphans", self._look, every)

    def start(self) -> None:
        """Begins to look."""
        self._loop.start()

    async def stop(self) -> None:
        """Leaves the rest for the next start."""
        await self._loop.stop()
        tasks = list(self._ending.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _look(self) -> None:
        if not self._daemon.answering:
            return
        try:
            found = strays(await self._engine.list_farm(self._farm), farm=self._farm, agent_id=self._agent_id)
        except EngineError:  # the ping will say so
            return
        now = self._clock.boot()
        for one in found:
            if one.container_id not in self._seen:
                self._log.info("container_of_another_agent", container=one.container_id, agent=one.agent_id)
        self._seen = seen_since(self._seen, found, now=now)
        if not self._lease.may_start():
            return
        for one in found:
            since = self._seen[one.container_id]
            if due(since, now=now, after=self._after, lost_after=self._lost_after()):
                await self._consider(one)

    async def _consider(self, one: Stray) -> None:
        if one.container_id in self._ending:
            return
        try:
            claimed = await self._claims.is_claimed(one.terms, one.agent_id)
        except EasyQError as error:
            self._log.info("orphan_or_not_is_unknown", container=one.container_id, error=str(error))
            return
        if claimed:
            return
        self._log.warning(
            "orphan_ended",
            container=one.container_id,
            agent=one.agent_id,
            execution=one.terms.key.execution_id,
            task=one.terms.task_id,
            runs=one.alive,
        )
        task = asyncio.create_task(self._end(one), name=f"orphan:{one.container_id}")
        self._ending[one.container_id] = task
        task.add_done_callback(lambda _: self._ending.pop(one.container_id, None))

    async def _end(self, one: Stray) -> None:
        """SIGTERM, its grace, and away with it. What fails is tried again at the next look."""
        try:
            if one.alive:
                await self._engine.kill(one.container_id, "SIGTERM")
                await self._until_ended(one)
        except (NotNow, NoSuchContainer):
            pass  # it has ended
        except EngineError as error:
            self._log.warning("orphan_not_ended", container=one.container_id, error=str(error))
            return
        try:
            await self._engine.remove(one.container_id, force=True)
        except (NotNow, NoSuchContainer):
            return
        except EngineError as error:
            self._log.warning("orphan_not_removed", container=one.container_id, error=str(error))

    async def _until_ended(self, one: Stray) -> None:
        until = self._clock.boot() + one.terms.stop_grace
        while self._clock.boot() < until:
            if not (await self._engine.inspect(one.container_id)).status.alive:
                return
            await asyncio.sleep(_LOOK)
