"""What operators look at and do: agents, pools, limits, breakers, why tasks and pools wait; over both protocols."""

import asyncio
import re
import time
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from easyq.v1 import farm_service_pb2 as api
from easyq.v1 import task_service_pb2
from easyq.v1.farm_service_pb2_grpc import FarmServiceStub
from easyq.v1.job_pb2 import Execution, Waiting
from easyq.v1.task_service_pb2_grpc import TaskServiceStub
from easyq_internal.dispatcher.v1 import dispatcher_pb2
from tests.integration.gateway.conftest import Client, Starter
from tests.support.waiting import eventually

BREAKER = api.Breaker(kind=api.Breaker.IMAGE, subject="a:1", state=api.Breaker.Phase.OPEN, cause="503", failures=3)


# -------------------------------------------------------------------------------------------------------------- agents


async def test_cordon_and_uncordon(gateway: Client) -> None:
    gateway.behind.add_agent("host-1")
    for _ in range(2):
        agent = (await gateway.post("/agents/host-1/cordon"))["agent"]
        assert (agent["cordonedAt"] is not None, agent["drainedAt"]) == (True, None)
    answer = await gateway.call("DELETE", "/agents/host-1/cordon")
    assert (answer.status, answer.json["agent"]["cordonedAt"]) == (200, None)
    await eventually(lambda: len(gateway.behind.dispatchers[0].upkeep) == 3)
    told = [(news.agent_id, news.upkeep.cordoned) for news in gateway.behind.dispatchers[0].upkeep]
    assert told == [("host-1", True), ("host-1", True), ("host-1", False)]
    # As the store numbers them: they may overtake each other.
    assert [news.upkeep.version for news in gateway.behind.dispatchers[0].upkeep] == [1, 2, 3]
    stub: Any = FarmServiceStub(gateway.channel)
    assert (await stub.CordonAgent(api.CordonAgentRequest(agent_id="host-1"))).agent.HasField("cordoned_at")
    assert not (await stub.UncordonAgent(api.UncordonAgentRequest(agent_id="host-1"))).agent.HasField("cordoned_at")


async def test_a_farm_whose_agents_are_cordoned_runs_nothing(gateway: Client) -> None:
    gateway.behind.add_agent("host-1")
    assert (await gateway.get("/status"))["running"]
    await gateway.post("/agents/host-1/cordon")
    status = await gateway.get("/status")
    assert not status["running"]
    assert "cordoned, or drains" in status["problems"][0]["message"]


async def test_drain(gateway: Client) -> None:
    gateway.behind.add_agent("host-1")
    agent = (await gateway.post("/agents/host-1/drain?deadline=10m"))["agent"]
    assert (agent["drainedAt"] is not None, agent["drainDeadline"] is not None) == (True, True)
    # Its deadline is not lost by a cordon.
    again = (await gateway.post("/agents/host-1/cordon"))["agent"]
    assert again["drainDeadline"] == agent["drainDeadline"]
    [news] = await eventually(lambda: gateway.behind.dispatchers[0].upkeep)
    assert (news.upkeep.cordoned, news.upkeep.draining, news.upkeep.deadline_in.seconds) == (True, True, 600)
    answer = await gateway.call("DELETE", "/agents/host-1/drain")
    assert (answer.status, answer.json["agent"]["drainedAt"]) == (200, None)
    stub: Any = FarmServiceStub(gateway.channel)
    agent = (await stub.DrainAgent(api.DrainAgentRequest(agent_id="host-1"))).agent
    assert (agent.HasField("drained_at"), agent.HasField("drain_deadline")) == (True, False)


@pytest.mark.parametrize(("deadline", "seconds"), [("0", 0), ("90", 90), ("1h30m", 5400), ("1.5", 1)])
async def test_deadlines_of_a_drain(gateway: Client, deadline: str, seconds: int) -> None:
    gateway.behind.add_agent("host-1")
    await gateway.post(f"/agents/host-1/drain?deadline={deadline}")
    [news] = await eventually(lambda: gateway.behind.dispatchers[0].upkeep)
    assert (news.upkeep.HasField("deadline_in"), news.upkeep.deadline_in.seconds) == (True, seconds)


