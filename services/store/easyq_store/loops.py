"""The store's own loops, each a `run_once`."""

from collections.abc import Callable, Sequence
from typing import Protocol

from easyq_chassis.logs import get_logger
from easyq_store.domain.lost import LostWatch
from easyq_store.domain.records import Agent
from easyq_store.domain.states import AgentState
from easyq_store.usecases import sessions
from easyq_store.usecases.context import Context


class AgentMeter(Protocol):
    """Where agents are counted."""

    def agents(self, agents: Sequence[Agent], is_silent: Callable[[Agent], bool]) -> None:
        """These are known; nothing is heard of some."""


class LostRound:
    """Declares silent sessions dead, and ends what dead sessions held. The log of decisions tells of both."""

    def __init__(self, ctx: Context, watch: LostWatch, meter: AgentMeter) -> None:
        self._ctx = ctx
        self._watch = watch
        self._meter = meter

    async def run_once(self) -> None:
        """One look at all agents. What a crash left of an earlier one is ended too, since dead ones stay dead."""
        agents = await self._ctx.store.reads.agents()
        self._ctx.silence.observe(agents, self._ctx.clock.monotonic())
        self._meter.agents(agents, self._ctx.silence.is_silent)
        for silent in self._watch.observe(agents, self._ctx.clock.monotonic()):
            if await sessions.bury(self._ctx, silent):
                await sessions.lose_all(self._ctx, silent.agent_id)
        for agent in agents:
            if agent.state is AgentState.DEAD:
                await sessions.lose_all(self._ctx, agent.agent_id)


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
