"""Words for people: why an execution waits, how pools and limits stand, what is wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from easyq_chassis.clock import Clock
from easyq_chassis.errors import EasyQError, NotFound
from easyq_chassis.logs import get_logger
from easyq_chassis.outages import OUTAGES
from easyq_dispatcher.domain.agents import Agent
from easyq_dispatcher.domain.breakers import Breaker
from easyq_dispatcher.domain.explain import (
    ABOUT_AGENTS,
    AgentView,
    Bound,
    Reason,
    Situation,
    Waiting,
    explain_assigned,
    explain_queued,
    explain_silent,
    explain_unavailable,
    no_agent_problem,
    overlook_silent,
    unknown_pools_problem,
)
from easyq_dispatcher.domain.matching import Limit, Matching, Pool
from easyq_dispatcher.domain.needs import NOTHING, UNKNOWN, Offer
from easyq_dispatcher.ports import FarmStore, MatchIndex, Question, Survey
from easyq_dispatcher.usecases.keeper import Keeper
from easyq_dispatcher.usecases.roster import Roster
from easyq_dispatcher.usecases.rulebook import Rulebook

log = get_logger()

_AGENTS_AGE = 1.0
# Seconds that a look at everything waits for the store: whoever looks is to hear who does not answer, and has no more
# patience with the dispatcher itself.
_STORE_PATIENCE = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """An execution that waits; `agent_id` if it is ASSIGNED."""

    execution_id: str
    task_id: str
    agent_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolStanding:
    """A pool and its numbers; `slots` and `agents` are of those that are connected."""

    pool: Pool
    running: int
    slots: int
    ready: int
    agents: int = 0
    healthy_agents: int = 0


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
    """All of it, at `now_ms`. By agent, `used`: what its executions asked for, `operations`: where its port for
    operators is. `blind`: why the index can't be asked, so that what runs and is ready is 0, and breakers are left out;
    empty where it can."""

    pools: Sequence[PoolStanding]
    limits: Sequence[LimitStanding]
    troubles: Sequence[Trouble]
    agent_ids: Sequence[str]
    breakers: Sequence[Breaker]
    used: Mapping[str, Offer]
    operations: Mapping[str, str]
    now_ms: int
    blind: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskWords:
    """The pool of a task, and the limits that hold for it. `blind`: the index can't be asked, and all numbers are 0."""

    pool: str
    limits: Sequence[LimitStanding]
    blind: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolWords:
    """A pool; why its work waits (None: none does, or nothing is in its way); its agents, and how many are here."""

    standing: PoolStanding
    waiting: Waiting | None
    agent_ids: Sequence[str]
    agents_here: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class _View:
    """Rules, agents and index at about one moment. `survey` None: the index can't be asked."""

    matching: Matching
    agents: Sequence[AgentView]
    survey: Survey | None


