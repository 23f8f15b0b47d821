"""The farm as a whole: its agents, and how it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from easyq.v1 import farm_service_pb2
from easyq_chassis.clock import Clock
from easyq_chassis.errors import EasyQError, NotFound, Unavailable
from easyq_gateway import convert
from easyq_gateway.domain import status as words
from easyq_gateway.domain.gaps import Heard, find_gaps
from easyq_gateway.domain.problems import Problem
from easyq_gateway.ports import AgentRegister, Dispatchers, Health, HealthChecks, JobStore, Matching
from easyq_gateway.usecases.checking import Checker
from easyq_gateway.usecases.matching import add_used, answers_of, breakers_of, unknown_of
from easyq_gateway.usecases.operations import operations_ports

T = TypeVar("T")

# Seconds more than the store that a health check takes: those who ask for it wait about 3.
_SHORT = 1.0
# Seconds in which each service has to answer where the whole did not in that time.
_QUICK = 0.9
# Seconds for which a list of agents that is there waits for what their executions asked for.
_USED_PATIENCE = 0.5
# Seconds after which what the store said of its agents is not worth repeating.
_REMEMBERED = 300.0


class Farm:
    """Agents and status. The status answers whatever is down, within `patience` seconds.

    `own_health` is the gateway's own; `own_problem` says what is wrong with its rules file, and since when (ms since
    the epoch); empty where nothing is.
    """

    def __init__(
        self,
        *,
        checker: Checker,
        store: JobStore,
        agents: AgentRegister,
        dispatchers: Dispatchers,
        health: HealthChecks,
        own_health: Callable[[], Health],
        own_problem: Callable[[], tuple[str, int]],
        version: str,
        patience: float,
        clock: Clock,
    ) -> None:
        self._checker = checker
        self._store = store
        self._agents = agents
        self._dispatchers = dispatchers
        self._health = health
        self._own_health = own_health
        self._own_problem = own_problem
        self._version = version
        self._patience = patience
        self._clock = clock
        # What the store said last of its agents, and when (the loop's clock).
        self._seen: tuple[Sequence[farm_service_pb2.Agent], float] | None = None

    async def list_agents(
        self, request: farm_service_pb2.ListAgentsRequest, found: Sequence[Problem] = ()
    ) -> farm_service_pb2.ListAgentsResponse:
        self._checker.require(request, found)
        return farm_service_pb2.ListAgentsResponse(items=await self._known_agents())

    async def get_agent(
        self, request: farm_service_pb2.GetAgentRequest, found: Sequence[Problem] = ()
    ) -> farm_service_pb2.Agent:
        self._checker.require(request, found)
        for agent in await self._known_agents():
            if agent.agent_id == request.agent_id:
                return agent
        raise NotFound("no agent of this name has ever been connected", reason="AGENT_NOT_FOUND")

    async def _known_agents(self) -> Sequence[farm_service_pb2.Agent]:
        """As the store knows them; what dispatchers that answer soon say of them is added."""
        matching = asyncio.ensure_future(self._dispatchers.matching())
        try:
            agents = await self._listed_agents()
            done, _ = await asyncio.wait([matching], timeout=_USED_PATIENCE)
            if done:
                add_used(agents, [one.view for one in matching.result() if one.view is not None])
        finally:
            matching.cancel()
        return agents

    async def require_store(self) -> None:
        """Raises `Unavailable` where a job posted now would not be accepted."""
        store = await self._health.store()
        if not store.healthy:
            how = "can't do its work" if store.answers else "does not answer"
            raise Unavailable(f"the store at {store.address} {how}: {store.message}", retry_after=2.0)

    async def healthcheck(self) -> dict[str, object]:
        """How the whole is, by the facts of `status`, in `_SHORT` seconds. Raises as `require_store`."""
        asked = asyncio.create_task(self.status(farm_service_pb2.GetStatusRequest()))
        # Who hangs is known before the status gives up on it.
        quick = asyncio.create_task(self._health.all(within=_QUICK))
        try:
            await self.require_store()
            try:
                async with asyncio.timeout(_SHORT):
                    problems = [one.message for one in (await asyncio.shield(asked)).problems]
            except TimeoutError:
                problems = await self._slow_ones(quick) or ["A service takes long to answer: see /status."]
        finally:
            asked.cancel()
            quick.cancel()
        return {"status": "DEGRADED" if problems else "SERVING", "problems": problems}

    async def _slow_ones(self, quick: Awaitable[Sequence[Health]]) -> list[str]:
        services = [_service_facts(one, ()) for one in await quick]
        return [one.message for one in words.find_problems(services, None, now_ms=self._clock.now_ms())]

    async def status(
        self, request: farm_service_pb2.GetStatusRequest, found: Sequence[Problem] = ()
    ) -> farm_service_pb2.Status:
        """GetStatus."""
        self._checker.require(request, found)
        health, agents, counts, views = await asyncio.gather(
            self._health.all(),
            self._in_time(self._listed_agents()),
            self._in_time(self._store.count_jobs()),
            self._dispatchers.matching(),
        )
        known = None if agents is None else [agent_facts(agent) for agent in agents]
        status = farm_service_pb2.Status(
            version=self._version,
            accepting=any(one.kind == "store" and one.healthy for one in health),
            agents=agents or (),
            jobs=counts or (),
        )
        stale_hosts = self._add_last_agents(status) if agents is None else None
        for one in health:
            status.services.add(
                name=one.kind, address=one.address, healthy=one.healthy, message=one.message, answers=one.answers
            )
        stale = _add_view(status, views)
        own, since_ms = self._own_problem()
        # Dispatchers that have the same file say the same.
        if own and own not in {problem.message for problem in status.problems}:
            convert.set_ms(status.problems.add(subject="rules", message=own), "since", since_ms)
        # Services that refuse the same file are degraded by that: it is told already.
        told = [problem.message for problem in status.problems if problem.subject == "rules"]
        services = [_service_facts(one, told) for one in health]
        breakers = [_breaker_facts(one) for one in status.breakers]
        # The cause first, then what others make of it.
        later = list(status.problems)
        del status.problems[:]
        problems = words.find_problems(services, known, now_ms=self._clock.now_ms())
        for problem in (*problems, *words.breaker_problems(breakers)):
            added = status.problems.add(subject=problem.subject, message=problem.message)
            convert.set_ms(added, "since", problem.since_ms)
        status.problems.extend(later)
        for one_stale in filter(None, (stale, stale_hosts)):
            status.problems.add(subject=one_stale.subject, message=one_stale.message)
        heard = Heard(jobs=counts is not None, agents=agents is not None, blind=_blindness(views))
        status.unknown.extend(unknown_of(find_gaps(services, heard)))
        status.running = words.can_run(services, known)
        answers = [one.view for one in views if one.view is not None]
        status.operations.extend(operations_ports(self._own_health(), health, status.agents, answers))
        return status

    async def _listed_agents(self) -> Sequence[farm_service_pb2.Agent]:
        agents = await self._agents.list_agents()
        self._seen = agents, asyncio.get_running_loop().time()
        return agents

    def _add_last_agents(self, status: farm_service_pb2.Status) -> words.FarmProblem | None:
        """Adds those that the store told last, where it can't say now. Returns what is to be said of that."""
        agents, at = self._seen or ((), 0.0)
        age = asyncio.get_running_loop().time() - at
        if not agents or age > _REMEMBERED:
            return None
        status.agents.extend(agents)
        return words.stale_hosts(age)

    async def _in_time(self, call: Awaitable[T]) -> T | None:
        try:
            async with asyncio.timeout(self._patience):
                return await call
        except (EasyQError, TimeoutError):
            return None


