"""Which hosts are not heard, and which are missed. Long before a session is dead its host may be off, or frozen."""

from collections.abc import Iterable
from datetime import UTC, datetime

from easyq_store.domain.records import Agent
from easyq_store.domain.states import AgentState

_DAY_MS = 24 * 3_600_000


class SilenceWatch:
    """Remembers when each live session's beats last changed, on the watcher's own monotonic clock.

    One that has just begun, or was asleep, gives every session its full lease: it can't know how long it was silent.
    With more than `asleep_after` seconds between two looks it was asleep, and may have heard nothing for that reason.
    """

    def __init__(self, asleep_after: float = 5.0) -> None:
        self._asleep_after = asleep_after
        # By agent: session, beats, and since when (monotonic seconds) these are the same.
        self._seen: dict[str, tuple[int, int, float]] = {}
        self._looked: float | None = None
        self._silent: frozenset[tuple[str, int, int]] = frozenset()

    def observe(self, agents: Iterable[Agent], at: float) -> None:
        """Takes in all agents as they stand at `at` (monotonic seconds)."""
        asleep = self._looked is None or at - self._looked > self._asleep_after
        known = {} if asleep else self._seen
        self._looked, self._seen = at, {}
        silent: set[tuple[str, int, int]] = set()
        for agent in agents:
            if agent.state is not AgentState.LIVE:
                continue
            session, beats, since = known.get(agent.agent_id, (0, 0, at))
            if (session, beats) != (agent.session, agent.beats):
                since = at
            self._seen[agent.agent_id] = (agent.session, agent.beats, since)
            if at - since >= agent.lease_ms / 1000:
                silent.add((agent.agent_id, agent.session, agent.beats))
        self._silent = frozenset(silent)

    def is_silent(self, agent: Agent) -> bool:
        """Whether nothing was heard of it for as long as its lease. One that beats is heard at once."""
        return agent.state is AgentState.LIVE and (agent.agent_id, agent.session, agent.beats) in self._silent


def silent_words(agent: Agent) -> str:
    """What is to be said of one that is silent."""
    since = datetime.fromtimestamp(agent.last_beat_at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"silent since {since}: is its host up, and can it reach a dispatcher?"


def is_missed(agent: Agent, *, now: int) -> bool:
    """Whether it was found dead, was heard within a day, and nobody has said that it is gone for good."""
    return agent.state is AgentState.DEAD and not agent.declared_dead and now - agent.last_beat_at < _DAY_MS
