"""Deleting jobs and tasks: all that belongs to them, once nothing of them is open."""

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from easyq_chassis.errors import EasyQError, FailedPrecondition, NotFound
from easyq_store.domain.logs import Piece, Taken
from easyq_store.domain.moves import Claim
from easyq_store.domain.records import LogChunk, Skip
from easyq_store.domain.states import ExecutionState, JobState, SkipReason, Stream
from easyq_store.ports import Steps
from easyq_store.usecases import assign, delete, purge, read_logs, retry, stop, submit
from easyq_store.usecases.append import append
from easyq_store.usecases.report import GivenBack, Started, Verdict
from easyq_store.usecases.sweep import sweep
from tests.fakes.store import FakePersistence
from tests.support.store_records import chunk
from tests.support.store_world import Crash, World, exited


def piece(execution_id: str, data: bytes, offset: int = 0, *, epoch: int = 1) -> Piece:
    return Piece(execution_id=execution_id, epoch=epoch, stream=Stream.STDOUT, offset=offset, data=data)


async def ended(world: World, job_id: str = "job", *, code: int = 0, **fields: object) -> str:
    """A job that ran and wrote something; returns its execution."""
    if "host-a" not in world.sessions:
        await world.hello()
    execution_id = await world.submit(job_id, **fields)
    await world.run(execution_id)
    await append(world.ctx, [piece(execution_id, b"hello")])
    await world.say(execution_id, exited(code, b"hello!", execution_id=execution_id))
    return execution_id


def nothing_left(world: World, job_id: str = "job") -> bool:
    tables = world.store.tables
    specs = [key for key in tables.specs if key[0] == job_id]
    chunks = any(tables.chunks.values())
    return not (job_id in tables.jobs or world.attempts(job_id) or chunks or specs or tables.skips.get(job_id))


# ------------------------------------------------------------------------------------------------------------ one job
async def test_a_job_that_has_ended_goes_with_all_that_belongs_to_it(world: World) -> None:
    execution_id = await ended(world, key="k")
    await world.put(command=["again"], execution_id="second")
    (second,) = [e.execution_id for e in world.attempts() if e.execution_id != execution_id]
    await world.run(second)
    await world.say(second, exited(0))
    skip = Skip(first=1, last=1, count=1, reason=SkipReason.OVERLAP, decided_at=1)
    await world.store.run(lambda steps: steps.keep_skips("job", [skip]))
    assert world.store.tables.specs
    deleted = await delete.delete_job(world.ctx, "mail", "job", force=False)
    assert deleted == delete.Deleted(job_id="job")
    assert nothing_left(world)
    assert await world.store.reads.count_jobs("mail") == {}
    with pytest.raises(NotFound):
        await delete.delete_job(world.ctx, "", "job", force=True)


async def test_a_key_is_free_again(world: World) -> None:
    await ended(world, key="k")
    await delete.delete_job(world.ctx, "", "job", force=False)
    await world.submit("other", key="k", command=["x"])
    assert world.job("other").idempotency_key == "k"


async def test_a_job_that_has_not_ended_needs_force(world: World) -> None:
    await world.submit()
    with pytest.raises(FailedPrecondition) as caught:
        await delete.delete_job(world.ctx, "", "job", force=False)
    assert caught.value.reason == "NEEDS_FORCE"
    assert world.states() == "QUEUED QUEUED"
    assert await delete.delete_job(world.ctx, "", "job", force=True) == delete.Deleted(job_id="job")
    assert nothing_left(world)
    with pytest.raises(NotFound):
        await delete.delete_job(world.ctx, "other", "job", force=True)


