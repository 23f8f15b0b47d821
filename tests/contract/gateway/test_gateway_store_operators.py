"""What recurring jobs, calls for many and operators need of a store: the fake and the store keep the same promises."""

from typing import Any

from easyq.v1.job_pb2 import Execution, Job, Trigger
from easyq.v1.job_service_pb2 import JobSelection, ListJobsRequest
from easyq.v1.spec_pb2 import Overlap
from easyq_chassis import ids
from easyq_chassis.errors import FailedPrecondition, InvalidArgument, NotFound
from easyq_internal.store.v1.job_store_pb2 import (
    DeleteJobRequest,
    DeleteTaskRequest,
    ManyRequest,
    PauseJobRequest,
    PutJobRequest,
    ResumeJobRequest,
    StopJobRequest,
    TriggerJobRequest,
)
from easyq_internal.store.v1.records_pb2 import Upkeep
from tests.contract.gateway.conftest import Ports, new_job, refused


def trigger_of(job_id: str) -> TriggerJobRequest:
    return TriggerJobRequest(job_id=job_id, execution_id=ids.new_execution_id())


async def test_a_recurring_job_has_no_execution(ports: Ports) -> None:
    new = new_job(cron="@hourly", key="k")
    for _ in range(2):
        accepted = await ports.jobs.submit(new)
        assert (accepted.job_id, accepted.execution_id, accepted.HasField("ready")) == (new.job_id, "", False)
    job = await ports.get(new.job_id)
    assert (job.state, len(job.executions), job.execution_count) == (Job.ACTIVE, 0, 0)
    assert (job.schedule.anchor.seconds > 0, job.schedule.runs, job.spec) == (True, 0, new.spec)
    again = await ports.jobs.submit(new_job(cron="@hourly", key="k"))
    assert (again.job_id, again.execution_id, again.replayed_spec) == (new.job_id, "", new.spec)


async def test_a_recurring_job_by_put(ports: Ports) -> None:
    made = await ports.jobs.put_job(PutJobRequest(job=new_job(job_id="nightly", cron="@hourly")))
    assert (made.created, made.job.state, len(made.job.executions)) == (True, Job.ACTIVE, 0)
    assert (made.HasField("ready"), made.schedule.job_id, made.now > 0) == (False, "nightly", True)


async def test_pause_and_resume(ports: Ports) -> None:
    job_id = (await ports.submit(cron="@hourly")).job_id
    for _ in range(2):
        job = (await ports.jobs.pause_job(PauseJobRequest(task_id="mail", job_id=job_id))).job
        assert (job.state, job.schedule.HasField("paused_at"), job.HasField("next_run_at")) == (Job.PAUSED, True, False)
    for _ in range(2):
        job = (await ports.jobs.resume_job(ResumeJobRequest(job_id=job_id))).job
        assert (job.state, job.schedule.HasField("paused_at")) == (Job.ACTIVE, False)


async def test_only_recurring_jobs_that_live_are_paused(ports: Ports) -> None:
    plain, ended = (await ports.submit()).job_id, (await ports.submit(cron="@hourly")).job_id
    await ports.jobs.stop_job(StopJobRequest(job_id=ended))
    for call in (
        lambda job_id: ports.jobs.pause_job(PauseJobRequest(job_id=job_id)),
        lambda job_id: ports.jobs.resume_job(ResumeJobRequest(job_id=job_id)),
    ):
        for job_id, kind, reason in (
            (plain, FailedPrecondition, "NOT_RECURRING"),
            (ended, FailedPrecondition, "ILLEGAL_STATE"),
            ("nope", NotFound, "JOB_NOT_FOUND"),
        ):
            error = await refused(call(job_id))
            assert (type(error), error.reason) == (kind, reason)


async def test_trigger(ports: Ports) -> None:
    job_id = (await ports.submit(cron="@hourly")).job_id
    request = trigger_of(job_id)
    answer = await ports.jobs.trigger_job(request)
    assert (answer.task_id, answer.job_id, answer.execution_id) == ("mail", job_id, request.execution_id)
    assert (answer.ready.execution_id, list(answer.hints)) == (request.execution_id, [])
    job = await ports.get(job_id)
    assert (job.state, [(one.trigger, one.state) for one in job.executions]) == (
        Job.ACTIVE,
        [(Trigger.MANUAL, Execution.QUEUED)],
    )
    error = await refused(ports.jobs.trigger_job(trigger_of(job_id)))
    assert (type(error), error.reason) == (FailedPrecondition, "OVERLAP")


async def test_a_trigger_that_waits_has_no_execution_yet(ports: Ports) -> None:
    job_id = (await ports.submit(cron="@hourly", overlap=Overlap.QUEUE)).job_id
    first = await ports.jobs.trigger_job(trigger_of(job_id))
    second = await ports.jobs.trigger_job(trigger_of(job_id))
    assert (first.execution_id != "", second.execution_id, second.HasField("ready")) == (True, "", False)
    error = await refused(ports.jobs.trigger_job(trigger_of("nope")))
    assert (type(error), error.reason) == (NotFound, "JOB_NOT_FOUND")