async def test_declare_dead(gateway: Client) -> None:
    gateway.behind.add_agent("host-1")
    made = await gateway.enqueue()
    await gateway.store.move(made["executionId"], Execution.RUNNING, host="host-1")
    answer = await gateway.post("/agents/host-1/declare-dead")
    assert (answer["agent"]["state"], answer["lost"]) == ("DEAD", 1)
    await eventually(lambda: f"again-{made['executionId']}" in gateway.behind.dispatchers[0].ready)
    by_grpc = await FarmServiceStub(gateway.channel).DeclareAgentDead(api.DeclareAgentDeadRequest(agent_id="host-1"))
    assert (by_grpc.agent.state, by_grpc.lost) == (api.Agent.DEAD, 0)


async def test_hosts_are_steered_while_dispatchers_are_away(gateway: Client) -> None:
    gateway.behind.add_agent("host-1")
    await gateway.behind.stop("dispatcher0")
    for path in ("cordon", "drain", "declare-dead"):
        await gateway.post(f"/agents/host-1/{path}")


@pytest.mark.usefixtures("unhurried")
async def test_an_agent_tells_what_its_jobs_asked_for(start_gateway: Starter) -> None:
    gateway = await start_gateway(dispatchers=2)
    gateway.behind.add_agent("host-1", capacity=api.Capacity(cpus=4, memory=2**30))
    gateway.behind.add_agent("host-2")
    gateway.behind.dispatchers[1].matching.used["host-1"].CopyFrom(api.Capacity(cpus=1.5, gpus=1))
    shown = await gateway.get("/agents/host-1")
    assert shown["capacity"] == {"cpus": 4, "memory": 2**30, "gpus": 0}
    assert shown["used"] == {"cpus": 1.5, "memory": 0, "gpus": 1}
    listed = (await gateway.get("/agents"))["items"]
    assert [agent["used"] and agent["used"]["cpus"] for agent in listed] == [1.5, None]
    assert (await gateway.get("/status"))["agents"][0]["used"] == shown["used"]


# ------------------------------------------------------------------------------------------------------------- matching


async def test_pools_limits_and_breakers(start_gateway: Starter) -> None:
    gateway = await start_gateway(dispatchers=2)
    await gateway.behind.stop("dispatcher0")
    matching = gateway.behind.dispatchers[1].matching
    matching.pools.add(name="default", pattern=".*", slots=4)
    matching.limits.add(pattern="mail", max_running=2, running=1)
    matching.breakers.append(BREAKER)
    assert [pool["name"] for pool in (await gateway.get("/pools"))["items"]] == ["default"]
    assert (await gateway.get("/limits"))["items"] == [{"pattern": "mail", "maxRunning": 2, "running": 1}]
    [shown] = (await gateway.get("/breakers"))["items"]
    assert (shown["kind"], shown["subject"], shown["state"], shown["cause"]) == ("IMAGE", "a:1", "OPEN", "503")
    assert (await gateway.get("/status"))["breakers"] == [shown]
    stub: Any = FarmServiceStub(gateway.channel)
    assert (await stub.ListPools(api.ListPoolsRequest())).items[0].slots == 4
    assert (await stub.ListLimits(api.ListLimitsRequest())).items[0].max_running == 2
    assert (await stub.ListBreakers(api.ListBreakersRequest())).items[0].failures == 3


async def test_breakers_of_two_dispatchers_are_told_once(start_gateway: Starter) -> None:
    gateway = await start_gateway(dispatchers=2)
    for dispatcher in gateway.behind.dispatchers:
        dispatcher.matching.breakers.append(BREAKER)
    gateway.behind.dispatchers[1].matching.breakers.add(kind=api.Breaker.HOST, subject="a:1")
    assert len((await gateway.get("/breakers"))["items"]) == 2


