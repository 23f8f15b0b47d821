"""The persistence port: what goes, and what retention finds."""

from dataclasses import replace

import pytest

from easyq_store.domain.records import Execution, Job, Skip, Task
from easyq_store.domain.states import ENDED, ExecutionState, JobState, SkipReason, Stream
from easyq_store.ports import ExecutionFilter, Inserted, JobFilter, Persistence, Steps
from tests.support.store_records import T0, chunk, execution, job

DONE = JobState.SUCCEEDED


async def put(store: Persistence, *records: Job | Execution) -> None:
    async def plan(steps: Steps) -> None:
        for record in records:
            if isinstance(record, Job):
                assert await steps.insert_job(record) is Inserted.DONE
            else:
                assert await steps.insert_execution(record)

    await store.run(plan)


async def delete(store: Persistence, record: Job | Execution) -> bool:
    if isinstance(record, Job):
        return await store.run(lambda steps: steps.delete_job(record))
    return await store.run(lambda steps: steps.delete_execution(record))


async def change(store: Persistence, job_id: str, **fields: object) -> None:
    await store.run(lambda steps: steps.change_job(job_id, lambda old: replace(old, **fields)))  # type: ignore[arg-type]


async def test_a_job_that_was_deleted_has_left_nothing(store: Persistence) -> None:
    other = job("job-10", labels=("a=1",))
    await put(store, job(labels=("a=1", "b=2"), idempotency_key="k"), other)
    skip = Skip(first=T0, last=T0, count=1, reason=SkipReason.OVERLAP, decided_at=T0)
    for job_id in ("job-1", "job-10"):

        async def keep(steps: Steps, job_id: str = job_id) -> None:
            await steps.keep_spec(job_id, 7, b"old")
            await steps.keep_skips(job_id, [skip])

        await store.run(keep)
    stored = await store.reads.get_job("job-1")
    assert stored is not None
    assert await delete(store, stored)
    reads = store.reads
    assert await reads.get_job("job-1") is None
    assert await reads.job_by_key("mail", "k") is None
    assert await reads.list_jobs(JobFilter(labels=("a=1",)), None, 9) == [other]
    assert await reads.list_jobs(JobFilter(labels=("b=2",)), None, 9) == []
    assert await reads.jobs_by_image("registry.example", 9) == [other]
    assert await reads.get_spec("job-1", 7) is None
    assert await reads.get_spec("job-10", 7) == b"old"
    assert await reads.skips("job-1", 9) == []
    assert await reads.skips("job-10", 9) == [skip]
    assert await reads.count_jobs("mail") == {JobState.QUEUED: 1}
    # Its id and its key are free again.
    await put(store, job(labels=("a=1", "b=2"), idempotency_key="k"))
    assert await reads.count_jobs("mail") == {JobState.QUEUED: 2}


async def test_only_what_is_as_it_was_read_is_deleted(store: Persistence) -> None:
    await put(store, job(), execution())
    await change(store, "job-1", state=DONE)
    await store.run(lambda steps: steps.change_execution("job-1-1", lambda old: replace(old, epoch=5)))
    assert not await delete(store, job())
    assert not await delete(store, execution())
    assert not await delete(store, job("none"))
    assert not await delete(store, execution("none-1"))
    assert await store.reads.get_job("job-1") is not None
    assert await store.reads.get_execution("job-1-1") is not None
    assert await delete(store, replace(execution(), epoch=5, write_no=2))
    assert await store.reads.get_execution("job-1-1") is None
    assert await store.reads.task_queue("mail", 9) == []


async def test_an_execution_that_was_deleted_may_come_again(store: Persistence) -> None:
    async def plan(steps: Steps) -> bool:
        await steps.insert_execution(execution())
        assert await steps.delete_execution(execution())
        return await steps.insert_execution(execution())

    assert await store.run(plan)
    assert await store.reads.list_executions(ExecutionFilter(), None, 9) == [execution()]


