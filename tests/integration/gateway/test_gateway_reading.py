"""Looking at things, in both protocols: every route, pages, filters, why something waits."""

import asyncio
from typing import Any

import grpc.aio
import pytest

from easyq.v1 import execution_service_pb2, farm_service_pb2, task_service_pb2
from easyq.v1 import job_service_pb2 as api
from easyq.v1.execution_service_pb2_grpc import ExecutionServiceStub
from easyq.v1.farm_service_pb2_grpc import FarmServiceStub
from easyq.v1.job_pb2 import Execution, Failure, Job, Waiting
from easyq.v1.job_service_pb2_grpc import JobServiceStub
from easyq.v1.task_service_pb2_grpc import TaskServiceStub
from easyq_chassis.status import from_rpc_error
from easyq_gateway.http_rules import all_bindings
from easyq_gateway.usecases.presenting import Presenter
from easyq_internal.dispatcher.v1 import dispatcher_pb2
from tests.integration.gateway.conftest import SPEC, Client, Starter
from tests.support.waiting import eventually

RECURRING = frozenset({"PauseJob", "ResumeJob", "TriggerJob", "GetSchedule"})
QUERIES = {"Search": "?query=mail", "DeleteJob": "?force=true", "DeleteTask": "?force=true"}
BODIES: dict[str, Any] = {
    "BatchCreateJobs": {"jobs": [{"taskId": "mail", "spec": SPEC}]},
    "StopJobs": {"selection": {"taskId": "nobody's"}, "dryRun": True},
    "RetryErrors": {"selection": {"taskId": "nobody's"}},
    "DiscardErrors": {"selection": {"taskId": "nobody's"}},
    "ResetBreaker": {"kind": "HOST", "subject": "host-1"},
}


async def test_every_route_answers(gateway: Client) -> None:
    """Each binding with values that exist: none is forgotten, none is shadowed by another."""
    gateway.behind.add_agent("host-1")
    gateway.behind.dispatchers[0].pools["default"] = dispatcher_pb2.ExplainPoolResponse()
    for index, binding in enumerate(all_bindings()):
        name, task = binding.method.name, f"mail{index}"
        answer = await gateway.enqueue(task, **({"cron": "@daily"} if name in RECURRING else {}))
        values = {
            "task_id": task,
            "job_id": answer["jobId"],
            "execution_id": answer["executionId"],
            "agent_id": "host-1",
            "name": "default",
            "delivery_id": "d",
        }
        gateway.store.deliveries.put(answer["jobId"], "d")
        if name == "RetryJob":
            await gateway.store.move(answer["executionId"], Execution.FAILED)
        path = binding.path_of(values[variable] for variable in binding.variables)
        body = SPEC if binding.body == "spec" else BODIES.get(name)
        result = await gateway.call(binding.verb, path + QUERIES.get(name, ""), body)
        assert result.status == 200, (binding.verb, path, result)
        shown = set(result.json)
        assert shown == {field.json_name for field in binding.method.output_type.fields}


async def test_grpc_shows_the_same_as_rest(gateway: Client) -> None:
    answer = await gateway.enqueue("mail")
    channel = gateway.channel
    job = await JobServiceStub(channel).GetJob(api.GetJobRequest(job_id=answer["jobId"]))
    shown = await gateway.get(answer["jobUrl"])
    assert (job.state, job.revision, len(job.executions)) == (Job.QUEUED, 1, 1)
    assert (shown["state"], shown["revision"], len(shown["executions"])) == ("QUEUED", 1, 1)
    execution = await ExecutionServiceStub(channel).GetExecution(
        execution_service_pb2.GetExecutionRequest(execution_id=answer["executionId"])
    )
    assert execution.waiting.message == (await gateway.get(answer["executionUrl"]))["waiting"]["message"]
    tasks = await TaskServiceStub(channel).ListTasks(task_service_pb2.ListTasksRequest())
    assert [task.task_id for task in tasks.items] == ["mail"]
    task = await TaskServiceStub(channel).GetTask(task_service_pb2.GetTaskRequest(task_id="mail"))
    assert task.job_count == 1
    hits = await FarmServiceStub(channel).Search(farm_service_pb2.SearchRequest(query=answer["jobId"]))
    assert [hit.url for hit in hits.items] == [answer["jobUrl"]]
    gateway.behind.add_agent("host-1")
    agent = await FarmServiceStub(channel).GetAgent(farm_service_pb2.GetAgentRequest(agent_id="host-1"))
    assert agent.slots == 4
    agents = await FarmServiceStub(channel).ListAgents(farm_service_pb2.ListAgentsRequest())
    assert [agent.agent_id for agent in agents.items] == ["host-1"]
    executions = await ExecutionServiceStub(channel).ListExecutions(
        execution_service_pb2.ListExecutionsRequest(job_id=answer["jobId"])
    )
    assert [item.execution_id for item in executions.items] == [answer["executionId"]]


