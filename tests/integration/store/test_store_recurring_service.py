"""Recurring jobs over a socket: what a scheduler and a gateway see."""

from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from easyq.v1 import job_pb2
from easyq.v1.spec_pb2 import JobSpec, Overlap, Resources
from easyq_chassis.ids import new_execution_id
from easyq_internal.store.v1 import farm_store_pb2 as farm_pb
from easyq_internal.store.v1 import job_store_pb2 as job_pb
from easyq_internal.store.v1 import time_store_pb2 as time_pb
from easyq_internal.store.v1.records_pb2 import DueSchedule, Finish, Needs
from tests.integration.store.conftest import Client, new_job

ABOUT_TIME: dict[str, Any] = {"cron": "* * * * *", "time_zone": "UTC", "overlap": Overlap.QUEUE}


async def enqueue(store: Client, **fields: Any) -> tuple[job_pb.SubmitAccepted, int]:
    """A new recurring job; and the first nominal time after the store's now."""
    accepted = await store.enqueue(**{**ABOUT_TIME, **fields})
    assert accepted.execution_id == ""
    assert not accepted.HasField("ready")
    return accepted, accepted.now // 1000 * 1000 - 60_000


def decision(due: DueSchedule, *nominal: int, next_at: int = 0) -> time_pb.ScheduleDecision:
    return time_pb.ScheduleDecision(
        job_id=due.job_id,
        revision=due.revision,
        cursor=due.cursor,
        fires=[time_pb.Fire(nominal=at, due_at=at) for at in nominal],
        new_cursor=max([due.cursor or due.anchor, *nominal]),
        next_at=next_at,
        next_fire=next_at,
    )


async def test_a_recurring_job_over_the_socket(store: Client) -> None:
    accepted, past = await enqueue(store, resources=Resources(cpus=0.5), agent_labels={"gpu": "a100"})
    due = await store.time.ListDueSchedules(time_pb.ListDueSchedulesRequest(limit=10))
    assert [item.job_id for item in due.items] == [accepted.job_id]
    (item,) = due.items
    assert item == accepted.schedule
    assert item.spec == JobSpec(**ABOUT_TIME)
    assert (item.task_id, item.revision, item.cursor, item.runs) == ("mail", 1, 0, 0)
    assert due.now >= item.anchor > 0
    fires = (past, past + 1_000, past + 2_000)
    fired = await store.time.FireSchedules(
        time_pb.FireSchedulesRequest(items=[decision(item, *fires, next_at=due.now + 3_600_000)] * 2)
    )
    assert fired.recorded == 1
    (ready,) = fired.ready
    assert (ready.image, ready.needs) == ("echo:1", Needs(cpu_millis=500, labels={"gpu": "a100"}))
    job = await store.jobs.GetJob(job_pb.GetJobRequest(job_id=accepted.job_id, executions=20))
    assert job.state == job_pb2.Job.ACTIVE
    assert job.execution_count == 1
    assert [execution.fire_at.ToMilliseconds() for execution in job.executions] == [past]
    assert job.schedule.waiting_fire_at.ToMilliseconds() == past + 1_000
    assert (job.schedule.runs, job.schedule.skipped) == (1, 1)
    (skip,) = job.schedule.skips
    assert (skip.reason, skip.count, skip.first.ToMilliseconds()) == (job_pb2.Skip.ONE_WAITS, 1, past + 2_000)
    assert job.next_run_at == job.schedule.next_fire_at
    assert (
        3_590 < (await store.time.ListDueSchedules(time_pb.ListDueSchedulesRequest(limit=9))).next_in.seconds <= 3_600
    )


async def test_what_is_held_tells_what_it_needs_and_an_end_lets_the_next_run(store: Client) -> None:
    accepted, past = await enqueue(store, resources=Resources(memory=2**24), retries=1)
    fires = decision(accepted.schedule, past, past + 1_000, next_at=accepted.now + 3_600_000)
    (ready,) = (await store.time.FireSchedules(time_pb.FireSchedulesRequest(items=[fires]))).ready
    opened = await store.hello()
    assignment = await store.run(ready.execution_id, opened.session)
    assert (assignment.attempt, assignment.fence) == (1, 1)
    held = await store.farm.ListHeld(farm_pb.ListHeldRequest(limit=10))
    assert held.items[0].needs == Needs(memory=2**24)
    fenced = await store.farm.Fence(farm_pb.FenceRequest(execution_ids=[ready.execution_id]))
    assert fenced.results[0].held.needs == Needs(memory=2**24)
    ended = Finish(outcome=Finish.Outcome.EXITED, exit_code=7)
    await store.say(ready.execution_id, assignment.epoch, finish=ended)
    job = await store.jobs.GetJob(job_pb.GetJobRequest(job_id=accepted.job_id, executions=20))
    assert (job.error.reason, job.error.message) == (job_pb2.Failure.NONZERO_EXIT, "exit code 7")
    first, second = job.executions
    assert (second.trigger, second.retries_used, second.infra_retries_used, second.fence) == (3, 1, 0, 2)
    assert second.fire_at == first.fire_at


async def test_pause_resume_trigger_and_put(store: Client) -> None:
    accepted, _ = await enqueue(store)
    names = {"task_id": "mail", "job_id": accepted.job_id}
    paused = (await store.jobs.PauseJob(job_pb.PauseJobRequest(**names))).job
    assert paused.state == job_pb2.Job.PAUSED
    assert paused.schedule.HasField("paused_at")
    execution_id = new_execution_id()
    triggered = await store.jobs.TriggerJob(job_pb.TriggerJobRequest(**names, execution_id=execution_id))
    assert (triggered.execution_id, triggered.ready.execution_id) == (execution_id, execution_id)
    later = await store.jobs.TriggerJob(job_pb.TriggerJobRequest(**names, execution_id=new_execution_id()))
    assert later.execution_id == ""
    with pytest.raises(grpc.RpcError) as caught:
        await store.jobs.TriggerJob(job_pb.TriggerJobRequest(**names, execution_id=new_execution_id()))
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    resumed = (await store.jobs.ResumeJob(job_pb.ResumeJobRequest(**names))).job
    assert resumed.state == job_pb2.Job.ACTIVE
    replaced = new_job(**{**ABOUT_TIME, "cron": "@daily"})
    replaced.job_id = accepted.job_id
    put = await store.jobs.PutJob(job_pb.PutJobRequest(job=replaced))
    assert (put.created, put.job.revision, put.schedule.revision) == (False, 2, 2)
    assert put.schedule.spec.cron == "@daily"
    assert put.now >= put.schedule.cursor >= accepted.now


async def test_a_plain_job_is_triggered_before_its_time_and_neither_paused_nor_resumed(store: Client) -> None:
    accepted = await store.enqueue(start_at=Timestamp(seconds=4_000_000_000))
    triggered = await store.jobs.TriggerJob(
        job_pb.TriggerJobRequest(job_id=accepted.job_id, execution_id=new_execution_id())
    )
    assert triggered.execution_id == accepted.execution_id
    assert triggered.ready.epoch == 1
    for call, request in (
        (store.jobs.PauseJob, job_pb.PauseJobRequest(job_id=accepted.job_id)),
        (store.jobs.ResumeJob, job_pb.ResumeJobRequest(job_id=accepted.job_id)),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            await call(request)
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
