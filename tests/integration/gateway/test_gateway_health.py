"""The health of the whole: the same facts for load balancers, programs, people and `easyq doctor`."""

import asyncio
import time
from typing import Any

import pytest
from grpc_health.v1.health import aio

from easyq.cli.checks import of_status
from easyq.v1 import farm_service_pb2 as farm
from easyq.v1.farm_service_pb2_grpc import FarmServiceStub
from easyq_chassis.errors import Unavailable
from easyq_chassis.loops import Loop, failing
from tests.integration.gateway.conftest import SOON_GIVES_UP, Client
from tests.support.waiting import eventually

WHY = "feeder fails: it waits for the store"


@pytest.mark.usefixtures("unhurried")
async def test_all_is_well(gateway: Client) -> None:
    answer = await gateway.get("/healthcheck")
    problems = [problem["message"] for problem in (await gateway.get("/status"))["problems"]]
    assert answer == {"status": "DEGRADED" if problems else "SERVING", "problems": problems}


@pytest.mark.usefixtures("unhurried")
async def test_a_service_that_can_not_do_all_of_its_work(gateway: Client) -> None:
    """It serves, and says itself what it can't do: the farm is degraded, and each of those who ask is told."""
    await gateway.behind._running["dispatcher0"].set_serving(True, WHY)
    answer = await gateway.call("GET", "/healthcheck")
    told = [problem for problem in answer.json["problems"] if WHY in problem]
    assert (answer.status, answer.json["status"], len(told)) == (200, "DEGRADED", 1)
    status = await gateway.get("/status")
    [service] = [one for one in status["services"] if one["name"] == "dispatcher"]
    assert (service["healthy"], service["message"]) == (True, WHY)
    assert told[0] in [problem["message"] for problem in status["problems"]]
    page = await gateway.call("GET", "/status", Accept="text/html")
    assert "state degraded" in page.body.decode()
    assert WHY in page.body.decode()
    told_doctor = await FarmServiceStub(gateway.channel).GetStatus(farm.GetStatusRequest())
    [check] = [check for check in of_status(told_doctor, time.time()) if check.name == "dispatcher"]
    assert (check.state, WHY in check.message) == ("warn", True)
    await gateway.behind._running["dispatcher0"].set_serving(True)
    assert WHY not in str(await gateway.get("/healthcheck"))


@SOON_GIVES_UP
async def test_where_the_store_is_away_nobody_else_is_blamed(gateway: Client) -> None:
    await gateway.behind._running["dispatcher0"].set_serving(True, WHY)
    await gateway.behind.stop("store")
    problems = (await gateway.get("/status"))["problems"]
    assert problems[0]["subject"] == "store"
    assert WHY not in str(problems)
    assert (await gateway.call("GET", "/healthcheck")).status == 503


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("kind", "name"), [("dispatcher", "dispatcher0"), ("scheduler", "scheduler0")])
async def test_who_hangs_is_named(gateway: Client, kind: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The status waits longer for it than those who probe the whole."""
    held, hung, check = asyncio.Event(), gateway.behind._running[name]._health, aio.HealthServicer.Check

    async def late(it: Any, *args: Any) -> Any:
        if it is hung:
            await held.wait()
        return await check(it, *args)

    monkeypatch.setattr(aio.HealthServicer, "Check", late)
    answer = await asyncio.wait_for(gateway.call("GET", "/healthcheck"), 30)
    held.set()
    assert (answer.status, answer.json["status"]) == (200, "DEGRADED")
    assert any(f"The {kind} at " in one and "or frozen" in one for one in answer.json["problems"])


@pytest.mark.timeout(60)
async def test_a_service_that_hangs_does_not_hold_it_up(gateway: Client) -> None:
    gateway.behind.dispatchers[0].answering.clear()
    answer = await asyncio.wait_for(gateway.call("GET", "/healthcheck"), 30)
    assert (answer.status, answer.json["status"]) == (200, "DEGRADED")
    gateway.behind.dispatchers[0].answering.set()


async def test_a_loop_that_fails_again_and_again_is_told_until_it_does_not() -> None:
    broken = True

    async def work() -> None:
        if broken:
            raise Unavailable("the store is away")

    loop = Loop("feeder", work, 0.01)
    loop.start()
    await eventually(lambda: failing() == ["feeder fails: the store is away"])
    broken = False
    await eventually(lambda: failing() == [])
    broken = True
    await eventually(failing)
    await loop.stop()
    assert failing() == []


async def test_a_loop_that_listens_for_ever_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its run does not end, and that is its success."""
    broken = True

    async def listen() -> None:
        if broken:
            raise Unavailable("Redis is away")
        await asyncio.Event().wait()

    loop = Loop("wakes", listen, 0.01)
    loop.start()
    await eventually(failing)
    broken = False
    monkeypatch.setattr("easyq_chassis.loops._GOES_ON", 0.05)
    await eventually(lambda: failing() == [])
    await loop.stop()