async def test_a_breaker_is_reset_at_every_dispatcher(start_gateway: Starter) -> None:
    gateway = await start_gateway(dispatchers=2)
    assert await gateway.post("/breakers/reset", {"kind": "image", "subject": "a:1"}) == {}
    stub: Any = FarmServiceStub(gateway.channel)
    await stub.ResetBreaker(api.ResetBreakerRequest(kind=api.Breaker.HOST, subject="host-1"))
    for dispatcher in gateway.behind.dispatchers:
        told = [(reset.kind, reset.subject) for reset in dispatcher.resets]
        assert told == [(api.Breaker.IMAGE, "a:1"), (api.Breaker.HOST, "host-1")]
    await gateway.behind.stop("dispatcher0")
    assert await gateway.post("/breakers/reset", {"kind": "image", "subject": "a:1"}) == {}


async def test_what_the_reset_of_a_breaker_needs_is_said(gateway: Client) -> None:
    answer = await gateway.call("POST", "/breakers/reset")
    assert (answer.status, answer.error["reason"]) == (400, "MALFORMED_BODY")
    assert answer.error["message"] == (
        'the body is empty; it must be a JSON object, such as {"kind": "IMAGE", "subject": "registry.example/mail:1"}'
    )
    answer = await gateway.call("POST", "/breakers/reset", {"subject": "a:1"})
    assert answer.fields == {"kind": "must be one of HOST, IMAGE"}
    answer = await gateway.call("POST", "/tasks/mail", b"")
    assert "the body is empty; it must be a JSON object, such as" in answer.error["message"]
    assert '"image": "busybox:1"' in answer.error["message"]


async def test_without_a_dispatcher_there_is_no_matching(gateway: Client) -> None:
    await gateway.behind.stop("dispatcher0")
    for method, path, body in (
        ("GET", "/pools", None),
        ("GET", "/limits", None),
        ("GET", "/breakers", None),
        ("GET", "/pools/default/explain", None),
        ("POST", "/breakers/reset", {"kind": "HOST", "subject": "a"}),
    ):
        answer = await gateway.call(method, path, body)
        assert (answer.status, answer.error["reason"]) == (503, "UNAVAILABLE"), path


# -------------------------------------------------------------------------------------------------------------- explain


async def test_explain_a_task(gateway: Client) -> None:
    dispatcher = gateway.behind.dispatchers[0]
    dispatcher.tasks["mail"] = dispatcher_pb2.ExplainTaskResponse(
        pool="big", limits=[api.LimitStatus(pattern="mail", max_running=1, running=1)]
    )
    made = [await gateway.enqueue("mail") for _ in range(23)]
    await gateway.enqueue("other")
    await gateway.store.move(made[0]["executionId"], Execution.RUNNING)
    words = Waiting(reason=Waiting.LIMIT_FULL, message="Its limit is full.", subject="mail", position=1)
    dispatcher.waiting[made[1]["executionId"]] = words
    answer = await gateway.get("/tasks/mail/explain")
    assert (answer["pool"], answer["queued"], answer["running"]) == ("big", 22, 1)
    assert answer["limits"] == [{"pattern": "mail", "maxRunning": 1, "running": 1}]
    first, *rest = answer["executions"]
    assert (first["executionId"], first["jobId"]) == (made[1]["executionId"], made[1]["jobId"])
    # One call for all of them.
    assert gateway.store.calls.count("ListWaiting") == 1
    assert "GetExecution" not in gateway.store.calls
    assert (first["waiting"]["reason"], first["waiting"]["subject"]) == ("LIMIT_FULL", "mail")
    assert [one["executionId"] for one in rest] == [one["executionId"] for one in made[2:21]]
    by_grpc = await TaskServiceStub(gateway.channel).ExplainTask(task_service_pb2.ExplainTaskRequest(task_id="mail"))
    assert (by_grpc.pool, len(by_grpc.executions)) == ("big", 20)


