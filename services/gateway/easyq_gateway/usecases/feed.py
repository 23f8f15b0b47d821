"""One feed for all watchers of this gateway: attached once to each store, fanned out from here.

It attaches with the first watcher, and lets go some time after the last has gone. What comes is kept in a ring, so that
a watcher that was cut off goes on where it was; one that can't gets a RESET.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property

from easyq.v1.event_service_pb2 import Event, EventKind
from easyq_chassis.errors import EasyQError, Unavailable
from easyq_chassis.logs import get_logger
from easyq_gateway.codec import sse
from easyq_gateway.codec.encode import to_tree
from easyq_gateway.domain import feed_positions
from easyq_gateway.ports import FeedSource
from easyq_internal.store.v1 import feed_pb2

# Events that are kept for watchers that come again, and how many of them a gateway that starts asks for.
MOST_EVENTS = 20_000
# Bytes of them, serialized: failures may have long messages. In memory it is a few times as much.
MOST_BYTES = 16 * 1024 * 1024
_BACK = 10_000
# Events that a watcher may be behind.
MOST_BEHIND = 2_000
# Seconds for which a feed that nobody watches stays attached.
LINGER = 60.0
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 1.0


class Entry:
    """An event with its place in the feed of its store. What watchers are sent of it is made once for all of them."""

    def __init__(self, event: Event, boot: str = "", seq: int = 0) -> None:
        self.event = event
        self.boot = boot
        self.seq = seq
        self.size = event.ByteSize()

    @cached_property
    def sse(self) -> bytes:
        """The event as Server-Sent Events have it."""
        kind = EventKind.Name.Name(self.event.kind).lower()
        return sse.event(kind, to_tree(self.event), self.event.id)


class Feed:
    """All stores' changes."""

    def __init__(
        self,
        sources: Sequence[FeedSource],
        *,
        patience: float,
        names: Sequence[str] = (),
        most: int = MOST_EVENTS,
        most_bytes: int = MOST_BYTES,
        most_behind: int = MOST_BEHIND,
        linger: float = LINGER,
    ) -> None:
        """`names` of the sources are what `away` tells of them."""
        shown = [*names, *map(str, range(len(names), len(sources)))]
        self._upstreams = [_Upstream(self, source, name) for source, name in zip(sources, shown, strict=True)]
        self._patience = patience
        self._most = most
        self._most_bytes = most_bytes
        self._most_behind = most_behind
        self._linger = linger
        self._letting_go: asyncio.TimerHandle | None = None
        self._ring: deque[Entry] = deque()
        self._bytes = 0
        # By boot: the number of the newest event, and that of the newest which is not in the ring.
        self._heads: dict[str, int] = {}
        self._floors: dict[str, int] = {}
        # When the newest event was, by the clock of its store.
        self._at_ms: int | None = None
        self._watchers: dict[tuple[str, str], set[Watcher]] = {}
        self._count = 0
        self.closed = False

    @property
    def position(self) -> str:
        """Where a watcher is that has everything."""
        return feed_positions.show(self._heads, self._at_ms)

    @property
    def away(self) -> list[str]:
        """Stores of which nothing comes now."""
        return [upstream.name for upstream in self._upstreams if not upstream.attached.is_set()]

    async def watch(
        self,
        *,
        task_id: str = "",
        job_id: str = "",
        kinds: Collection[int] = (),
        after: str = "",
        partly: bool = False,
    ) -> Watcher:
        """A watcher, for use in a `with` block: gets what comes from now on, or what came after a position.

        What was written before this returns can be read by whoever reads now. With `partly` it begins with the stores
        that answer, if any does; one that comes back joins it, by a RESET where something may be missing. Errors:
        `Unavailable` (a store, with `partly` all of them, can't be reached in time).
        """
        if self.closed:
            raise stopping()
        watcher = Watcher(self, task_id=task_id, job_id=job_id, kinds=frozenset(kinds), most=self._most_behind)
        self._hold()
        try:
            async with asyncio.timeout(self._patience):
                for upstream in self._upstreams:
                    await (upstream.known if partly else upstream.attached).wait()
                if len(self.away) == len(self._upstreams):
                    await self._any_attached()
        except TimeoutError:
            if not partly or len(self.away) == len(self._upstreams):
                raise Unavailable(
                    "the store can't be reached now, and nothing can be watched", retry_after=2.0
                ) from None
        finally:
            self._release()
        for upstream in self._upstreams:
            upstream.miss()
        if after:
            self._go_on(watcher, after)
        return watcher

    async def _any_attached(self) -> None:
        waiting = [asyncio.create_task(upstream.attached.wait()) for upstream in self._upstreams]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()

    def enter(self, watcher: Watcher) -> None:
        """A watcher comes."""
        self._hold()
        self._watchers.setdefault(watcher.key, set()).add(watcher)

    def leave(self, watcher: Watcher) -> None:
        """A watcher goes; with the last one, and not at once, the upstreams end."""
        here = self._watchers[watcher.key]
        here.discard(watcher)
        if not here:
            del self._watchers[watcher.key]
        self._release()

    def close(self) -> None:
        """Ends all watchers, and takes no more."""
        self.closed = True
        for watcher in self._all():
            watcher.news.set()

    async def stop(self) -> None:
        """Lets go of the stores."""
        self.close()
        if self._letting_go is not None:
            self._letting_go.cancel()
        await asyncio.gather(*(upstream.stop() for upstream in self._upstreams))

    # ------------------------------------------------------------------------------------------- what upstreams tell
    def begin(self, old: str, boot: str, seq: int) -> None:
        """A store's feed begins at this number, and what came before it is not known."""
        self._heads.pop(old, None)
        self._floors.pop(old, None)
        self._heads[boot] = self._floors[boot] = seq

    def take(self, boot: str, seq: int, event: Event) -> None:
        """The next event of a store."""
        self._heads[boot] = seq
        if event.kind == EventKind.RESET:
            self._floors[boot] = seq
            self.reset()
            return
        if event.HasField("at"):
            self._at_ms = max(self._at_ms or 0, event.at.ToMilliseconds())
        event.id = self.position
        entry = Entry(event, boot, seq)
        self._keep(entry)
        for key in _keys(event):
            for watcher in self._watchers.get(key, ()):
                watcher.offer(entry)

    def reset(self) -> None:
        """Events are missing: all are told."""
        for watcher in self._all():
            watcher.lose()

    # --------------------------------------------------------------------------------------------------------- inside
    def _keep(self, entry: Entry) -> None:
        """Puts an event into the ring, and the oldest out of it as far as there is no room."""
        self._ring.append(entry)
        self._bytes += entry.size
        while len(self._ring) > self._most or (self._bytes > self._most_bytes and len(self._ring) > 1):
            gone = self._ring.popleft()
            self._bytes -= gone.size
            if gone.boot in self._floors:
                self._floors[gone.boot] = max(gone.seq, self._floors[gone.boot])

    def _go_on(self, watcher: Watcher, after: str) -> None:
        seen = feed_positions.read(after)
        if seen is None or seen.keys() != self._heads.keys():
            watcher.lose()
            return
        if any(not self._floors[boot] <= seq <= self._heads[boot] for boot, seq in seen.items()):
            watcher.lose()
            return
        for entry in self._behind(seen):
            if watcher.key in _keys(entry.event):
                watcher.offer(entry)

    def _behind(self, seen: Mapping[str, int]) -> Sequence[Entry]:
        """What came after a position. Looks at no more of the ring than that: many may come again at once."""
        found: list[Entry] = []
        missing = {boot for boot, seq in seen.items() if seq < self._heads[boot]}
        for entry in reversed(self._ring):
            if not missing:
                break
            # What another boot has left in the ring is covered by the RESET that came with its end.
            if entry.seq > seen.get(entry.boot, entry.seq):
                found.append(entry)
            else:
                missing.discard(entry.boot)
        return found[::-1]

    def _all(self) -> Iterable[Watcher]:
        return [watcher for here in self._watchers.values() for watcher in here]

    def _hold(self) -> None:
        self._count += 1
        if self._letting_go is not None:
            self._letting_go.cancel()
            self._letting_go = None
        for upstream in self._upstreams:
            upstream.start()

    def _release(self) -> None:
        self._count -= 1
        if not self._count and not self.closed:
            self._letting_go = asyncio.get_running_loop().call_later(self._linger, self._let_go)

    def _let_go(self) -> None:
        self._letting_go = None
        for upstream in self._upstreams:
            upstream.cancel()