async def test_trigger_of_a_plain_job(ports: Ports) -> None:
    new = new_job()
    new.spec.start_in.FromSeconds(3600)
    accepted = await ports.jobs.submit(new)
    answer = await ports.jobs.trigger_job(trigger_of(accepted.job_id))
    assert (answer.execution_id, answer.ready.execution_id) == (accepted.execution_id, accepted.execution_id)
    assert (await ports.get(accepted.job_id)).state == Job.QUEUED
    error = await refused(ports.jobs.trigger_job(trigger_of(accepted.job_id)))
    assert (type(error), error.reason) == (FailedPrecondition, "ILLEGAL_STATE")


async def test_unknown_agents(ports: Ports) -> None:
    for call in (ports.jobs.set_upkeep("nope", Upkeep(cordoned=True)), ports.jobs.declare_dead("nope")):
        error = await refused(call)
        assert (type(error), error.reason) == (NotFound, "AGENT_NOT_FOUND")


async def test_delete(ports: Ports) -> None:
    job_id = (await ports.submit()).job_id
    error = await refused(ports.jobs.delete_job(DeleteJobRequest(job_id=job_id)))
    assert (type(error), error.reason) == (FailedPrecondition, "NEEDS_FORCE")
    assert not (await ports.jobs.delete_job(DeleteJobRequest(job_id=job_id, force=True))).stopping
    for call in (ports.get(job_id), ports.jobs.delete_job(DeleteJobRequest(job_id=job_id))):
        error = await refused(call)
        assert (type(error), error.reason) == (NotFound, "JOB_NOT_FOUND")


async def test_delete_a_task_page_by_page(ports: Ports) -> None:
    for _ in range(5):
        await ports.submit()
    await ports.submit("other")
    error = await refused(ports.jobs.delete_task(DeleteTaskRequest(task_id="mail", limit=2)))
    assert (type(error), error.reason) == (FailedPrecondition, "NEEDS_FORCE")
    deleted, pages, more = 0, 0, True
    while more and pages < 10:
        try:
            page = await ports.jobs.delete_task(DeleteTaskRequest(task_id="mail", force=True, limit=2))
        except NotFound:
            break
        assert page.deleted <= 2
        deleted, pages, more = deleted + page.deleted, pages + 1, page.more
    assert deleted == 5
    left: Any = await ports.jobs.list_jobs(ListJobsRequest())
    assert [job.task_id for job in left.items] == ["other"]


async def test_stop_many_page_by_page(ports: Ports) -> None:
    for index in range(5):
        await ports.submit(f"mail-{index}")
    await ports.submit("report")
    request = ManyRequest(selection=JobSelection(task_pattern="mail.*"), limit=2, dry_run=True)
    for dry_run in (True, False):
        request.dry_run, request.cursor = dry_run, ""
        matched = done = 0
        for _ in range(10):
            page = await ports.jobs.stop_many(request)
            matched, done, request.cursor = matched + page.matched, done + page.done, page.next_cursor
            if not request.cursor:
                break
        assert (matched, done) == (5, 0 if dry_run else 5)
    left = await ports.jobs.list_jobs(ListJobsRequest(state=[Job.QUEUED]))
    assert [job.task_id for job in left.items] == ["report"]


async def test_a_pattern_that_can_not_be_matched_in_time(ports: Ports) -> None:
    error = await refused(ports.jobs.stop_many(ManyRequest(selection=JobSelection(task_pattern="(?=a)b"), limit=2)))
    assert (type(error), [field.field for field in error.fields]) == (InvalidArgument, ["taskPattern"])


async def test_retry_and_delete_many(ports: Ports) -> None:
    job_id = (await ports.submit()).job_id
    await ports.jobs.stop_job(StopJobRequest(job_id=job_id))
    gave_up = JobSelection(state=[Job.FAILED, Job.TIMED_OUT])
    # A job that was stopped has not given up.
    assert (await ports.jobs.retry_many(ManyRequest(selection=gave_up, limit=10))).matched == 0
    assert (await ports.jobs.delete_many(ManyRequest(selection=gave_up, limit=10))).matched == 0
    assert (await ports.get(job_id)).state == Job.STOPPED


async def test_counts_and_what_waits_of_a_task(ports: Ports) -> None:
    made = [(await ports.submit()).execution_id for _ in range(3)]
    waiting = await ports.jobs.list_waiting("mail", 2)
    assert [execution.execution_id for execution in waiting] == made[:2]
    assert list(await ports.jobs.queued_tasks("", 9)) == ["mail"]
    assert list(await ports.jobs.queued_tasks("mail", 9)) == []
    counts = await ports.jobs.count_executions("mail")
    assert (counts.queued, counts.held) == (3, 0)
