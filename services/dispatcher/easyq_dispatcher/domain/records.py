"""What the dispatcher speaks of: heads, seats, takings, places."""

from __future__ import annotations

from dataclasses import dataclass

from easyq_dispatcher.domain.needs import NOTHING, UNKNOWN, Needs, Offer

# A head's score orders a task's heads: by priority, then by place in line. Both fit into the 53 bits of a double.
_SEQ_BITS = 45
_HIGHEST_PRIORITY = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """A ready execution. `priority` is -100 to 100, higher first; `queue_seq` is its place in line, below 2^45.

    `needs` is what it asks of its host; `image` is empty if not known.
    """

    execution_id: str
    task_id: str
    priority: int
    queue_seq: int
    epoch: int
    needs: Needs = NOTHING
    image: str = ""

    @property
    def score(self) -> int:
        """Sorts the heads of one task: the lowest is the first."""
        return ((_HIGHEST_PRIORITY - self.priority) << _SEQ_BITS) + self.queue_seq

    @classmethod
    def from_score(
        cls, score: int, *, execution_id: str, task_id: str, epoch: int, needs: Needs = NOTHING, image: str = ""
    ) -> Head:
        """The head that has this score."""
        return cls(
            execution_id=execution_id,
            task_id=task_id,
            priority=_HIGHEST_PRIORITY - (score >> _SEQ_BITS),
            queue_seq=score & ((1 << _SEQ_BITS) - 1),
            epoch=epoch,
            needs=needs,
            image=image,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Seat:
    """An agent that wants work. `slots` and `offer` are all that it has; the index knows how much of them is taken."""

    agent_id: str
    session: int
    slots: int
    pools: tuple[str, ...]
    offer: Offer = UNKNOWN
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Taking:
    """A head that was taken for an agent: it has its places, and is still to be assigned in the store.

    `token` names this one take, so that a late word on it can't touch a later take of the same execution.
    """

    head: Head
    token: str
    agent_id: str
    session: int
    pool: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """An execution that counts in the index. `confirmed`: the store is known to hold it."""

    execution_id: str
    token: str
    agent_id: str
    confirmed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Released:
    """The store's word that an execution left ASSIGNED|RUNNING, where it had `epoch`."""

    execution_id: str
    epoch: int


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldExecution:
    """An execution that is ASSIGNED or RUNNING in the store, with the epoch of that."""

    execution_id: str
    task_id: str
    agent_id: str
    session: int
    pool: str
    epoch: int
    needs: Needs = NOTHING


@dataclass(frozen=True, kw_only=True, slots=True)
class Fenced:
    """What the store says of an execution whose older epochs it has just fenced: QUEUED, held, or neither."""

    execution_id: str
    ready: Head | None = None
    held: HeldExecution | None = None