async def test_pages_of_jobs(gateway: Client) -> None:
    made = [(await gateway.enqueue(f"t{i % 2}"))["jobId"] for i in range(7)]
    seen: list[str] = []
    url = "/jobs?pageSize=3"
    sizes = []
    while url:
        page = await gateway.get(url)
        seen += [job["jobId"] for job in page["items"]]
        sizes.append(len(page["items"]))
        assert bool(page["nextUrl"]) is bool(page["nextPageToken"])
        url = page["nextUrl"]
    assert seen == made[::-1]
    assert sizes == [3, 3, 1]


async def test_a_large_page_is_asked_for_in_parts(gateway: Client) -> None:
    items = [{"taskId": "mail", "spec": {**SPEC, "envs": {"FILL": "x" * 50_000}}} for _ in range(230)]
    await gateway.post("/batch", {"jobs": items})
    page = await gateway.get("/jobs?pageSize=150")
    assert len(page["items"]) == 150
    assert len({job["jobId"] for job in page["items"]}) == 150
    # Beyond some MiB a page ends early, and the next one goes on where it ended.
    first = await gateway.get("/jobs?pageSize=1000")
    rest = await gateway.get(first["nextUrl"])
    assert 150 < len(first["items"]) < 230
    assert len(first["items"] + rest["items"]) == 230


async def test_the_next_page_keeps_path_and_filters(gateway: Client) -> None:
    for _ in range(3):
        await gateway.enqueue("a b".replace(" ", "."), labels={"team": "x y"})
    page = await gateway.get("/tasks/a.b/jobs?pageSize=2&state=queued&label=team%3Dx%20y&createdAfter=0")
    assert page["nextUrl"].startswith("/tasks/a.b/jobs?state=QUEUED&label=team%3Dx+y&createdAfter=1970-01-01T00")
    last = await gateway.get(page["nextUrl"])
    assert (len(last["items"]), last["nextUrl"]) == (1, "")


async def test_the_next_page_by_grpc(gateway: Client) -> None:
    for _ in range(2):
        await gateway.enqueue()
    page = await JobServiceStub(gateway.channel).ListJobs(api.ListJobsRequest(page_size=1))
    assert len((await gateway.get(page.next_url))["items"]) == 1


async def test_a_token_of_other_filters(gateway: Client) -> None:
    for _ in range(2):
        await gateway.enqueue()
    token = (await gateway.get("/jobs?pageSize=1"))["nextPageToken"]
    answer = await gateway.call("GET", f"/jobs?pageSize=1&state=RUNNING&pageToken={token}")
    assert (answer.status, list(answer.fields)) == (400, ["pageToken"])


async def test_filters(gateway: Client) -> None:
    one, two = await gateway.enqueue("a"), await gateway.enqueue("b", labels={"k": "v"})
    await gateway.store.move(one["executionId"], Execution.FAILED)
    gateway.store.executions[one["executionId"]].error.reason = Failure.OOM_KILLED

    async def found(path: str) -> list[str]:
        return [item.get("executionId") or item["jobId"] for item in (await gateway.get(path))["items"]]

    assert await found("/jobs?state=failed&state=succeeded") == [one["jobId"]]
    assert await found("/jobs?label=k%3Dv") == [two["jobId"]]
    assert await found("/jobs?taskId=b") == [two["jobId"]]
    assert await found("/executions?reason=oom_killed") == [one["executionId"]]
    assert await found("/executions?state=QUEUED") == [two["executionId"]]
    assert await found(f"/jobs/{two['jobId']}/executions") == [two["executionId"]]
    assert await found("/tasks/a/jobs?createdBefore=5") == []


async def test_search(gateway: Client) -> None:
    answer = await gateway.enqueue("mail", image="busybox:9")
    for query, kind, url in (
        ("ma", "task", "/tasks/mail"),
        (answer["jobId"], "job", answer["jobUrl"]),
        ("busybox%3A9", "job", answer["jobUrl"]),
        (answer["executionId"], "execution", answer["executionUrl"]),
    ):
        [hit] = (await gateway.get(f"/search?query={query}"))["items"]
        assert (hit["kind"], hit["url"]) == (kind, url)
    assert (await gateway.get("/search?query=nothing"))["items"] == []


# ------------------------------------------------------------------------------------------------------------ waiting


