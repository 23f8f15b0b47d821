"""Why an execution waits, in words that say what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from easyq_dispatcher.domain.agents import Phase
from easyq_dispatcher.domain.breakers import Breaker, Kind
from easyq_dispatcher.domain.matching import Limit, Pool
from easyq_dispatcher.domain.needs import NOTHING, UNKNOWN, Needs, Offer, has_room, missing_labels, shortages, suits


class Reason(Enum):
    """The reasons that the dispatcher gives, by the names of `easyq.v1.Waiting.Reason`."""

    POSITION = "POSITION"
    LIMIT_FULL = "LIMIT_FULL"
    NO_FREE_SLOT = "NO_FREE_SLOT"
    NO_AGENT = "NO_AGENT"
    NO_HEALTHY_AGENT = "NO_HEALTHY_AGENT"
    NO_FIT = "NO_FIT"
    NO_ROOM = "NO_ROOM"
    CORDONED = "CORDONED"
    IMAGE_BREAKER = "IMAGE_BREAKER"
    HOST_BREAKER = "HOST_BREAKER"
    DISPATCHER_UNAVAILABLE = "DISPATCHER_UNAVAILABLE"
    PULLING = "PULLING"
    STARTING = "STARTING"
    HOST_SILENT = "HOST_SILENT"


#: Reasons that an agent which has come, or changed, a moment ago would make wrong.
ABOUT_AGENTS = frozenset(
    {Reason.NO_AGENT, Reason.NO_HEALTHY_AGENT, Reason.NO_FIT, Reason.CORDONED, Reason.HOST_BREAKER, Reason.HOST_SILENT}
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """One reason and its sentence. `subject`: the rule, pool, host or image behind it; times in ms since the epoch;
    `position` in the task's queue, from 1; None: not known. `agents_here`: how many of the agents in question this
    dispatcher hears itself."""

    reason: Reason
    message: str
    subject: str = ""
    position: int | None = None
    since_ms: int | None = None
    next_look_at_ms: int | None = None
    agents_here: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentView:
    """An agent of the farm, connected to whichever dispatcher.

    `live`: its session beats; `silent_for`: seconds since its last beat; `running` and `used`: what it has now; `here`:
    this dispatcher hears it itself.
    """

    agent_id: str
    live: bool
    healthy: bool
    message: str
    pools: tuple[str, ...]
    slots: int
    silent_for: float
    running: int = 0
    cordoned: bool = False
    cordoned_since_ms: int | None = None
    offer: Offer = UNKNOWN
    labels: tuple[tuple[str, str], ...] = ()
    used: Offer = UNKNOWN
    session: int = 0
    here: bool = False

    @property
    def takes_work(self) -> bool:
        """It would be given something if it had room."""
        return self.live and self.healthy and not self.cordoned


@dataclass(frozen=True, kw_only=True, slots=True)
class Bound:
    """A limit and how much of it is used."""

    limit: Limit
    running: int

    @property
    def full(self) -> bool:
        """Nothing more may run under it."""
        return self.running >= self.limit.max_running


@dataclass(frozen=True, kw_only=True, slots=True)
class Situation:
    """What a QUEUED execution of `task_id` meets. `agents` are those that joined its pool.

    `position` is its place among the ready heads of its task, from 1; None: it isn't among those that the index holds,
    and what it asks for isn't known. `breakers` are all that are not closed.
    """

    task_id: str
    pool: Pool
    pool_running: int
    bounds: Sequence[Bound]
    agents: Sequence[AgentView]
    position: int | None
    needs: Needs = NOTHING
    image: str = ""
    no_room_since_ms: int | None = None
    breakers: Sequence[Breaker] = ()


def explain_queued(at: Situation) -> Waiting:
    """The first thing in its way, from the one that bars everything to the one that passes by itself."""
    told = _about_agents(at) or _about_breakers(at) or _about_limits(at) or _about_room(at)
    if told is None:
        told = Waiting(reason=Reason.POSITION, message=f"about to be assigned{_in_line(at)}")
    return replace(told, position=at.position, agents_here=sum(agent.here for agent in at.agents))


def _about_agents(at: Situation) -> Waiting | None:
    """There is no agent that takes it, whatever runs."""
    pool = at.pool.name
    live = [agent for agent in at.agents if agent.live]
    if not live:
        return Waiting(reason=Reason.NO_AGENT, message=_no_agent(at), subject=pool)
    fitting = [agent for agent in live if suits(agent.offer, agent.labels, at.needs)]
    if not fitting:
        return Waiting(reason=Reason.NO_FIT, message=_no_fit(at, live), subject=pool)
    which = f" that has {at.needs}" if at.needs != NOTHING else ""
    open_ones = [agent for agent in fitting if not agent.cordoned]
    if not open_ones:
        names = ", ".join(agent.agent_id for agent in fitting)
        since = [agent.cordoned_since_ms for agent in fitting if agent.cordoned_since_ms is not None]
        return Waiting(
            reason=Reason.CORDONED,
            message=f"every agent of pool {pool}{which} is cordoned or drains: {names}; uncordon one, or start another",
            subject=fitting[0].agent_id if len(fitting) == 1 else pool,
            since_ms=max(since, default=None),
        )
    if not any(agent.healthy for agent in open_ones):
        words = "; ".join(f"{agent.agent_id}: {agent.message or 'takes no new work'}" for agent in open_ones)
        return Waiting(
            reason=Reason.NO_HEALTHY_AGENT,
            message=f"no agent of pool {pool}{which} takes new work: {words}",
            subject=open_ones[0].agent_id if len(open_ones) == 1 else pool,
        )
    return None


def _about_breakers(at: Situation) -> Waiting | None:
    hosts = {breaker.subject: breaker for breaker in at.breakers if breaker.kind is Kind.HOST and breaker.until_ms}
    takers = _takers(at)
    if all(agent.agent_id in hosts for agent in takers):
        failed = [hosts[agent.agent_id] for agent in takers]
        words = "; ".join(f"{breaker.subject}: {breaker.cause}" for breaker in failed)
        return Waiting(
            reason=Reason.HOST_BREAKER,
            message=f"hosts of pool {at.pool.name} failed lately, and one job at a time tries them again: {words}",
            subject=failed[0].subject if len(failed) == 1 else at.pool.name,
            since_ms=max(breaker.since_ms for breaker in failed),
            next_look_at_ms=min(breaker.until_ms for breaker in failed),
        )
    broken = [b for b in at.breakers if b.kind is Kind.IMAGE and b.until_ms and at.image and b.subject == at.image]
    if broken:
        return Waiting(
            reason=Reason.IMAGE_BREAKER,
            message=f"image {at.image} could not be pulled lately; one job at a time tries again: {broken[0].cause}",
            subject=at.image,
            since_ms=broken[0].since_ms,
            next_look_at_ms=broken[0].until_ms,
        )
    return None


def _about_limits(at: Situation) -> Waiting | None:
    if full := next((bound for bound in at.bounds if bound.full), None):
        return Waiting(
            reason=Reason.LIMIT_FULL,
            message=f"limit {full.limit.pattern}: {full.running} of {full.limit.max_running} are running{_in_line(at)}",
            subject=full.limit.pattern,
        )
    if at.pool.max_running and at.pool_running >= at.pool.max_running:
        return Waiting(
            reason=Reason.LIMIT_FULL,
            message=f"pool {at.pool.name}: {at.pool_running} of at most {at.pool.max_running} are running"
            f"{_in_line(at)}",
            subject=at.pool.name,
        )
    return None


def _about_room(at: Situation) -> Waiting | None:
    takers = _takers(at)
    slots, taken = sum(a.slots for a in takers), sum(min(a.running, a.slots) for a in takers)
    if taken >= slots:
        return Waiting(
            reason=Reason.NO_FREE_SLOT,
            message=f"pool {at.pool.name}: {taken} of {slots} slots are taken{_in_line(at)}",
            subject=at.pool.name,
        )
    if not any(a.running < a.slots and has_room(a.offer, a.used, at.needs) for a in takers):
        return Waiting(
            reason=Reason.NO_ROOM,
            message=f"it asks for {at.needs}; agents of pool {at.pool.name} have that, and other jobs use it now"
            f"{_in_line(at)}",
            subject=at.pool.name,
            since_ms=at.no_room_since_ms,
        )
    return None


def _takers(at: Situation) -> list[AgentView]:
    return [agent for agent in at.agents if agent.takes_work and suits(agent.offer, agent.labels, at.needs)]


def explain_assigned(agent_id: str, phase: Phase | None) -> Waiting:
    """`phase` is what the agent's last beat told; None: it did not name the execution yet."""
    reason, what = (Reason.PULLING, "pulls its image") if phase is Phase.PULLING else (Reason.STARTING, "starts it")
    return Waiting(reason=reason, message=f"agent {agent_id} {what}", subject=agent_id, agents_here=1)


