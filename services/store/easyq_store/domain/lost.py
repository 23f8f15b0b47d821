"""Who has been silent for too long. Counted on the watcher's own monotonic clock, from the last change it saw."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from easyq_store.domain.records import Agent
from easyq_store.domain.states import AgentState


@dataclass(frozen=True, kw_only=True, slots=True)
class Silent:
    """A session that is to be declared dead, if its beats are still these."""

    agent_id: str
    session: int
    beats: int


class LostWatch:
    """Remembers when each live session's beats last changed.

    A watcher that has just begun gives every session its full time: it can't know how long it was silent.
    """

    def __init__(self, margin: float) -> None:
        self._margin = margin
        self._seen: dict[str, tuple[int, int, float]] = {}

    def observe(self, agents: Iterable[Agent], at: float) -> list[Silent]:
        """Takes in all agents as they stand at `at` (monotonic seconds); returns who was silent for too long.

        Parked and dead sessions never are.
        """
        seen: dict[str, tuple[int, int, float]] = {}
        silent: list[Silent] = []
        for agent in agents:
            if agent.state is not AgentState.LIVE:
                continue
            session, beats, since = self._seen.get(agent.agent_id, (0, 0, at))
            if (session, beats) != (agent.session, agent.beats):
                since = at
            seen[agent.agent_id] = (agent.session, agent.beats, since)
            if at - since > agent.lost_after_ms / 1000 + self._margin:
                silent.append(Silent(agent_id=agent.agent_id, session=agent.session, beats=agent.beats))
        self._seen = seen
        return silent


def declare_dead(agent: Agent, silent: Silent) -> Agent:
    """The agent with its session dead; the same agent if it has beaten, or said hello or goodbye, since."""
    if (agent.session, agent.beats, agent.state) != (silent.session, silent.beats, AgentState.LIVE):
        return agent
    return replace(agent, state=AgentState.DEAD, healthy=False, message="silent for too long")


def declare_gone(agent: Agent) -> Agent:
    """The agent with its session dead because an operator says so, whatever it was. The same one if it is already."""
    if agent.state is AgentState.DEAD and agent.declared_dead:
        return agent
    return replace(agent, state=AgentState.DEAD, declared_dead=True, healthy=False, message="declared dead by hand")
