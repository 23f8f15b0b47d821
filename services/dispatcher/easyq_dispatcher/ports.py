"""What the dispatcher needs of others: the store of the farm, and an index that may vanish at any moment.

`Assignment`, `Directive`, `Report`, `ReportResult` and `Upkeep` are relayed between store and agents, so they travel as
the messages that they are.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from easyq_chassis.errors import Aborted
from easyq_dispatcher.domain.agents import Held, Hello
from easyq_dispatcher.domain.assigning import Verdict
from easyq_dispatcher.domain.breakers import Breaker, Kind, Omen
from easyq_dispatcher.domain.explain import AgentView
from easyq_dispatcher.domain.matching import Matching
from easyq_dispatcher.domain.needs import NOTHING, UNKNOWN, Needs, Offer
from easyq_dispatcher.domain.records import Fenced, Head, HeldExecution, Place, Released, Seat, Taking
from easyq_internal.store.v1.records_pb2 import Assignment, Directive, Report, ReportResult, Upkeep


# ------------------------------------------------------------------------------------------------------------- store
@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """A session just opened, what the agent has to do about each of its executions, and an operator's wish, if any."""

    number: int
    directives: Sequence[Directive]
    upkeep: Upkeep | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Beat:
    """One beat of one agent for all that it holds."""

    agent_id: str
    session: int
    inventory: tuple[Held, ...]
    healthy: bool
    message: str
    slots: int


@dataclass(frozen=True, kw_only=True, slots=True)
class BeatAnswer:
    """`fenced`: the session is not the agent's newest, or is dead. `upkeep`: an operator's wish, if any."""

    fenced: bool
    directives: Sequence[Directive]
    upkeep: Upkeep | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Assigned:
    """The store's answer to an Assign. `assignment` with ASSIGNED; `ready` with STALE_EPOCH, if it is QUEUED."""

    taking: Taking
    verdict: Verdict
    assignment: Assignment | None = None
    ready: Head | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Reported:
    """The store's answer to a report: the answer for the agent, and what both mean for the index."""

    result: ReportResult
    omen: Omen | None = None
    released: Released | None = None
    ready: Head | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Queue:
    """What waits of a task: how many executions, and for how many seconds the oldest of them has."""

    task_id: str
    queued: int
    oldest: float


class FarmStore(Protocol):
    """The store. Calls raise Unavailable where it can't be reached; whether they took effect is then unknown."""

    async def open_session(self, hello: Hello, *, pools: tuple[str, ...], lost_after_ms: int, lease_ms: int) -> Session:
        """Opens the agent's next session. Raises FailedPrecondition if its name belongs to another daemon."""
        ...

    async def beat(self, beat: Beat) -> BeatAnswer:
        """Renews the lease; answers after commit."""
        ...

    async def park_session(self, agent_id: str, session: int) -> None:
        """Lets the lease stand still."""
        ...

    async def list_agents(self) -> Sequence[AgentView]:
        """All agents known."""
        ...

    async def generation(self) -> int:
        """The generation that holds."""
        ...

    async def raise_generation(self, since: int) -> tuple[int, bool]:
        """Raises it by one if it is `since`; the one that holds now, and whether this call raised it."""
        ...

    async def list_held(self, after: str, limit: int) -> Sequence[HeldExecution]:
        """A page of what is ASSIGNED or RUNNING, by id, from the id after `after`."""
        ...

    async def list_queued(self, after_seq: int, limit: int) -> tuple[Sequence[Head], int]:
        """A page of what is QUEUED above `after_seq`, and the highest place given out so far."""
        ...

    async def list_task_queue(self, task_id: str, limit: int) -> Sequence[Head]:
        """The first QUEUED executions of a task, in order."""
        ...

    async def list_queued_tasks(self, after: str, limit: int) -> Sequence[str]:
        """A page of the tasks that have QUEUED executions, by name."""
        ...

    async def list_queues(self, after: str, limit: int) -> Sequence[Queue]:
        """A page of them with what waits in their queues. It counts: not for what is asked often."""
        ...

    async def assign(self, generation: int, takings: Sequence[Taking]) -> Sequence[Assigned]:
        """Assigns each; one answer for each, in their order. Never raises: what got no answer is UNANSWERED."""
        ...

    async def fence(self, execution_ids: Sequence[str]) -> Sequence[Fenced]:
        """Makes older Assigns of QUEUED ones void; says of each where it stands, in their order."""
        ...

    async def report(self, agent_id: str, session: int, reports: Sequence[Report]) -> Sequence[Reported]:
        """Passes on words on executions, in order. Never raises: what got no answer is to be sent again (RETRY)."""
        ...


