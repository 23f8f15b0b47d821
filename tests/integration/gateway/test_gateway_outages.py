"""With others away: only the store is needed, and its absence is told quickly."""

import asyncio
import contextlib
import html
import re
import socket
import time
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from easyq.v1 import farm_service_pb2
from easyq.v1 import job_service_pb2 as api
from easyq.v1.farm_service_pb2_grpc import FarmServiceStub
from easyq.v1.job_pb2 import Job
from easyq.v1.job_service_pb2_grpc import JobServiceStub
from easyq.v1.spec_pb2 import JobSpec
from easyq_chassis.clock import SystemClock
from easyq_chassis.errors import Code, DeadlineExceeded, Unavailable
from easyq_chassis.server import _Health
from easyq_chassis.status import from_rpc_error
from easyq_gateway.adapters.calls import somebody_listens
from easyq_gateway.adapters.dispatchers import DispatcherLink
from easyq_gateway.app import App
from easyq_gateway.config import GatewaySettings
from easyq_internal.dispatcher.v1 import dispatcher_pb2
from tests.integration.gateway.conftest import SOON_GIVES_UP, SPEC, Client, Starter
from tests.support.waiting import eventually


async def test_only_the_store_is_needed(gateway: Client) -> None:
    await gateway.behind.stop("scheduler0")
    await gateway.behind.stop("dispatcher0")
    began = time.monotonic()
    for _ in range(20):
        await gateway.enqueue()
    assert time.monotonic() - began < 20
    assert len(gateway.store.jobs) == 20


async def test_a_dispatcher_that_hangs_slows_no_enqueue(gateway: Client) -> None:
    gateway.behind.dispatchers[0].answering.clear()
    began = time.monotonic()
    for _ in range(20):
        await gateway.enqueue()
    assert time.monotonic() - began < 20
    gateway.behind.dispatchers[0].answering.set()


async def test_a_dispatcher_that_returns_is_told_again(gateway: Client) -> None:
    await gateway.behind.stop("dispatcher0")
    await gateway.enqueue()
    await gateway.behind.start("dispatcher0")

    async def heard() -> bool:
        answer = await gateway.enqueue()
        await asyncio.sleep(0.05)
        return answer["executionId"] in gateway.behind.dispatchers[0].ready

    await eventually(heard)


@SOON_GIVES_UP
async def test_the_store_is_away(gateway: Client) -> None:
    await gateway.behind.stop("store")
    began = time.monotonic()
    answers = await asyncio.gather(
        gateway.call("POST", "/tasks/mail", SPEC),
        gateway.call("GET", "/jobs"),
        gateway.call("PUT", "/tasks/mail/jobs/x", SPEC),
        gateway.call("PUT", "/tasks/mail/jobs/x?revision=1", SPEC),
        gateway.call("GET", "/jobs/x/stdout"),
        gateway.call("POST", "/jobs/x/stop"),
    )
    assert time.monotonic() - began < 20
    for answer in answers:
        assert (answer.status, answer.error["code"], answer.error["reason"]) == (503, "UNAVAILABLE", "UNAVAILABLE")
        assert answer.error["message"] == "the store can't be reached now (nobody takes the connection)"
        assert int(answer.headers["Retry-After"]) >= 1
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await JobServiceStub(gateway.channel).CreateJob(api.CreateJobRequest(task_id="t", spec=JobSpec(image="a")))
    told = from_rpc_error(error.value)
    assert (told.code, told.reason, told.retry_after) == (Code.UNAVAILABLE, "UNAVAILABLE", 2.0)


async def test_a_store_that_hangs(start_gateway: Starter) -> None:
    gateway = await start_gateway(store_patience=0.5)
    gateway.store.answering.clear()
    began = time.monotonic()
    answer = await gateway.call("POST", "/tasks/mail", SPEC)
    assert (answer.status, time.monotonic() - began < 20) == (503, True)
    # It is there: nobody shall look for an outage.
    assert answer.error["message"] == "the store did not answer in time: it has too much to do, or is away"
    gateway.store.answering.set()


