"""Why an execution waits, in words that say what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from easyq_dispatcher.domain.agents import Phase
from easyq_dispatcher.domain.matching import Limit, Pool


class Reason(Enum):
    """The reasons that the dispatcher gives, by the names of `easyq.v1.Waiting.Reason`."""

    POSITION = "POSITION"
    LIMIT_FULL = "LIMIT_FULL"
    NO_FREE_SLOT = "NO_FREE_SLOT"
    NO_AGENT = "NO_AGENT"
    NO_HEALTHY_AGENT = "NO_HEALTHY_AGENT"
    DISPATCHER_UNAVAILABLE = "DISPATCHER_UNAVAILABLE"
    PULLING = "PULLING"
    STARTING = "STARTING"
    HOST_SILENT = "HOST_SILENT"


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """One reason and its sentence."""

    reason: Reason
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentView:
    """An agent of the farm, connected to whichever dispatcher.

    `live`: its session beats; `silent_for`: seconds since its last beat; `running`: places that it has in the index.
    """

    agent_id: str
    live: bool
    healthy: bool
    message: str
    pools: tuple[str, ...]
    slots: int
    silent_for: float
    running: int = 0


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

    `position` is its place among the ready heads of its task, from 1; None: it isn't among those that the index holds.
    """

    task_id: str
    pool: Pool
    pool_running: int
    bounds: Sequence[Bound]
    agents: Sequence[AgentView]
    position: int | None


def explain_queued(at: Situation) -> Waiting:
    """The first thing in its way, from the one that bars everything to the one that passes by itself."""
    live = [agent for agent in at.agents if agent.live]
    if not live:
        return Waiting(reason=Reason.NO_AGENT, message=_no_agent(at))
    healthy = [agent for agent in live if agent.healthy]
    if not healthy:
        return Waiting(reason=Reason.NO_HEALTHY_AGENT, message=_no_healthy_agent(at.pool, live))
    if full := next((bound for bound in at.bounds if bound.full), None):
        return Waiting(
            reason=Reason.LIMIT_FULL,
            message=f"limit {full.limit.pattern}: {full.running} of {full.limit.max_running} are running{_in_line(at)}",
        )
    if at.pool.max_running and at.pool_running >= at.pool.max_running:
        return Waiting(
            reason=Reason.LIMIT_FULL,
            message=f"pool {at.pool.name}: {at.pool_running} of at most {at.pool.max_running} are running"
            f"{_in_line(at)}",
        )
    slots, taken = sum(a.slots for a in healthy), sum(min(a.running, a.slots) for a in healthy)
    if taken >= slots:
        return Waiting(
            reason=Reason.NO_FREE_SLOT,
            message=f"pool {at.pool.name}: {taken} of {slots} slots are taken{_in_line(at)}",
        )
    return Waiting(reason=Reason.POSITION, message=f"about to be assigned{_in_line(at)}")


def explain_assigned(agent_id: str, phase: Phase | None) -> Waiting:
    """`phase` is what the agent's last beat told; None: it did not name the execution yet."""
    if phase is Phase.PULLING:
        return Waiting(reason=Reason.PULLING, message=f"agent {agent_id} pulls its image")
    return Waiting(reason=Reason.STARTING, message=f"agent {agent_id} starts it")


def explain_silent(agent: AgentView) -> Waiting:
    """Its agent has not been heard of for longer than its lease."""
    return Waiting(
        reason=Reason.HOST_SILENT,
        message=f"agent {agent.agent_id} has been silent for {agent.silent_for:.0f} s: is its host up, and can it "
        "reach the dispatcher?",
    )


def explain_unavailable(problem: str) -> Waiting:
    """Nothing is assigned at present; `problem` says why."""
    return Waiting(reason=Reason.DISPATCHER_UNAVAILABLE, message=f"nothing is assigned now: {problem}")


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
    gone = ", ".join(agent.agent_id for agent in at.agents)
    return no_agent_problem(at.pool) + (f" (not connected: {gone})" if gone else "")


def _no_healthy_agent(pool: Pool, live: Sequence[AgentView]) -> str:
    words = "; ".join(f"{agent.agent_id}: {agent.message or 'takes no new work'}" for agent in live)
    return f"no agent of pool {pool.name} takes new work: {words}"


def _in_line(at: Situation) -> str:
    if at.position is None:
        return f"; behind the first ones of task {at.task_id}"
    return f"; {_ordinal(at.position)} in line of task {at.task_id}"


def _ordinal(number: int) -> str:
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