def overlook_silent(agent: AgentView, *, after: float) -> AgentView:
    """An agent elsewhere that has not beaten for so many seconds is given nothing, whatever it said last."""
    if agent.here or not agent.live or agent.silent_for <= after:
        return agent
    return replace(agent, healthy=False, message=f"it has been silent for {agent.silent_for:.0f} s")


def explain_silent(agent: AgentView, *, now_ms: int) -> Waiting:
    """Its agent has not been heard of for longer than its lease."""
    return Waiting(
        reason=Reason.HOST_SILENT,
        message=f"agent {agent.agent_id} has been silent for {agent.silent_for:.0f} s: is its host up, and can it "
        "reach the dispatcher?",
        subject=agent.agent_id,
        since_ms=now_ms - int(agent.silent_for * 1000),
    )


def explain_unavailable(problem: str, since_ms: int) -> Waiting:
    """Nothing is assigned at present; `problem` says why."""
    return Waiting(
        reason=Reason.DISPATCHER_UNAVAILABLE, message=f"nothing is assigned now: {problem}", since_ms=since_ms
    )


def no_agent_problem(pool: Pool) -> str:
    """What is wrong with a pool without agents, and what to do."""
    return (
        f"no agent of pool {pool.name} (tasks matching {pool.pattern}) is connected; start one on a Docker host: "
        f"easyq runner --pools {pool.name}"
    )