async def test_bad_input_is_told_without_the_store(gateway: Client) -> None:
    await gateway.behind.stop("store")
    answer = await gateway.call("POST", "/tasks/mail", {"image": 5})
    assert (answer.status, list(answer.fields)) == (400, ["spec.image"])
    assert (await gateway.post("/tasks/mail?validateOnly=true", SPEC))["spec"]["image"] == SPEC["image"]


async def test_a_store_that_restarts_is_waited_for(start_gateway: Starter) -> None:
    gateway = await start_gateway(store_patience=5)
    await gateway.behind.stop("store")
    asked = [asyncio.create_task(gateway.enqueue()) for _ in range(5)]
    listed = asyncio.create_task(gateway.get("/tasks"))
    await asyncio.sleep(0.3)
    await gateway.behind.start("store")
    answers = [await task for task in asked]
    assert sorted(gateway.store.jobs) == sorted(answer["jobId"] for answer in answers)
    assert "items" in await listed


@SOON_GIVES_UP
async def test_the_scheduler_is_away(gateway: Client) -> None:
    await gateway.behind.stop("scheduler0")
    answer = await gateway.call("POST", "/tasks/mail", {**SPEC, "startIn": "1h"})
    assert (answer.status, answer.error["reason"]) == (503, "UNAVAILABLE")
    assert answer.error["message"] == "the scheduler can't be reached now (nobody takes the connection)"
    assert (await gateway.call("POST", "/tasks/mail", SPEC)).status == 200


async def test_one_of_two_schedulers_is_away(start_gateway: Starter) -> None:
    gateway = await start_gateway(schedulers=2)
    await gateway.behind.stop("scheduler0")
    for index in range(3):
        await gateway.enqueue(startIn="1h")
        assert (await gateway.call("PUT", f"/tasks/t/jobs/j{index}", {**SPEC, "startIn": 5})).status == 200
    assert len(gateway.behind.schedulers[1].admitted) == 6
    await gateway.behind.start("scheduler0")
    await gateway.behind.stop("scheduler1")
    await gateway.enqueue(startIn="1h")
    assert len(gateway.behind.schedulers[0].admitted) == 1


async def test_one_of_two_schedulers_hangs(start_gateway: Starter) -> None:
    gateway = await start_gateway(schedulers=2, store_patience=2)
    gateway.behind.schedulers[0].answering.clear()
    await gateway.enqueue(startIn="1h")
    assert len(gateway.behind.schedulers[1].admitted) == 1
    gateway.behind.schedulers[1].answering.clear()
    answer = await gateway.call("PUT", "/tasks/t/jobs/j", {**SPEC, "startIn": 5})
    assert (answer.status, answer.error["reason"]) == (503, "UNAVAILABLE")
    for scheduler in gateway.behind.schedulers:
        scheduler.answering.set()


@pytest.mark.parametrize("when", [{}, {"startIn": 5}], ids=["by the store", "by a scheduler"])
async def test_a_put_whose_answer_was_lost_is_made_again(start_gateway: Starter, when: dict[str, Any]) -> None:
    """With a revision too, although its first attempt has raised it."""
    gateway = await start_gateway(schedulers=2)
    spec = {**SPEC, **when}

    def lose_one() -> None:
        gateway.store.lose_answers_of["PutJob"] = gateway.behind.schedulers[0].lose_answers = 1

    lose_one()
    made = await gateway.call("PUT", "/tasks/t/jobs/j", spec)
    assert (made.status, made.json["created"], made.json["job"]["revision"]) == (200, True, 1)
    lose_one()
    gateway.behind.schedulers[1].lose_answers = 1
    changed = await gateway.call("PUT", "/tasks/t/jobs/j?revision=1", {**spec, "image": "busybox:2"})
    assert (changed.status, changed.json["job"]["revision"]) == (200, 2)
    stale = await gateway.call("PUT", "/tasks/t/jobs/j?revision=1", {**spec, "image": "busybox:2"})
    assert (stale.status, stale.error["reason"]) == (409, "REVISION_MISMATCH")
    assert (await gateway.get("/jobs/j"))["revision"] == 2


