"""What the index has still to be told."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from easyq_dispatcher.domain.breakers import Omen, Sign
from easyq_dispatcher.domain.records import Head, Place, Released, Taking
from easyq_dispatcher.ports import Changes

# Heads kept while the index is away. Those beyond are dropped: the feeder brings them back from the store.
MOST_HEADS = 10_000
MOST_AT_ONCE = 500


class Ledger:
    """Collects changes until somebody takes them to the index. `wake` is called when there is something new.

    Releases are kept until they were taken in, whatever becomes of the index: one that a new filling has not seen frees
    a place there. Words on takes are bound to their filling, and mean nothing to another one.

    `troubled`: some breaker is open or counts failures, so that the index wants to know what works.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._dropped: list[tuple[str, str]] = []
        self._released: list[Released] = []
        self._confirmed: list[tuple[str, str]] = []
        self._ready: list[Head] = []
        self._omens: list[Omen] = []
        self.lost_heads = False
        self.troubled = False
        # Where heads go while the index may lack those before them: their tasks are read instead.
        self._read_tasks: Callable[[Iterable[str]], None] | None = None

    def divert_heads(self, read_tasks: Callable[[Iterable[str]], None]) -> None:
        """The index is a new one, and what was ready before is not in it yet: no head may overtake that."""
        self._read_tasks = read_tasks
        read_tasks([head.task_id for head in self._ready])
        self._ready.clear()

    def let_heads_in(self) -> None:
        """The index has heads of every task that has any."""
        self._read_tasks = None

    def ready(self, heads: Iterable[Head]) -> None:
        """These are ready."""
        if self._read_tasks is not None:
            self._read_tasks([head.task_id for head in heads])
            return
        self._ready += heads
        self._cut()
        self._wake()

    def omens(self, items: Iterable[Omen]) -> None:
        """Executions told this of their hosts and images. To be called before they are released."""
        for item in items:
            if item.sign is not Sign.WORKED:
                self.troubled = True
            if self.troubled:
                self._omens.append(item)
                self._wake()

    def released(self, items: Iterable[Released]) -> None:
        """These left ASSIGNED|RUNNING."""
        self._released += items
        self._wake()

    def confirmed(self, items: Iterable[Taking | Place]) -> None:
        """The store holds these. Nobody waits for it."""
        self._confirmed += map(_name, items)

    def dropped(self, items: Iterable[Taking | Place]) -> None:
        """These takes came to nothing."""
        self._dropped += map(_name, items)
        self._wake()

    def take(self) -> Changes:
        """Takes out what is there, at most MOST_AT_ONCE of each kind. Releases come before heads, as they came."""
        # What was released counts no longer, and its omens would mean nothing.
        released = self._released[:MOST_AT_ONCE] if len(self._omens) <= MOST_AT_ONCE else []
        changes = Changes(
            omens=self._omens[:MOST_AT_ONCE],
            dropped=self._dropped[:MOST_AT_ONCE],
            released=released,
            confirmed=self._confirmed[:MOST_AT_ONCE],
            # A head of an execution that still counts would be refused, so no head overtakes a release.
            ready=self._ready[:MOST_AT_ONCE]
            if len(released) == len(self._released) and len(self._dropped) <= MOST_AT_ONCE
            else [],
        )
        del self._dropped[:MOST_AT_ONCE], self._released[: len(released)], self._confirmed[:MOST_AT_ONCE]
        del self._omens[:MOST_AT_ONCE]
        del self._ready[: len(changes.ready)]
        return changes

    def put_back(self, changes: Changes) -> None:
        """Takes back what could not be told."""
        self._dropped[:0] = changes.dropped
        self._released[:0] = changes.released
        self._confirmed[:0] = changes.confirmed
        self._ready[:0] = changes.ready
        self._omens[:0] = changes.omens
        self._cut()

    def __bool__(self) -> bool:
        return bool(self._dropped or self._released or self._confirmed or self._ready or self._omens)

    def _cut(self) -> None:
        if len(self._ready) > MOST_HEADS:
            del self._ready[MOST_HEADS:]
            self.lost_heads = True


def _name(item: Taking | Place) -> tuple[str, str]:
    if isinstance(item, Place):
        return item.execution_id, item.token
    return item.head.execution_id, item.token