def _keys(event: Event) -> tuple[tuple[str, str], ...]:
    if not event.job_id:
        return (("", ""),)
    return ("", ""), ("task", event.task_id), ("job", event.job_id)


def stopping() -> Unavailable:
    """What those who watch, or wait, are told at the end of a gateway."""
    return Unavailable("the gateway is being stopped; come again in a moment", retry_after=1.0)


class Watcher:
    """Takes events at its own pace: one that falls too far behind loses them, is told so, and holds up nobody."""

    def __init__(self, feed: Feed, *, task_id: str, job_id: str, kinds: frozenset[int], most: int) -> None:
        self._feed = feed
        self.key = ("job", job_id) if job_id else ("task", task_id) if task_id else ("", "")
        self._task_id = task_id
        self._kinds = kinds
        self._most = most
        self._queue: list[Entry] = []
        self._lost = False
        self.news = asyncio.Event()

    def __enter__(self) -> Watcher:
        self._feed.enter(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._feed.leave(self)

    def offer(self, entry: Entry) -> None:
        """Queues an event, if it is one that is watched for."""
        event = entry.event
        if self._lost or (self._kinds and event.kind not in self._kinds):
            return
        if self._task_id and event.task_id != self._task_id:
            return
        if len(self._queue) >= self._most:
            self.lose()
            return
        self._queue.append(entry)
        self.news.set()

    def lose(self) -> None:
        """Drops what is queued: the next thing that it gets is a RESET."""
        self._queue = []
        self._lost = True
        self.news.set()

    async def next(self) -> list[Entry]:
        """What came, in order; waits for it. A RESET comes alone. Raises `Unavailable` when the gateway is stopped."""
        while True:
            if self._feed.closed:
                raise stopping()
            self.news.clear()
            if self._lost:
                self._lost = False
                return [Entry(Event(id=self._feed.position, kind=EventKind.RESET))]
            if self._queue:
                taken, self._queue = self._queue, []
                return taken
            await self.news.wait()


class _Upstream:
    """The stream of one store: one that breaks is begun again, where it was."""

    def __init__(self, feed: Feed, source: FeedSource, name: str) -> None:
        self.name = name
        self._feed = feed
        self._source = source
        self._boot = ""
        self._seq = 0
        self._task: asyncio.Task[None] | None = None
        # It has told all that it knew when it was asked.
        self.attached = asyncio.Event()
        # Whether it is there: it is attached, or has failed, or been waited for in vain.
        self.known = asyncio.Event()
        # Somebody watches who has not been told where it begins.
        self._missed = False

    def miss(self) -> None:
        """Somebody begins to watch: without this one, if it is away."""
        if not self.attached.is_set():
            self.known.set()
            self._missed = self._missed or not self._boot

    def start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="feed")

    def cancel(self) -> None:
        task, self._task = self._task, None
        self.attached.clear()
        self.known.clear()
        if task is not None:
            task.cancel()

    async def stop(self) -> None:
        task = self._task
        self.cancel()
        if task is not None:
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            asked = feed_pb2.WatchRequest(boot=self._boot, after=self._seq, back=_BACK)
            try:
                async for batch in self._source.watch(asked):
                    pause = _FIRST_PAUSE
                    self._take(batch)
            except EasyQError as error:
                get_logger().debug("feed_away", error=error.message)
            except Exception as error:  # noqa: BLE001 - whatever it is, watchers wait for the next try
                get_logger().error("feed_failed", error=repr(error), exc_info=error)
            self.attached.clear()
            self.known.set()
            await asyncio.sleep(pause * (0.5 + random.random() / 2))  # noqa: S311 - spreading load, not a secret
            pause = min(_LONGEST_PAUSE, pause * 2)

    def _take(self, batch: feed_pb2.WatchResponse) -> None:
        if batch.boot != self._boot or batch.reset or batch.first != self._seq + 1:
            old, self._boot, self._seq = self._boot, batch.boot, batch.first - 1
            self._feed.begin(old, self._boot, self._seq)
            if old:
                self._feed.reset()
        for event in batch.events:
            self._seq += 1
            self._feed.take(self._boot, self._seq, event)
        if self._seq >= batch.head:
            self.attached.set()
            self.known.set()
            if self._missed:
                # After all that it knew: whoever reads now has that.
                self._missed = False
                self._feed.reset()
