"""One feed for many watchers: order, indexes, going on, and what is told where something is missing."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from typing import Any

import pytest

from easyq.v1.event_service_pb2 import Event, EventKind
from easyq_chassis.errors import Unavailable
from easyq_gateway.usecases.feed import Entry, Feed, Watcher
from easyq_internal.store.v1 import feed_pb2
from tests.fakes.gateway_feed import FakeFeed
from tests.support.waiting import eventually


class Source:
    """A store without a socket between."""

    def __init__(self, boot: str = "b1") -> None:
        self.store = FakeFeed(boot)
        self.away = False
        self._cut = asyncio.Event()

    def cut(self) -> None:
        """The stream breaks."""
        self._cut.set()
        self._cut = asyncio.Event()

    async def watch(self, request: feed_pb2.WatchRequest) -> AsyncIterator[feed_pb2.WatchResponse]:
        if self.away:
            raise Unavailable("away")
        stream, cut = self.store.Watch(request, None), asyncio.create_task(self._cut.wait())
        waiting: set[asyncio.Future[Any]] = {cut}
        try:
            while True:
                following = asyncio.ensure_future(anext(stream))
                waiting.add(following)
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if not following.done():
                    raise Unavailable("cut off")
                waiting.discard(following)
                yield following.result()
        finally:
            for each in waiting:
                each.cancel()
            await asyncio.wait(waiting)
            await stream.aclose()


def event(job_id: str, task_id: str = "mail", **fields: object) -> Event:
    return Event(kind=EventKind.JOB, task_id=task_id, job_id=job_id, **fields)  # type: ignore[arg-type]


def host(agent_id: str) -> Event:
    return Event(kind=EventKind.AGENT, agent_id=agent_id)


async def got(watcher: Watcher, count: int) -> list[str]:
    """The next ids; RESET as such."""
    found: list[str] = []
    async with asyncio.timeout(30):
        while len(found) < count:
            for entry in await watcher.next():
                told = entry.event
                found.append("RESET" if told.kind == EventKind.RESET else told.job_id or told.agent_id)
    return found


@pytest.fixture
async def source() -> Source:
    return Source()


@pytest.fixture
async def feed(source: Source) -> AsyncIterator[Feed]:
    made = Feed([source], patience=2.0, most=100, most_behind=10)
    yield made
    await made.stop()


async def test_each_watcher_gets_what_it_watches(feed: Feed, source: Source) -> None:
    everything, task, job = await feed.watch(), await feed.watch(task_id="mail"), await feed.watch(job_id="a")
    of_another = await feed.watch(task_id="other", job_id="a")
    hosts = await feed.watch(kinds=[EventKind.AGENT])
    with everything, task, job, of_another, hosts:
        source.store.tell(event("a"), event("b"), event("c", "sms"), host("h"), event("a"))
        assert await got(everything, 5) == ["a", "b", "c", "h", "a"]
        assert await got(task, 3) == ["a", "b", "a"]
        assert await got(job, 2) == ["a", "a"]
        assert await got(hosts, 1) == ["h"]
        assert not of_another.news.is_set()
    # One stream, however many watch.
    assert len(source.store.watches) == 1


async def test_a_watcher_goes_on_where_it_was(feed: Feed, source: Source) -> None:
    with await feed.watch() as watcher:
        source.store.tell(event("a"), event("b"), event("c"))
        entries: list[Entry] = []
        while len(entries) < 3:
            entries += await watcher.next()
    ids = [entry.event.id for entry in entries]
    assert ids == ["b1-1", "b1-2", "b1-3"]
    for index, last in enumerate(ids):
        with await feed.watch(after=last) as again:
            source.store.tell(event(f"new{index}"))
            rest = [*["a", "b", "c"][index + 1 :], *(f"new{each}" for each in range(index + 1))]
            assert await got(again, len(rest)) == rest


@pytest.mark.parametrize("last", ["b1-9", "other-1", "nonsense", "b1-0.b2-0"])
async def test_what_cannot_be_gone_on_with_is_told(feed: Feed, source: Source, last: str) -> None:
    with await feed.watch():
        source.store.tell(event("a"))
        await eventually(lambda: feed.position == "b1-1")
        with await feed.watch(after=last) as watcher:
            source.store.tell(event("b"))
            assert await got(watcher, 1) == ["RESET"]


async def test_what_left_the_ring_is_told(feed: Feed, source: Source) -> None:
    with await feed.watch() as watcher:
        for number in range(101):
            source.store.tell(event(str(number)))
            await got(watcher, 1)
    with await feed.watch(after="b1-0") as too_old:
        assert await got(too_old, 1) == ["RESET"]
    with await feed.watch(after="b1-95") as young:
        assert await got(young, 6) == ["95", "96", "97", "98", "99", "100"]


async def test_the_ring_is_bounded_by_bytes_too(source: Source) -> None:
    feed = Feed([source], patience=2.0, most=100, most_behind=10, most_bytes=10_000)
    with await feed.watch() as watcher:
        for number in range(30):
            long = event(str(number))
            long.error.message = "x" * 1000
            source.store.tell(long)
            await got(watcher, 1)
        assert sum(entry.event.ByteSize() for entry in feed._ring) <= 10_000
        assert len(feed._ring) == 9
        # One that is larger than all of them may be is kept: whoever is here gets it.
        source.store.tell(event("y" * 20_000))
        await got(watcher, 1)
        assert len(feed._ring) == 1
    with await feed.watch(after="b1-29") as too_old:
        assert await got(too_old, 1) == ["RESET"]
    await feed.stop()


class Ring(deque[Entry]):
    """Counts the entries that are looked at."""

    looks = 0

    def __iter__(self) -> Iterator[Entry]:
        for entry in super().__iter__():
            self.looks += 1
            yield entry

    def __reversed__(self) -> Iterator[Entry]:
        for entry in super().__reversed__():
            self.looks += 1
            yield entry


async def test_who_comes_again_costs_what_was_missed(feed: Feed, source: Source) -> None:
    """After a gateway's restart all of its watchers come at once, and the ring is large."""
    feed._ring = ring = Ring()
    with await feed.watch() as watcher:
        for number in range(90):
            source.store.tell(event(str(number)))
            await got(watcher, 1)
    with await feed.watch(after="b1-87") as again:
        assert await got(again, 3) == ["87", "88", "89"]
    assert ring.looks <= 5