def _add_view(status: farm_service_pb2.Status, views: Sequence[Matching]) -> words.FarmProblem | None:
    """Adds what dispatchers say: pools and limits of the first that answered, the problems of all, once each.

    Where none did, and one is slow: what it said last. Returns what is to be said of that.
    """
    answers = answers_of(views)
    status.breakers.extend(breakers_of(answers))
    add_used(status.agents, answers)
    if answers:
        status.pools.extend(answers[0].pools)
        status.limits.extend(answers[0].limits)
    told: set[tuple[str, str]] = set()
    # What dispatchers say of a store that can't do its work is said already.
    of_store = {one.name for one in status.services if one.name == "store" and not one.healthy}
    for answer in answers:
        for problem in answer.problems:
            if problem.subject not in of_store and (problem.subject, problem.message) not in told:
                told.add((problem.subject, problem.message))
                status.problems.append(problem)
    return None if answers else _add_last_view(status, views)


def _blindness(views: Sequence[Matching]) -> str | None:
    answers = answers_of(views)
    return answers[0].blind if answers else None


def _add_last_view(status: farm_service_pb2.Status, views: Sequence[Matching]) -> words.FarmProblem | None:
    slow = [(one, one.slow_after) for one in views if one.slow_after is not None]
    if not slow:
        return None
    one, slow_after = min(slow, key=lambda found: (found[0].last is None, found[0].last_age))
    if one.last is None:
        return words.stale_view(one.address, slow_after=slow_after, age=None)
    status.pools.extend(one.last.pools)
    status.limits.extend(one.last.limits)
    status.breakers.extend(one.last.breakers)
    return words.stale_view(one.address, slow_after=slow_after, age=one.last_age)


def _service_facts(one: Health, told: Sequence[str]) -> words.ServiceFacts:
    # It may be cut off.
    is_told = bool(one.message) and any(text.startswith(one.message.removesuffix("…")) for text in told)
    return words.ServiceFacts(
        kind=one.kind,
        address=one.address,
        healthy=one.healthy,
        answers=one.answers,
        message="" if one.healthy and is_told else one.message,
        slow=one.slow,
        since_ms=one.since_ms,
    )


def _breaker_facts(breaker: farm_service_pb2.Breaker) -> words.BreakerFacts:
    kinds = farm_service_pb2.Breaker.Kind
    return words.BreakerFacts(
        kind=kinds.Name(breaker.kind).lower() if breaker.kind in kinds.values() else "",
        subject=breaker.subject,
        failures=breaker.failures,
        cause=breaker.cause,
        since_ms=convert.ms_of(breaker, "since"),
    )


def agent_facts(agent: farm_service_pb2.Agent) -> words.AgentFacts:
    states = farm_service_pb2.Agent.State
    return words.AgentFacts(
        agent_id=agent.agent_id,
        state=states.Name(agent.state) if agent.state in states.values() else "",
        healthy=agent.healthy,
        message=agent.message,
        running=agent.running,
        last_beat_ms=convert.ms_of(agent, "last_beat_at"),
        unhealthy_ms=convert.ms_of(agent, "unhealthy_since"),
        set_aside=agent.HasField("cordoned_at") or agent.HasField("drained_at"),
        silent=agent.HasField("silent_since"),
        given_up=agent.declared_dead,
    )