async def test_explain_a_task_without_a_dispatcher(gateway: Client) -> None:
    await gateway.enqueue("mail")
    await gateway.behind.stop("dispatcher0")
    answer = await gateway.get("/tasks/mail/explain")
    assert (answer["pool"], answer["queued"]) == ("", 1)
    assert answer["executions"][0]["waiting"]["reason"] == "DISPATCHER_UNAVAILABLE"


async def test_explain_waits_for_a_slow_dispatcher_longer_than_a_look_at_the_job_does(start_gateway: Starter) -> None:
    gateway = await start_gateway(explain_timeout=0.05, status_timeout=30)
    made, runs = await gateway.enqueue("mail"), await gateway.enqueue("mail")
    await gateway.store.move(runs["executionId"], Execution.RUNNING)
    dispatcher = gateway.behind.dispatchers[0]
    dispatcher.waiting[made["executionId"]] = Waiting(reason=Waiting.NO_FREE_SLOT, message="All are taken.")
    dispatcher.waiting[runs["executionId"]] = Waiting(reason=Waiting.HOST_SILENT, message="It is silent.")
    dispatcher.answering.clear()
    paths = [f"/jobs/{made['jobId']}/explain", "/tasks/mail/explain", f"/jobs/{runs['jobId']}/explain"]
    asked = [asyncio.create_task(gateway.get(path)) for path in paths]
    assert (await gateway.get(made["jobUrl"]))["waiting"]["reason"] == "DISPATCHER_SLOW"
    dispatcher.answering.set()
    told = [answer["executions"][0]["waiting"]["reason"] for answer in await asyncio.gather(*asked)]
    assert told == ["NO_FREE_SLOT", "NO_FREE_SLOT", "HOST_SILENT"]


async def test_queues(gateway: Client) -> None:
    for name in ("b", "a", "c"):
        await gateway.enqueue(name)
    await gateway.store.move((await gateway.enqueue("b"))["executionId"], Execution.RUNNING)
    await gateway.store.move((await gateway.enqueue("done"))["executionId"], Execution.SUCCEEDED)
    found = (await gateway.get("/queues"))["items"]
    assert [(one["taskId"], one["queued"], one["running"]) for one in found] == [("a", 1, 0), ("b", 1, 1), ("c", 1, 0)]
    first = (await gateway.get("/tasks/a/jobs"))["items"][0]
    assert found[0]["oldestAt"] == first["createdAt"]
    assert found[0]["waiting"]["reason"]
    page = await gateway.get("/queues?pageSize=2")
    assert ([one["taskId"] for one in page["items"]], "pageSize=2" in page["nextUrl"]) == (["a", "b"], True)
    page = await gateway.get(page["nextUrl"])
    assert ([one["taskId"] for one in page["items"]], page["nextPageToken"], page["nextUrl"]) == (["c"], "", "")
    stub: Any = TaskServiceStub(gateway.channel)
    by_grpc = await stub.ListQueues(task_service_pb2.ListQueuesRequest(page_size=1))
    assert (by_grpc.items[0].task_id, bool(by_grpc.next_page_token)) == ("a", True)
    for query in ("pageToken=zzz", "pageToken=YQ", "pageToken=MTr_", "pageSize=0", "pageSize=1001"):
        answer = await gateway.call("GET", f"/queues?{query}")
        assert (answer.status, answer.error["fields"][0]["field"]) == (400, query.partition("=")[0]), query


async def test_queues_without_a_dispatcher(gateway: Client) -> None:
    await gateway.enqueue("mail")
    await gateway.behind.stop("dispatcher0")
    [one] = (await gateway.get("/queues"))["items"]
    assert (one["queued"], one["pool"], one["limits"]) == (1, "", [])
    assert one["waiting"]["reason"] == "DISPATCHER_UNAVAILABLE"