async def test_a_slow_watcher_is_told_and_others_get_all(feed: Feed, source: Source) -> None:
    with await feed.watch() as slow, await feed.watch() as quick:
        for number in range(25):
            source.store.tell(event(str(number)))
            assert await got(quick, 1) == [str(number)]
        first = await slow.next()
        assert [entry.event.kind for entry in first] == [EventKind.RESET]
        # From there on it goes on.
        with await feed.watch(after=first[0].event.id) as again:
            source.store.tell(event("next"))
            assert await got(again, 1) == ["next"]
        assert await got(slow, 1) == ["next"]


async def test_a_broken_stream_is_begun_again_where_it_was(feed: Feed, source: Source) -> None:
    with await feed.watch() as watcher:
        source.store.tell(event("a"))
        assert await got(watcher, 1) == ["a"]
        source.away = True
        source.cut()
        await eventually(lambda: source.store.streams == 0)
        source.store.tell(event("b"))
        source.away = False
        assert await got(watcher, 1) == ["b"]
    assert [(asked.boot, asked.after) for asked in source.store.watches] == [("", 0), ("b1", 1)]


async def test_a_store_that_began_anew_is_a_reset(feed: Feed, source: Source) -> None:
    with await feed.watch() as watcher:
        source.store.tell(event("a"))
        assert await got(watcher, 1) == ["a"]
        source.store.begin_anew("b2")
        source.cut()
        assert await got(watcher, 1) == ["RESET"]
        source.store.tell(event("b"))
        assert await got(watcher, 1) == ["b"]
        assert feed.position == "b2-1"
        with await feed.watch(after="b1-1") as old:
            assert await got(old, 1) == ["RESET"]


async def test_a_gap_in_the_store_is_a_reset(feed: Feed, source: Source) -> None:
    with await feed.watch() as watcher:
        source.store.tell(event("a"), Event(kind=EventKind.RESET), event("b"))
        # What stood in its queue is dropped: the state that it reads now has it.
        assert await got(watcher, 1) == ["RESET"]
        with await feed.watch(after="b1-1") as before:
            assert await got(before, 1) == ["RESET"]
        with await feed.watch(after="b1-2") as behind:
            assert await got(behind, 1) == ["b"]


async def test_a_new_gateway_knows_what_came_before_it(source: Source) -> None:
    source.store.tell(event("a"), event("b"))
    feed = Feed([source], patience=2.0)
    with await feed.watch(after="b1-1") as watcher:
        assert await got(watcher, 1) == ["b"]
    await feed.stop()


