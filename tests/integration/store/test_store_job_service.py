"""JobStoreService over a real socket."""

import asyncio
from collections.abc import Awaitable
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from easyq.v1.execution_service_pb2 import GetExecutionRequest, ListExecutionsRequest
from easyq.v1.farm_service_pb2 import SearchRequest
from easyq.v1.job_pb2 import Execution, Failure, Job
from easyq.v1.job_service_pb2 import ListJobsRequest
from easyq.v1.job_service_pb2 import StopJobResponse as PublicStopJobResponse
from easyq.v1.task_service_pb2 import GetTaskRequest, ListTasksRequest
from easyq_chassis.ids import new_execution_id
from easyq_chassis.status import from_rpc_error
from easyq_internal.store.v1 import job_store_pb2 as pb
from easyq_internal.store.v1 import records_pb2 as records
from tests.integration.store.conftest import Client, new_job


async def refused(call: Awaitable[Any]) -> tuple[str, str]:
    """Code and reason of a refusal."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = from_rpc_error(caught.value)
    return error.code.name, error.reason


async def test_a_job_is_there_once_it_is_answered(store: Client) -> None:
    asked = new_job(key="k", command=["a", "b"], envs={"A": "1"}, labels={"x": "y"}, priority=3)
    accepted = (await store.submit.call(asked)).accepted
    assert (accepted.job_id, accepted.execution_id) == (asked.job_id, asked.execution_id)
    assert (accepted.ready.execution_id, accepted.ready.priority, accepted.ready.task_id) == (
        asked.execution_id,
        3,
        "mail",
    )
    job = await store.jobs.GetJob(pb.GetJobRequest(task_id="mail", job_id=asked.job_id, executions=20))
    assert job.spec == asked.spec
    assert (job.state, job.revision, job.execution_count, job.idempotency_key) == (Job.QUEUED, 1, 1, "k")
    assert job.created_at.seconds > 1_700_000_000
    assert not job.HasField("stop_requested_at")
    (execution,) = job.executions
    assert execution.execution_id == asked.execution_id
    assert (execution.state, execution.image, list(execution.command), dict(execution.envs)) == (
        Execution.QUEUED,
        "echo:1",
        ["a", "b"],
        {"A": "1"},
    )
    assert not execution.HasField("exit_code")
    assert not execution.HasField("error")
    assert not execution.HasField("started_at")
    same = await store.jobs.GetExecution(GetExecutionRequest(execution_id=asked.execution_id))
    assert same == execution


async def test_many_callers_at_once_are_all_answered_their_own(store: Client) -> None:
    asked = [new_job(f"task-{number % 7}") for number in range(500)]
    results = await asyncio.gather(*(store.submit.call(job) for job in asked))
    assert [result.accepted.job_id for result in results] == [job.job_id for job in asked]
    counts = await store.jobs.CountJobs(pb.CountJobsRequest())
    assert [(c.state, c.count) for c in counts.counts] == [(Job.QUEUED, 500)]


async def test_one_refusal_in_a_batch_is_its_own(store: Client) -> None:
    first = new_job()
    stream = store.jobs.Submit()
    clash = new_job("other")
    clash.job_id = first.job_id
    await stream.write(pb.SubmitRequest(batch=7, items=[first, clash, new_job()]))
    response = await stream.read()
    assert response.batch == 7
    assert [result.WhichOneof("result") for result in response.results] == ["accepted", "error", "accepted"]
    assert response.results[1].error.code == grpc.StatusCode.ALREADY_EXISTS.value[0]
    await stream.done_writing()


async def test_a_known_idempotency_key_shows_the_stored_spec(store: Client) -> None:
    first = await store.enqueue(key="k", command=["first"])
    again = (await store.submit.call(new_job(key="k", command=["second"]))).accepted
    assert (again.job_id, again.execution_id) == (first.job_id, first.execution_id)
    assert list(again.replayed_spec.command) == ["first"]


async def test_put(store: Client) -> None:
    asked = new_job()
    asked.job_id = "nightly"
    created = await store.jobs.PutJob(pb.PutJobRequest(job=asked))
    assert created.created
    assert created.ready.execution_id == asked.execution_id
    repeated = await store.jobs.PutJob(pb.PutJobRequest(job=asked))
    assert (repeated.created, repeated.job, repeated.ready) == (True, created.job, created.ready)
    asked.execution_id = new_execution_id()
    again = await store.jobs.PutJob(pb.PutJobRequest(job=asked))
    assert (again.created, again.job) == (False, created.job)
    asked.spec.command.append("x")
    for _ in range(2):
        changed = await store.jobs.PutJob(pb.PutJobRequest(job=asked, revision=1))
        assert (changed.job.revision, list(changed.job.spec.command)) == (2, ["x"])
    asked.execution_id = new_execution_id()
    assert await refused(store.jobs.PutJob(pb.PutJobRequest(job=asked, revision=1))) == (
        "ABORTED",
        "REVISION_MISMATCH",
    )
    asked.task_id = "other"
    assert await refused(store.jobs.PutJob(pb.PutJobRequest(job=asked))) == ("FAILED_PRECONDITION", "JOB_EXISTS")


async def test_what_is_not_there(store: Client) -> None:
    assert await refused(store.jobs.GetJob(pb.GetJobRequest(job_id="x"))) == ("NOT_FOUND", "JOB_NOT_FOUND")
    assert await refused(store.jobs.StopJob(pb.StopJobRequest(job_id="x"))) == ("NOT_FOUND", "JOB_NOT_FOUND")
    assert await refused(store.jobs.RetryJob(pb.RetryJobRequest(job_id="x"))) == ("NOT_FOUND", "JOB_NOT_FOUND")
    request = GetExecutionRequest(execution_id=new_execution_id())
    assert await refused(store.jobs.GetExecution(request)) == ("NOT_FOUND", "EXECUTION_NOT_FOUND")
    assert await refused(store.jobs.GetTask(GetTaskRequest(task_id="x"))) == ("NOT_FOUND", "TASK_NOT_FOUND")


async def test_lists_and_their_pages(store: Client) -> None:
    for number in range(5):
        metadata = {"order": {"n": number}}
        await store.enqueue(f"task-{number % 2}", labels={"n": str(number)}, metadata=metadata, image=f"echo:{number}")
    first = await store.jobs.ListJobs(ListJobsRequest(page_size=3))
    second = await store.jobs.ListJobs(ListJobsRequest(page_size=3, page_token=first.next_page_token))
    assert (len(first.items), len(second.items), second.next_page_token) == (3, 2, "")
    assert len({job.job_id for job in (*first.items, *second.items)}) == 5
    assert not first.items[0].executions
    only = await store.jobs.ListJobs(ListJobsRequest(task_id="task-0", label=["n=2"], state=[Job.QUEUED]))
    assert [dict(job.spec.labels) for job in only.items] == [{"n": "2"}]
    by_metadata = await store.jobs.ListJobs(ListJobsRequest(metadata=["order.n=3"], image="echo", state=[Job.QUEUED]))
    assert [dict(job.spec.labels) for job in by_metadata.items] == [{"n": "3"}]
    assert not (await store.jobs.ListJobs(ListJobsRequest(outcome=[Execution.FAILED]))).items
    by_image = await store.jobs.ListExecutions(ListExecutionsRequest(image="echo:4"))
    assert [execution.image for execution in by_image.items] == ["echo:4"]
    request = ListJobsRequest(page_size=3, page_token=first.next_page_token, task_id="task-0")
    assert await refused(store.jobs.ListJobs(request)) == ("INVALID_ARGUMENT", "INVALID_FIELDS")
    executions = await store.jobs.ListExecutions(ListExecutionsRequest(task_id="task-1", state=[Execution.QUEUED]))
    assert len(executions.items) == 2
    failed = await store.jobs.ListExecutions(ListExecutionsRequest(reason=[Failure.OOM_KILLED]))
    assert not failed.items
    tasks = await store.jobs.ListTasks(ListTasksRequest(page_size=1))
    assert ([task.task_id for task in tasks.items], bool(tasks.next_page_token)) == (["task-0"], True)
    task = await store.jobs.GetTask(GetTaskRequest(task_id="task-0"))
    assert (task.job_count, [(c.state, c.count) for c in task.states]) == (3, [(Job.QUEUED, 3)])


async def test_search(store: Client) -> None:
    accepted = await store.enqueue("mailer", image="registry.example/team/report:7")
    for query, kinds in (
        ("mailer", ["task"]),
        (accepted.job_id, ["job"]),
        (accepted.execution_id, ["execution"]),
        ("report:", ["job"]),
        ("nothing", []),
    ):
        found = await store.jobs.Search(SearchRequest(query=query))
        assert [hit.kind for hit in found.items] == kinds, query
        assert all(hit.url.startswith("/tasks/mailer") for hit in found.items)


async def test_stop_and_retry(store: Client) -> None:
    accepted = await store.enqueue()
    stopped = await store.jobs.StopJob(pb.StopJobRequest(job_id=accepted.job_id))
    assert (stopped.outcome, stopped.job.state, len(stopped.hints)) == (
        PublicStopJobResponse.STOPPED,
        Job.STOPPED,
        0,
    )
    execution_id = new_execution_id()
    request = pb.RetryJobRequest(task_id="mail", job_id=accepted.job_id, execution_id=execution_id)
    retried = await store.jobs.RetryJob(request)
    assert retried == await store.jobs.RetryJob(request)
    assert (retried.task_id, retried.execution_id, retried.ready.execution_id) == (
        "mail",
        execution_id,
        execution_id,
    )
    other = pb.RetryJobRequest(job_id=accepted.job_id, execution_id=new_execution_id())
    assert await refused(store.jobs.RetryJob(other)) == ("FAILED_PRECONDITION", "ILLEGAL_STATE")
    opened = await store.hello()
    await store.run(execution_id, opened.session)
    stopping = await store.jobs.StopJob(pb.StopJobRequest(job_id=accepted.job_id, execution_id=execution_id))
    assert stopping.outcome == PublicStopJobResponse.STOPPING
    assert list(stopping.hints) == [pb.StopHint(execution_id=execution_id, epoch=1, agent_id="host-a")]
    finish = records.Finish(outcome=records.Finish.Outcome.EXITED, exit_code=0)
    await store.say(execution_id, 1, finish=finish)
    assert await refused(store.jobs.StopJob(pb.StopJobRequest(job_id=accepted.job_id))) == (
        "FAILED_PRECONDITION",
        "ILLEGAL_STATE",
    )


async def test_a_job_with_a_time_is_scheduled(store: Client) -> None:
    accepted = await store.enqueue(start_in=Duration(seconds=3600))
    assert not accepted.HasField("ready")
    job = await store.jobs.GetJob(pb.GetJobRequest(job_id=accepted.job_id))
    assert job.state == Job.SCHEDULED
    assert job.next_run_at.seconds - job.created_at.seconds == 3600
