"""What an agent and the dispatcher tell each other, after `Hello`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from easyq_dispatcher.domain.agents import Held, Hello
from easyq_internal.store.v1.records_pb2 import Assignment, Directive, Report, ReportResult, Upkeep


@dataclass(frozen=True, kw_only=True, slots=True)
class Beat:
    """The agent is alive, and this is all that it has."""

    number: int
    inventory: tuple[Held, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Reports:
    """Words on executions, in order."""

    items: Sequence[Report]


@dataclass(frozen=True, kw_only=True, slots=True)
class Goodbye:
    """The agent stops cleanly."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HealthChange:
    """Whether the agent takes new work; if not, why."""

    healthy: bool
    message: str


Incoming: TypeAlias = Hello | Beat | Reports | Goodbye | HealthChange


@dataclass(frozen=True, kw_only=True, slots=True)
class Welcome:
    """The agent's session has begun. All durations in milliseconds."""

    session: int
    protocol: int
    beat_every_ms: int
    lease_ms: int
    lost_after_ms: int
    directives: Sequence[Directive]
    upkeep: Upkeep | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Acknowledged:
    """The beat of that number is on disk."""

    number: int
    directives: Sequence[Directive]
    upkeep: Upkeep | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Runs:
    """Executions to run now."""

    items: Sequence[Assignment]


@dataclass(frozen=True, kw_only=True, slots=True)
class Results:
    """Answers to reports, in any order."""

    items: Sequence[ReportResult]


@dataclass(frozen=True, kw_only=True, slots=True)
class Orders:
    """Directives out of turn."""

    items: Sequence[Directive]


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """An operator's wish that does not wait for the next beat."""

    upkeep: Upkeep


@dataclass(frozen=True, kw_only=True, slots=True)
class Farewell:
    """The session is parked."""


Outgoing: TypeAlias = Welcome | Acknowledged | Runs | Results | Orders | Wish | Farewell


def is_cordoned(upkeep: Upkeep | None) -> bool:
    """Whether an agent takes nothing new by an operator's wish; without a word on it, it does."""
    return upkeep is not None and (upkeep.cordoned or upkeep.draining)
