"""Append and ReadLogs."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from google.protobuf.duration_pb2 import Duration

from easyq.v1.spec_pb2 import Backoff
from easyq_chassis.errors import Aborted, NotFound, Unavailable
from easyq_store.domain.decide import End
from easyq_store.domain.logs import Piece, Taken
from easyq_store.domain.moves import LogSizes
from easyq_store.domain.records import LogChunk
from easyq_store.domain.states import Outcome, Stream
from easyq_store.usecases import report, stop
from easyq_store.usecases.append import append
from easyq_store.usecases.read_logs import Begun, Ended, Pace, Wanted, read_logs
from easyq_store.usecases.retain import removing_logs
from tests.support.store_world import World, ended, exited

QUICK = Pace(poll=0.01, patience=1000.0)
_STORED = 256 * 1024


def out(execution_id: str, offset: int, data: bytes, epoch: int = 1) -> Piece:
    return Piece(execution_id=execution_id, epoch=epoch, stream=Stream.STDOUT, offset=offset, data=data)


def err(execution_id: str, offset: int, data: bytes, epoch: int = 1) -> Piece:
    return Piece(execution_id=execution_id, epoch=epoch, stream=Stream.STDERR, offset=offset, data=data)


async def store(world: World, *pieces: Piece) -> list[tuple[str, int]]:
    return [(a.taken.name, a.stored) for a in await append(world.ctx, pieces)]


@pytest.fixture
async def running(world: World) -> str:
    """An execution that runs, of job `job`."""
    await world.hello()
    execution_id = await world.submit()
    await world.run(execution_id)
    return execution_id


def finished(stdout: int, stderr: int = 0, code: int = 0) -> report.Finished:
    end = End(outcome=Outcome.EXITED, exit_code=code)
    return report.Finished(end=end, sizes=LogSizes(stdout=stdout, stderr=stderr))


async def read(world: World, pace: Pace = QUICK, **wanted: object) -> list[tuple[str, int, bytes] | tuple[str, bool]]:
    events: list[tuple[str, int, bytes] | tuple[str, bool]] = []
    async for event in read_logs(world.ctx, Wanted(**wanted), pace):  # type: ignore[arg-type]
        if isinstance(event, LogChunk):
            events.append((event.stream.name, event.offset, event.data))
        elif isinstance(event, Ended):
            events.append((event.execution.state.name, event.job_ended))
    return events


async def test_pieces_are_stored_once_and_in_order(world: World, running: str) -> None:
    assert await store(world, out(running, 0, b"abc"), err(running, 0, b"x"), out(running, 3, b"def")) == [
        ("OK", 3),
        ("OK", 1),
        ("OK", 6),
    ]
    assert await store(world, out(running, 0, b"abcdefgh"), out(running, 9, b"z"), out(running, 4, b"efgh")) == [
        ("OK", 8),
        ("GAP", 8),
        ("OK", 8),
    ]
    assert await store(world, out(running, 0, b"abc", epoch=2), out("unknown", 0, b"a")) == [
        ("STALE", 8),
        ("STALE", 0),
    ]
    assert await read(world, execution_id=running) == [("STDOUT", 0, b"abcdefgh"), ("STDERR", 0, b"x")]


async def test_pieces_of_several_executions_are_answered_in_their_order(world: World, running: str) -> None:
    other = await world.submit("other")
    await world.run(other)
    pieces = [out(running, 0, b"a"), out(other, 0, b"bb"), out(running, 1, b"ccc")]
    assert await store(world, *pieces) == [("OK", 1), ("OK", 2), ("OK", 4)]


async def test_a_second_sending_of_the_same_bytes_in_between_is_harmless() -> None:
    from tests.fakes.store import FakePersistence

    world = World(store=FakePersistence(atomic=False))
    await world.hello()
    execution_id = await world.submit()
    await world.run(execution_id)
    first = True

    async def between(name: str) -> None:
        nonlocal first
        if first and name == "insert_chunk":
            first = False
            await store(world, out(execution_id, 0, b"ab"))

    world.store.between = between
    assert await store(world, out(execution_id, 0, b"abcd")) == [("OK", 2)]


async def test_chunks_after_the_finish_complete_the_logs(world: World, running: str) -> None:
    await world.say(running, finished(6, 1))
    assert not world.execution(running).logs_complete
    assert await store(world, out(running, 0, b"abcdefXXX")) == [("OK", 6)]
    assert not world.execution(running).logs_complete
    assert await store(world, err(running, 0, b"e")) == [("OK", 1)]
    assert world.execution(running).logs_complete
    assert (await world.say(running, finished(6, 1))).logs_complete
    assert await store(world, out(running, 6, b"late")) == [("OK", 6)]


async def test_a_finish_sent_again_brings_its_tail_again(world: World, running: str) -> None:
    await world.say(running, finished(3))
    again = await world.say(running, exited(0, b"hi\n", execution_id=running))
    assert again.logs_complete
    assert await read(world, execution_id=running) == [("STDOUT", 0, b"hi\n"), ("SUCCEEDED", True)]


async def test_appending_says_when_the_database_is_away(world: World, running: str) -> None:
    world.store.away = True
    with pytest.raises(Unavailable):
        await store(world, out(running, 0, b"a"))


async def test_reading_begins_at_any_byte(world: World, running: str) -> None:
    await store(world, out(running, 0, b"abc"), out(running, 3, b"def"), err(running, 0, b"xyz"))
    await world.say(running, finished(6, 3))
    streams = (Stream.STDOUT,)
    assert await read(world, execution_id=running, streams=streams, stdout_offset=2) == [
        ("STDOUT", 2, b"cdef"),
        ("SUCCEEDED", True),
    ]
    assert await read(world, execution_id=running, stdout_offset=6, stderr_offset=1, follow=True) == [
        ("STDERR", 1, b"yz"),
        ("SUCCEEDED", True),
    ]
    assert await read(world, execution_id=running, stdout_offset=99, stderr_offset=99) == [("SUCCEEDED", True)]


async def test_streams_come_in_the_order_in_which_they_were_stored(world: World, running: str) -> None:
    for piece in (out(running, 0, b"1"), err(running, 0, b"2"), out(running, 1, b"3")):
        await store(world, piece)
        world.machine.pass_(1)
    assert [data for *_, data in await read(world, execution_id=running)] == [b"1", b"2", b"3"]


async def test_answers_are_bounded(world: World, running: str) -> None:
    whole = bytes(range(256)) * 3000
    await store(world, out(running, 0, whole[:600_000]), out(running, 600_000, whole[600_000:]))
    events = await read(world, execution_id=running)
    assert all(len(event[-1]) <= 64 * 1024 for event in events)  # type: ignore[arg-type]
    assert b"".join(event[-1] for event in events) == whole  # type: ignore[misc]
    assert len(events) <= 15


async def test_names_must_be_known(world: World, running: str) -> None:
    with pytest.raises(NotFound) as no_execution:
        await read(world, execution_id="unknown")
    assert no_execution.value.reason == "EXECUTION_NOT_FOUND"
    with pytest.raises(NotFound) as no_job:
        await read(world, job_id="unknown")
    assert no_job.value.reason == "JOB_NOT_FOUND"
    await world.submit("other")
    with pytest.raises(NotFound):
        await read(world, execution_id=running, job_id="other")


async def test_reading_what_runs_without_following_ends_without_an_end(world: World, running: str) -> None:
    assert await read(world, execution_id=running) == []
    await store(world, out(running, 0, b"a"))
    assert await read(world, job_id="job") == [("STDOUT", 0, b"a")]
    await world.say(running, finished(2))
    assert await read(world, job_id="job") == [("STDOUT", 0, b"a")]


async def follow(world: World, pace: Pace, **wanted: object) -> AsyncIterator[LogChunk | Ended]:
    async for event in read_logs(world.ctx, Wanted(follow=True, **wanted), pace):  # type: ignore[arg-type]
        if not isinstance(event, Begun):
            yield event


async def test_a_follower_sees_bytes_as_they_come_and_the_end_after_them(world: World, running: str) -> None:
    slow = Pace(poll=60.0, patience=1000.0)  # only news can be in time
    events = follow(world, slow, execution_id=running)
    coming = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)
    await store(world, out(running, 0, b"one"))
    first = await asyncio.wait_for(coming, 30)
    assert isinstance(first, LogChunk)
    assert first.data == b"one"
    coming = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)
    await world.say(running, finished(6))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not coming.done()
    await store(world, out(running, 3, b"two"))
    second = await asyncio.wait_for(coming, 30)
    assert isinstance(second, LogChunk)
    end = await asyncio.wait_for(anext(events), 30)
    assert isinstance(end, Ended)
    assert end.job_ended
    with pytest.raises(StopAsyncIteration):
        await anext(events)
    assert not world.ctx.news._waiting


async def test_what_another_process_stored_is_found_by_looking(world: World, running: str) -> None:
    events = follow(world, QUICK, execution_id=running)
    coming = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)
    other = World(store=world.store)
    await store(other, out(running, 0, b"one"))
    found = await asyncio.wait_for(coming, 30)
    assert isinstance(found, LogChunk)
    await events.aclose()  # type: ignore[attr-defined]


async def test_a_follower_of_a_job_walks_its_attempts(world: World) -> None:
    await world.hello()
    first = await world.submit(retries=1, backoff=Backoff(min=Duration()))
    reading = asyncio.ensure_future(read(world, job_id="job", follow=True))
    await world.run(first)
    await world.say(first, exited(1, b"1\n", execution_id=first))
    second = world.attempts()[1].execution_id
    await asyncio.sleep(0.05)
    assert not reading.done()
    await world.run(second)
    await world.say(second, exited(0, b"22\n", execution_id=second))
    assert await asyncio.wait_for(reading, 30) == [
        ("STDOUT", 0, b"1\n"),
        ("FAILED", False),
        ("STDOUT", 0, b"22\n"),
        ("SUCCEEDED", True),
    ]


async def test_a_follower_ends_where_the_logs_will_never_be_complete(world: World, running: str) -> None:
    await store(world, out(running, 0, b"a"))
    await world.say(running, finished(9))
    reading = asyncio.ensure_future(read(world, Pace(poll=0.01, patience=30.0), execution_id=running, follow=True))
    await asyncio.sleep(0.05)
    assert not reading.done()
    world.machine.pass_(31)
    assert await asyncio.wait_for(reading, 30) == [("STDOUT", 0, b"a"), ("SUCCEEDED", True)]


async def test_a_follower_of_what_waits_ends_with_the_stop(world: World) -> None:
    execution_id = await world.submit()
    reading = asyncio.ensure_future(read(world, execution_id=execution_id, follow=True))
    await asyncio.sleep(0)
    await stop.stop_job(world.ctx, "", "job")
    assert await asyncio.wait_for(reading, 30) == [("STOPPED", True)]


async def test_a_follower_of_what_is_lost_ends(world: World, running: str) -> None:
    await store(world, out(running, 0, b"a"))
    reading = asyncio.ensure_future(read(world, execution_id=running, follow=True))
    await world.lost.run_once()
    world.machine.pass_(200)
    await world.lost.run_once()
    assert await asyncio.wait_for(reading, 30) == [("STDOUT", 0, b"a"), ("LOST", False)]
    assert await store(world, out(running, 1, b"late")) == [(Taken.STALE.name, 1)]


async def test_an_end_that_the_agent_calls_lost_has_its_sizes(world: World, running: str) -> None:
    await world.say(running, ended(Outcome.LOST, stdout=0))
    assert world.execution(running).logs_complete


async def test_logs_that_are_removed_while_they_are_read_are_told_of(world: World, running: str) -> None:
    """A short answer would look like the whole."""
    size = 4 * _STORED
    for offset in range(0, size, _STORED):
        await store(world, out(running, offset, bytes(_STORED)))
    await world.say(running, finished(size))
    events = read_logs(world.ctx, Wanted(execution_id=running), QUICK)
    first = await anext(events)
    assert isinstance(first, LogChunk)
    assert await world.store.run(removing_logs(world.ctx, running))
    with pytest.raises(Aborted, match="removed while it was read"):
        async for _ in events:
            pass
    # Whoever comes later is told that there is none.
    assert await read(world, execution_id=running) == [("SUCCEEDED", True)]


async def test_a_removal_that_is_under_way_is_no_gap_in_the_logs(world: World, running: str) -> None:
    await store(world, out(running, 0, b"a"), out(running, 1, b"b"), out(running, 2, b"c"))
    await world.say(running, finished(3))
    await world.store.run(lambda steps: steps.delete_chunks(running, 1))
    with pytest.raises(Aborted):
        await read(world, execution_id=running)
    await world.store.run(lambda steps: steps.delete_chunks(running, 9))
    with pytest.raises(Aborted):
        await read(world, execution_id=running)
