"""Where a follower begins: at a position, with the last lines, with what was stored since a time."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given, settings
from hypothesis import strategies as st

from easyq.v1.spec_pb2 import Backoff
from easyq_chassis.errors import Aborted, NotFound
from easyq_store.domain.decide import End
from easyq_store.domain.logs import Piece
from easyq_store.domain.moves import LogSizes
from easyq_store.domain.records import LogChunk
from easyq_store.domain.states import Outcome, Stream
from easyq_store.usecases import log_places, report
from easyq_store.usecases.append import append
from easyq_store.usecases.log_places import last_lines, stored_since
from easyq_store.usecases.read_logs import Begun, Pace, Position, Wanted, read_logs
from tests.support.store_world import World

QUICK = Pace(poll=0.01, patience=1000.0)
OUT, ERR = Stream.STDOUT, Stream.STDERR
BOTH = (OUT, ERR)


@dataclass(frozen=True, kw_only=True)
class Write:
    """Bytes, and how many milliseconds after those before them they are stored."""

    stream: Stream
    data: bytes
    after: int = 1


@pytest.fixture
async def running(world: World) -> str:
    await world.hello()
    execution_id = await world.submit()
    await world.run(execution_id)
    return execution_id


async def write(world: World, execution_id: str, *writes: Write, epoch: int = 1) -> None:
    for one in writes:
        world.machine.pass_(one.after / 1000)
        end = await world.ctx.store.reads.log_end(execution_id, one.stream)
        piece = Piece(execution_id=execution_id, epoch=epoch, stream=one.stream, offset=end, data=one.data)
        await append(world.ctx, [piece])


def out(data: bytes, after: int = 1) -> Write:
    return Write(stream=OUT, data=data, after=after)


def err(data: bytes, after: int = 1) -> Write:
    return Write(stream=ERR, data=data, after=after)


async def read(world: World, **wanted: object) -> list[object]:
    """(attempt, stdout's first, stderr's first) · (stream, offset, data) · (state, job ended)."""
    events: list[object] = []
    async for event in read_logs(world.ctx, Wanted(**{"begins": True, **wanted}), QUICK):  # type: ignore[arg-type]
        if isinstance(event, LogChunk):
            events.append((event.stream.name, event.offset, event.data))
        elif isinstance(event, Begun):
            events.append((event.execution.attempt, event.stdout_offset, event.stderr_offset))
        else:
            events.append((event.execution.state.name, event.job_ended))
    return events


def finished(stdout: int, stderr: int = 0, code: int = 0) -> report.Finished:
    end = End(outcome=Outcome.EXITED, exit_code=code)
    return report.Finished(end=end, sizes=LogSizes(stdout=stdout, stderr=stderr))


# ------------------------------------------------------------------------------------------------------- the last lines


@pytest.mark.parametrize(
    ("count", "begins"),
    [(0, (14, 6)), (1, (8, 6)), (2, (8, 3)), (3, (4, 3)), (4, (4, 0)), (5, (0, 0)), (6, (0, 0)), (99, (0, 0))],
)
async def test_the_last_lines_of_both_streams(world: World, running: str, count: int, begins: tuple[int, int]) -> None:
    await write(world, running, out(b"one\n"), err(b"e1\n"), out(b"two\n"), err(b"e2\n"), out(b"no end"))
    found = await last_lines(world.ctx.store.reads, running, BOTH, count)
    assert (found[OUT], found[ERR]) == begins


async def test_lines_that_span_chunks_carriage_returns_and_bytes_that_are_no_text(world: World, running: str) -> None:
    await write(world, running, out(b"first\r\nsec"), out(b"ond"), out(b" line\r"), out(b"\n\xff\x00\xfe"), out(b"\n"))
    reads = world.ctx.store.reads
    for count, begin in ((1, 20), (2, 7), (3, 0)):
        assert (await last_lines(reads, running, [OUT], count))[OUT] == begin


async def test_a_line_beyond_what_is_looked_through_begins_amid_itself(
    world: World, running: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_places, "MOST_LOOKED_THROUGH", 250)
    await write(world, running, err(b"e\n"), *(out(b"x" * 100) for _ in range(10)))
    found = await last_lines(world.ctx.store.reads, running, BOTH, 1)
    assert found == {OUT: 700, ERR: 2}


LINES = st.lists(
    st.tuples(st.sampled_from(BOTH), st.text("ab\n", min_size=1, max_size=8), st.integers(0, 2)), max_size=25
)


@settings(max_examples=150)
@given(LINES, st.integers(0, 30), st.integers(1, 40))
async def test_the_last_lines_are_those_that_began_last(
    writes: list[tuple[Stream, str, int]], count: int, window: int
) -> None:
    """Against all lines, sorted by when their first byte was stored."""
    chunks: list[LogChunk] = []
    at = 0
    for stream, text, after in writes:
        at += after
        end = max((c.end for c in chunks if c.stream is stream), default=0)
        chunks.append(LogChunk(execution_id="e", stream=stream, offset=end, data=text.encode(), at=at))
    patch = pytest.MonkeyPatch()
    with patch.context() as few:
        few.setattr(log_places, "_FIRST_WINDOW", window)
        few.setattr(log_places, "_LARGEST_WINDOW", window)
        found = await last_lines(Stored(chunks), "e", BOTH, count)  # type: ignore[arg-type]
    lines = sorted((c.at, c.stream, o) for c in chunks for o in begins_in(c, chunks))
    wanted = lines[max(0, len(lines) - count) :]
    for stream in BOTH:
        end = max((c.end for c in chunks if c.stream is stream), default=0)
        assert found[stream] == min((o for _, s, o in wanted if s is stream), default=end)


def begins_in(chunk: LogChunk, chunks: Sequence[LogChunk]) -> list[int]:
    whole = b"".join(c.data for c in chunks if c.stream is chunk.stream)
    return [o for o in range(chunk.offset, chunk.end) if o == 0 or whole[o - 1 : o] == b"\n"]


@dataclass
class Stored:
    """As much of a database as is read."""

    chunks: Sequence[LogChunk]

    async def log_ends(self, ids: Sequence[str]) -> dict[str, tuple[int, int]]:
        ends = [max((c.end for c in self.chunks if c.stream is stream), default=0) for stream in BOTH]
        return {ids[0]: (ends[0], ends[1])}

    async def read_chunks(self, _: str, stream: Stream, offset: int, max_bytes: int) -> list[LogChunk]:
        found: list[LogChunk] = []
        for chunk in (c for c in self.chunks if c.stream is stream and c.end > offset):
            max_bytes -= len(chunk.data)
            if found and max_bytes < 0:
                break
            found.append(chunk)
        return found


async def test_last_lines_of_output_that_is_being_removed_are_told_of(world: World, running: str) -> None:
    await write(world, running, *(out(b"x" * 20 + b"\n") for _ in range(5)))
    await world.store.run(lambda steps: steps.delete_chunks(running, 2))
    with pytest.raises(Aborted, match="removed while it was read"):
        await last_lines(world.ctx.store.reads, running, BOTH, 10)


# ------------------------------------------------------------------------------------------------------- since a time


async def test_what_was_stored_since_begins_with_its_line(world: World, running: str) -> None:
    began = world.ctx.clock.now()
    await write(world, running, out(b"old\nhalf", 10), err(b"e1\n", 10), out(b" line\nnew\n", 10), out(b"newer\n", 10))
    reads = world.ctx.store.reads
    for since, begins in (
        (0, (0, 0)),
        (10, (0, 0)),
        (11, (4, 0)),
        (20, (4, 0)),
        (30, (4, 3)),
        (31, (18, 3)),
        (40, (18, 3)),
        (41, (24, 3)),
    ):
        found = await stored_since(reads, running, BOTH, began + since)
        assert (found[OUT], found[ERR]) == begins, since


async def test_the_later_of_two_beginnings_counts(world: World, running: str) -> None:
    began = world.ctx.clock.now()
    await write(world, running, *(out(b"%d\n" % number, 10) for number in range(5)))
    await world.say(running, finished(10))
    wanted = {"execution_id": running, "since": began + 30}
    assert (await read(world, **wanted))[0] == (1, 4, 0)
    assert (await read(world, **wanted, tail=1))[0] == (1, 8, 0)
    assert (await read(world, **wanted, tail=5))[0] == (1, 4, 0)


# ------------------------------------------------------------------------------------------------------------ following


@pytest.fixture
async def twice(world: World) -> tuple[str, str]:
    """A job whose first attempt has failed and whose second runs: its executions."""
    await world.hello()
    first = await world.submit(retries=1, backoff=Backoff(min=Duration()))
    await world.run(first)
    await write(world, first, out(b"1\n11\n"))
    await world.say(first, finished(5, code=1))
    world.machine.pass_(10)
    second = world.attempts()[1].execution_id
    await world.run(second)
    await write(world, second, out(b"2\n"))
    return first, second


async def test_a_job_is_followed_over_its_attempts(world: World, twice: tuple[str, str]) -> None:
    first, second = twice
    await world.say(second, finished(2))
    one = [(1, 0, 0), ("STDOUT", 0, b"1\n11\n"), ("FAILED", False)]
    two = [(2, 0, 0), ("STDOUT", 0, b"2\n"), ("SUCCEEDED", True)]
    assert await read(world, job_id="job", follow=True) == one + two
    # The last lines are those of the newest execution.
    assert await read(world, job_id="job", tail=100) == two
    assert await read(world, job_id="job", tail=0) == [(2, 2, 0), ("SUCCEEDED", True)]
    assert await read(world, execution_id=first, tail=1) == [(1, 2, 0), ("STDOUT", 2, b"11\n"), ("FAILED", False)]
    position = Position(execution_id=first, stdout_offset=2)
    assert await read(world, job_id="job", position=position) == [(1, 2, 0), ("STDOUT", 2, b"11\n"), one[2], *two]
    ended = Position(execution_id=first, stdout_offset=5, ended=True)
    assert await read(world, job_id="job", position=ended) == two
    now = world.ctx.clock.now()
    assert await read(world, job_id="job", since=now - 20_000) == one + two
    assert await read(world, job_id="job", since=now - 5_000) == two
    assert await read(world, job_id="job", since=now + 1) == [(2, 2, 0), ("SUCCEEDED", True)]


async def test_a_job_is_followed_from_a_position(world: World, running: str) -> None:
    await write(world, running, out(b"abc\n"), err(b"xyz\n"))
    await world.say(running, finished(4, 4))
    whole = await read(world, job_id="job", follow=True)
    assert whole == [(1, 0, 0), ("STDOUT", 0, b"abc\n"), ("STDERR", 0, b"xyz\n"), ("SUCCEEDED", True)]
    position = Position(execution_id=running, stdout_offset=2, stderr_offset=4)
    rest = await read(world, job_id="job", position=position, tail=1, follow=True)
    assert rest == [(1, 2, 4), ("STDOUT", 2, b"c\n"), ("SUCCEEDED", True)]
    # Whoever saw its end, but not that the job has ended, is told so.
    ended = Position(execution_id=running, stdout_offset=4, stderr_offset=4, ended=True)
    assert await read(world, job_id="job", position=ended, follow=True) == [(1, 4, 4), ("SUCCEEDED", True)]
    with pytest.raises(NotFound):
        await read(world, job_id="job", position=Position(execution_id="other"))


async def test_chunks_of_one_time_each(world: World, running: str) -> None:
    await write(world, running, out(b"a"), out(b"b"), out(b"c", 0))
    joined = [e async for e in read_logs(world.ctx, Wanted(execution_id=running), QUICK)]
    assert [c.data for c in joined if isinstance(c, LogChunk)] == [b"abc"]
    exact = [e async for e in read_logs(world.ctx, Wanted(execution_id=running, exact=True), QUICK)]
    assert [c.data for c in exact if isinstance(c, LogChunk)] == [b"a", b"bc"]
    times = [c.at for c in exact if isinstance(c, LogChunk)]
    assert times[1] == times[0] + 1


async def test_nothing_stored_is_read_again_for_a_stream_that_is_silent(world: World, running: str) -> None:
    """One look at stderr for each read of stdout, not one for each of its chunks."""
    await write(world, running, *(out(b"x" * 100) for _ in range(200)))
    reads, looks = world.ctx.store.reads, 0
    plain = reads.read_chunks

    async def counted(*arguments: object) -> list[LogChunk]:
        nonlocal looks
        looks += 1
        return await plain(*arguments)  # type: ignore[arg-type]

    reads.read_chunks = counted  # type: ignore[method-assign, assignment]
    events = [e async for e in read_logs(world.ctx, Wanted(execution_id=running), QUICK)]
    assert b"".join(e.data for e in events if isinstance(e, LogChunk)) == b"x" * 20_000
    assert looks <= 4


async def test_a_follower_with_the_last_lines_of_a_running_execution(world: World, running: str) -> None:
    await write(world, running, *(out(b"%d\n" % number) for number in range(10)))
    reading = asyncio.ensure_future(read(world, job_id="job", tail=2, follow=True))
    await asyncio.sleep(0)
    await world.say(running, finished(20))
    assert await asyncio.wait_for(reading, 30) == [(1, 16, 0), ("STDOUT", 16, b"8\n9\n"), ("SUCCEEDED", True)]