async def test_several_stores(source: Source) -> None:
    other = Source("z9")
    feed = Feed([source, other], patience=2.0)
    with await feed.watch() as watcher:
        entries = []
        for store, name in ((source, "a"), (other, "b"), (source, "c"), (other, "d")):
            store.store.tell(event(name))
            entries += await watcher.next()
    assert [entry.event.id for entry in entries] == ["b1-1.z9-0", "b1-1.z9-1", "b1-2.z9-1", "b1-2.z9-2"]
    assert all(one.event.id != other.event.id for one, other in pairwise(entries))
    with await feed.watch(after="b1-1.z9-1") as watcher:
        assert await got(watcher, 2) == ["c", "d"]
    # Another gateway may have met them in another order.
    with await feed.watch(after="b1-0.z9-1") as watcher:
        assert await got(watcher, 3) == ["a", "c", "d"]
    with await feed.watch(after="b1-1") as watcher:
        assert await got(watcher, 1) == ["RESET"]
    await feed.stop()


async def test_a_watch_begins_with_the_stores_that_answer_and_the_others_join_it(source: Source) -> None:
    other = Source("z9")
    other.away = True
    feed = Feed([source, other], patience=2.0, names=["first", "second"])
    with await feed.watch(partly=True) as watcher:
        assert feed.away == ["second"]
        source.store.tell(event("a"))
        assert await got(watcher, 1) == ["a"]
        other.store.tell(event("missed"))
        other.away = False
        # What it reads now has what was missed; from then on all is told.
        assert await got(watcher, 1) == ["RESET"]
        assert feed.away == []
        other.store.tell(event("b"))
        assert await got(watcher, 1) == ["b"]
    await feed.stop()


async def test_a_store_that_was_known_joins_without_a_reset(source: Source) -> None:
    other = Source("z9")
    feed = Feed([source, other], patience=2.0)
    with await feed.watch() as first:
        other.away = True
        other.cut()
        await eventually(lambda: feed.away == ["1"])
        other.store.tell(event("late"))
        with await feed.watch(partly=True) as second:
            source.store.tell(event("a"))
            other.away = False
            assert await got(first, 2) == await got(second, 2) == ["a", "late"]
    await feed.stop()


async def test_with_one_that_hangs_a_watch_begins_once_patience_ends(source: Source) -> None:
    class Hanging(Source):
        async def watch(self, request: feed_pb2.WatchRequest) -> AsyncIterator[feed_pb2.WatchResponse]:
            await asyncio.Event().wait()
            yield feed_pb2.WatchResponse()

    feed = Feed([source, Hanging()], patience=0.05)
    # As if somebody watched already: the one that answers has done so before patience ends, however busy the machine.
    feed._hold()
    await eventually(lambda: feed.away == ["1"])
    with await feed.watch(partly=True) as watcher:
        source.store.tell(event("a"))
        assert await got(watcher, 1) == ["a"]
    with pytest.raises(Unavailable):
        await feed.watch()
    await feed.stop()


async def test_where_no_store_answers_no_watch_begins(source: Source) -> None:
    other = Source("z9")
    source.away = other.away = True
    feed = Feed([source, other], patience=0.05)
    with pytest.raises(Unavailable):
        await feed.watch(partly=True)
    await feed.stop()
    feed = Feed([source, other], patience=10.0)
    waiting = asyncio.create_task(feed.watch(partly=True))
    await asyncio.sleep(0)
    other.away = False
    with await waiting as watcher:
        other.store.tell(event("b"))
        assert (await got(watcher, 1), feed.away) == (["b"], ["0"])
    await feed.stop()


async def test_without_a_store_nothing_is_watched(source: Source) -> None:
    source.away = True
    feed = Feed([source], patience=0.05)
    with pytest.raises(Unavailable):
        await feed.watch()
    await feed.stop()


async def test_it_lets_go_and_attaches_again_where_it_was(source: Source) -> None:
    feed = Feed([source], patience=2.0, linger=0.01)
    with await feed.watch() as watcher:
        source.store.tell(event("a"))
        assert await got(watcher, 1) == ["a"]
    await eventually(lambda: source.store.streams == 0)
    source.store.tell(event("b"))
    with await feed.watch(after="b1-1") as watcher:
        assert await got(watcher, 1) == ["b"]
    assert [asked.after for asked in source.store.watches] == [0, 1]
    await feed.stop()


async def test_a_gateway_that_stops_ends_its_watchers(feed: Feed) -> None:
    with await feed.watch() as watcher:
        waiting = asyncio.create_task(watcher.next())
        await asyncio.sleep(0)
        feed.close()
        with pytest.raises(Unavailable):
            await waiting
    with pytest.raises(Unavailable):
        await feed.watch()
