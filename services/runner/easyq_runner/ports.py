"""What the runner needs of the world."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

from easyq_runner.domain.host import Disk
from easyq_runner.domain.image_cache import CachedImage
from easyq_runner.domain.journal import Entry, JournalState
from easyq_runner.domain.lease import LeaseNote
from easyq_runner.domain.lifetime import Evidence
from easyq_runner.domain.outcome import Snapshot
from easyq_runner.domain.pulling import LocalImage
from easyq_runner.domain.records import (
    ExecutionKey,
    Held,
    Offer,
    Order,
    Report,
    ReportAnswer,
    Stream,
    Terms,
    Upkeep,
    Verdict,
)


# ------------------------------------------------------------------------------------------------------------- clock
class AgentClock(Protocol):
    """Time for leases."""

    @property
    def boot_id(self) -> str:
        """Names this run of the machine's kernel."""
        ...

    def boot(self) -> float:
        """Seconds of CLOCK_BOOTTIME: counts suspended time too."""
        ...

    def now_ms(self) -> int:
        """Wall-clock milliseconds since the epoch, UTC."""
        ...


# ------------------------------------------------------------------------------------------------------------ engine
@dataclass(frozen=True, kw_only=True, slots=True)
class EngineInfo:
    """What an engine says of itself."""

    # Unique even among engines that share a machine and its key.
    daemon_id: str
    version: str
    live_restore: bool
    # It has the default network `bridge`.
    has_bridge: bool
    # Processors, and bytes of memory.
    cpus: int = 0
    memory: int = 0
    # Folder of its data, on its own machine.
    root: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineEvent:
    """One event. `container_id` is empty for those of images, networks and volumes."""

    action: str
    container_id: str
    # Nanoseconds since the epoch, as the engine counts.
    time: int


@dataclass(frozen=True, kw_only=True, slots=True)
class LogPiece:
    """Consecutive bytes of both outputs; the order between the two is lost."""

    stdout: bytes
    stderr: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class LastOutput:
    """The end of what the engine has kept of a container's outputs; `whole` if that is all of it."""

    stdout: bytes
    stderr: bytes
    whole: bool


class ContainerEngine(Protocol):
    """One Docker Engine. Every call may raise `EngineUnreachable` or `EngineFailed`; nothing is retried here.

    Each call that asks about the engine or a container opens a connection of its own: a daemon that goes down closes
    its door first, while connections that are open go on for a while.
    """

    async def ping(self) -> None:
        """Returns if the engine takes new connections and answers."""
        ...

    async def info(self) -> EngineInfo:
        """What the engine says of itself."""
        ...

    async def evidence(self) -> Evidence:
        """What tells one lifetime of the daemon from another."""
        ...

    def events(self) -> AbstractAsyncContextManager[AsyncIterator[EngineEvent]]:
        """All events from now on; the iterator ends by `EngineUnreachable` when the connection does."""
        ...

    async def create(self, name: str, body: dict[str, Any], platform: str) -> str:
        """Creates a container and returns its id. Raises NoSuchImage, NameTaken, InvalidRequest."""
        ...

    async def start(self, container_id: str) -> None:
        """Starts it, once. Raises InvalidRequest, NoSuchContainer."""
        ...

    async def inspect(self, container: str) -> Snapshot:
        """A container by id or name. Raises NoSuchContainer."""
        ...

    async def list_own(self, farm: str, agent_id: str) -> Sequence[Snapshot]:
        """The containers with these labels, in every state; of the snapshots only id, labels and status are set."""
        ...

    async def list_farm(self, farm: str) -> Sequence[Snapshot]:
        """The same for the containers of all agents of a farm."""
        ...

    async def kill(self, container_id: str, signal: str) -> None:
        """Sends a signal (`SIGTERM`). Raises NotNow if it doesn't run, NoSuchContainer."""
        ...

    async def remove(self, container_id: str, *, force: bool) -> None:
        """Removes it with its anonymous volumes; a running one only with `force`. Raises NotNow, NoSuchContainer."""
        ...

    def logs(self, container_id: str, *, follow: bool) -> AsyncGenerator[LogPiece]:
        """Its output from the first byte on; with `follow` until the engine ends it. Raises NoSuchContainer."""
        ...

    def attach(self, container_id: str) -> AbstractAsyncContextManager[AsyncGenerator[LogPiece]]:
        """Its output from the moment of entering, straight from the program, until it ends.

        To be read without pause: a program whose output nobody takes is held up. Raises NoSuchContainer.
        """
        ...

    async def last_output(self, container_id: str, messages: int) -> LastOutput:
        """The last so many messages (about: lines) that the engine has kept. Raises NoSuchContainer."""
        ...

    async def image(self, reference: str) -> LocalImage | None:
        """An image of the host, by name or id."""
        ...

    async def pull(self, reference: str, platform: str) -> None:
        """Pulls an image, with the host's credentials. Raises ImageRefused, PullFailed (RegistryBusy)."""
        ...

    async def image_ids(self) -> frozenset[str]:
        """All images of the host."""
        ...

    async def images_in_use(self) -> frozenset[str]:
        """Ids of the images that containers are made of, whosever they are and in every state."""
        ...

    async def remove_image(self, reference: str) -> None:
        """Takes a name from an image, or removes it where that was its last, or by its id.

        Raises NoSuchImage; NotNow where something uses it.
        """
        ...


