"""Single records, pages, search."""

from dataclasses import replace
from typing import Any

import pytest

from easyq_chassis.errors import InvalidArgument, NotFound
from easyq_store.domain.logs import Piece
from easyq_store.domain.states import JobState, Stream
from easyq_store.ports import ExecutionFilter, Found, JobFilter, Place
from easyq_store.usecases import look
from easyq_store.usecases.append import append
from tests.support.store_world import World, exited


async def test_a_job_with_its_newest_executions_oldest_first(world: World) -> None:
    await world.hello()
    await world.submit(infra_retries=5)
    for number in range(3):
        execution_id = world.attempts()[number].execution_id
        epoch = await world.run(execution_id)
        data = bytes(number)
        await append(
            world.ctx,
            [Piece(execution_id=execution_id, epoch=epoch, stream=Stream.STDOUT, offset=0, data=data)],
        )
        await world.say(execution_id, exited(None, data, execution_id=execution_id))  # type: ignore[arg-type]
    await world.put(command=["new"])
    view = await look.get_job(world.ctx, "mail", "job", 3)
    assert [v.execution.attempt for v in view.executions] == [2, 3, 4]
    assert [v.stdout_bytes for v in view.executions] == [1, 2, 0]
    assert [v.execution.spec_revision for v in view.executions] == [1, 1, 2]
    assert view.executions[0].spec == world.new(infra_retries=5).spec
    assert view.executions[2].spec == view.job.spec
    assert (await look.get_job(world.ctx, "", "job", 0)).executions == ()
    one = await look.get_execution(world.ctx, "mail", "job", view.executions[0].execution.execution_id)
    assert one == view.executions[0]


async def test_bytes_of_what_still_runs(world: World) -> None:
    await world.hello()
    execution_id = await world.submit()
    await world.run(execution_id)
    sent = Piece(execution_id=execution_id, epoch=1, stream=Stream.STDERR, offset=0, data=b"abc")
    await append(world.ctx, [sent])
    view = await look.get_execution(world.ctx, "", "", execution_id)
    assert (view.stdout_bytes, view.stderr_bytes) == (0, 3)


async def test_what_is_not_there(world: World) -> None:
    execution_id = await world.submit()
    for call, reason in (
        (look.get_job(world.ctx, "", "nobody", 0), "JOB_NOT_FOUND"),
        (look.get_job(world.ctx, "other", "job", 0), "JOB_NOT_FOUND"),
        (look.get_execution(world.ctx, "other", "", execution_id), "EXECUTION_NOT_FOUND"),
        (look.get_execution(world.ctx, "", "other", execution_id), "EXECUTION_NOT_FOUND"),
        (look.get_task(world.ctx, "nobody"), "TASK_NOT_FOUND"),
    ):
        with pytest.raises(NotFound) as caught:
            await call
        assert caught.value.reason == reason


async def test_pages_go_on_where_the_one_before_ended(world: World) -> None:
    for number in range(5):
        await world.submit(f"job-{number}", task=f"task-{number}")
        world.machine.pass_(1)

    async def pages(kind: str) -> list[list[str]]:
        found, token = [], ""
        while True:
            if kind == "jobs":
                views, token = await look.list_jobs(world.ctx, JobFilter(), token, 2)
                found.append([view.job.job_id for view in views])
            elif kind == "executions":
                seen, token = await look.list_executions(world.ctx, ExecutionFilter(), token, 2)
                found.append([view.execution.job_id for view in seen])
            else:
                tasks, token = await look.list_tasks(world.ctx, token, 2)
                found.append([task.task_id for task in tasks])
            if not token:
                return found

    newest_first = [["job-4", "job-3"], ["job-2", "job-1"], ["job-0"]]
    assert await pages("jobs") == newest_first
    assert await pages("executions") == newest_first
    assert await pages("tasks") == [["task-0", "task-1"], ["task-2", "task-3"], ["task-4"]]
    _, token = await look.list_jobs(world.ctx, JobFilter(), "", 2)
    with pytest.raises(InvalidArgument, match="other filters"):
        await look.list_jobs(world.ctx, JobFilter(states=(JobState.QUEUED,)), token, 2)


async def test_an_exact_page_is_the_last_one(world: World) -> None:
    await world.submit("a")
    await world.submit("b")
    views, token = await look.list_jobs(world.ctx, JobFilter(), "", 2)
    assert (len(views), token) == (2, "")


async def test_a_task_with_its_counts(world: World) -> None:
    await world.hello()
    await world.submit("a")
    await world.run(await world.submit("b"))
    view = await look.get_task(world.ctx, "mail")
    assert view.task.job_count == 2
    assert view.states == {JobState.QUEUED: 1, JobState.RUNNING: 1}


async def test_search(world: World) -> None:
    execution_id = await world.submit("mail-1", task="mailer", image="registry.example/mail:1")
    await world.submit("other", task="other", image="registry.example/mail:2")

    async def found(query: str) -> tuple[list[str], list[str], list[str]]:
        tasks, jobs, executions = await look.search(world.ctx, query)
        return [t.task_id for t in tasks], [j.job_id for j in jobs], [e.execution_id for e in executions]

    tasks, jobs, executions = await found("mail")
    assert (tasks, sorted(jobs), executions) == (["mailer"], ["mail-1", "other"], [])
    assert await found(execution_id[:8]) == ([], [], [execution_id])
    assert await found("nothing") == ([], [], [])


async def test_search_finds_labels_and_tells_each_job_once(world: World) -> None:
    await world.submit("team=a", labels={"team": "a"}, image="team=a")
    await world.submit("other", labels={"team": "ab"})
    _, jobs, _ = await look.search(world.ctx, "team=a")
    assert sorted(job.job_id for job in jobs) == ["other", "team=a"]


async def test_a_page_that_looked_at_enough_goes_on(world: World) -> None:
    """A token comes also where a page is empty."""

    class Reads:
        async def list_jobs(self, *_: object, **__: object) -> Found[Any]:
            return Found([], Place(created_at=7, id="x"))

        list_executions = list_jobs

        async def log_ends(self, _: object) -> dict[str, tuple[int, int]]:
            return {}

    class Store:
        reads = Reads()

    store: Any = Store()
    world.ctx = replace(world.ctx, store=store)
    views, token = await look.list_jobs(world.ctx, JobFilter(image="a"), "", 2)
    assert (views, bool(token)) == ([], True)
    seen, token = await look.list_executions(world.ctx, ExecutionFilter(image="a"), "", 2)
    assert (seen, bool(token)) == ([], True)


async def test_search_shows_fifty_at_most(world: World) -> None:
    for number in range(60):
        await world.submit(f"x{number}", task=f"x{number}")
    tasks, jobs, executions = await look.search(world.ctx, "x")
    assert len(tasks) + len(jobs) + len(executions) == 50