async def test_chunks_go_some_at_a_time(store: Persistence) -> None:
    async def plan(steps: Steps) -> None:
        for offset in range(0, 50, 10):
            await steps.insert_chunk(chunk(b"x" * 10, offset))
        await steps.insert_chunk(chunk(b"err", stream=Stream.STDERR))
        await steps.insert_chunk(chunk(b"else", execution_id="job-1-10"))

    await store.run(plan)
    counts: list[int] = []
    while not counts or counts[-1]:
        counts.append(await store.run(lambda steps: steps.delete_chunks("job-1-1", 4)))
    assert counts == [4, 2, 0]
    assert await store.run(lambda steps: steps.delete_chunks("job-1-10", 0)) == 0
    assert await store.reads.log_ends(["job-1-1", "job-1-10"]) == {"job-1-10": (4, 0)}


async def test_a_task_goes_with_its_last_job(store: Persistence) -> None:
    old, new = job("a", created_at=T0), job("b", created_at=T0 + 9)
    await put(store, old, new, job("c", task_id="other"))
    assert await delete(store, new)
    mail = Task(task_id="mail", created_at=T0, last_job_at=T0, job_count=1)
    assert await store.reads.get_task("mail") == mail
    await store.run(lambda steps: steps.delete_task("mail"))
    assert await store.reads.get_task("mail") == mail
    assert await delete(store, old)
    assert await store.reads.get_task("mail") is None
    assert [t.task_id for t in await store.reads.list_tasks("", 9)] == ["other"]
    assert [t.task_id for t in await store.reads.list_tasks("", 1)] == ["other"]
    assert (await store.reads.task_ids("", 9))[-1:] == ["other"]
    assert await store.reads.task_ids("other", 9) == []
    assert await store.reads.task_ids("", 0) == []
    assert await store.reads.tasks_beginning("m", 9) == []
    assert await store.reads.count_jobs("mail") == {}


async def test_a_task_without_jobs_goes_at_once_and_only_when_asked(store: Persistence) -> None:
    await put(store, job())
    assert await delete(store, job())
    assert await store.reads.get_task("mail") == Task(task_id="mail", created_at=T0, last_job_at=T0, job_count=0)
    await store.run(lambda steps: steps.delete_task("mail"))
    assert await store.reads.get_task("mail") is None
    await store.run(lambda steps: steps.delete_task("mail"))
    await store.run(lambda steps: steps.delete_task("never"))
    assert await store.reads.get_task("never") is None


async def test_a_task_that_gets_jobs_again_stays(store: Persistence) -> None:
    await put(store, job())
    await store.run(lambda steps: steps.delete_task("mail"))
    await put(store, job("again"))
    assert await delete(store, job())
    assert await delete(store, job("again"))
    task = await store.reads.get_task("mail")
    assert task is not None
    assert task.job_count == 0
    await store.run(lambda steps: steps.delete_task("mail"))
    await put(store, job("once-more"))
    assert [t.task_id for t in await store.reads.list_tasks("", 9)] == ["mail"]


async def test_what_is_to_be_deleted_is_found_once_it_has_ended(store: Persistence) -> None:
    await put(store, job("a", delete_requested=True), job("b", delete_requested=True), job("c", state=DONE))
    assert await store.reads.doomed_jobs("", 9) == []
    await change(store, "b", state=JobState.STOPPED)
    await change(store, "c", delete_requested=True)
    assert await store.reads.doomed_jobs("", 9) == ["b", "c"]
    assert await store.reads.doomed_jobs("", 1) == ["b"]
    assert await store.reads.doomed_jobs("b", 9) == ["c"]
    assert await store.reads.doomed_jobs("", 0) == []
    await change(store, "b", state=JobState.QUEUED)
    assert await store.reads.doomed_jobs("", 9) == ["c"]