async def test_a_dispatcher_that_is_slow_is_not_told_as_absent(start_gateway: Starter) -> None:
    gateway = await start_gateway(status_timeout=1.0, dispatchers=2)
    made = await gateway.enqueue("mail")
    await gateway.behind.stop("dispatcher0")
    gateway.behind.dispatchers[1].answering.clear()
    places = (f"/jobs/{made['jobId']}/explain", "/tasks/mail/explain")
    paths = ("/pools", "/limits", "/breakers", "/pools/default/explain")
    explained, refused = await asyncio.gather(
        asyncio.gather(*(gateway.get(path) for path in places)),
        asyncio.gather(
            *(gateway.call("GET", path) for path in paths),
            gateway.call("POST", "/breakers/reset", {"kind": "HOST", "subject": "a"}),
        ),
    )
    for told in explained:
        waiting = told["executions"][0]["waiting"]
        assert waiting["reason"] == "DISPATCHER_SLOW"
        assert "within 1 s" in waiting["message"]
    for answer in refused:
        assert (answer.status, answer.error["message"]) == (503, "no dispatcher has answered within 1 s")
        assert "Retry-After" in answer.headers
    await gateway.behind.stop("dispatcher1")
    answer = await gateway.call("GET", "/pools")
    assert (answer.status, answer.error["message"]) == (503, "no dispatcher can be reached now")
    waiting = (await gateway.get(f"/jobs/{made['jobId']}/explain"))["executions"][0]["waiting"]
    assert waiting["reason"] == "DISPATCHER_UNAVAILABLE"
    gateway.behind.dispatchers[1].answering.set()


async def test_one_that_answers_is_believed_beside_one_that_hangs(start_gateway: Starter) -> None:
    gateway = await start_gateway(status_timeout=2.0, explain_timeout=2.0, dispatchers=2)
    made = await gateway.enqueue("mail")
    hangs, answers = gateway.behind.dispatchers
    hangs.answering.clear()
    full = Waiting(reason=Waiting.NO_FREE_SLOT, message="All are taken.")
    answers.waiting[made["executionId"]] = full
    answers.pools["big"] = dispatcher_pb2.ExplainPoolResponse(waiting=full)
    answers.matching.pools.add(name="big")
    # At once, since each of them waits for the one that hangs as long as it may.
    paths = (made["jobUrl"], f"/jobs/{made['jobId']}/explain", "/pools/big/explain", "/status")
    job, explained, pool, status = await asyncio.gather(*(gateway.get(path) for path in paths))
    assert job["waiting"]["reason"] == "NO_FREE_SLOT"
    assert explained["executions"][0]["waiting"]["reason"] == "NO_FREE_SLOT"
    assert pool["waiting"]["reason"] == "NO_FREE_SLOT"
    assert [pool["name"] for pool in status["pools"]] == ["big"]
    assert "Pools, limits" not in str(status["problems"])
    hangs.answering.set()


async def test_the_dispatcher_that_knows_most_is_believed(start_gateway: Starter) -> None:
    gateway = await start_gateway(dispatchers=2)
    first, second = gateway.behind.dispatchers
    made = await gateway.enqueue("mail")
    away = Waiting(reason=Waiting.DISPATCHER_UNAVAILABLE, message="Redis is away.")
    none = Waiting(reason=Waiting.NO_HEALTHY_AGENT, message="So the store thinks.")
    full = Waiting(reason=Waiting.NO_FREE_SLOT, message="So the agent says.")

    async def told() -> tuple[str, str]:
        job = await gateway.get(f"/jobs/{made['jobId']}")
        pool = await gateway.get("/pools/big/explain")
        return job["waiting"]["reason"], pool["waiting"]["reason"]

    def tell(dispatcher: Any, words: Waiting, *, agents: int = 0) -> None:
        dispatcher.waiting[made["executionId"]], dispatcher.agents_here = words, agents
        dispatcher.pools["big"] = dispatcher_pb2.ExplainPoolResponse(waiting=words, agents_here=agents)

    tell(first, away, agents=3)
    tell(second, none)
    assert await told() == ("NO_HEALTHY_AGENT", "NO_HEALTHY_AGENT")
    tell(first, none, agents=1)
    tell(second, full, agents=2)
    assert await told() == ("NO_FREE_SLOT", "NO_FREE_SLOT")
    limits = [api.LimitStatus(pattern="mail", max_running=1, running=1)]
    first.tasks["mail"] = dispatcher_pb2.ExplainTaskResponse(pool="big", blind=True)
    second.tasks["mail"] = dispatcher_pb2.ExplainTaskResponse(pool="big", limits=limits)
    assert [limit["running"] for limit in (await gateway.get("/tasks/mail/explain"))["limits"]] == [1]


