"""Stop, retry and delete by selection, page by page."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from easyq_chassis.errors import InvalidArgument
from easyq_store.domain import selection as which
from easyq_store.domain.selection import Selection, bound
from easyq_store.domain.states import FailureReason, JobState
from easyq_store.usecases import many
from easyq_store.usecases.many import Asked, Done
from tests.support.store_records import T0
from tests.support.store_world import World, exited


async def all_pages(world: World, call: Any, selection: Selection, **fields: Any) -> list[Done]:
    pages: list[Done] = []
    while not pages or pages[-1].cursor:
        cursor = pages[-1].cursor if pages else ""
        pages.append(await call(world.ctx, Asked(selection=selection, cursor=cursor, **fields)))
    return pages


async def failed(world: World, job_id: str, **fields: Any) -> str:
    if "host-a" not in world.sessions:
        await world.hello()
    execution_id = await world.submit(job_id, **fields)
    await world.run(execution_id)
    await world.say(execution_id, exited(1))
    assert world.job(job_id).state is JobState.FAILED
    return execution_id


def test_what_came_before_the_call() -> None:
    assert bound(Selection(), T0) == T0 + 1
    assert bound(Selection(created_before=T0 - 5), T0) == T0 - 5
    assert bound(Selection(created_before=T0 + 5), T0) == T0 + 1
    assert bound(Selection(older_than_ms=100, created_before=T0), T0) == T0 - 99
    assert bound(Selection(older_than_ms=0), T0) == T0 + 1


async def test_stop_by_filter(world: World) -> None:
    await world.hello()
    running = await world.submit("running", labels={"team": "a"})
    await world.run(running)
    for number in range(5):
        await world.submit(f"queued-{number}", labels={"team": "a"})
        world.machine.pass_(1)
    await world.submit("other", task="other", labels={"team": "a"})
    await world.submit("unlabelled")
    await failed(world, "failed", labels={"team": "a"})
    selection = Selection(task_id="mail", labels=("team=a",))
    (dry,) = await all_pages(world, many.stop_many, selection, dry_run=True)
    assert (dry.matched, dry.done, dry.stopping) == (6, 0, 0)
    assert world.states("queued-0") == "QUEUED QUEUED"
    pages = await all_pages(world, many.stop_many, selection, limit=2)
    assert [page.matched for page in pages] == [2, 2, 2]
    assert sum(page.done for page in pages) == 5
    assert [e.execution_id for page in pages for e in page.held] == [running]
    assert sum(page.stopping for page in pages) == 1
    for number in range(5):
        assert world.states(f"queued-{number}") == "STOPPED STOPPED"
    assert world.states("running") == "RUNNING RUNNING"
    for untouched in ("other", "unlabelled"):
        assert world.states(untouched) == "QUEUED QUEUED"
    assert (await all_pages(world, many.stop_many, selection))[0].matched == 1  # repeats are harmless


async def test_a_call_is_about_what_was_there_when_it_began(world: World) -> None:
    for number in range(3):
        await world.submit(f"job-{number}")
        world.machine.pass_(1)
    first = await many.stop_many(world.ctx, Asked(selection=Selection(), limit=1))
    world.machine.pass_(1)
    await world.submit("new")
    rest = await many.stop_many(world.ctx, Asked(selection=Selection(), limit=9, cursor=first.cursor))
    assert (first.matched, rest.matched, rest.cursor) == (1, 2, "")
    assert world.states("new") == "QUEUED QUEUED"


async def test_by_age_state_reason_and_name(world: World) -> None:
    await failed(world, "old", task="mail.eu")
    world.machine.pass_(60)
    await failed(world, "new", task="mail.us")
    await failed(world, "else", task="print")

    async def matched(**fields: Any) -> int:
        (page,) = await all_pages(world, many.delete_many, Selection(**fields), dry_run=True)
        return page.matched

    assert await matched() == 3
    assert await matched(task_pattern=r"mail\..*") == 2
    assert await matched(task_pattern="mail") == 0
    assert await matched(older_than_ms=60_000) == 1
    assert await matched(older_than_ms=60_001) == 0
    assert await matched(created_from=T0 + 1) == 2
    assert await matched(created_before=T0 + 1) == 1
    assert await matched(reasons=(FailureReason.NONZERO_EXIT,)) == 3
    assert await matched(reasons=(FailureReason.OOM_KILLED,)) == 0
    assert await matched(states=(JobState.TIMED_OUT,)) == 0
    assert await matched(states=(JobState.QUEUED,)) == 0  # what has not ended is not deleted by the way
    assert await matched(task_pattern="([a-z]+-?)+") == 1
    for pattern in ("(", "(?=p)print", r"(p)rint\1"):
        with pytest.raises(InvalidArgument) as refused:
            await matched(task_pattern=pattern)
        assert [problem.field for problem in refused.value.fields] == ["taskPattern"]
        assert refused.value.message == f"taskPattern: {refused.value.fields[0].message}"


async def test_no_pattern_holds_the_store(world: World) -> None:
    for end in ("a", "."):
        await failed(world, f"job-{end}", task="a" * 127 + end)
    (page,) = await all_pages(world, many.delete_many, Selection(task_pattern="([a-z]+-?)+"), dry_run=True)
    assert page.matched == 1


async def test_others_come_in_between_slow_matches(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Matching holds the whole process: however long each one takes, nobody waits for more than a few of them."""
    for number in range(40):
        await world.submit(f"job-{number}", task=f"task-{number}")
    time = came_in = 0.0

    def slow(_: str) -> bool:
        nonlocal time
        time += 0.002
        return True

    async def come_in() -> None:
        nonlocal came_in
        while True:
            came_in += 1
            await asyncio.sleep(0)

    monkeypatch.setattr(many, "monotonic", lambda: time)
    monkeypatch.setattr(which, "task_test", lambda _: slow)
    other = asyncio.create_task(come_in())
    (page,) = await all_pages(world, many.stop_many, Selection(task_pattern="t.*"), dry_run=True)
    other.cancel()
    assert page.matched == 40
    assert came_in >= 20