async def test_a_put_with_kept_secrets_whose_answer_was_lost_is_made_again(gateway: Client) -> None:
    spec = {**SPEC, "envs": {"TOKEN": "t"}}
    await gateway.call("PUT", "/tasks/t/jobs/j", spec)
    gateway.store.lose_answers_of["PutJob"] = 2
    changed = await gateway.call("PUT", "/tasks/t/jobs/j", {**spec, "envs": {"TOKEN": "[redacted]", "A": "1"}})
    assert (changed.status, changed.json["job"]["revision"]) == (200, 2)
    assert dict(gateway.store.jobs["j"].spec.envs) == {"TOKEN": "t", "A": "1"}


async def test_a_deletion_whose_answer_was_lost_is_done(gateway: Client) -> None:
    for path in ("/jobs/j", "/tasks/t/jobs/j", "/tasks/t?force=true"):
        await gateway.call("PUT", "/tasks/t/jobs/j", SPEC)
        gateway.store.jobs["j"].state = Job.SUCCEEDED
        gateway.store.lose_answers_of.update(DeleteJob=1, DeleteTask=1)
        assert (await gateway.call("DELETE", path)).status == 200
        gateway.store.lose_answers_of.clear()
        assert (await gateway.call("DELETE", path)).status == 404
    assert gateway.store.jobs == {}


# -------------------------------------------------------------------------------------------------- status and health


@SOON_GIVES_UP
async def test_status_when_all_is_well(gateway: Client) -> None:
    gateway.behind.add_agent("host-1")
    await gateway.enqueue()
    matching = gateway.behind.dispatchers[0].matching
    matching.pools.add(name="default", pattern=".*", slots=4)
    matching.limits.add(pattern="mail", max_running=2)
    status = await gateway.get("/status")
    assert (status["accepting"], status["running"], status["problems"]) == (True, True, [])
    assert [service["name"] for service in status["services"]] == ["store", "scheduler", "dispatcher"]
    assert all(service["healthy"] for service in status["services"])
    assert [pool["name"] for pool in status["pools"]] == ["default"]
    assert [limit["pattern"] for limit in status["limits"]] == ["mail"]
    assert status["jobs"] == [{"state": "QUEUED", "count": 1}]
    assert [agent["state"] for agent in status["agents"]] == ["LIVE"]
    by_grpc = await FarmServiceStub(gateway.channel).GetStatus(farm_service_pb2.GetStatusRequest())
    assert by_grpc.running
    # Without the store, hosts are told as they were known.
    await gateway.behind.stop("store")
    later = await gateway.get("/status")
    assert [agent["agentId"] for agent in later["agents"]] == ["host-1"]
    assert (later["accepting"], later["running"]) == (False, False)
    assert any("Hosts are those of" in problem["message"] for problem in later["problems"])
    assert by_grpc.jobs[0].state == Job.QUEUED


async def test_status_with_everything_away(start_gateway: Starter) -> None:
    gateway = await start_gateway(running=False, schedulers=2, dispatchers=2, store_patience=0.5)
    began = time.monotonic()
    status = await gateway.get("/status")
    assert time.monotonic() - began < 20
    assert (status["accepting"], status["running"]) == (False, False)
    assert [problem["subject"] for problem in status["problems"]] == [
        "store",
        "scheduler",
        "scheduler",
        "dispatcher",
        "dispatcher",
    ]
    assert all("easyq " in problem["message"] for problem in status["problems"])