async def test_explain_a_pool(start_gateway: Starter) -> None:
    gateway = await start_gateway(dispatchers=2)
    gateway.behind.add_agent("host-1")
    gateway.behind.add_agent("host-2")
    gateway.behind.dispatchers[1].pools["big"] = dispatcher_pb2.ExplainPoolResponse(
        pool=api.PoolStatus(name="big", slots=4),
        waiting=Waiting(reason=Waiting.CORDONED, message="All its agents are cordoned."),
        agent_ids=["host-2"],
    )
    answer = await gateway.get("/pools/big/explain")
    assert (answer["pool"]["slots"], answer["waiting"]["reason"]) == (4, "CORDONED")
    assert [agent["agentId"] for agent in answer["agents"]] == ["host-2"]
    by_grpc = await FarmServiceStub(gateway.channel).ExplainPool(api.ExplainPoolRequest(name="big"))
    assert (by_grpc.pool.name, by_grpc.waiting.reason) == ("big", Waiting.CORDONED)


@pytest.mark.usefixtures("unhurried")
async def test_a_host_that_is_silent_is_told_by_all_that_show_hosts(gateway: Client) -> None:
    agent, now = api.Agent, int(time.time())
    since = Timestamp(seconds=now - 40)
    silent = {"healthy": False, "message": "silent since 14:30", "silent_since": since, "unhealthy_since": since}
    gateway.behind.add_agent("host-1")
    gateway.behind.add_agent("host-2", running=1, last_beat_at=since, **silent)
    gateway.behind.add_agent("host-3", state=agent.DEAD, healthy=False, last_beat_at=since)
    gateway.behind.add_agent("old", state=agent.DEAD, healthy=False, last_beat_at=Timestamp(seconds=now - 90_000))
    gateway.behind.add_agent("sold", state=agent.DEAD, healthy=False, last_beat_at=since, declared_dead=True)
    status = await gateway.get("/status")
    told = {one["subject"]: one for one in status["problems"]}
    assert {"host-2", "host-3"} <= set(told)
    assert not {"host-1", "old", "sold"} & set(told)
    assert status["running"]
    assert told["host-2"]["since"] == told["host-3"]["since"] == since.ToJsonString().replace("Z", ".000Z")
    ports = {one["instance"]: one for one in status["operations"]}
    assert [ports[name]["alive"] for name in ("host-1", "host-2")] == [True, False]
    page = (await gateway.call("GET", "/status", Accept="text/html")).body.decode()
    shown = page.partition('id="operations-title"')[2].partition("</section>")[0]
    rows = {name: row for row in shown.split("<tr>")[2:] for name in ports if name in row}
    assert list(rows) == list(ports)
    state = {name: re.findall(r'<span class="state (\w+)">', row) for name, row in rows.items()}
    assert (state["host-1"], state["host-2"]) == (["healthy"], ["down"])
    checked = await gateway.get("/healthcheck")
    assert {told["host-2"]["message"], told["host-3"]["message"]} <= set(checked["problems"])
    page = (await gateway.call("GET", "/", Accept="text/html")).body.decode()
    assert "1</a><small> of 3 take work</small>" in page
    assert "1 connected" in page
    assert "Host host-2 is silent since 14:30" in page
    page = (await gateway.call("GET", "/admin/hosts", Accept="text/html")).body.decode()
    assert '<span class="state silent">' in page
    assert "silent since <time" in page
    gateway.behind.store.agents.pop(0)
    assert not (await gateway.get("/status"))["running"]