@pytest.mark.parametrize("where", [JobFilter(), JobFilter(task_id="mail"), JobFilter(labels=("a=1",))])
async def test_lists_may_leave_out_what_is_to_be_deleted(store: Persistence, where: JobFilter) -> None:
    kept = job("kept", labels=("a=1",))
    await put(store, job("gone", labels=("a=1",), delete_requested=True), kept)
    assert len(await store.reads.list_jobs(where, None, 9)) == 2
    assert await store.reads.list_jobs(replace(where, kept_only=True), None, 9) == [kept]


async def test_what_has_ended_of_a_task_oldest_end_first(store: Persistence) -> None:
    states = (JobState.FAILED, JobState.TIMED_OUT)
    await put(
        store,
        job("b", state=JobState.FAILED, last_modified_at=T0 + 1),
        job("a", state=JobState.TIMED_OUT, last_modified_at=T0 + 1),
        job("new", state=JobState.FAILED, last_modified_at=T0 + 7, created_at=T0 - 9),
        job("good", state=DONE),
        job("open"),
        job("else", state=JobState.FAILED, task_id="other"),
    )
    ended = store.reads.ended_jobs
    assert await ended("mail", states, T0 + 8, 9) == ["a", "b", "new"]
    assert await ended("mail", states, T0 + 8, 2) == ["a", "b"]
    assert await ended("mail", states, T0 + 7, 9) == ["a", "b"]
    assert await ended("mail", [JobState.TIMED_OUT], T0 + 7, 9) == ["a"]
    assert await ended("mail", states, T0 + 8, 0) == []
    await change(store, "a", state=JobState.QUEUED)
    assert await ended("mail", states, T0 + 7, 9) == ["b"]


async def test_executions_with_logs_oldest_end_first(store: Persistence) -> None:
    def made(number: int, **fields: object) -> Execution:
        ended = execution(f"job-{number}-1", state=ExecutionState.FAILED, finished_at=T0 + number)
        return replace(ended, **fields)  # type: ignore[arg-type]

    await put(
        store,
        made(1, stdout_size=0, stderr_size=0),
        made(5, stdout_size=0, stderr_size=9),
        made(3),
        made(4, stdout_size=1, stderr_size=1, logs_removed_at=T0),
        made(6, stdout_size=3, stderr_size=0, task_id="other"),
        execution("job-7-1", state=ExecutionState.RUNNING),
    )
    assert await store.reads.with_logs("mail", T0 + 9, 9) == ["job-3-1", "job-5-1"]
    assert await store.reads.with_logs("mail", T0 + 5, 9) == ["job-3-1"]
    assert await store.reads.with_logs("mail", T0 + 9, 1) == ["job-3-1"]
    assert await store.reads.with_logs("mail", T0 + 9, 0) == []
    await store.run(lambda steps: steps.change_execution("job-3-1", lambda old: replace(old, logs_removed_at=T0 + 9)))
    assert await store.reads.with_logs("mail", T0 + 9, 9) == ["job-5-1"]
    stored = await store.reads.get_execution("job-3-1")
    assert stored is not None
    assert stored.logs_removed_at == T0 + 9


async def test_open_executions_of_a_task_are_counted(store: Persistence) -> None:
    states = [ExecutionState.QUEUED] * 3 + [ExecutionState.ASSIGNED, ExecutionState.RUNNING, ExecutionState.SCHEDULED]
    made = [execution(f"job-{n}-1", state=state, agent_id="a") for n, state in enumerate([*states, *sorted(ENDED)])]
    await put(store, *made, execution("job-99-1", task_id="other"))
    assert await store.reads.count_open("mail") == (3, 2)
    assert await store.reads.count_open("none") == (0, 0)


async def test_the_oldest_executions_of_a_job(store: Persistence) -> None:
    made = [execution(f"job-1-{n}", attempt=n) for n in (2, 1, 3)]
    await put(store, *made, execution("job-2-1"))
    for lookups in (store.reads.first_executions, None):
        found = (
            await lookups("job-1", 2) if lookups else await store.run(lambda steps: steps.first_executions("job-1", 2))
        )
        assert found == [made[1], made[0]]
    assert await store.reads.first_executions("job-1", 0) == []