async def test_status_tells_of_docker_and_redis(start_gateway: Starter) -> None:
    gateway = await start_gateway(dispatchers=2)
    gateway.behind.add_agent("host-1", healthy=False, message="Docker Engine does not answer")
    for dispatcher in gateway.behind.dispatchers:
        dispatcher.matching.problems.add(subject="redis", message="Redis does not answer: jobs wait.")
    status = await gateway.get("/status")
    told = {problem["subject"]: problem["message"] for problem in status["problems"]}
    assert set(told) == {"host-1", "redis"}
    assert len(status["problems"]) == 2
    assert "Docker Engine does not answer" in told["host-1"]
    assert (status["accepting"], status["running"]) == (True, False)


async def test_status_with_a_dispatcher_that_hangs(start_gateway: Starter) -> None:
    gateway = await start_gateway(status_timeout=2.0)
    gateway.behind.dispatchers[0].answering.clear()
    began = time.monotonic()
    status = await gateway.get("/status")
    assert time.monotonic() - began < 20
    assert (status["pools"], status["running"]) == ([], False)
    told = [problem["message"] for problem in status["problems"] if problem["subject"] == "dispatcher"]
    address = gateway.behind.addresses["dispatcher0"]
    assert told == [f"Pools, limits and breakers are left out: the dispatcher at {address} did not answer within 2 s."]
    gateway.behind.dispatchers[0].answering.set()


async def test_status_repeats_what_a_slow_dispatcher_said_last_and_says_when(start_gateway: Starter) -> None:
    gateway = await start_gateway(dispatchers=2, status_timeout=2.0)
    first, second = gateway.behind.dispatchers
    second.matching.pools.add(name="big", slots=4)
    second.matching.limits.add(pattern="mail", max_running=2)
    second.matching.breakers.add(kind=farm_service_pb2.Breaker.HOST, subject="h")
    second.matching.problems.add(subject="redis", message="Redis is away.")
    await gateway.behind.stop("dispatcher0")
    fresh = await gateway.get("/status")
    while not fresh["pools"]:  # a busy machine may take longer than the little time that it is given here
        fresh = await gateway.get("/status")
    second.answering.clear()
    stale = await gateway.get("/status")
    for part in ("pools", "limits", "breakers"):
        assert len(stale[part]) == 1
        assert stale[part] == fresh[part]
    told = [problem["message"] for problem in stale["problems"] if "Pools, limits" in problem["message"]]
    address = gateway.behind.addresses["dispatcher1"]
    [words] = [re.sub(r"\d+ s ago", "N s ago", one) for one in told]
    assert words == (
        f"Pools, limits and breakers are those of N s ago: the dispatcher at {address} did not answer within 2 s."
    )
    # Its troubles may be over.
    assert "redis" not in {problem["subject"] for problem in stale["problems"]}
    # What is gone says nothing any more.
    await gateway.behind.stop("dispatcher1")
    gone = await gateway.get("/status")
    assert (gone["pools"], gone["limits"], gone["breakers"]) == ([], [], [])
    assert first.answering.is_set()
    second.answering.set()


async def test_agents_are_listed_while_a_dispatcher_hangs(start_gateway: Starter) -> None:
    """What their executions asked for is left out then."""
    gateway = await start_gateway(status_timeout=60.0, request_timeout=120.0)
    (dispatcher,) = gateway.behind.dispatchers
    dispatcher.answering.clear()
    async with asyncio.timeout(30):
        assert "items" in await gateway.get("/agents")
    dispatcher.answering.set()


