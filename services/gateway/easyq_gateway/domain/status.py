"""What is missing in the farm, in words that say what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from easyq_gateway.domain import human


@dataclass(frozen=True, kw_only=True, slots=True)
class ServiceFacts:
    """One service as the gateway sees it. `kind` is store, scheduler or dispatcher.

    `answers`: it runs, though it may not be able to do its work, for the reason that is its `message`; with one, a
    healthy service is degraded. `slow`: it may run, but did not answer in time. `since_ms`: since when it has not been
    healthy, if known.
    """

    kind: str
    address: str
    healthy: bool
    answers: bool = False
    message: str = ""
    slow: bool = False
    since_ms: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentFacts:
    """One agent. `state` is LIVE, PARKED or DEAD; `last_beat_ms`, and since when it is not healthy, in ms since the
    epoch, if known.

    `set_aside`: an operator cordoned it, or has it drain. `silent`: it is LIVE, and nothing is heard of it; the message
    says since when. `given_up`: an operator declared it dead.
    """

    agent_id: str
    state: str
    healthy: bool
    message: str
    running: int
    last_beat_ms: int | None
    unhealthy_ms: int | None = None
    set_aside: bool = False
    silent: bool = False
    given_up: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class FarmProblem:
    """Something that keeps the farm from working as it should."""

    subject: str
    message: str
    since_ms: int | None = None


_DAY_MS = 24 * 3_600_000
# Hosts found dead that are told of one by one.
_MOST_MISSED = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class BreakerFacts:
    """A breaker that is not closed. `kind` is host or image; `since_ms` in ms since the epoch, if known."""

    kind: str
    subject: str
    failures: int
    cause: str
    since_ms: int | None


# Breakers that are told one by one: of a registry that is away each image has one.
_MOST_BREAKERS = 10
# What is to be done about one that is there, and slow.
_LOOK = "See the load of its machine, and its log."


def find_problems(
    services: Sequence[ServiceFacts], agents: Sequence[AgentFacts] | None, *, now_ms: int
) -> Iterator[FarmProblem]:
    """Yields what is wrong, the gravest first. `agents` is None where the store couldn't say."""
    yield from _services(services)
    if agents is not None:
        yield from _agents(agents, heard=any(one.healthy for one in services if one.kind == "dispatcher"))
        yield from _missed(agents, now_ms)


def can_run(services: Sequence[ServiceFacts], agents: Sequence[AgentFacts] | None) -> bool:
    """Whether a job posted now would be run: store, a dispatcher, and an agent that takes work are there."""
    healthy = {service.kind for service in services if service.healthy}
    return {"store", "dispatcher"} <= healthy and any(takes_work(agent) for agent in agents or ())


def stale_view(address: str, *, slow_after: float, age: float | None) -> FarmProblem:
    """What is to be said where pools, limits and breakers are those that a dispatcher told `age` seconds ago (None: are
    left out), since it did not answer within `slow_after` seconds now."""
    shown = "are left out" if age is None else f"are those of {age:.0f} s ago"
    return FarmProblem(
        subject="dispatcher",
        message=f"Pools, limits and breakers {shown}: the dispatcher at {address} did not answer within "
        f"{slow_after:g} s.",
    )


def stale_hosts(age: float) -> FarmProblem:
    """What is to be said where hosts are those that the store told `age` seconds ago, since it does not answer now."""
    return FarmProblem(
        subject="store", message=f"Hosts are those of {age:.0f} s ago: the store does not tell them now."
    )


def is_missed(agent: AgentFacts, now_ms: int) -> bool:
    """Whether the agent was found dead, was heard within a day, and no operator has given it up."""
    if agent.state != "DEAD" or agent.given_up or agent.last_beat_ms is None:
        return False
    return now_ms - agent.last_beat_ms < _DAY_MS


def breaker_problems(breakers: Sequence[BreakerFacts]) -> Iterator[FarmProblem]:
    """Yields what keeps work away from hosts and images."""
    for one in breakers[:_MOST_BREAKERS]:
        failures = human.plural(one.failures, "failure")
        yield FarmProblem(
            subject="breaker",
            message=f"The breaker of the {one.kind} {one.subject} is open after {failures} in a row: "
            f"{one.cause.rstrip('.') or 'no cause was given'}. Mend that; one job at a time tries again by itself.",
            since_ms=one.since_ms,
        )
    if len(breakers) > _MOST_BREAKERS:
        text = f"{len(breakers)} breakers are open; those that are not told here are in /breakers."
        yield FarmProblem(subject="breaker", message=text)


def takes_work(agent: AgentFacts) -> bool:
    """Whether the agent is there and healthy, and nobody set it aside."""
    return agent.state == "LIVE" and agent.healthy and not agent.set_aside


