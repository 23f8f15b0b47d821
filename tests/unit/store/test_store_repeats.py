"""Calls that are made again because their first answer was lost: they are answered as the first was."""

from contextlib import suppress

import pytest

from easyq_chassis.errors import Aborted, FailedPrecondition
from easyq_store.usecases import trigger
from tests.support.store_records import T0
from tests.support.store_world import Crash, World, exited


async def test_a_put_with_a_revision_again_is_the_same_put(world: World) -> None:
    await world.put(execution_id="first")
    for _ in range(3):
        done = await world.put(revision=1, command=["x"], execution_id="second")
        assert (done.created, world.job().revision) == (False, 2)
    with pytest.raises(Aborted):
        await world.put(revision=1, command=["x"], execution_id="somebody else's")


async def test_a_put_that_was_overtaken_is_still_known(world: World) -> None:
    await world.put(execution_id="first")
    await world.put(revision=1, command=["a"], execution_id="second")
    await world.put(revision=2, command=["b"], execution_id="third")
    await world.put(revision=1, command=["a"], execution_id="second")
    assert (world.job().revision, world.job().spec) == (3, world.new(command=["b"]).spec)
    for number in range(8):
        await world.put(command=[str(number)], execution_id=f"more {number}")
    assert len(world.job().requests) == 8
    with pytest.raises(Aborted):
        await world.put(revision=1, command=["a"], execution_id="second")


async def test_a_put_without_a_revision_again_does_not_undo_the_one_after_it(world: World) -> None:
    first = await world.put(command=["a"], execution_id="first")
    await world.put(command=["b"], execution_id="second")
    again = await world.put(command=["a"], execution_id="first")
    assert (first.created, again.created, world.job().revision) == (True, True, 2)


async def test_a_put_again_is_answered_although_its_spec_would_be_refused_by_now(world: World) -> None:
    await world.put(execution_id="first", asked=b"\x0a\x06echo:1")
    asked = b"\x0a\x06echo:2"
    await world.put(revision=1, image="echo:2", asked=asked, execution_id="second")
    done = await world.put(revision=1, image="echo:2", asked=asked, execution_id="second", only_same=True)
    assert (done.created, world.job().revision) == (False, 2)


async def test_a_put_again_tells_the_head_that_nobody_was_told_of(world: World) -> None:
    await world.hello()
    await world.put(execution_id="first")
    await world.run("first")
    await world.say("first", exited(0))
    for _ in range(2):
        done = await world.put(command=["x"], revision=1, execution_id="second")
        assert done.ready is not None
        assert done.ready.execution_id == "second"
    assert world.states() == "QUEUED SUCCEEDED QUEUED"


@pytest.mark.parametrize("writes", range(1, 8))
async def test_a_put_whose_process_died_on_the_way_is_made_again(world: World, writes: int) -> None:
    """Wherever it died: the repeat comes to what the first would have."""
    await world.put(execution_id="first")
    world.crash_at(writes)
    with suppress(Crash):
        await world.put(revision=1, command=["x"], execution_id="second")
    world.recover()
    await world.put(revision=1, command=["x"], execution_id="second")
    assert (world.job().revision, world.job().unsettled_since) == (2, None)
    assert world.execution("first").spec_revision == 2


async def test_two_attempts_of_one_put_at_once_are_one(world: World) -> None:
    if world.store.atomic:
        pytest.skip("no other plan comes in between")
    await world.put(execution_id="first")
    entered = False

    async def between(_: str) -> None:
        nonlocal entered
        if not entered:
            entered = True
            await world.put(revision=1, command=["x"], execution_id="second")

    world.store.between = between
    await world.put(revision=1, command=["x"], execution_id="second")
    assert (entered, world.job().revision) == (True, 2)


async def test_a_trigger_again_of_a_job_that_waited_is_answered_as_the_first(world: World) -> None:
    execution_id = await world.submit(start_in={"seconds": 3600})
    for _ in range(2):
        done = await trigger.trigger_job(world.ctx, "", "job", "by hand")
        assert (done.execution_id, done.ready is not None) == (execution_id, True)
    assert (world.states(), world.execution(execution_id).due_at) == ("QUEUED QUEUED", T0)
    with pytest.raises(FailedPrecondition):
        await trigger.trigger_job(world.ctx, "", "job", "another")
    await world.hello()
    await world.run(execution_id)
    done = await trigger.trigger_job(world.ctx, "", "job", "by hand")
    assert (done.execution_id, done.ready) == (execution_id, None)


async def test_a_trigger_that_was_refused_is_refused_again(world: World) -> None:
    await world.submit()
    for _ in range(2):
        with pytest.raises(FailedPrecondition):
            await trigger.trigger_job(world.ctx, "", "job", "by hand")


async def test_a_trigger_whose_process_died_before_it_ran_anything_runs_it_when_made_again(world: World) -> None:
    for writes in (1, 2, 3):
        job_id = f"job-{writes}"
        await world.submit(job_id, start_in={"seconds": 3600})
        world.crash_at(writes)
        with suppress(Crash):
            await trigger.trigger_job(world.ctx, "", job_id, "by hand")
        world.recover()
        await trigger.trigger_job(world.ctx, "", job_id, "by hand")
        assert world.states(job_id) == "QUEUED QUEUED"