# ------------------------------------------------------------------------------------------------------------- index
class StaleIndex(Aborted):
    """The filling of the index that the caller takes for valid does not hold: it is gone, or another one does."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Filling:
    """What the index is filled with. `generation` None: nothing that is complete, or not by this run of the server.

    `ours`: made under this dispatcher's rules; `rebuilder`: who fills it now, empty if nobody; `evicts`: the server may
    drop keys when its memory is full; `version`: the age of its rules; `in_use`: somebody looked lately who has them.
    """

    generation: int | None
    ours: bool
    rebuilder: str
    evicts: bool
    version: int = 0
    in_use: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class LowTask:
    """A task whose further heads only the store has. `version` grows with each head that was not taken in; so many of
    those that were are set `aside`."""

    task_id: str
    version: str
    aside: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Takings:
    """`rooms`: free slots left at each seat; `more`: a further call may take more; `low`: tasks to refill.

    `troubled`: breakers are open or count failures, so that it matters what works.
    """

    items: Sequence[Taking]
    rooms: Sequence[int]
    more: bool
    low: Sequence[LowTask]
    troubled: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Gone:
    """A head in the index that waits no more: it expired, was stopped or deleted, or waits for a later time."""

    execution_id: str
    task_id: str
    epoch: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Changes:
    """What the store said, for the index. Harmless if repeated.

    `dropped` and `confirmed` are (execution id, token): leave its places, or it is assigned for sure.
    `gone` are heads that wait no more, with the epoch that they were known under.
    `omens`, of executions that count until they are released, come before all else. `repair`: look for tasks that wait
    at limits which have free places.
    """

    dropped: Sequence[tuple[str, str]] = ()
    released: Sequence[Released] = ()
    confirmed: Sequence[tuple[str, str]] = ()
    gone: Sequence[Gone] = ()
    ready: Sequence[Head] = ()
    omens: Sequence[Omen] = ()
    repair: bool = False

    def __bool__(self) -> bool:
        words = (self.dropped, self.released, self.confirmed, self.gone, self.ready, self.omens)
        return any(words) or self.repair


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskHeads:
    """The first heads of a task as the store has them. `complete`: there are no others; `version`: see LowTask."""

    task_id: str
    heads: Sequence[Head]
    complete: bool
    version: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What to count. `positions` are (execution id, task id), `fronts` pools whose next head is asked for, `heads`
    tasks of which all are."""

    agents: Sequence[str] = ()
    positions: Sequence[tuple[str, str]] = ()
    tasks: Sequence[str] = ()
    low: bool = False
    fronts: Sequence[str] = ()
    breakers: bool = False
    heads: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiter:
    """A head in the index: its place in its task from 1, what it asks for, since when there is no room for it."""

    position: int
    needs: Needs = NOTHING
    image: str = ""
    no_room_since_ms: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskCount:
    """Heads of a task, those of them that are set aside, and its number of truncation, or ''."""

    heads: int
    aside: int
    version: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """Counts by pool name, limit number, agent; those of the positions that have a head, by execution.

    `used` is what an agent's executions asked for; `low` all tasks to refill, `fronts` (execution id, task id) by pool,
    and `breakers` all that count or are open, if asked for. `heads`: by task, the epoch of each.
    """

    running: dict[str, int] = field(default_factory=dict)
    ready: dict[str, int] = field(default_factory=dict)
    limits: Sequence[int] = ()
    agents: dict[str, int] = field(default_factory=dict)
    used: dict[str, Offer] = field(default_factory=dict)
    positions: dict[str, Waiter] = field(default_factory=dict)
    tasks: dict[str, TaskCount] = field(default_factory=dict)
    low: Sequence[LowTask] = ()
    fronts: dict[str, tuple[str, str]] = field(default_factory=dict)
    breakers: Sequence[Breaker] = ()
    heads: dict[str, dict[str, int]] = field(default_factory=dict)

    def used_of(self, agent_id: str) -> Offer:
        """What an agent's executions asked for."""
        return self.used.get(agent_id, UNKNOWN)


