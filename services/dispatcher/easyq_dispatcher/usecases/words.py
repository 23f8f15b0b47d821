"""Words for people: why an execution waits, how pools and limits stand, what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from easyq_chassis.clock import Clock
from easyq_chassis.errors import EasyQError
from easyq_chassis.logs import get_logger
from easyq_dispatcher.domain.agents import Agent
from easyq_dispatcher.domain.explain import (
    AgentView,
    Bound,
    Situation,
    Waiting,
    explain_assigned,
    explain_queued,
    explain_silent,
    explain_unavailable,
    no_agent_problem,
    unknown_pools_problem,
)
from easyq_dispatcher.domain.matching import Limit, Matching, Pool
from easyq_dispatcher.ports import FarmStore, MatchIndex, Question, Survey
from easyq_dispatcher.usecases.keeper import Keeper
from easyq_dispatcher.usecases.roster import Roster

log = get_logger()

_AGENTS_AGE = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """An execution that waits; `agent_id` if it is ASSIGNED."""

    execution_id: str
    task_id: str
    agent_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolStanding:
    """A pool and its numbers."""

    pool: Pool
    running: int
    slots: int
    ready: int


@dataclass(frozen=True, kw_only=True, slots=True)
class LimitStanding:
    """A limit and its number."""

    limit: Limit
    running: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Trouble:
    """Something that is wrong, and since when (ms since the epoch), if known."""

    subject: str
    message: str
    since_ms: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """All of it."""

    pools: Sequence[PoolStanding]
    limits: Sequence[LimitStanding]
    troubles: Sequence[Trouble]
    agent_ids: Sequence[str]


class Words:
    """Reads index, store and roster; changes nothing. `silent_after`: seconds without a beat worth a word."""

    def __init__(
        self,
        *,
        index: MatchIndex,
        store: FarmStore,
        keeper: Keeper,
        roster: Roster,
        matching: Matching,
        clock: Clock,
        silent_after: float,
    ) -> None:
        self._index = index
        self._store = store
        self._keeper = keeper
        self._roster = roster
        self._matching = matching
        self._clock = clock
        self._silent_after = silent_after
        self._agents: list[AgentView] = []
        self._agents_at = float("-inf")

    async def explain(self, asked: Sequence[Asked]) -> dict[str, Waiting]:
        """By execution, for those that there is something to say of. Raises Unavailable if the store is away."""
        agents = await self._all_agents()
        words = {item.execution_id: word for item in asked if item.agent_id and (word := self._held(item, agents))}
        queued = [item for item in asked if not item.agent_id]
        if not queued:
            return words
        survey = await self._survey(
            Question(
                agents=[agent.agent_id for agent in agents],
                positions=[(item.execution_id, item.task_id) for item in queued],
            )
        )
        for item in queued:
            words[item.execution_id] = (
                explain_queued(self._situation(item, survey, agents))
                if survey
                else explain_unavailable(self._keeper.problem)
            )
        return words

    async def standing(self) -> Standing:
        """Pools, limits, and what is wrong; as much as can be had."""
        troubles = []
        try:
            agents = await self._all_agents()
        except EasyQError as error:
            agents = []
            troubles.append(Trouble(subject="store", message=f"the dispatcher can't reach the store: {error.message}"))
        survey = await self._survey(Question())
        if survey is None:
            message = f"no job is assigned: {self._keeper.problem}"
            troubles.append(Trouble(subject="redis", message=message, since_ms=self._keeper.problem_since_ms))
        if self._keeper.evicts:
            message = "Redis may drop keys when its memory is full; set maxmemory-policy to noeviction"
            troubles.append(Trouble(subject="redis", message=message))
        counts = survey or Survey()
        live = [agent for agent in agents if agent.live]
        slots = {p.name: sum(a.slots for a in live if p.name in a.pools) for p in self._matching.pools}
        troubles += [
            Trouble(subject=f"pool {pool.name}", message=no_agent_problem(pool))
            for pool in self._matching.pools
            if not any(pool.name in agent.pools for agent in live)
        ]
        troubles += [
            Trouble(subject=f"agent {agent.agent_id}", message=unknown_pools_problem(agent.pools))
            for agent in live
            if not any(name in self._matching.pool_by_name for name in agent.pools)
        ]
        return Standing(
            pools=[
                PoolStanding(
                    pool=pool,
                    running=counts.running.get(pool.name, 0),
                    slots=slots[pool.name],
                    ready=counts.ready.get(pool.name, 0),
                )
                for pool in self._matching.pools
            ],
            limits=[
                LimitStanding(limit=limit, running=counts.limits[number] if counts.limits else 0)
                for number, limit in enumerate(self._matching.limits)
            ],
            troubles=troubles,
            agent_ids=[link.agent.agent_id for link in self._roster.links()],
        )

    def _held(self, item: Asked, agents: Sequence[AgentView]) -> Waiting | None:
        if link := self._roster.get(item.agent_id):
            return explain_assigned(item.agent_id, link.agent.phases.get(item.execution_id))
        agent = next((agent for agent in agents if agent.agent_id == item.agent_id), None)
        return explain_silent(agent) if agent and agent.silent_for > self._silent_after else None

    def _situation(self, item: Asked, survey: Survey, agents: Sequence[AgentView]) -> Situation:
        route = self._matching.route(item.task_id)
        pool = self._matching.pool_by_name[route.pool]
        return Situation(
            task_id=item.task_id,
            pool=pool,
            pool_running=survey.running[pool.name],
            bounds=[Bound(limit=self._matching.limits[n], running=survey.limits[n]) for n in route.limits],
            agents=[
                replace(agent, running=survey.agents.get(agent.agent_id, 0))
                for agent in agents
                if pool.name in agent.pools
            ],
            position=survey.positions.get(item.execution_id),
        )

    async def _survey(self, question: Question) -> Survey | None:
        """None where the index can't be asked: the keeper's problem says why."""
        generation = self._keeper.generation
        if generation is None:
            return None
        try:
            return await self._index.survey(generation, question)
        except EasyQError as error:
            self._keeper.doubt(error.message)
            return None

    async def _all_agents(self) -> list[AgentView]:
        """All agents of the farm; of those connected here the newest word, of others what the store knew lately."""
        if self._clock.monotonic() - self._agents_at > _AGENTS_AGE:
            self._agents = list(await self._store.list_agents())
            self._agents_at = self._clock.monotonic()
        here = {link.agent.agent_id: link.agent for link in self._roster.links()}
        elsewhere = [agent for agent in self._agents if agent.agent_id not in here]
        return [*map(_view, here.values()), *elsewhere]


def _view(agent: Agent) -> AgentView:
    return AgentView(
        agent_id=agent.agent_id,
        live=not agent.leaving,
        healthy=agent.healthy,
        message=agent.message,
        pools=agent.pools,
        slots=agent.slots,
        silent_for=0.0,
    )
