"""The persistence port: agents, generation, clock and log chunks."""

import asyncio
from dataclasses import replace

import pytest

from easyq_chassis.errors import FailedPrecondition
from easyq_store.domain.records import LogChunk
from easyq_store.domain.states import AgentState, Stream
from easyq_store.ports import Persistence, Steps
from tests.contract.store.conftest import Backend
from tests.support.store_records import T0, agent, chunk

FULL = agent(
    session=7,
    state=AgentState.DEAD,
    beats=12,
    hostname="a.example",
    pools=("default", "gpu"),
    labels=(("disk", "ssd"), ("zone", "ü")),
    version="0.1.0",
    healthy=False,
    message="Docker Engine does not answer",
    cordoned_at=T0 + 1,
    drained_at=T0 + 2,
    drain_deadline=T0 + 3,
    offer_cpu_millis=7_500,
    offer_memory=2**40,
    offer_gpus=8,
)


@pytest.mark.parametrize("made", [agent(), FULL], ids=["plain", "full"])
async def test_an_agent_comes_back_as_it_was_put(backend: Backend, made: object) -> None:
    assert isinstance(made, type(FULL))
    async with backend() as store:
        assert await store.run(lambda steps: steps.insert_agent(made))
        assert not await store.run(lambda steps: steps.insert_agent(replace(made, session=99)))
    async with backend() as store:
        assert await store.reads.get_agent("host-a") == made
        assert await store.run(lambda steps: steps.get_agent("host-a")) == made


async def test_agents_change_and_are_listed(store: Persistence) -> None:
    async def plan(steps: Steps) -> None:
        await steps.insert_agent(agent("b"))
        await steps.insert_agent(agent("a"))
        await steps.change_agent("a", lambda old: replace(FULL, agent_id="a", write_no=old.write_no))
        await steps.change_agent("b", lambda old: old)

    await store.run(plan)
    assert await store.reads.agents() == [replace(FULL, agent_id="a", write_no=2), agent("b")]
    assert await store.reads.get_agent("nobody") is None
    assert await store.run(lambda steps: steps.change_agent("nobody", lambda old: old)) is None


async def test_plans_read_what_those_before_them_wrote_and_nothing_undone(store: Persistence) -> None:
    async def read(steps: Steps) -> tuple[int, int]:
        known = await steps.get_agent("host-a")
        assert known is not None
        return known.beats, await steps.generation()

    async def move(steps: Steps) -> None:
        known = await steps.get_agent("host-a")
        assert known is not None
        await steps.change_agent("host-a", lambda old: replace(old, beats=old.beats + 1))
        await steps.raise_generation(await steps.generation())

    async def fail(steps: Steps) -> None:
        await move(steps)
        raise FailedPrecondition("no")

    async def is_atomic(steps: Steps) -> bool:
        return steps.atomic

    await store.run(lambda steps: steps.insert_agent(agent(beats=1)))
    undone = await store.run(is_atomic)
    results = await store.run_all([read, move, read, fail, read])
    if undone:
        assert (results[0], results[2], results[4]) == ((1, 0), (2, 1), (2, 1))
        assert await store.run(read) == (2, 1)
    else:
        # Plans go beside each other there, and what a failed one wrote stays.
        assert await store.run(read) in {(3, 2), (3, 1)}


async def test_one_of_many_raises_the_generation(backend: Backend) -> None:
    async with backend() as store:
        assert await store.reads.generation() == 0
        raised = await asyncio.gather(*(store.run(lambda s: s.raise_generation(0)) for _ in range(5)))
        assert sorted(raised) == [False] * 4 + [True]
        assert await store.run(lambda steps: steps.raise_generation(1))
    async with backend() as store:
        assert await store.reads.generation() == 2
        assert await store.run(lambda steps: steps.generation()) == 2


async def test_the_clock_mark_only_rises(backend: Backend) -> None:
    async with backend() as store:
        assert await store.run(lambda steps: steps.raise_clock(0)) == 0
        assert await store.run(lambda steps: steps.raise_clock(T0)) == T0
        assert await store.run(lambda steps: steps.raise_clock(T0 - 1)) == T0
    async with backend() as store:
        assert await store.run(lambda steps: steps.raise_clock(0)) == T0


async def put(store: Persistence, *chunks: LogChunk) -> list[bool]:
    async def plan(steps: Steps) -> list[bool]:
        return [await steps.insert_chunk(made) for made in chunks]

    return await store.run(plan)


async def test_chunks_know_where_a_stream_ends(backend: Backend) -> None:
    async with backend() as store:
        assert await store.reads.log_end("job-1-1", Stream.STDOUT) == 0
        bytes_of_all_kinds = bytes(range(256))
        assert await put(store, chunk(bytes_of_all_kinds), chunk(b"xy", 256)) == [True, True]
        assert await put(store, chunk(b"other", stream=Stream.STDERR)) == [True]
        assert await put(store, chunk(b"abc", 256)) == [False]
    async with backend() as store:
        assert await store.reads.log_end("job-1-1", Stream.STDOUT) == 258
        assert await store.run(lambda steps: steps.log_end("job-1-1", Stream.STDERR)) == 5
        assert await store.reads.log_ends(["job-1-1", "nobody"]) == {"job-1-1": (258, 5)}
        assert await store.reads.log_ends([]) == {}
        found = await store.reads.read_chunks("job-1-1", Stream.STDOUT, 0, 1000)
        assert found == [chunk(bytes_of_all_kinds), chunk(b"xy", 256)]


async def test_chunks_are_read_from_any_byte_on(store: Persistence) -> None:
    chunks = [chunk(b"aaaa", 0), chunk(b"bbbb", 4), chunk(b"cccc", 8), chunk(b"dddd", 12)]
    await put(store, *chunks, chunk(b"other", execution_id="job-1-2"), chunk(b"e", stream=Stream.STDERR))

    async def read(offset: int, max_bytes: int) -> list[bytes]:
        found = await store.reads.read_chunks("job-1-1", Stream.STDOUT, offset, max_bytes)
        return [made.data for made in found]

    assert await read(0, 100) == [b"aaaa", b"bbbb", b"cccc", b"dddd"]
    assert await read(3, 8) == [b"aaaa", b"bbbb"]
    assert await read(4, 7) == [b"bbbb"]
    assert await read(5, 1) == [b"bbbb"]
    assert await read(15, 100) == [b"dddd"]
    assert await read(16, 100) == []
    assert await store.reads.read_chunks("nobody", Stream.STDOUT, 0, 10) == []