async def test_what_runs_is_stopped_first_and_goes_with_its_end(world: World) -> None:
    await world.hello()
    execution_id = await world.submit(key="k", retries=3)
    epoch = await world.run(execution_id)
    await append(world.ctx, [piece(execution_id, b"hello")])
    for force in (True, False):  # a repeat is harmless, and needs no force any more
        deleted = await delete.delete_job(world.ctx, "", "job", force=force)
        assert [e.execution_id for e in deleted.held] == [execution_id]
        assert world.states() == "RUNNING RUNNING"
    assert world.job().stop_requested_at is not None
    # The key is free at once.
    (new,) = await submit.submit(world.ctx, [world.new("other", key="k", command=["x"])])
    assert isinstance(new, submit.Accepted)
    assert new.job_id == "other"
    assert await world.beat("host-a", (execution_id, epoch)) == [("STOP", execution_id, epoch)]
    taken = await world.say(execution_id, exited(137), epoch=epoch)
    assert (taken.verdict, taken.released) == (Verdict.OK, True)
    assert nothing_left(world)


async def test_late_words_and_chunks_of_what_is_gone_are_stale(world: World) -> None:
    execution_id = await ended(world)
    await delete.delete_job(world.ctx, "", "job", force=False)
    for word in (exited(0, b"hello!", execution_id=execution_id), Started(), GivenBack()):
        taken = await world.say(execution_id, word, epoch=1)
        assert (taken.verdict, taken.released) == (Verdict.STALE, True)
    (appended,) = await append(world.ctx, [piece(execution_id, b"!", 5)])
    assert appended.taken is Taken.STALE
    assert nothing_left(world)
    assert await world.hello("host-a", (execution_id, 1)) == [("KILL", execution_id, 1)]


async def test_a_job_that_is_to_go_is_not_revived(world: World) -> None:
    await world.hello()
    execution_id = await world.submit()
    await world.run(execution_id)
    await delete.delete_job(world.ctx, "", "job", force=True)
    for call in (world.put(command=["other"]), world.put(), retry.retry_job(world.ctx, "", "job", "again")):
        with pytest.raises(FailedPrecondition, match="being deleted"):
            await call


