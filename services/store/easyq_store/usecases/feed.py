"""The feed of changes: a ring of the newest, in the order of their commits, and those who read it.

Positions are a boot and a number. A boot is one filling of the ring: it begins with the first reader, and ends some
minutes after the last has gone, when notes are not taken any more, so that a store that nobody watches pays nothing.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from easyq_store.domain.changes import Change, How, Kind, Note, Record, change_of, gap
from easyq_store.domain.records import Agent

MOST_CHANGES = 50_000
MOST_BYTES = 64 * 1024 * 1024
# Seconds for which notes are taken when the last reader has gone: it may come again, and go on where it was.
LINGER = 300.0
_AT_ONCE = 500
# Records of which is remembered what of them was told last: those that plans under way may still tell of.
_REMEMBERED = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """A reader has all changes of this boot up to this number."""

    boot: str
    seq: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Consecutive changes, the first of which has the number `first`. `reset`: those before it are not known."""

    boot: str
    first: int
    changes: Sequence[Change]
    head: int
    reset: bool = False


class Ring:
    """The newest changes, bounded by count and by bytes. Changes are numbered from 1."""

    def __init__(self, *, most: int, most_bytes: int) -> None:
        self._slots: list[Change | None] = [None] * most
        self._most_bytes = most_bytes
        self._bytes = 0
        # Number of the newest change; that of the newest which is not there any more.
        self.head = 0
        self.floor = 0

    def append(self, change: Change) -> None:
        """Adds the newest change; the oldest go where there is no room."""
        if self.head - self.floor == len(self._slots):
            self._drop()
        self.head += 1
        self._slots[self.head % len(self._slots)] = change
        self._bytes += change.size
        while self._bytes > self._most_bytes and self.floor < self.head - 1:
            self._drop()

    def after(self, seq: int, most: int) -> list[Change]:
        """Up to `most` changes with higher numbers than this, which is not below the floor."""
        slots = self._slots
        found = (slots[number % len(slots)] for number in range(seq + 1, min(self.head, seq + most) + 1))
        return [change for change in found if change is not None]

    def _drop(self) -> None:
        self.floor += 1
        place = self.floor % len(self._slots)
        gone, self._slots[place] = self._slots[place], None
        self._bytes -= gone.size if gone is not None else 0


class Feed:
    """One process's feed. `now` is the store's clock, `new_boot` makes names that were never used before."""

    def __init__(
        self,
        *,
        now: Callable[[], int],
        new_boot: Callable[[], str],
        most: int = MOST_CHANGES,
        most_bytes: int = MOST_BYTES,
        linger: float = LINGER,
    ) -> None:
        self._now = now
        self._new_boot = new_boot
        self._most = most
        self._most_bytes = most_bytes
        self._linger = linger
        self._readers: set[Reader] = set()
        self._letting_go: asyncio.TimerHandle | None = None
        # Numbers of the writes that were told last.
        self._told: OrderedDict[tuple[Kind, str, int], int] = OrderedDict()
        self.boot = ""
        self.ring = Ring(most=1, most_bytes=0)
        # Whether notes are to be taken at all. Looked at with every plan.
        self.wanted = False
        self.closed = False

    def take(self, notes: Sequence[Note]) -> None:
        """Takes up what was written, once it is durable.

        A plan of several writes may hand on its notes after a later one did: of a record nothing is told behind what
        is newer, which has all that can be seen of it.
        """
        at = self._now()
        told = False
        for before, after in notes:
            change = change_of(before, after, at=at)
            if change is not None and self._is_news(change, before if after is None else after):
                self.ring.append(change)
                told = True
        if told:
            self._wake()

    def _is_news(self, change: Change, record: Record | None) -> bool:
        if record is None:
            return False
        made_at = 0 if isinstance(record, Agent) else record.created_at
        key = (change.kind, change.execution_id or change.job_id or change.agent_id, made_at)
        last = self._told.get(key, 0)
        self._told[key] = max(last, record.write_no)
        self._told.move_to_end(key)
        if len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)
        return record.write_no > last or change.how is How.DELETED

    def take_gap(self) -> None:
        """Says that something may have been written, and what is not known."""
        self.ring.append(gap(at=self._now()))
        self._wake()

    def read(self, after: Position | None = None, *, back: int = 0) -> "Reader":
        """A reader, for use in a `with` block; notes are taken from now on."""
        if self._letting_go is not None:
            self._letting_go.cancel()
            self._letting_go = None
        if not self.wanted:
            self.boot = self._new_boot()
            self.ring = Ring(most=self._most, most_bytes=self._most_bytes)
            self.wanted = True
        return Reader(self, after, back)

    def close(self) -> None:
        """Ends all readers."""
        self.closed = True
        if self._letting_go is not None:
            self._letting_go.cancel()
        self._wake()

    def enter(self, reader: "Reader") -> None:
        """A reader comes."""
        self._readers.add(reader)

    def leave(self, reader: "Reader") -> None:
        """A reader goes; with the last one, and not at once, notes end."""
        self._readers.discard(reader)
        if not self._readers and not self.closed:
            self._letting_go = asyncio.get_running_loop().call_later(self._linger, self._let_go)

    def _let_go(self) -> None:
        self._letting_go = None
        self.wanted = False
        self.ring = Ring(most=1, most_bytes=0)
        self._told.clear()

    def _wake(self) -> None:
        for reader in self._readers:
            reader.news.set()


class Reader:
    """Reads the ring at its own pace: one that is too slow is told so, and holds up nobody."""

    def __init__(self, feed: Feed, after: Position | None, back: int) -> None:
        self._feed = feed
        self._after = after
        self._back = back
        self._seq = 0
        self.news = asyncio.Event()

    def __enter__(self) -> "Reader":
        self._feed.enter(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._feed.leave(self)

    async def begin(self, ready: Callable[[], Awaitable[None]]) -> Batch:
        """Where it begins: an empty batch. `ready` returns when every change that is durable from then on is noted."""
        await ready()
        ring, after = self._feed.ring, self._after
        known = after is not None and after.boot == self._feed.boot and ring.floor <= after.seq <= ring.head
        if after is not None and known:
            self._seq = after.seq
        else:
            self._seq = max(ring.floor, ring.head - self._back) if after is None else ring.head
        return self._batch([], reset=after is not None and not known)

    async def next(self) -> Batch | None:
        """What came since; waits for it. None: the feed is closed."""
        while not self._feed.closed:
            self.news.clear()
            ring = self._feed.ring
            if self._seq < ring.floor:
                self._seq = ring.head
                return self._batch([], reset=True)
            changes = ring.after(self._seq, _AT_ONCE)
            if changes:
                batch = self._batch(changes)
                self._seq += len(changes)
                return batch
            await self.news.wait()
        return None

    def _batch(self, changes: Sequence[Change], *, reset: bool = False) -> Batch:
        feed = self._feed
        return Batch(boot=feed.boot, first=self._seq + 1, changes=changes, head=feed.ring.head, reset=reset)
