"""Sessions: an agent's stays in the farm."""

from dataclasses import dataclass, replace

from easyq_chassis.errors import FailedPrecondition
from easyq_store.domain.records import Agent
from easyq_store.domain.states import AgentState


@dataclass(frozen=True, kw_only=True, slots=True)
class Hello:
    """What an agent says of itself when it comes."""

    agent_id: str
    daemon_id: str
    hostname: str = ""
    pools: tuple[str, ...] = ()
    slots: int = 0
    labels: tuple[tuple[str, str], ...] = ()
    version: str = ""
    lost_after_ms: int = 120_000
    lease_ms: int = 15_000
    # What the host has; 0: not told.
    offer_cpu_millis: int = 0
    offer_memory: int = 0
    offer_gpus: int = 0
    # Takes new work; else why not, and for how many milliseconds it has not.
    healthy: bool = True
    message: str = ""
    unhealthy_ms: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Beat:
    """What an agent says while it stays."""

    agent_id: str
    session: int
    healthy: bool = True
    message: str = ""
    slots: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Upkeep:
    """An operator's wish about an agent: it outlives sessions."""

    # Takes nothing new; `draining`: and ends once it is empty.
    cordoned: bool = False
    draining: bool = False
    # Milliseconds in which what runs may end; None: as long as it takes.
    deadline_in_ms: int | None = None
    # Of a wish that holds: higher with each change of the agent's record, so that it tells an older word from a newer.
    version: int = 0


def first_session(hello: Hello, *, now: int) -> Agent:
    """An agent that comes for the first time."""
    return Agent(
        agent_id=hello.agent_id,
        daemon_id=hello.daemon_id,
        session=1,
        state=AgentState.LIVE,
        hostname=hello.hostname,
        pools=hello.pools,
        slots=hello.slots,
        labels=hello.labels,
        version=hello.version,
        healthy=hello.healthy,
        message=hello.message,
        unhealthy_since=None if hello.healthy else now - hello.unhealthy_ms,
        lost_after_ms=hello.lost_after_ms,
        lease_ms=hello.lease_ms,
        connected_at=now,
        last_beat_at=now,
        offer_cpu_millis=hello.offer_cpu_millis,
        offer_memory=hello.offer_memory,
        offer_gpus=hello.offer_gpus,
    )


def next_session(agent: Agent, hello: Hello, *, now: int) -> Agent:
    """The agent's next session; the one before is fenced by its number.

    Raises FailedPrecondition if the agent's name is bound to another daemon. An empty daemon id (its Docker Engine
    doesn't answer) leaves the binding alone.
    """
    if hello.daemon_id and agent.daemon_id and hello.daemon_id != agent.daemon_id:
        raise FailedPrecondition(
            f"agent {agent.agent_id} is bound to the Docker Engine {agent.daemon_id}, not to {hello.daemon_id}:"
            " give the agent of the other engine another name"
        )
    first = first_session(hello, now=now)
    # One that comes again as unwell as it went has been so all the time; how a dead one was meanwhile nobody knows.
    before = None if agent.state is AgentState.DEAD else agent.unhealthy_since
    since = first.unhealthy_since
    return replace(
        first,
        unhealthy_since=since if since is None or before is None else min(since, before),
        daemon_id=hello.daemon_id or agent.daemon_id,
        session=agent.session + 1,
        cordoned_at=agent.cordoned_at,
        drained_at=agent.drained_at,
        drain_deadline=agent.drain_deadline,
        write_no=agent.write_no,
    )


def beat(agent: Agent, told: Beat, *, now: int) -> Agent | None:
    """The agent with its lease renewed; None if the session is fenced, parked or dead."""
    if agent.session != told.session or agent.state is not AgentState.LIVE:
        return None
    return replace(
        agent,
        beats=agent.beats + 1,
        last_beat_at=now,
        healthy=told.healthy,
        message=told.message,
        unhealthy_since=_since(agent.unhealthy_since, holds=not told.healthy, now=now),
        slots=told.slots or agent.slots,
    )


def park(agent: Agent, session: int) -> Agent:
    """The agent with its lease standing still. Another session than its newest, or a dead one, is left alone."""
    if agent.session != session or agent.state is not AgentState.LIVE:
        return agent
    return replace(agent, state=AgentState.PARKED)


def how_it_stands(agent: Agent) -> tuple[bool, str]:
    """Whether it takes new work, and if not, why. What its last beat said is of no use once its agent has gone."""
    if agent.state is not AgentState.PARKED:
        return agent.healthy, agent.message
    if agent.drained_at is not None:
        return False, "drained: its agent has ended; uncordon it and start the agent again to have it back"
    return False, "its agent has ended; start the agent again to have it back"


def takes_nothing_new(agent: Agent) -> bool:
    """Whether an operator wishes so."""
    return agent.cordoned_at is not None or agent.drained_at is not None


def set_upkeep(agent: Agent, wish: Upkeep, *, now: int) -> Agent:
    """The agent with this wish instead of the one before: since when it holds stays, where it is the same.

    A drain's deadline counts from now; one without a deadline takes an earlier one away. While a wish holds, the agent
    tells of it where it would tell how it is; that goes with the wish, and does not stay until the next beat.
    """
    deadline = now + wish.deadline_in_ms if wish.draining and wish.deadline_in_ms is not None else None
    wished = replace(
        agent,
        cordoned_at=_since(agent.cordoned_at, holds=wish.cordoned, now=now),
        drained_at=_since(agent.drained_at, holds=wish.draining, now=now),
        drain_deadline=deadline,
    )
    if agent.state is AgentState.LIVE and takes_nothing_new(agent) and not takes_nothing_new(wished):
        # One that drains says so instead of what else may be wrong; one that is cordoned, only where nothing is.
        healthy = agent.healthy or agent.drained_at is not None
        wished = replace(
            wished,
            healthy=healthy,
            message="" if healthy else agent.message,
            unhealthy_since=None if healthy else agent.unhealthy_since,
        )
    return agent if wished == agent else wished


def _since(before: int | None, *, holds: bool, now: int) -> int | None:
    if not holds:
        return None
    return now if before is None else before


def upkeep_of(agent: Agent, *, now: int) -> Upkeep:
    """The wish that holds, with the time that is left."""
    deadline = agent.drain_deadline
    return Upkeep(
        cordoned=agent.cordoned_at is not None,
        draining=agent.drained_at is not None,
        deadline_in_ms=None if deadline is None else max(0, deadline - now),
        version=agent.write_no,
    )