async def test_a_large_job_goes_in_many_plans(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    execution_id = await ended(world)
    for offset in range(6, 6 + 3 * purge.AT_ONCE):
        world.store.tables.chunks[execution_id, Stream.STDOUT].append(chunk(b"x", offset, execution_id=execution_id))
    counts: list[int] = []
    run = world.store.run

    async def counted(plan: Callable[..., Awaitable[object]]) -> object:
        before = sum(len(chunks) for chunks in world.store.tables.chunks.values())
        result = await run(plan)
        counts.append(before - sum(len(chunks) for chunks in world.store.tables.chunks.values()))
        return result

    monkeypatch.setattr(world.store, "run", counted)
    await delete.delete_job(world.ctx, "", "job", force=False)
    assert nothing_left(world)
    assert max(counts) <= purge.AT_ONCE
    assert len(counts) >= 2


@pytest.mark.parametrize("force", [True, False])
async def test_a_crash_at_any_write_is_completed(force: bool) -> None:
    number = 0
    while True:
        world = World(store=FakePersistence(atomic=False))
        execution_id = await ended(world)
        if force:
            await retry.retry_job(world.ctx, "", "job", "again")
        world.crash_at(number)
        crashed = True
        with contextlib.suppress(Crash):
            await delete.delete_job(world.ctx, "", "job", force=force)
            crashed = False
        world.recover()
        if "job" in world.store.tables.jobs and not world.job().delete_requested:
            assert number == 0
        else:
            await sweep(world.ctx, grace_ms=-1)
            await purge.finish_deletions(world.ctx)
            assert nothing_left(world), number
            assert execution_id not in world.store.tables.executions
        if not crashed:
            return
        number += 1


async def test_a_crash_at_the_end_that_a_deletion_waits_for_is_completed() -> None:
    number = 0
    while True:
        world = World(store=FakePersistence(atomic=False))
        await world.hello()
        execution_id = await world.submit()
        await world.run(execution_id)
        await delete.delete_job(world.ctx, "", "job", force=True)
        world.crash_at(number)
        crashed = True
        with contextlib.suppress(Crash):
            await world.say(execution_id, exited(0, b"bye", execution_id=execution_id))
            crashed = False
        world.recover()
        if execution_id in world.store.tables.executions:
            await world.say(execution_id, exited(0, b"bye", execution_id=execution_id), epoch=1)
        await sweep(world.ctx, grace_ms=-1)
        await purge.finish_deletions(world.ctx)
        assert nothing_left(world), number
        if not crashed:
            return
        number += 1


async def test_an_execution_that_comes_when_its_job_is_gone_goes_too() -> None:
    """A plan that read the job before it was deleted inserts what was decided on."""
    world = World(store=FakePersistence(atomic=False))
    moments = 0

    async def between(step: str) -> None:
        nonlocal moments
        if step == "insert_execution" and not moments:
            moments += 1
            world.store.between = nothing
            await delete.delete_job(world.ctx, "", "job", force=True)

    world.store.between = between
    with contextlib.suppress(EasyQError):
        await world.submit()
    world.store.between = nothing
    await sweep(world.ctx, grace_ms=-1)
    await purge.finish_deletions(world.ctx)
    assert moments == 1
    assert nothing_left(world)


async def nothing(_: str) -> None:
    return None


async def test_a_chunk_that_comes_while_its_execution_goes_leaves_nothing() -> None:
    world = World(store=FakePersistence(atomic=False))
    execution_id = await ended(world)
    # One more byte is missing.
    del world.store.tables.chunks[execution_id, Stream.STDOUT][1:]

    async def between(step: str) -> None:
        if step == "insert_chunk":
            world.store.between = nothing
            await delete.delete_job(world.ctx, "", "job", force=False)

    world.store.between = between
    (appended,) = await append(world.ctx, [piece(execution_id, b"!", 5)])
    assert appended.taken is Taken.STALE
    assert nothing_left(world)


async def test_a_chunk_that_comes_between_the_chunks_and_their_execution_goes_too() -> None:
    world = World(store=FakePersistence(atomic=False))
    execution_id = await ended(world)
    del world.store.tables.chunks[execution_id, Stream.STDOUT][1:]

    async def between(step: str) -> None:
        if step == "delete_execution":
            world.store.between = nothing
            await append(world.ctx, [piece(execution_id, b"late", 0)])

    world.store.between = between
    await delete.delete_job(world.ctx, "", "job", force=False)
    assert nothing_left(world)


async def test_a_job_that_has_not_ended_is_not_deleted_whatever_it_has(world: World) -> None:
    await world.put(cron="* * * * *")

    async def mark(steps: Steps) -> purge.Purged:
        job = await steps.change_job("job", lambda old: replace(old, delete_requested=True))
        assert job is not None
        return await purge.purge(steps, job, now=1)

    assert await world.store.run(mark) is purge.Purged.WAITS
    assert await purge.purge_whole(world.ctx, "job") is purge.Purged.WAITS
    assert world.job().state is JobState.ACTIVE


async def test_log_follow_ends_when_the_job_is_deleted(world: World) -> None:
    """LESSONS: log follow hangs."""
    await world.hello()
    execution_id = await world.submit()
    await world.run(execution_id)
    await append(world.ctx, [piece(execution_id, b"hello")])
    pace = read_logs.Pace(poll=0.01)
    readers = [
        read_logs.read_logs(world.ctx, wanted, pace)
        for wanted in (
            read_logs.Wanted(execution_id=execution_id, follow=True),
            read_logs.Wanted(job_id="job", follow=True),
        )
    ]
    for reader in readers:
        assert isinstance(await anext(reader), LogChunk)
    await delete.delete_job(world.ctx, "", "job", force=True)
    await world.say(execution_id, exited(0))
    for reader in readers:
        with pytest.raises(NotFound):
            await anext(reader)


# -------------------------------------------------------------------------------------------------------------- a task
async def test_a_task_goes_with_all_of_its_jobs(world: World) -> None:
    await ended(world)
    for number in range(4):
        await world.submit(f"queued-{number}")
    await world.submit("else", task="other")
    with pytest.raises(FailedPrecondition) as caught:
        await delete.delete_task(world.ctx, "mail", force=False, limit=9)
    assert caught.value.reason == "NEEDS_FORCE"
    first = await delete.delete_task(world.ctx, "mail", force=True, limit=3)
    assert (first.deleted, first.stopping, first.more) == (3, 0, True)
    assert "mail" in world.store.tables.tasks
    second = await delete.delete_task(world.ctx, "mail", force=True, limit=3)
    assert (second.deleted, second.stopping, second.more) == (2, 0, False)
    assert list(world.store.tables.tasks) == ["other"]
    assert list(world.store.tables.jobs) == ["else"]
    with pytest.raises(NotFound) as missing:
        await delete.delete_task(world.ctx, "mail", force=True, limit=3)
    assert missing.value.reason == "TASK_NOT_FOUND"


async def test_a_task_whose_jobs_run_goes_with_the_last_of_them(world: World) -> None:
    await world.hello()
    ids = [await world.submit(f"job-{n}") for n in range(3)]
    for execution_id in ids:
        await world.run(execution_id)
    # Those that are stopping are in nobody's way.
    pages = [await delete.delete_task(world.ctx, "mail", force=True, limit=2) for _ in range(2)]
    assert [(page.deleted, page.stopping, page.more) for page in pages] == [(0, 2, True), (0, 1, False)]
    assert {e.execution_id for page in pages for e in page.held} == set(ids)
    again = await delete.delete_task(world.ctx, "mail", force=True, limit=2)
    assert (again.deleted, again.stopping, again.more) == (0, 0, False)
    for execution_id in ids:
        assert "mail" in world.store.tables.tasks
        await world.say(execution_id, exited(137))
    assert not world.store.tables.tasks
    assert not world.store.tables.jobs


async def test_a_task_without_jobs_needs_no_force(world: World) -> None:
    await world.submit()
    await stop.stop_job(world.ctx, "", "job")
    await delete.delete_job(world.ctx, "", "job", force=False)
    deleted = await delete.delete_task(world.ctx, "mail", force=False, limit=9)
    assert deleted == delete.TaskDeleted(deleted=0, stopping=0)
    assert not world.store.tables.tasks


async def test_a_recurring_job_is_deleted(world: World) -> None:
    await world.put(cron="* * * * *")
    assert world.job().state is JobState.ACTIVE
    with pytest.raises(FailedPrecondition):
        await delete.delete_job(world.ctx, "", "job", force=False)
    await delete.delete_job(world.ctx, "", "job", force=True)
    assert nothing_left(world)


async def test_an_assignment_of_what_is_to_go_is_none(world: World) -> None:
    await world.hello()
    first, second = await world.submit("a"), await world.submit("b")
    await world.run(first)
    await delete.delete_job(world.ctx, "", "a", force=True)
    await delete.delete_job(world.ctx, "", "b", force=True)
    assert second not in world.store.tables.executions
    claim = Claim(execution_id=second, epoch=0, generation=0, agent_id="host-a", session=1, pool="default")
    (answer,) = await assign.assign_all(world.ctx, [claim])
    assert isinstance(answer, assign.Refused)
    assert world.execution(first).state is ExecutionState.RUNNING


async def test_force_on_a_job_that_is_being_stopped(world: World) -> None:
    await world.hello()
    execution_id = await world.submit()
    await world.run(execution_id)
    await stop.stop_job(world.ctx, "mail", "job")
    asked = world.job().stop_requested_at
    await delete.delete_job(world.ctx, "mail", "job", force=True)
    assert world.job().delete_requested
    assert world.job().stop_requested_at == asked