def unknown_pools_problem(pools: Sequence[str]) -> str:
    """What is wrong with an agent that joins only pools which the dispatcher doesn't have."""
    return f"it is given nothing: it joins {', '.join(pools)}, and the dispatcher has no such pool (--pool NAME=REGEX)"


def _no_agent(at: Situation) -> str:
    gone = "; ".join(agent.agent_id + (f": {agent.message}" if agent.message else "") for agent in at.agents)
    return no_agent_problem(at.pool) + (f" (not connected: {gone})" if gone else "")


def _no_fit(at: Situation, live: Sequence[AgentView]) -> str:
    """What is asked for, and what comes nearest."""
    missing = [missing_labels(agent.labels, at.needs) for agent in live]
    if all(missing):
        nearest = min(missing, key=len)
        labels = ", ".join(f"{name}={value}" for name, value in nearest)
        return f"no agent of pool {at.pool.name} has the label {labels}: it waits for one that has {at.needs}"
    labelled = [agent for agent, labels in zip(live, missing, strict=True) if not labels]
    largest = min(labelled, key=lambda agent: (len(shortages(agent.offer, at.needs)), -agent.offer.cpu_millis))
    short = " and ".join(shortages(largest.offer, at.needs))
    return (
        f"it asks for {at.needs}, and no agent of pool {at.pool.name} has that; the largest that comes near is "
        f"{largest.agent_id} with {largest.offer}, too few {short}: it waits for a larger host"
    )


def _in_line(at: Situation) -> str:
    if at.position is None:
        return f"; behind the first ones of task {at.task_id}"
    return f"; {_ordinal(at.position)} in line of task {at.task_id}"


def _ordinal(number: int) -> str:
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
