"""The store's own loops, each a `run_once`."""

from collections.abc import Sequence
from typing import Protocol

from easyq_chassis.logs import get_logger
from easyq_store.domain.lost import LostWatch
from easyq_store.domain.records import Agent
from easyq_store.domain.states import AgentState
from easyq_store.usecases import sessions
from easyq_store.usecases.context import Context


class AgentMeter(Protocol):
    """Where agents are counted."""

    def agents(self, agents: Sequence[Agent]) -> None:
        """These are known."""


class LostRound:
    """Declares silent sessions dead, and ends what dead sessions held."""

    def __init__(self, ctx: Context, watch: LostWatch, meter: AgentMeter) -> None:
        self._ctx = ctx
        self._watch = watch
        self._meter = meter
        self._log = get_logger()

    async def run_once(self) -> None:
        """One look at all agents. What a crash left of an earlier one is ended too, since dead ones stay dead."""
        agents = await self._ctx.store.reads.agents()
        self._meter.agents(agents)
        for silent in self._watch.observe(agents, self._ctx.clock.monotonic()):
            if await sessions.bury(self._ctx, silent):
                self._log.warning("session_dead", agent=silent.agent_id, session=silent.session)
                await self._lose(silent.agent_id)
        for agent in agents:
            if agent.state is AgentState.DEAD:
                await self._lose(agent.agent_id)

    async def _lose(self, agent_id: str) -> None:
        for lost in await sessions.lose_all(self._ctx, agent_id):
            self._log.warning(
                "execution_lost",
                agent=agent_id,
                task=lost.task_id,
                job=lost.job_id,
                execution=lost.execution_id,
                next=lost.next.execution_id if lost.next else None,
            )


class ClockRound:
    """Keeps the clock's high-water mark, so that the time goes on from there after a restart."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._told_behind = False
        self._log = get_logger()

    async def run_once(self) -> None:
        """Writes the time; takes over a later one that another process of the store has written."""
        now = self._ctx.clock.now()
        kept = await self._ctx.store.run(lambda steps: steps.raise_clock(now))
        self._ctx.clock.raise_to(kept)
        behind = self._ctx.clock.behind_ms()
        if behind > 1_000 and not self._told_behind:
            self._log.warning("machine_clock_behind", milliseconds=behind)
        self._told_behind = behind > 1_000
