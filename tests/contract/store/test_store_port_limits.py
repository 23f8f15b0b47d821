"""The persistence port: a limit of none brings none, whatever the database makes of that number."""

from easyq_store.domain.states import ExecutionState
from easyq_store.ports import ExecutionFilter, JobFilter, Persistence, Steps
from tests.support.store_records import T0, execution, job


async def test_a_limit_of_none_brings_none(store: Persistence) -> None:
    async def plan(steps: Steps) -> None:
        await steps.insert_job(job(unsettled_since=T0))
        await steps.insert_execution(execution(latest_start=T0, unsettled_since=T0))
        await steps.insert_execution(execution("job-2-1", state=ExecutionState.SCHEDULED))
        await steps.insert_execution(execution("job-3-1", state=ExecutionState.RUNNING))

    await store.run(plan)
    reads, later = store.reads, T0 + 1
    assert await reads.list_jobs(JobFilter(), None, 0) == []
    assert await reads.list_executions(ExecutionFilter(), None, 0) == []
    assert await reads.executions_of("job-1", 0) == []
    assert await reads.list_tasks("", 0) == []
    assert await reads.tasks_beginning("", 0) == []
    assert await reads.jobs_beginning("", 0) == []
    assert await reads.executions_beginning("", 0) == []
    assert await reads.jobs_by_image("", 0) == []
    assert await reads.queued_after(0, 0) == []
    assert await reads.task_queue("mail", 0) == []
    assert await reads.queued_tasks("", 0) == []
    assert await reads.held("", 0) == []
    assert await reads.due(later, 0) == []
    assert await reads.expired(later, 0) == []
    assert await reads.unsettled_jobs(later, 0) == []
    assert await reads.unsettled_executions(later, 0) == []