class Words:
    """Reads index, store and roster; changes nothing. `silent_after`: seconds without a beat worth a word."""

    def __init__(
        self,
        *,
        index: MatchIndex,
        store: FarmStore,
        keeper: Keeper,
        roster: Roster,
        rules: Rulebook,
        clock: Clock,
        silent_after: float,
    ) -> None:
        self._index = index
        self._store = store
        self._keeper = keeper
        self._roster = roster
        self._rules = rules
        self._clock = clock
        self._silent_after = silent_after
        self._agents: list[AgentView] = []
        self._agents_at = float("-inf")
        self._reading = asyncio.Lock()

    async def explain(self, asked: Sequence[Asked]) -> dict[str, Waiting]:
        """By execution, for those that there is something to say of. Raises Unavailable if the store is away.

        That something is wrong with the agents is told only by a list of them that is newer than the question.
        """
        asked_at = self._clock.monotonic()
        words = await self._explain(asked, await self._all_agents(asked_at - _AGENTS_AGE))
        if self._agents_at < asked_at and any(word.reason in ABOUT_AGENTS for word in words.values()):
            words = await self._explain(asked, await self._all_agents(asked_at))
        return words

    async def _explain(self, asked: Sequence[Asked], agents: Sequence[AgentView]) -> dict[str, Waiting]:
        words = {item.execution_id: word for item in asked if item.agent_id and (word := self._held(item, agents))}
        queued = [item for item in asked if not item.agent_id]
        if queued:
            positions = [(item.execution_id, item.task_id) for item in queued]
            view = await self._look(agents, Question(positions=positions))
            words |= {item.execution_id: self._queued(view, item.execution_id, item.task_id) for item in queued}
        return words

    async def explain_task(self, task_id: str) -> TaskWords:
        """What holds for a task; numbers are 0 where the index can't be asked."""
        view = await self._look([], Question())
        route = view.matching.route(task_id)
        limits = _limits(view)
        blind = view.survey is None
        return TaskWords(pool=route.pool, limits=[limits[number] for number in route.limits], blind=blind)

    async def explain_pool(self, name: str) -> PoolWords:
        """Why work of a pool waits. Raises NotFound, and Unavailable if the store is away."""
        agents = await self._all_agents(self._clock.monotonic())
        view = await self._look(agents, Question(fronts=[name]))
        standing = next((item for item in _pools(view) if item.pool.name == name), None)
        if standing is None:
            raise NotFound(f"there is no pool {name}")
        waiting = None
        if view.survey is None:
            waiting = explain_unavailable(self._keeper.problem, self._keeper.problem_since_ms)
        elif standing.ready and name in view.survey.fronts:
            waiting = await self._explain_front(*view.survey.fronts[name], agents)
        return PoolWords(
            standing=standing,
            waiting=waiting if waiting and waiting.reason is not Reason.POSITION else None,
            agent_ids=sorted(agent.agent_id for agent in agents if name in agent.pools),
            agents_here=sum(agent.here for agent in agents if name in agent.pools),
        )

    async def _explain_front(self, execution_id: str, task_id: str, agents: Sequence[AgentView]) -> Waiting:
        view = await self._look(agents, Question(positions=[(execution_id, task_id)]))
        return self._queued(view, execution_id, task_id)

    async def standing(self) -> Standing:
        """Pools, limits, breakers, and what is wrong; as much as can be had."""
        troubles = []
        try:
            async with asyncio.timeout(_STORE_PATIENCE):
                agents = await self._all_agents(self._clock.monotonic())
        except TimeoutError:
            agents = self._known_agents()
            message = f"the dispatcher waits for the store, which did not answer within {_STORE_PATIENCE:g} s"
            troubles.append(Trouble(subject="store", message=message))
        except EasyQError as error:
            agents = self._known_agents()
            troubles.append(Trouble(subject="store", message=f"the dispatcher can't reach the store: {error.message}"))
        view = await self._look(agents, Question())
        survey = view.survey or Survey()
        here = [link.agent for link in self._roster.links()]
        return Standing(
            pools=_pools(view),
            limits=_limits(view),
            troubles=[*troubles, *self._troubles(view)],
            agent_ids=[agent.agent_id for agent in here],
            breakers=[breaker for breaker in survey.breakers if breaker.until_ms],
            used={
                agent.agent_id: _gpus_in_use(survey.used_of(agent.agent_id), agent)
                for agent in agents
                if survey.used_of(agent.agent_id) != UNKNOWN
            },
            operations={agent.agent_id: agent.operations for agent in here if agent.operations},
            now_ms=self._clock.now_ms(),
            blind="" if view.survey else self._keeper.problem or "it is looked for",
        )

    def _troubles(self, view: _View) -> list[Trouble]:
        troubles = []
        if view.survey is None:
            message = (
                "no job is assigned: see that Redis runs, and that the dispatcher reaches it; jobs wait, and go on by "
                f"themselves ({self._keeper.problem})"
            )
            troubles.append(Trouble(subject="redis", message=message, since_ms=self._keeper.problem_since_ms))
        if self._keeper.evicts:
            message = "Redis may drop keys when its memory is full; set maxmemory-policy to noeviction"
            troubles.append(Trouble(subject="redis", message=message))
        if self._rules.problem:
            since_ms = self._rules.problem_since_ms
            troubles.append(Trouble(subject="rules", message=self._rules.problem, since_ms=since_ms))
        live = [agent for agent in view.agents if agent.live]
        troubles += [
            Trouble(subject=f"pool {pool.name}", message=no_agent_problem(pool))
            for pool in view.matching.pools
            if not any(pool.name in agent.pools for agent in live)
        ]
        troubles += [
            Trouble(subject=f"agent {agent.agent_id}", message=unknown_pools_problem(agent.pools))
            for agent in live
            if not any(name in view.matching.pool_by_name for name in agent.pools)
        ]
        return troubles

    def _held(self, item: Asked, agents: Sequence[AgentView]) -> Waiting | None:
        agent = next((agent for agent in agents if agent.agent_id == item.agent_id), None)
        if agent is not None and agent.silent_for > self._silent_after:
            # Its stream may be open all the same.
            return explain_silent(agent, now_ms=self._clock.now_ms())
        link = self._roster.get(item.agent_id)
        return explain_assigned(item.agent_id, link.agent.phases.get(item.execution_id)) if link else None

    def _queued(self, view: _View, execution_id: str, task_id: str) -> Waiting:
        if view.survey is None:
            return explain_unavailable(self._keeper.problem, self._keeper.problem_since_ms)
        return explain_queued(_situation(view, view.survey, execution_id, task_id))

    async def _look(self, agents: Sequence[AgentView], question: Question) -> _View:
        """The index and the rules that it was asked under. Without an index the keeper's problem says why."""
        question = replace(question, agents=[agent.agent_id for agent in agents], breakers=True)
        matching, survey, generation = self._rules.matching, None, self._keeper.generation
        if generation is not None:
            try:
                survey = await self._index.survey(generation, question)
            except EasyQError as error:
                self._keeper.doubt(error.message, away=isinstance(error, OUTAGES))
        return _View(matching=matching, agents=agents, survey=survey)

    async def _all_agents(self, not_before: float) -> list[AgentView]:
        """All agents of the farm; of those connected here the newest word, of others what the store knew.

        The store was asked no earlier than `not_before` (monotonic seconds); many that ask at once share its answer.
        """
        async with self._reading:
            if self._agents_at < not_before:
                began = self._clock.monotonic()
                self._agents = list(await self._store.list_agents())
                self._agents_at = began
        return self._known_agents()

    def _known_agents(self) -> list[AgentView]:
        """The same by what the store said last."""
        stored = {agent.agent_id: agent for agent in self._agents}
        # A stream that is open still, while its agent has come back elsewhere, knows nothing.
        here = {
            link.agent.agent_id: _view(link.agent, stored.get(link.agent.agent_id))
            for link in self._roster.links()
            if link.agent.agent_id not in stored or stored[link.agent.agent_id].session <= link.agent.session
        }
        elsewhere = [agent for name, agent in stored.items() if name not in here]
        return [*here.values(), *(overlook_silent(agent, after=self._silent_after) for agent in elsewhere)]