async def test_the_dispatcher_explains(start_gateway: Starter) -> None:
    gateway = await start_gateway(dispatchers=2)
    answer = await gateway.enqueue()
    words = Waiting(reason=Waiting.LIMIT_FULL, message="Its limit is full.")
    gateway.behind.dispatchers[1].waiting[answer["executionId"]] = words
    job = await gateway.get(answer["jobUrl"])
    assert (
        job["waiting"]
        == job["executions"][0]["waiting"]
        == {
            "reason": "LIMIT_FULL",
            "message": "Its limit is full.",
            # The dispatcher does not know since when.
            "since": job["executions"][0]["queuedAt"],
            "subject": "",
            "position": 0,
            "nextLookAt": None,
        }
    )
    assert job["waiting"]["since"] is not None
    [item] = (await gateway.get("/executions"))["items"]
    assert item["waiting"]["reason"] == "LIMIT_FULL"


async def test_lists_go_from_either_end(gateway: Client) -> None:
    made = [(await gateway.enqueue())["jobId"] for _ in range(3)]
    first = await gateway.get("/jobs?order=oldest&pageSize=2")
    assert "order=OLDEST" in first["nextUrl"]
    rest = await gateway.get(first["nextUrl"])
    assert [job["jobId"] for job in (*first["items"], *rest["items"])] == made
    for query in ("", "?order=NEWEST"):
        assert [job["jobId"] for job in (await gateway.get(f"/jobs{query}"))["items"]] == made[::-1]
    executions = (await gateway.get("/executions?order=OLDEST"))["items"]
    assert [execution["jobId"] for execution in executions] == made
    assert list((await gateway.call("GET", "/jobs?order=up")).fields) == ["order"]


async def test_lists_of_jobs_tell_why_each_waits(gateway: Client) -> None:
    queued, retried, later, runs = [await gateway.enqueue("mail") for _ in range(4)]
    dispatcher = gateway.behind.dispatchers[0]
    await gateway.store.move(later["executionId"], Execution.SCHEDULED)
    await gateway.store.move(runs["executionId"], Execution.RUNNING)
    await gateway.store.move(retried["executionId"], Execution.FAILED)
    second = (await gateway.post(retried["jobUrl"] + "/retry"))["executionId"]
    for execution_id, reason in ((queued["executionId"], Waiting.LIMIT_FULL), (second, Waiting.NO_AGENT)):
        dispatcher.waiting[execution_id] = Waiting(reason=reason, message="Why.")
    for path in ("/jobs", "/tasks/mail/jobs"):
        items = {job["jobId"]: job for job in (await gateway.get(path))["items"]}
        told = {job_id: job["waiting"] and job["waiting"]["reason"] for job_id, job in items.items()}
        assert told == {
            queued["jobId"]: "LIMIT_FULL",
            retried["jobId"]: "NO_AGENT",
            later["jobId"]: "NOT_DUE",
            runs["jobId"]: None,
        }
        assert all(job["executions"] == [] for job in items.values())


async def test_a_list_holds_up_nobody_where_a_dispatcher_hangs(start_gateway: Starter) -> None:
    gateway = await start_gateway(explain_timeout=0.1)
    for _ in range(3):
        await gateway.enqueue()
    gateway.behind.dispatchers[0].answering.clear()
    async with asyncio.timeout(9):
        items = (await gateway.get("/jobs"))["items"]
    assert [job["waiting"]["reason"] for job in items] == ["DISPATCHER_SLOW"] * 3
    gateway.behind.dispatchers[0].answering.set()


async def test_without_a_dispatcher(gateway: Client) -> None:
    answer = await gateway.enqueue()
    await gateway.behind.stop("dispatcher0")
    job = await gateway.get(answer["jobUrl"])
    assert job["waiting"]["reason"] == "DISPATCHER_UNAVAILABLE"
    assert "stored" in job["waiting"]["message"]


async def test_a_dispatcher_that_hangs_holds_up_nobody(start_gateway: Starter) -> None:
    gateway = await start_gateway(explain_timeout=0.1)
    answer = await gateway.enqueue()
    gateway.behind.dispatchers[0].answering.clear()
    async with asyncio.timeout(9):
        job = await gateway.get(answer["jobUrl"])
    assert job["waiting"]["reason"] == "DISPATCHER_SLOW"
    assert "No dispatcher has answered within 0.1 s" in job["waiting"]["message"]
    assert job["waiting"]["since"] == job["executions"][0]["queuedAt"]
    gateway.behind.dispatchers[0].answering.set()


async def test_before_its_time(gateway: Client) -> None:
    answer = await gateway.enqueue(startIn="1h")
    job = await gateway.get(answer["jobUrl"])
    assert job["waiting"]["reason"] == "NOT_DUE"
    assert "It is due at 2030-" in job["waiting"]["message"]