# ---------------------------------------------------------------------------------------------------- what is around it
class Registries(Protocol):
    """Registries, asked without an engine."""

    async def retry_after(self, reference: str) -> float | None:
        """Seconds for which the registry of this image asks to be left alone; None if it does not say."""
        ...


class Disks(Protocol):
    """The disks of this machine that the agent and its engine write to."""

    async def free(self, engine_root: str) -> tuple[Disk, ...]:
        """Of the agent's own folder, and of the engine's data where it lies on this machine. None are left out that
        can be seen."""
        ...


class ImageNotes(Protocol):
    """Where the images that the agent has pulled are noted."""

    def read(self) -> dict[str, CachedImage]:
        """All of them, by id; none where that can't be read: then they count as somebody else's."""
        ...

    def write(self, cache: Mapping[str, CachedImage]) -> None:
        """Replaces what was noted. Raises OSError."""
        ...


class Claims(Protocol):
    """What the farm knows of executions."""

    async def is_claimed(self, terms: Terms, agent_id: str) -> bool:
        """Whether the execution is held by that agent (so that its container is not anybody's to touch).

        Raises EasyQError where that can't be known.
        """
        ...


# ----------------------------------------------------------------------------------------------------------- journal
class Journal(Protocol):
    """The append-only file of the agent."""

    async def load(self) -> JournalState:
        """All that was appended and not forgotten. Called once, first."""
        ...

    async def append(self, entry: Entry, *, sync: bool = False) -> None:
        """Adds an entry. It survives this process; with `sync` it is on disk when this returns. Raises OSError."""
        ...

    async def close(self) -> None:
        """Writes what is left."""
        ...


class LeaseNotes(Protocol):
    """Where the lease is noted, for a restarted agent and for the watchdog; and what the watchdog notes."""

    def read(self) -> LeaseNote | None:
        """The last note; None if there is none, or none that can be read."""
        ...

    def write(self, note: LeaseNote) -> None:
        """Replaces the note. Raises OSError."""
        ...

    def was_ended(self, container_id: str) -> bool:
        """Whether the watchdog has ended this container because the lease was lost."""
        ...


# -------------------------------------------------------------------------------------------------------------- logs
@dataclass(frozen=True, kw_only=True, slots=True)
class AppendAnswer:
    """What became of a chunk: OK, GAP or STALE, and the stored end of its stream."""

    verdict: Verdict
    stored: int


class LogSink(Protocol):
    """Where log bytes go."""

    async def append(self, key: ExecutionKey, stream: Stream, offset: int, data: bytes) -> AppendAnswer:
        """Stores a chunk of at most 256 KiB. Raises EasyQError; a repeat is harmless."""
        ...


# -------------------------------------------------------------------------------------------------------------- link
@dataclass(frozen=True, kw_only=True, slots=True)
class Health:
    """Whether the agent takes new work, and if not, why and what to do, and for how many seconds (which makes it no
    other health)."""

    healthy: bool
    message: str = ""
    unhealthy_for: float = field(default=0.0, compare=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Hello:
    """How an agent introduces itself."""

    agent_id: str
    # Empty while the daemon was never reached.
    daemon_id: str
    hostname: str
    pools: tuple[str, ...]
    slots: int
    labels: dict[str, str]
    version: str
    inventory: tuple[Held, ...]
    health: Health
    offer: Offer = field(default_factory=Offer)
    # Address of its operations port; empty: it has none.
    operations: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Welcome:
    """The farm's answer. Durations are seconds."""

    session: int
    beat_every: float
    start_within: float
    lost_after: float
    orders: tuple[Order, ...]
    upkeep: Upkeep = field(default_factory=Upkeep)


@dataclass(frozen=True, kw_only=True, slots=True)
class Beat:
    """Renews the lease."""

    number: int
    inventory: tuple[Held, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class BeatAnswer:
    """The beat of that number is committed."""

    number: int
    orders: tuple[Order, ...]
    upkeep: Upkeep = field(default_factory=Upkeep)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reports:
    """Words on executions."""

    items: tuple[Report, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportAnswers:
    """What became of them."""

    items: tuple[ReportAnswer, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Orders:
    """Executions to run, stops that shall not wait."""

    items: tuple[Order, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class UpkeepNews:
    """An operator's wish that shall not wait for the next beat."""

    upkeep: Upkeep


@dataclass(frozen=True, kw_only=True, slots=True)
class Goodbye:
    """A clean stop."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Parked:
    """The farm has parked the session."""


Outgoing = Beat | Reports | Health | Goodbye
Incoming = BeatAnswer | ReportAnswers | Orders | UpkeepNews | Parked


class LinkStream(Protocol):
    """One stay at a dispatcher."""

    @property
    def welcome(self) -> Welcome:
        """What it began with."""
        ...

    async def send(self, message: Outgoing) -> None:
        """Raises EasyQError when the stream has ended."""
        ...

    async def receive(self) -> Incoming:
        """The next message. Raises EasyQError when the stream has ended."""
        ...

    async def close(self) -> None:
        """Ends the stream."""
        ...


class Link(Protocol):
    """The way to the dispatchers."""

    async def open(self, address: str, hello: Hello, timeout: float) -> LinkStream:
        """Says hello and waits for the welcome, `timeout` seconds at most. Raises EasyQError."""
        ...

    async def close(self) -> None:
        """Ends all connections."""
        ...
