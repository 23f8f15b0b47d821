"""Containers of the farm on this host that no execution claims: left by an agent whose data is gone, say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from easyq_runner.domain.labels import AGENT, FARM, terms_of
from easyq_runner.domain.outcome import Snapshot
from easyq_runner.domain.records import Terms


@dataclass(frozen=True, kw_only=True, slots=True)
class Stray:
    """A container of this farm, made by another agent than the one that looks. `agent_id` is that other one."""

    container_id: str
    agent_id: str
    terms: Terms
    alive: bool


def strays(listing: Iterable[Snapshot], *, farm: str, agent_id: str) -> list[Stray]:
    """Those that may be orphans. What lacks any of our labels is not of our making; this agent's own are adopted."""
    found = []
    for one in listing:
        maker, terms = one.labels.get(AGENT, ""), terms_of(one.labels)
        if one.labels.get(FARM) == farm and maker and maker != agent_id and terms is not None:
            stray = Stray(container_id=one.container_id, agent_id=maker, terms=terms, alive=one.status.alive)
            found.append(stray)
    return found


def seen_since(before: Mapping[str, float], found: Iterable[Stray], *, now: float) -> dict[str, float]:
    """By container, since when it has been seen here."""
    return {one.container_id: before.get(one.container_id, now) for one in found}


def due(since: float, *, now: float, after: float, lost_after: float) -> bool:
    """Whether it is time to ask if it is claimed.

    Never before the farm would have given up its agent, whatever the setting says.
    """
    return now - since >= max(after, lost_after)
