"""Many jobs at once, the error queue, and deleting, over both protocols."""

import asyncio
from typing import Any

import grpc
import pytest

from easyq.v1 import job_service_pb2 as api
from easyq.v1 import task_service_pb2
from easyq.v1.job_pb2 import Execution, Failure, Job
from easyq.v1.job_service_pb2_grpc import JobServiceStub
from easyq.v1.task_service_pb2_grpc import TaskServiceStub
from easyq_gateway.usecases import many, paging
from tests.integration.gateway.conftest import Client, Starter
from tests.support.waiting import eventually


async def failed(
    gateway: Client, task: str = "mail", reason: Failure.Reason.ValueType = Failure.NONZERO_EXIT, **spec: Any
) -> str:
    """A job that gave up."""
    answer = await gateway.enqueue(task, **spec)
    await gateway.store.move(answer["executionId"], Execution.FAILED)
    job_id: str = answer["jobId"]
    gateway.store.jobs[job_id].error.CopyFrom(Failure(reason=reason, message="it failed"))
    return job_id


def states(gateway: Client) -> dict[str, str]:
    return {job.task_id: Job.State.Name(job.state) for job in gateway.store.jobs.values()}


# ----------------------------------------------------------------------------------------------------------- stopping


async def test_a_page_of_many_jobs_may_take_its_time(start_gateway: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = await start_gateway(store_patience=1.0)
    await gateway.enqueue()
    stop_many = gateway.store.stop_many

    async def slowly(request: Any) -> Any:
        await asyncio.sleep(1.3)  # longer than the patience with other calls
        return await stop_many(request)

    monkeypatch.setattr(gateway.store, "stop_many", slowly)
    assert (await gateway.post("/jobs/stop", {"selection": {"taskId": "mail"}}))["stopped"] == 1


async def test_stop_by_filter(gateway: Client) -> None:
    made = {task: await gateway.enqueue(task) for task in ("mail-a", "mail-b", "report")}
    await gateway.store.move(made["mail-b"]["executionId"], Execution.RUNNING)
    body = {"selection": {"taskPattern": "mail-.*", "olderThan": "0s"}}
    dry = await gateway.post("/jobs/stop", {**body, "dryRun": True})
    assert dry == {"matched": 2, "stopped": 0, "stopping": 0}
    assert states(gateway) == {"mail-a": "QUEUED", "mail-b": "RUNNING", "report": "QUEUED"}
    assert await gateway.post("/jobs/stop", body) == {"matched": 2, "stopped": 1, "stopping": 1}
    assert states(gateway) == {"mail-a": "STOPPED", "mail-b": "RUNNING", "report": "QUEUED"}
    await eventually(lambda: gateway.behind.dispatchers[0].stops == [made["mail-b"]["executionId"]])
    by_grpc = await JobServiceStub(gateway.channel).StopJobs(
        api.StopJobsRequest(selection=api.JobSelection(state=[Job.QUEUED]))
    )
    assert (by_grpc.matched, by_grpc.stopped) == (1, 1)
    assert states(gateway)["report"] == "STOPPED"


@pytest.mark.parametrize(
    "selection",
    [{"taskId": "mail"}, {"label": ["a=1"]}, {"state": ["QUEUED"]}, {"createdBefore": "2040-01-01T00:00:00Z"}],
)
async def test_any_one_condition_is_enough(gateway: Client, selection: Any) -> None:
    await gateway.enqueue("mail", labels={"a": "1"})
    assert (await gateway.post("/jobs/stop", {"selection": selection}))["stopped"] == 1


@pytest.mark.parametrize("path", ["/jobs/stop", "/errors/retry", "/errors/discard"])
async def test_a_pattern_that_bounded_time_excludes(gateway: Client, path: str) -> None:
    answer = await gateway.call("POST", path, {"selection": {"taskPattern": "(?=a)b"}})
    told = "looks around or refers back ((?=), which can't be matched in bounded time"
    assert (answer.status, answer.fields) == (400, {"selection.taskPattern": told})


async def test_a_refused_pattern_is_told_alike_by_grpc(gateway: Client) -> None:
    for pattern in ("(?=a)b", r"(a)\1", "a{,3}", "("):
        answer = await gateway.call("POST", "/jobs/stop", {"selection": {"taskPattern": pattern}})
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await JobServiceStub(gateway.channel).StopJobs(
                api.StopJobsRequest(selection=api.JobSelection(task_pattern=pattern))
            )
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert refused.value.details() == answer.error["message"]
        assert len(answer.fields["selection.taskPattern"]) > 20


async def test_no_pattern_holds_the_gateway(gateway: Client) -> None:
    for end in ("a", "."):
        await gateway.enqueue("a" * 127 + end)
    answer = await gateway.post("/jobs/stop", {"selection": {"taskPattern": "([a-z]+-?)+"}, "dryRun": True})
    assert answer["matched"] == 1


async def test_all_pages_are_gone_through(gateway: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many, "PAGE", 3)
    for _ in range(10):
        await gateway.enqueue("mail")
    answer = await gateway.post("/jobs/stop", {"selection": {"taskId": "mail"}})
    assert answer == {"matched": 10, "stopped": 10, "stopping": 0}
    assert gateway.store.calls.count("StopMany") == 4


async def test_what_takes_too_long_says_how_far_it_came(
    start_gateway: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next call goes on: nothing is done twice, and nothing left out."""
    monkeypatch.setattr(many, "PAGE", 3)
    monkeypatch.setattr(paging, "_LEAST", 1e6)
    gateway = await start_gateway()
    for _ in range(10):
        await gateway.enqueue("mail")
    body = {"selection": {"taskId": "mail"}}
    answer = await gateway.call("POST", "/jobs/stop", body)
    assert (answer.status, answer.error["reason"]) == (504, "DEADLINE_EXCEEDED")
    assert "3 jobs matched and 3 are stopped so far" in answer.error["message"]
    monkeypatch.undo()
    assert (await gateway.post("/jobs/stop", body))["stopped"] == 7
    assert {job.state for job in gateway.store.jobs.values()} == {Job.STOPPED}


# --------------------------------------------------------------------------------------------------------- error queue


async def test_the_error_queue(gateway: Client) -> None:
    await gateway.enqueue("mail")
    oom = await failed(gateway, "mail", Failure.OOM_KILLED, labels={"a": "1"}, envs={"TOKEN": "x"})
    other = await failed(gateway, "report")
    answer = await gateway.get("/errors")
    assert [job["jobId"] for job in answer["items"]] == [other, oom]
    assert answer["items"][1]["error"] == {"reason": "OOM_KILLED", "message": "it failed"}
    assert answer["items"][1]["spec"]["envs"] == {"TOKEN": "[redacted]"}
    for query in ("reason=OOM_KILLED", "taskId=mail", "label=a%3D1"):
        assert [job["jobId"] for job in (await gateway.get(f"/errors?{query}"))["items"]] == [oom], query
    by_grpc = await JobServiceStub(gateway.channel).ListErrors(api.ListErrorsRequest(reason=[Failure.OOM_KILLED]))
    assert [job.job_id for job in by_grpc.items] == [oom]


async def test_pages_of_the_error_queue(gateway: Client) -> None:
    """With a filter as well: each page is full, and none is lost or shown twice."""
    wanted = []
    for index in range(12):
        reason = Failure.OOM_KILLED if index % 3 == 0 else Failure.TIMEOUT
        job_id = await failed(gateway, reason=reason)
        wanted += [job_id] if reason == Failure.OOM_KILLED else []
    seen: list[str] = []
    url = "/errors?pageSize=2&reason=OOM_KILLED"
    while url:
        answer = await gateway.get(url)
        assert len(answer["items"]) == 2
        seen += [job["jobId"] for job in answer["items"]]
        url = answer["nextUrl"]
        assert bool(url) == bool(answer["nextPageToken"])
    assert seen == wanted[::-1]


async def test_retry_errors(gateway: Client) -> None:
    one = await failed(gateway, "mail")
    await failed(gateway, "report")
    stopped = await gateway.enqueue("mail")
    await gateway.store.move(stopped["executionId"], Execution.STOPPED)
    body = {"selection": {"taskPattern": "mail|other"}}
    assert await gateway.post("/errors/retry", {**body, "dryRun": True}) == {"matched": 1, "retried": 0}
    assert await gateway.post("/errors/retry", body) == {"matched": 1, "retried": 1}
    assert gateway.store.jobs[one].state == Job.QUEUED
    await eventually(lambda: f"retry-of-{one}" in gateway.behind.dispatchers[0].ready)
    by_grpc = await JobServiceStub(gateway.channel).RetryErrors(
        api.RetryErrorsRequest(selection=api.JobSelection(state=[Job.FAILED]))
    )
    assert (by_grpc.matched, by_grpc.retried) == (1, 1)


async def test_discarding_touches_nothing_but_the_error_queue(gateway: Client) -> None:
    """The store would delete whatever matches: an empty selection means all that gave up, and nothing more."""
    await failed(gateway, "mail")
    await failed(gateway, "report")
    kept = await gateway.enqueue("mail")
    await gateway.store.move(kept["executionId"], Execution.SUCCEEDED)
    assert await gateway.post("/errors/discard", {"selection": {"taskId": "mail"}, "dryRun": True}) == {
        "matched": 1,
        "discarded": 0,
    }
    by_grpc = await JobServiceStub(gateway.channel).DiscardErrors(
        api.DiscardErrorsRequest(selection=api.JobSelection())
    )
    assert (by_grpc.matched, by_grpc.discarded) == (2, 2)
    assert list(gateway.store.jobs) == [kept["jobId"]]


# ------------------------------------------------------------------------------------------------------------ deleting


async def test_delete_a_job(gateway: Client) -> None:
    ended = await failed(gateway)
    assert await gateway.call("DELETE", f"/tasks/mail/jobs/{ended}") is not None
    assert gateway.store.jobs == {}
    running = await gateway.enqueue()
    await gateway.store.move(running["executionId"], Execution.RUNNING)
    refused = await gateway.call("DELETE", running["jobUrl"])
    assert (refused.status, refused.error["reason"]) == (409, "NEEDS_FORCE")
    answer = await gateway.call("DELETE", running["jobUrl"] + "?force=true")
    assert (answer.status, answer.json) == (200, {"stopping": True})
    await eventually(lambda: gateway.behind.dispatchers[0].stops == [running["executionId"]])
    queued = await gateway.enqueue()
    by_grpc = await JobServiceStub(gateway.channel).DeleteJob(
        api.DeleteJobRequest(task_id="mail", job_id=queued["jobId"], force=True)
    )
    assert (by_grpc.stopping, queued["jobId"] in gateway.store.jobs) == (False, False)


async def test_delete_a_task(gateway: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    from easyq_gateway.usecases import deleting

    monkeypatch.setattr(deleting, "PAGE", 2)
    for _ in range(5):
        await gateway.enqueue("mail")
    await gateway.enqueue("other")
    refused = await gateway.call("DELETE", "/tasks/mail")
    assert (refused.status, refused.error["reason"]) == (409, "NEEDS_FORCE")
    answer = await gateway.call("DELETE", "/tasks/mail?force=true")
    assert (answer.status, answer.json) == (200, {"deleted": 5, "stopping": 0})
    assert {job.task_id for job in gateway.store.jobs.values()} == {"other"}
    by_grpc = await TaskServiceStub(gateway.channel).DeleteTask(
        task_service_pb2.DeleteTaskRequest(task_id="other", force=True)
    )
    assert by_grpc.deleted == 1


async def test_deleting_a_large_task_goes_on_with_the_next_call(
    gateway: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from easyq_gateway.usecases import deleting

    monkeypatch.setattr(deleting, "PAGE", 2)
    monkeypatch.setattr(paging, "_LEAST", 1e6)
    for _ in range(3):
        await gateway.enqueue("mail")
    answer = await gateway.call("DELETE", "/tasks/mail?force=true")
    assert (answer.status, len(gateway.store.jobs)) == (504, 1)
    assert "2 jobs are deleted and 0 being stopped so far" in answer.error["message"]
    answer = await gateway.call("DELETE", "/tasks/mail?force=true")
    assert (answer.status, gateway.store.jobs) == (200, {})