async def test_the_error_queue_is_retried_once_each(world: World) -> None:
    for number in range(3):
        await failed(world, f"job-{number}")
        world.machine.pass_(1)
    await world.submit("good")
    await world.submit("recurs", task="cron", cron="* * * * *")
    first = await many.retry_many(world.ctx, Asked(selection=Selection(), limit=2))
    assert (first.matched, first.done, len(first.ready)) == (2, 2, 2)
    # One of them fails again while the call goes on, and one of the rest is retried by hand and fails again.
    world.machine.pass_(1)
    for head in first.ready:
        await world.run(head.execution_id)
        await world.say(head.execution_id, exited(1))
    second = await many.retry_many(world.ctx, Asked(selection=Selection(), limit=2, cursor=first.cursor))
    assert (second.matched, second.done, second.cursor) == (1, 1, "")
    assert world.states("job-0") == "QUEUED FAILED QUEUED"
    assert world.states("job-2") == "FAILED FAILED FAILED"
    assert world.states("good") == "QUEUED QUEUED"


async def test_a_page_that_is_asked_for_again_makes_no_second_attempts(world: World) -> None:
    for number in range(2):
        await failed(world, f"job-{number}")
        world.machine.pass_(1)
    first = await many.retry_many(world.ctx, Asked(selection=Selection(), limit=1))
    again = Asked(selection=Selection(), limit=1, cursor=first.cursor)
    await many.retry_many(world.ctx, again)
    assert await many.retry_many(world.ctx, again) == Done()
    assert world.states("job-0") == "QUEUED FAILED QUEUED"


async def test_what_gave_up_after_the_call_began_is_left(world: World) -> None:
    await failed(world, "a")
    world.machine.pass_(1)
    await failed(world, "b")
    first = await many.delete_many(world.ctx, Asked(selection=Selection(), limit=1))
    world.machine.pass_(1)
    (again,) = (await many.retry_many(world.ctx, Asked(selection=Selection()))).ready
    await world.run(again.execution_id)
    await world.say(again.execution_id, exited(1))
    rest = await many.delete_many(world.ctx, Asked(selection=Selection(), limit=1, cursor=first.cursor))
    assert (first.matched, first.done, rest.matched) == (1, 1, 0)
    assert list(world.store.tables.jobs) == ["a"]


async def test_the_error_queue_is_discarded(world: World) -> None:
    for number in range(5):
        await failed(world, f"job-{number}")
    await world.submit("good")
    pages = await all_pages(world, many.delete_many, Selection(), limit=2)
    assert sum(page.done for page in pages) == 5
    assert list(world.store.tables.jobs) == ["good"]


async def test_a_cursor_belongs_to_its_call(world: World) -> None:
    for number in range(2):
        await failed(world, f"job-{number}")
    asked = Asked(selection=Selection(), limit=1)
    first = await many.retry_many(world.ctx, asked)
    for other in (Asked(selection=Selection(task_id="mail"), cursor=first.cursor), replace(asked, cursor="x")):
        with pytest.raises(InvalidArgument):
            await many.retry_many(world.ctx, other)
    with pytest.raises(InvalidArgument):
        await many.delete_many(world.ctx, replace(asked, cursor=first.cursor))


async def test_executions_of_a_task_are_counted(world: World) -> None:
    await world.hello()
    ids = [await world.submit(f"job-{n}") for n in range(3)]
    await world.run(ids[0])
    assert await world.store.reads.count_open("mail") == (2, 1)