@dataclass(frozen=True, kw_only=True, slots=True)
class Gauged:
    """What the farm is at. `queues` are those of all tasks, with the pool that serves each; the rest is None where no
    filling of the index holds.

    `running` by pool, `slots` by pool (of agents that are connected here), `limits` as (pattern, running, most),
    `breakers` as they are, `now_ms` the time that their phases are told at.
    """

    queues: Sequence[tuple[Queue, str]]
    slots: dict[str, int]
    running: dict[str, int] | None = None
    limits: Sequence[tuple[str, int, int]] = ()
    breakers: Sequence[Breaker] = ()
    now_ms: int = 0


class Gauges(Protocol):
    """Where it is shown."""

    def show(self, gauged: Gauged | None) -> None:
        """Shows it in place of what was before; None: nothing is known. Breakers stay as they were where they are not
        known."""
        ...


class MatchIndex(Protocol):
    """Ready heads, running sets and breakers, under one set of rules.

    Calls raise Unavailable where the server can't be reached (what they did is then unknown), and those that name a
    generation StaleIndex where that one does not hold. Each change is atomic.
    """

    def use(self, matching: Matching, version: int) -> None:
        """These are the rules from now on; a filling made under others does not hold. `version` grows with them."""
        ...

    async def look(self) -> Filling:
        """What is there now."""
        ...

    async def claim_rebuild(self, seconds: float) -> bool:
        """Tells others that this dispatcher fills the index, for so long; False if another one does."""
        ...

    async def begin(self, generation: int) -> None:
        """Begins a filling, empty."""
        ...

    async def load(self, generation: int, held: Sequence[HeldExecution]) -> None:
        """Counts executions in a filling that was begun."""
        ...

    async def publish(self, generation: int) -> None:
        """Makes it the one that holds."""
        ...

    async def sweep(self, generation: int) -> None:
        """Removes what older fillings left."""
        ...

    async def take(self, generation: int, seats: Sequence[Seat]) -> Takings:
        """Takes heads for seats, one each in turn, within slots, offers, pools' maxima, limits and breakers."""
        ...

    async def settle(self, generation: int, changes: Changes) -> Sequence[LowTask]:
        """Tells it what the store said; returns tasks that refused heads and should be refilled now."""
        ...

    async def refill(self, generation: int, tasks: Sequence[TaskHeads]) -> None:
        """Takes in the first heads of tasks as the store has them."""
        ...

    async def adopt(self, generation: int, held: Sequence[HeldExecution]) -> None:
        """Counts executions that the store holds and that do not count, as unconfirmed ones."""
        ...

    async def places(self, generation: int) -> Sequence[Place]:
        """All that counts."""
        ...

    async def overdue(self, generation: int, older_than_ms: int) -> Sequence[Place]:
        """Up to 500 places of takes that nobody has confirmed for so long, the oldest first."""
        ...

    async def survey(self, generation: int, question: Question) -> Survey:
        """Counts."""
        ...

    async def tasks(self, generation: int) -> Sequence[str]:
        """Tasks that have heads, and some that had. A change meanwhile may or may not be seen; none of a generation
        that does not hold."""
        ...

    async def reset_breaker(self, kind: Kind, subject: str) -> None:
        """Closes a breaker, if it is there; others are woken."""
        ...

    def wakes(self) -> AsyncIterator[None]:
        """Yields each time that another dispatcher made work; may miss some."""
        ...
