"""The feed of changes: positions, bounds, readers that come, go, and are slow."""

import asyncio
from itertools import count

import pytest

from easyq_store.domain.changes import Change, How, Kind
from easyq_store.usecases.feed import Batch, Feed, Position, Reader, Ring
from tests.support.store_records import T0, job
from tests.support.waiting import eventually


def change(size: int = 0) -> Change:
    from easyq_store.domain.records import Failure
    from easyq_store.domain.states import FailureReason

    failure = Failure(reason=FailureReason.PULL_FAILED, message="x" * size)
    return Change(kind=Kind.JOB, how=How.CREATED, at=T0, failure=failure)


def make_feed(*, most: int = 100, linger: float = 300.0) -> Feed:
    boots = count(1)
    return Feed(now=lambda: T0, new_boot=lambda: f"boot{next(boots)}", most=most, linger=linger)


def write(feed: Feed, *job_ids: str) -> None:
    feed.take([(None, job(job_id)) for job_id in job_ids])


async def ready() -> None:
    """Everything takes notes."""


def ids(batch: Batch | None) -> list[str]:
    assert batch is not None
    return [change.job_id for change in batch.changes]


def test_a_ring_is_bounded_by_count() -> None:
    ring = Ring(most=3, most_bytes=10**9)
    changes = [change() for _ in range(5)]
    for each in changes:
        ring.append(each)
    assert (ring.floor, ring.head) == (2, 5)
    assert ring.after(2, 10) == changes[2:]
    assert ring.after(3, 1) == changes[3:4]
    assert ring.after(5, 10) == []


def test_a_ring_is_bounded_by_bytes() -> None:
    ring = Ring(most=1000, most_bytes=50_000)
    for _ in range(100):
        ring.append(change(size=9_000))
    assert ring.head == 100
    assert 3 <= ring.head - ring.floor <= 6
    ring.append(change(size=900_000))
    # The newest is there, however large.
    assert (ring.floor, len(ring.after(100, 9))) == (100, 1)


async def test_a_reader_gets_what_comes_after_it_began() -> None:
    feed = make_feed()
    with feed.read() as first:
        began = await first.begin(ready)
        assert (began.boot, began.first, began.head, began.reset, list(began.changes)) == ("boot1", 1, 0, False, [])
        write(feed, "a", "b")
        assert ids(await first.next()) == ["a", "b"]
        with feed.read() as second:
            assert (await second.begin(ready)).first == 3
            waiting = asyncio.create_task(second.next())
            write(feed, "c")
            assert ids(await waiting) == ["c"]
        assert ids(await first.next()) == ["c"]


CONTINUED = [(0, "abc", False), (1, "bc", False), (3, "", False), (4, "", True)]


@pytest.mark.parametrize(("after", "got", "reset"), CONTINUED)
async def test_a_reader_goes_on_where_it_was(after: int, got: str, reset: bool) -> None:
    feed = make_feed()
    with feed.read():
        write(feed, "a", "b", "c")
    with feed.read(Position(boot="boot1", seq=after)) as reader:
        began = await reader.begin(ready)
        assert (began.reset, began.head) == (reset, 3)
        write(feed, "d")
        assert ids(await reader.next()) == [*got, "d"]


async def test_a_new_reader_may_look_back() -> None:
    feed = make_feed()
    with feed.read():
        write(feed, "a", "b", "c")
    for back, got in ((2, ["b", "c"]), (9, ["a", "b", "c"])):
        with feed.read(back=back) as reader:
            assert not (await reader.begin(ready)).reset
            assert ids(await reader.next()) == got


async def test_another_boot_cannot_be_continued() -> None:
    feed = make_feed()
    with feed.read(Position(boot="gone", seq=0)) as reader:
        assert (await reader.begin(ready)).reset


async def test_a_slow_reader_is_told_and_holds_up_nobody() -> None:
    feed = make_feed(most=3)
    with feed.read() as slow, feed.read() as quick:
        await slow.begin(ready)
        await quick.begin(ready)
        write(feed, "a")
        assert ids(await quick.next()) == ["a"]
        write(feed, "b", "c", "d")
        assert ids(await quick.next()) == ["b", "c", "d"]
        lost = await slow.next()
        assert lost is not None
        assert (lost.reset, lost.first, list(lost.changes)) == (True, 5, [])
        write(feed, "e")
        assert ids(await slow.next()) == ["e"]


async def test_large_backlogs_come_in_parts() -> None:
    feed = make_feed(most=5000)
    with feed.read() as reader:
        await reader.begin(ready)
        write(feed, *(str(number) for number in range(1200)))
        parts = [await reader.next() for _ in range(3)]
    assert [len(ids(part)) for part in parts] == [500, 500, 200]
    assert [part.first for part in parts if part] == [1, 501, 1001]


async def test_notes_end_some_time_after_the_last_reader_and_begin_anew() -> None:
    feed = make_feed(linger=0.02)
    with feed.read():
        assert feed.wanted
    with feed.read() as again:
        # It came in time.
        assert (await again.begin(ready)).boot == "boot1"
        write(feed, "a")
    await eventually(lambda: not feed.wanted)
    with feed.read(Position(boot="boot1", seq=1)) as late:
        began = await late.begin(ready)
        assert (began.boot, began.reset) == ("boot2", True)
    feed.close()


async def test_a_closed_feed_ends_its_readers() -> None:
    feed = make_feed()
    with feed.read() as reader:
        await reader.begin(ready)
        waiting = asyncio.create_task(reader.next())
        await asyncio.sleep(0)
        feed.close()
        assert await waiting is None


async def test_what_may_have_happened_is_told_as_a_gap() -> None:
    feed = make_feed()
    with feed.read() as reader:
        assert isinstance(reader, Reader)
        await reader.begin(ready)
        feed.take_gap()
        batch = await reader.next()
        assert batch is not None
        assert [each.kind for each in batch.changes] == [Kind.GAP]