def _situation(view: _View, survey: Survey, execution_id: str, task_id: str) -> Situation:
    route = view.matching.route(task_id)
    waiter = survey.positions.get(execution_id)
    pool = view.matching.pool_by_name[route.pool]
    return Situation(
        task_id=task_id,
        pool=pool,
        pool_running=survey.running[pool.name],
        bounds=[Bound(limit=view.matching.limits[n], running=survey.limits[n]) for n in route.limits],
        agents=[
            replace(agent, running=survey.agents.get(agent.agent_id, 0), used=survey.used_of(agent.agent_id))
            for agent in view.agents
            if pool.name in agent.pools
        ],
        position=waiter.position if waiter else None,
        needs=waiter.needs if waiter else NOTHING,
        image=waiter.image if waiter else "",
        no_room_since_ms=waiter.no_room_since_ms if waiter else None,
        breakers=[breaker for breaker in survey.breakers if breaker.until_ms],
    )


def _pools(view: _View) -> list[PoolStanding]:
    survey = view.survey or Survey()
    standings = []
    for pool in view.matching.pools:
        agents = [agent for agent in view.agents if agent.live and pool.name in agent.pools]
        standings.append(
            PoolStanding(
                pool=pool,
                running=survey.running.get(pool.name, 0),
                slots=sum(agent.slots for agent in agents),
                ready=survey.ready.get(pool.name, 0),
                agents=len(agents),
                healthy_agents=sum(agent.takes_work for agent in agents),
            )
        )
    return standings


def _limits(view: _View) -> list[LimitStanding]:
    counts = view.survey.limits if view.survey else [0] * len(view.matching.limits)
    return [
        LimitStanding(limit=limit, running=running) for limit, running in zip(view.matching.limits, counts, strict=True)
    ]


def _gpus_in_use(used: Offer, agent: AgentView) -> Offer:
    """Whoever asked for all GPUs uses as many as there are."""
    return replace(used, gpus=agent.offer.gpus) if used.whole_gpus else used


def _view(agent: Agent, stored: AgentView | None) -> AgentView:
    return AgentView(
        agent_id=agent.agent_id,
        live=not agent.leaving,
        healthy=agent.healthy,
        message=agent.message,
        pools=agent.pools,
        slots=agent.slots,
        silent_for=stored.silent_for if stored else 0.0,
        cordoned=agent.cordoned,
        cordoned_since_ms=stored.cordoned_since_ms if stored else None,
        offer=agent.offer,
        labels=agent.labels,
        session=agent.session,
        here=True,
    )