def _services(services: Sequence[ServiceFacts]) -> Iterator[FarmProblem]:
    dispatchers = [service for service in services if service.kind == "dispatcher"]
    none_left = not any(service.healthy for service in dispatchers)
    # Where the store is away, that is why others are degraded.
    store_works = all(service.healthy for service in services if service.kind == "store")
    # Where it can't work, what the others say follows from that: it comes first.
    for service in sorted(services, key=lambda one: one.kind != "store"):
        if service.healthy and service.message and store_works:
            text = f"The {service.kind} at {service.address} works, but not all of it ({service.message}). See its log."
            yield FarmProblem(subject=service.kind, message=text)
        if not service.healthy:
            text = f"The {service.kind} at {service.address} "
            if service.answers and not store_works and service.kind != "store":
                # Why is told of the store.
                text += "waits for the store: it goes on by itself once the store is back."
                yield FarmProblem(subject=service.kind, message=text, since_ms=service.since_ms)
                continue
            how = "runs, but can't do its work" if service.answers else "does not answer"
            if service.slow:
                how = "is too busy to answer in time, or frozen"
            text += f"{how} ({service.message or 'no reason given'}): " + _effect(service, none_left)
            yield FarmProblem(subject=service.kind, message=text, since_ms=service.since_ms)


def _effect(service: ServiceFacts, none_left: bool) -> str:
    kind = service.kind
    if kind == "store":
        if service.answers:
            return "jobs are refused until it can. Its log tells more."
        if service.slow:
            return f"jobs may be refused, or take long. {_LOOK}"
        return "jobs are refused until it is back. Start it (`easyq store`) or see its log."
    if kind == "scheduler":
        if service.slow:
            return f"jobs with a start time may be refused, delayed jobs and retries may be late. {_LOOK}"
        todo = "Its log tells more." if service.answers else "Start it (`easyq scheduler`) or see its log."
        return f"jobs with a start time are refused, delayed jobs and retries wait; others run. {todo}"
    if none_left and service.slow:
        return f"jobs are accepted, and may wait. {_LOOK}"
    if none_left and service.answers:
        return "jobs are accepted and wait until it can. Its log tells more."
    if none_left:
        return "jobs are accepted and wait. Start one (`easyq dispatcher`) or see its log."
    return "the others do its work."


def _agents(agents: Sequence[AgentFacts], *, heard: bool) -> Iterator[FarmProblem]:
    """`heard`: a dispatcher works. By way of it hosts are heard: where none does, that is why they are silent."""
    live = [agent for agent in agents if agent.state == "LIVE"]
    if live and all(agent.set_aside for agent in live):
        yield FarmProblem(
            subject="agents",
            message="Every agent that is connected is cordoned, or drains: jobs are accepted and wait. Take one back "
            "(`easyq agents uncordon NAME`), or start another.",
        )
    if not live:
        yield FarmProblem(
            subject="agents",
            message="No agent is connected: jobs are accepted and wait. Start one beside a Docker Engine "
            "(`easyq runner`, or `easyq up` for all in one).",
            since_ms=max((agent.last_beat_ms for agent in agents if agent.last_beat_ms is not None), default=None),
        )
    for agent in agents:
        text = _agent_words(agent) if heard or not agent.silent else ""
        if text:
            # A silent agent has been away since its last beat.
            since_ms = agent.unhealthy_ms if agent.state == "LIVE" else agent.last_beat_ms
            yield FarmProblem(subject=agent.agent_id, message=text, since_ms=since_ms)


def _agent_words(agent: AgentFacts) -> str:
    if agent.state == "LIVE":
        # Nothing is wrong with one that does what an operator wished.
        if agent.silent:
            return _silent_words(agent)
        if agent.healthy or agent.set_aside:
            return ""
        why = agent.message.rstrip(".") or "it does not say why"
        return f"Agent {agent.agent_id} takes no new work: {why}. See the Docker Engine of its host and its log."
    if not agent.running or agent.state != "PARKED":
        return ""
    held = human.plural(agent.running, "execution")
    return f"Agent {agent.agent_id} was stopped and holds {held}. Start it again to go on."


def _silent_words(agent: AgentFacts) -> str:
    holds = f" It holds {human.plural(agent.running, 'execution')}, of which nothing is heard." if agent.running else ""
    return (
        f"Host {agent.agent_id} is {agent.message.rstrip('.')} It is given nothing.{holds} Start it, or mend the way "
        "to it, before it is declared dead."
    )


def _missed(agents: Sequence[AgentFacts], now_ms: int) -> Iterator[FarmProblem]:
    """Hosts that were declared dead, those first that were heard last, and are not back."""
    waiting = [one for one in agents if one.state == "DEAD" and one.running]
    missed = [one for one in agents if is_missed(one, now_ms) and not one.running]
    missed.sort(key=lambda one: -(one.last_beat_ms or 0))
    for agent in [*waiting, *missed[:_MOST_MISSED]]:
        yield FarmProblem(subject=agent.agent_id, message=_dead_words(agent), since_ms=agent.last_beat_ms)
    if len(missed) > _MOST_MISSED:
        more = human.plural(len(missed) - _MOST_MISSED, "further host")
        yield FarmProblem(subject="agents", message=f"{more} declared dead within a day: see `easyq hosts`.")


def _dead_words(agent: AgentFacts) -> str:
    name = agent.agent_id
    if agent.running:
        held = human.plural(agent.running, "execution")
        waits = "waits" if agent.running == 1 else "wait"
        return f"Host {name} was declared dead, and {held} of it {waits} for it. Start it again."
    return (
        f"Host {name} was declared dead, since nothing was heard of it: its executions are lost, and run again "
        "elsewhere where they may. Start it again, or say that it is gone for good "
        f"(`easyq hosts declare-dead {name}`)."
    )
