"""Two calls at once, on a database without transactions: one comes right before a write of the other."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from easyq_chassis.errors import Aborted, FailedPrecondition
from easyq_store.usecases import assign, retry, submit
from easyq_store.usecases.report import Started, Verdict
from tests.fakes.store import FakePersistence
from tests.support.store_world import World, exited


@pytest.fixture
def world() -> World:
    return World(store=FakePersistence(atomic=False))


def before(world: World, step: str, call: Callable[[], Awaitable[Any]]) -> None:
    """Makes `call` happen right before the next such step."""

    async def between(name: str) -> None:
        if name == step:
            world.store.between = nothing
            await call()

    async def nothing(_: str) -> None:
        return None

    world.store.between = between


async def test_two_submits_with_one_key_make_one_job(world: World) -> None:
    before(world, "insert_job", lambda: world.submit("first", key="k"))
    (result,) = await submit.submit(world.ctx, [world.new("second", key="k")])
    assert isinstance(result, submit.Accepted)
    assert result.job_id == "first"
    assert result.replayed_spec is not None
    assert list(world.store.tables.jobs) == ["first"]


async def test_two_submits_of_one_job_make_it_once(world: World) -> None:
    before(world, "insert_job", lambda: world.submit(key="k"))
    (result,) = await submit.submit(world.ctx, [world.new(key="k")])
    assert isinstance(result, submit.Accepted)
    assert result.ready is not None
    assert world.states() == "QUEUED QUEUED"


async def test_two_puts_of_a_new_job_make_it_once(world: World) -> None:
    before(world, "insert_job", lambda: world.put(command=["other"], execution_id="other"))
    made = await world.put(command=["mine"])
    assert not made.created
    assert (world.job().revision, world.job().spec) == (2, world.new(command=["mine"]).spec)
    assert world.states() == "QUEUED QUEUED"


async def test_of_two_replacements_the_later_writer_is_told(world: World) -> None:
    await world.put()
    before(world, "change_job", lambda: world.put(command=["other"]))
    with pytest.raises(Aborted) as caught:
        await world.put(command=["mine"])
    assert caught.value.reason == "REVISION_MISMATCH"
    assert world.job().revision == 2


async def finish(world: World) -> None:
    execution_id = world.attempts()[-1].execution_id
    await world.run(execution_id)
    await world.say(execution_id, exited(0))


async def test_of_two_retries_one_is_made(world: World) -> None:
    await world.hello()
    await world.submit()
    await finish(world)
    before(world, "change_job", lambda: retry.retry_job(world.ctx, "", "job", "other"))
    with pytest.raises(FailedPrecondition, match="is QUEUED"):
        await retry.retry_job(world.ctx, "", "job", "mine")
    assert [e.execution_id for e in world.attempts()[1:]] == ["other"]


async def test_a_retry_that_comes_after_another_has_ended_is_told(world: World) -> None:
    await world.hello()
    await world.submit()
    await finish(world)

    async def whole_attempt() -> None:
        await retry.retry_job(world.ctx, "", "job", "other")
        await finish(world)

    before(world, "change_job", whole_attempt)
    with pytest.raises(Aborted):
        await retry.retry_job(world.ctx, "", "job", "mine")
    assert world.states() == "SUCCEEDED SUCCEEDED SUCCEEDED"
    before(world, "change_job", whole_attempt_of_put(world))
    with pytest.raises(Aborted):
        await world.put(command=["mine"], execution_id="third")


def whole_attempt_of_put(world: World) -> Callable[[], Awaitable[None]]:
    async def call() -> None:
        await retry.retry_job(world.ctx, "", "job", "again")
        await finish(world)

    return call


async def test_of_two_assignments_one_is_given(world: World) -> None:
    await world.hello()
    execution_id = await world.submit()
    before(world, "change_execution", lambda: world.assign(execution_id))
    assert isinstance(await world.assign(execution_id), assign.Refused)
    assert world.execution(execution_id).epoch == 1


async def test_a_finish_that_is_overtaken_by_a_loss_is_stale(world: World) -> None:
    await world.hello()
    execution_id = await world.submit()
    await world.run(execution_id)

    async def lose() -> None:
        await world.lost.run_once()
        world.machine.pass_(200)
        await world.lost.run_once()

    before(world, "change_execution", lose)
    taken = await world.say(execution_id, exited(0), epoch=1)
    assert taken.verdict is Verdict.STALE
    assert world.states() == "QUEUED LOST QUEUED"


async def test_a_loss_that_is_overtaken_by_the_agents_return_is_none(world: World) -> None:
    await world.hello()
    execution_id = await world.submit()
    await world.run(execution_id)
    await world.lost.run_once()
    world.machine.pass_(200)

    async def come_back() -> None:
        agents = world.store.tables.agents
        agents["host-a"] = replace(agents["host-a"], beats=7)

    before(world, "change_agent", come_back)
    await world.lost.run_once()
    assert world.states() == "RUNNING RUNNING"
    assert (await world.say(execution_id, Started())).verdict is Verdict.OK


async def test_two_first_hellos_of_one_agent_get_a_session_each(world: World) -> None:
    sessions: list[int] = []

    async def other() -> None:
        await world.hello()
        sessions.append(world.sessions["host-a"])

    before(world, "insert_agent", other)
    await world.hello()
    assert [*sessions, world.sessions["host-a"]] == [1, 2]
