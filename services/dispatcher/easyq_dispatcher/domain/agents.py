"""What the dispatcher knows of an agent whose stream it holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from easyq_dispatcher.domain.needs import UNKNOWN, Offer
from easyq_dispatcher.domain.records import Seat

PROTOCOL = 1


class Phase(Enum):
    """How far an agent is with an execution, by the names of the protocol."""

    UNSPECIFIED = 0
    ACCEPTED = 1
    PULLING = 2
    CREATED = 3
    RUNNING = 4
    EXITED = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """One execution of an agent's inventory."""

    execution_id: str
    epoch: int
    phase: Phase


@dataclass(frozen=True, kw_only=True, slots=True)
class Hello:
    """How an agent introduces itself. `daemon_id` is empty while its Docker Engine does not answer."""

    agent_id: str
    daemon_id: str
    hostname: str
    pools: tuple[str, ...]
    slots: int
    labels: Mapping[str, str] = field(default_factory=dict)
    version: str
    protocol_min: int
    protocol_max: int
    inventory: tuple[Held, ...]
    healthy: bool
    message: str
    # Milliseconds for which it has not been healthy.
    unhealthy_ms: int = 0
    offer: Offer = UNKNOWN
    # Address of its operations port; empty: it has none.
    operations: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Agent:
    """An agent in its session, as last heard of.

    `room` is the number of free slots as far as known; the index has the last word. `leaving`: it said goodbye;
    `cordoned`: an operator wants that it takes nothing new.
    """

    agent_id: str
    session: int
    pools: tuple[str, ...]
    slots: int
    healthy: bool
    message: str
    room: int
    leaving: bool = False
    cordoned: bool = False
    offer: Offer = UNKNOWN
    labels: tuple[tuple[str, str], ...] = ()
    operations: str = ""
    phases: Mapping[str, Phase] = field(default_factory=dict)

    @classmethod
    def from_hello(cls, hello: Hello, *, session: int, pools: tuple[str, ...]) -> Agent:
        """The agent as its first words show it: with room, until the index says otherwise."""
        return cls(
            agent_id=hello.agent_id,
            session=session,
            pools=pools,
            slots=hello.slots,
            healthy=hello.healthy,
            message=hello.message,
            room=hello.slots,
            offer=hello.offer,
            labels=tuple(sorted(hello.labels.items())),
            operations=hello.operations,
            phases=_phases(hello.inventory),
        )

    @property
    def takes_work(self) -> bool:
        """It may be given executions, if it has room."""
        return self.healthy and not self.leaving and not self.cordoned and self.slots > 0

    def seat(self) -> Seat:
        """What the index needs to know to take for it."""
        return Seat(
            agent_id=self.agent_id,
            session=self.session,
            slots=self.slots,
            pools=self.pools,
            offer=self.offer,
            labels=self.labels,
        )

    def with_health(self, *, healthy: bool, message: str) -> Agent:
        """After a word on its health."""
        return replace(self, healthy=healthy, message=message)

    def with_cordon(self, cordoned: bool) -> Agent:
        """After an operator's wish."""
        return replace(self, cordoned=cordoned)

    def with_inventory(self, inventory: tuple[Held, ...]) -> Agent:
        """After a beat."""
        return replace(self, phases=_phases(inventory))

    def with_room(self, room: int) -> Agent:
        """After the index told how many slots are free, or some were freed."""
        return replace(self, room=max(0, min(room, self.slots)))

    def goodbye(self) -> Agent:
        """After it said that it leaves."""
        return replace(self, leaving=True)


def protocol_problem(hello: Hello) -> str | None:
    """Why this dispatcher and the agent can't talk, in words for its operator; None if they can."""
    if hello.protocol_min <= PROTOCOL <= hello.protocol_max:
        return None
    return (
        f"agent {hello.agent_id} speaks protocol {hello.protocol_min} to {hello.protocol_max}, this dispatcher "
        f"{PROTOCOL}: update the {'dispatcher' if hello.protocol_min > PROTOCOL else 'agent'}"
    )


def hello_problems(hello: Hello) -> list[tuple[str, str]]:
    """Wrong fields of a Hello, each with what is wrong."""
    problems = []
    if not hello.agent_id or len(hello.agent_id) > 128 or not hello.agent_id.isprintable():
        problems.append(("agentId", "1 to 128 printable characters"))
    if hello.slots < 0:
        problems.append(("slots", "must not be negative"))
    return problems


def _phases(inventory: tuple[Held, ...]) -> dict[str, Phase]:
    return {item.execution_id: item.phase for item in inventory}
