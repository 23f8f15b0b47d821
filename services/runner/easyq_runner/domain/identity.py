"""Who the agent is: its name is bound to one daemon, and its journal to both."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """An agent's name, and the daemon that it was made for; `daemon_id` is empty while no daemon was ever reached."""

    agent_id: str
    daemon_id: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """Who the agent is from now on, and whether the journal of the data folder is somebody else's."""

    identity: Identity
    set_journal_aside: bool = False


def choose(known: Identity | None, *, configured: str, daemon_id: str, fresh: str) -> Choice:
    """Decides at the start of an agent.

    `known` is what the data folder says, `configured` the name that the settings demand (empty: none), `daemon_id` the
    daemon at hand (empty: it does not answer), `fresh` a name for a new agent. Another daemon than before, such as one
    whose data was wiped, makes another agent: the containers that the old one knew are not there.
    """
    if known is None:
        return Choice(identity=Identity(agent_id=configured or fresh, daemon_id=daemon_id))
    agent_id = configured or known.agent_id
    if agent_id != known.agent_id:
        return Choice(identity=Identity(agent_id=agent_id, daemon_id=daemon_id), set_journal_aside=True)
    if not daemon_id or daemon_id == known.daemon_id:
        return Choice(identity=known)
    if not known.daemon_id:
        return Choice(identity=Identity(agent_id=agent_id, daemon_id=daemon_id))
    return Choice(identity=Identity(agent_id=configured or fresh, daemon_id=daemon_id), set_journal_aside=True)