async def test_a_service_that_is_slow_is_told_as_slow(start_gateway: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(*_: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(_Health, "Check", hang)
    gateway = await start_gateway(status_timeout=0.5)
    status = await gateway.get("/status")
    told = {problem["subject"]: problem["message"] for problem in status["problems"]}
    for service in ("store", "scheduler", "dispatcher"):
        assert "is too busy to answer in time, or frozen (no answer within 0.5 s)" in told[service]
        assert f"easyq {service}" not in told[service]
    assert {service["message"] for service in status["services"]} == {"no answer within 0.5 s"}


async def test_a_service_that_takes_connections_and_says_nothing_is_slow_and_one_that_does_not_is_absent(
    start_gateway: Starter,
) -> None:
    """A frozen process: the kernel takes its connections, and gRPC gives those up soon."""
    gateway = await start_gateway(dispatchers=2, status_timeout=2.0, explain_timeout=1.0)
    made = await gateway.enqueue()
    second = gateway.behind.dispatchers[1]
    second.matching.pools.add(name="big")
    await gateway.get("/status")
    for name in ("dispatcher0", "dispatcher1", "scheduler0"):
        await gateway.behind.stop(name)
    assert (await gateway.get(made["jobUrl"]))["waiting"]["reason"] == "DISPATCHER_UNAVAILABLE"
    assert (await gateway.get("/status"))["pools"] == []
    with contextlib.ExitStack() as stack:
        for name in ("scheduler0", "dispatcher1"):
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(gateway.behind.addresses[name].removeprefix("unix:"))
            listener.listen()
        status, looked, explained = await asyncio.gather(
            *(gateway.get(path) for path in ("/status", made["jobUrl"], made["jobUrl"] + "/explain"))
        )
        told = {
            service["address"]: problem["message"]
            for service in status["services"]
            for problem in status["problems"]
            if f"at {service['address']} " in problem["message"] and not problem["message"].startswith("Pools")
        }
        for name in ("scheduler0", "dispatcher1"):
            words = told[gateway.behind.addresses[name]]
            assert "is too busy to answer in time, or frozen (no answer within 2 s)" in words
        assert "does not answer" in told[gateway.behind.addresses["dispatcher0"]]
        assert [pool["name"] for pool in status["pools"]] == ["big"]
        assert looked["waiting"]["reason"] == "DISPATCHER_SLOW"
        assert "within 2 s" in explained["executions"][0]["waiting"]["message"]


async def test_what_a_service_says_itself_is_not_asked_twice(gateway: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    async def refuse(*_: Any) -> None:
        asked.append(1)
        raise Unavailable("it can't tell")

    await gateway.behind.stop("dispatcher0")
    monkeypatch.setattr(gateway.behind.dispatchers[0], "ExplainPool", refuse)
    await gateway.behind.start("dispatcher0")
    assert (await gateway.call("GET", "/pools/x/explain")).status == 503
    assert len(asked) == 1


async def test_whether_somebody_listens(tmp_path: Path) -> None:
    async def listens(address: str) -> bool:
        return await somebody_listens(address, timeout=5)

    for address in (f"unix:{tmp_path}/none", "unix:", "127.0.0.1:1", "localhost:none", "[::1]:1", "nothing", ""):
        assert not await listens(address), address
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert await listens(f"127.0.0.1:{listener.getsockname()[1]}")
        assert not await somebody_listens(f"127.0.0.1:{listener.getsockname()[1]}", timeout=0)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{tmp_path}/s")
        listener.listen(0)
        # The first is taken, then there is no room.
        for form in ("unix:", "unix://", "unix:"):
            assert await listens(f"{form}{tmp_path}/s")
    # Its file is still there.
    assert not await listens(f"unix:{tmp_path}/s")


class Hand(SystemClock):
    """A clock that is set by hand."""

    seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds


async def test_what_a_dispatcher_said_long_ago_is_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Hand()
    async with grpc.aio.insecure_channel(f"unix:{tmp_path}/nobody") as channel:
        link = DispatcherLink("d", channel, timeout=1, patience=2, clock=clock)
        answers: list[Any] = [dispatcher_pb2.GetMatchingResponse(), *[DeadlineExceeded("slow")] * 3]

        async def ask(*_: Any) -> Any:
            return answers.pop(0)

        monkeypatch.setattr(link, "ask", ask)
        assert (await link.matching()).view is not None
        for age, known in ((12.5, True), (300.0, True), (300.5, False)):
            clock.seconds = age
            told = await link.matching()
            assert (told.slow_after, told.last is not None, told.last_age) == (2, known, age if known else 0)


async def test_a_dispatcher_that_is_slow_is_waited_for_where_it_is_what_was_asked(start_gateway: Starter) -> None:
    """For what a job waits is told beside the job, without delay; pools and limits are what was asked for."""
    gateway = await start_gateway(explain_timeout=0.05, status_timeout=30)
    job_id = (await gateway.enqueue())["jobId"]
    dispatcher = gateway.behind.dispatchers[0]
    dispatcher.pools["default"] = dispatcher_pb2.ExplainPoolResponse(pool=farm_service_pb2.PoolStatus(name="default"))
    dispatcher.answering.clear()
    asked = [asyncio.create_task(gateway.get(path)) for path in ("/limits", "/pools/default/explain")]
    assert (await gateway.get(f"/jobs/{job_id}"))["waiting"]["reason"] == "DISPATCHER_SLOW"
    dispatcher.answering.set()
    limits, pool = await asyncio.gather(*asked)
    assert (limits["items"], pool["pool"]["name"]) == ([], "default")


async def test_health_is_whether_a_job_would_be_accepted(gateway: Client) -> None:
    assert (await gateway.call("GET", "/healthcheck")).status == 200
    stub: Any = health_pb2_grpc.HealthStub(gateway.channel)

    async def health() -> Any:
        return (await stub.Check(health_pb2.HealthCheckRequest(service="easyq.v1.JobService"))).status

    async def serving() -> bool:
        return bool(await health() == health_pb2.HealthCheckResponse.SERVING)

    async def not_serving() -> bool:
        return not await serving()

    await eventually(serving)
    await gateway.behind.stop("store")
    answer = await gateway.call("GET", "/healthcheck")
    assert (answer.status, answer.error["reason"]) == (503, "UNAVAILABLE")
    await eventually(not_serving)
    await gateway.behind.start("store")
    await eventually(serving)
    assert (await gateway.call("GET", "/healthcheck")).status == 200


async def test_an_address_that_is_taken(gateway: Client) -> None:
    for setting, address in (("rest_listen", gateway.app.rest_address), ("grpc_listen", gateway.app.grpc_address)):
        told: dict[str, Any] = {"rest_listen": "127.0.0.1:0", "grpc_listen": "127.0.0.1:0", setting: address}
        app = App(GatewaySettings(**told))
        with pytest.raises(Unavailable, match=address):
            await app.start()
        await app.stop()


FULL = "the store's disk is full (/data/easyq.db): free some space on it"


@SOON_GIVES_UP
async def test_a_full_disk_of_the_store_is_passed_on_at_once(gateway: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def full(*_: Any) -> None:
        asked.append(1)
        raise Unavailable(FULL, retry_after=10.0)

    for name in ("submit", "put"):
        monkeypatch.setattr(gateway.store, name, full)
    for method, path in (("POST", "/tasks/t"), ("PUT", "/tasks/t/jobs/j"), ("PUT", "/tasks/t/jobs/j?revision=1")):
        answer = await gateway.call(method, path, SPEC)
        assert (answer.status, answer.error["code"], answer.headers["Retry-After"]) == (503, "UNAVAILABLE", "10")
        assert answer.error["message"] == FULL
    # It said itself that asking again within the gateway's patience is in vain.
    assert len(asked) == 3


async def test_status_says_why_the_store_can_not_work(gateway: Client) -> None:
    await gateway.behind._running["store"].set_serving(False, FULL)
    status = await gateway.get("/status")
    [problem] = [one for one in status["problems"] if one["subject"] == "store"]
    assert f"runs, but can't do its work ({FULL})" in problem["message"]
    assert "does not answer" not in problem["message"]
    assert status["accepting"] is False
    answer = await gateway.call("GET", "/healthcheck")
    assert (answer.status, FULL in answer.error["message"]) == (503, True)


# ------------------------------------------------------------------------------------------------ what can't be told


def _unknown(status: dict[str, Any]) -> dict[str, str]:
    return {one["field"]: one["why"] for one in status["unknown"]}


async def _pages(gateway: Client) -> str:
    pages = [await gateway.call("GET", path, Accept="text/html") for path in ("/", "/status", "/admin/queues")]
    assert {page.status for page in pages} <= {200, 503}
    text = "\n".join(page.body.decode() for page in pages if page.status == 200)
    return html.unescape(re.sub("</?bdi>", "", text))


async def test_what_a_silent_store_does_not_tell_is_no_zero(start_gateway: Starter) -> None:
    gateway = await start_gateway(store_patience=0.5)
    gateway.behind.add_agent("host-1")
    await gateway.enqueue("mail")
    while (known := await gateway.get("/status"))["unknown"]:
        pass
    while "the error queue is empty" not in await _pages(gateway):  # it has little time, too
        pass
    await gateway.behind.stop("store")
    status = await gateway.get("/status")
    silent = "the store does not answer"
    assert _unknown(status) == {"jobs": silent, "agents": silent}
    # When it went away is known without anybody having asked.
    [problem] = [one for one in status["problems"] if "jobs are refused" in one["message"]]
    assert (problem["subject"], problem["since"] >= "2") == ("store", True)
    assert (await gateway.get("/status"))["problems"][0]["since"] == status["problems"][0]["since"]
    pages = await _pages(gateway)
    # Running, waiting, gave up, hosts, schedules; and the states.
    assert pages.count(f"can't be told now: {silent}") >= 6
    for claim in ("the error queue is empty", "none paused", "takes work</small>", "There are none."):
        assert claim not in pages
    assert len(known["agents"]) == 1


@pytest.mark.usefixtures("unhurried")
async def test_what_a_dispatcher_without_redis_does_not_tell(start_gateway: Starter) -> None:
    gateway = await start_gateway(dispatchers=2)
    first, second = gateway.behind.dispatchers
    for dispatcher in (first, second):
        dispatcher.matching.pools.add(name="big", slots=4, running=0)
        dispatcher.matching.limits.add(pattern="mail", max_running=2)
    first.matching.blind = "Redis: Timeout"
    second.matching.breakers.add(kind=farm_service_pb2.Breaker.IMAGE, subject="x:1", failures=3, cause="gone")
    second.matching.pools[0].running = second.matching.limits[0].running = 1
    # The other one knows.
    status = await gateway.get("/status")
    assert status["unknown"] == []
    for path in ("/pools", "/limits"):
        listed = await gateway.get(path)
        assert ([one["running"] for one in listed["items"]], listed["unknown"]) == ([1], [])
    [told] = [one["message"] for one in status["problems"] if one["subject"] == "breaker"]
    assert told.startswith("The breaker of the image x:1 is open after 3 failures in a row: gone. Mend")
    assert (await gateway.get("/healthcheck"))["problems"] == [one["message"] for one in status["problems"]]
    second.matching.blind = "Redis: Timeout"
    del second.matching.breakers[:]
    status = await gateway.get("/status")
    why = "Redis can't be asked (Redis: Timeout)"
    assert _unknown(status) == dict.fromkeys(("pools.running", "pools.ready", "limits.running", "breakers"), why)
    assert _unknown(await gateway.get("/pools")) == dict.fromkeys(("pools.running", "pools.ready"), why)
    assert _unknown(await gateway.get("/limits")) == {"limits.running": why}
    assert _unknown(await gateway.get("/breakers")) == {"breakers": why}
    pages = await _pages(gateway)
    assert pages.count(f"Which are open can't be told now: {why}") == 2
    assert "All are closed" not in pages
    assert "? of 4 run · ? ready" in pages
    assert "? of 2 run" in pages