async def test_with_its_agent(gateway: Client) -> None:
    answer = await gateway.enqueue()
    await gateway.store.move(answer["executionId"], Execution.ASSIGNED, host="host-1")
    execution = await gateway.get(answer["executionUrl"])
    assert execution["waiting"]["reason"] == "STARTING"
    assert "host-1" in execution["waiting"]["message"]


@pytest.mark.parametrize("state", [Execution.RUNNING, Execution.SUCCEEDED])
async def test_what_does_not_wait(gateway: Client, state: Execution.State.ValueType) -> None:
    answer = await gateway.enqueue()
    await gateway.store.move(answer["executionId"], state)
    job = await gateway.get(answer["jobUrl"])
    assert job["waiting"] is None
    assert job["executions"][0]["waiting"] is None


# ------------------------------------------------------------------------------------------------------------ steering


async def test_stop_of_a_waiting_job(gateway: Client) -> None:
    answer = await gateway.enqueue()
    for path in ("/stop", "/stop/", "/stop"):
        stopped = await gateway.post(answer["jobUrl"] + path)
        assert (stopped["outcome"], stopped["job"]["state"]) == ("STOPPED", "STOPPED")
    assert gateway.behind.dispatchers[0].stops == []


async def test_stop_of_a_running_job_tells_the_dispatchers(gateway: Client) -> None:
    answer = await gateway.enqueue(envs={"TOKEN": "t"})
    await gateway.store.move(answer["executionId"], Execution.RUNNING, host="host-1")
    stopped = await gateway.post(f"/executions/{answer['executionId']}/stop")
    assert (stopped["outcome"], stopped["execution"]["state"]) == ("STOPPING", "RUNNING")
    assert stopped["execution"]["envs"] == {"TOKEN": "[redacted]"}
    await eventually(lambda: gateway.behind.dispatchers[0].stops == [answer["executionId"]])


async def test_what_has_ended_can_not_be_stopped(gateway: Client) -> None:
    answer = await gateway.enqueue()
    await gateway.store.move(answer["executionId"], Execution.SUCCEEDED)
    for path in (answer["jobUrl"], answer["executionUrl"]):
        refused = await gateway.call("POST", path + "/stop")
        assert (refused.status, refused.error["code"], refused.error["reason"]) == (
            409,
            "FAILED_PRECONDITION",
            "ILLEGAL_STATE",
        )


async def test_retry(gateway: Client) -> None:
    answer = await gateway.enqueue()
    refused = await gateway.call("POST", answer["jobUrl"] + "/retry")
    assert (refused.status, refused.error["reason"]) == (409, "ILLEGAL_STATE")
    await gateway.store.move(answer["executionId"], Execution.FAILED)
    again = await gateway.post(answer["jobUrl"] + "/retry")
    assert again["executionUrl"] == f"{answer['jobUrl']}/executions/{again['executionId']}"
    execution = await gateway.get(again["executionUrl"])
    assert (execution["attempt"], execution["trigger"]) == (2, "MANUAL")
    await eventually(lambda: again["executionId"] in gateway.behind.dispatchers[0].ready)


async def test_steering_by_grpc(gateway: Client) -> None:
    jobs: Any = JobServiceStub(gateway.channel)
    executions: Any = ExecutionServiceStub(gateway.channel)
    answer = await gateway.enqueue()
    request = execution_service_pb2.StopExecutionRequest(execution_id=answer["executionId"])
    assert (await executions.StopExecution(request)).outcome == execution_service_pb2.StopExecutionResponse.STOPPED
    stopped = await jobs.StopJob(api.StopJobRequest(job_id=answer["jobId"]))
    assert stopped.outcome == api.StopJobResponse.STOPPED
    assert (await jobs.RetryJob(api.RetryJobRequest(job_id=answer["jobId"]))).execution_id
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await jobs.RetryJob(api.RetryJobRequest(job_id=answer["jobId"]))
    assert from_rpc_error(error.value).reason == "ILLEGAL_STATE"


async def test_a_fault_of_ours_is_told_without_its_trace(gateway: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("secret of the code")

    job = await gateway.enqueue()
    monkeypatch.setattr(gateway.store, "task", broken)
    monkeypatch.setattr(Presenter, "job", broken)
    # A fault of the store's, and one of the gateway's own.
    for path in ("/tasks/x", job["jobUrl"]):
        answer = await gateway.call("GET", path)
        assert (answer.status, answer.error["code"], answer.error["reason"]) == (500, "INTERNAL", "INTERNAL")
        assert b"secret" not in answer.body
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await JobServiceStub(gateway.channel).GetJob(api.GetJobRequest(job_id=job["jobId"]))
    assert error.value.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in str(error.value.details())
