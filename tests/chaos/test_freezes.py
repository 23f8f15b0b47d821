"""Processes that hang rather than die: connections stay open, and nobody answers."""

import json
import os
import random
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.chaos.conftest import JOBS
from tests.chaos.load import Load, mixed_programs
from tests.e2e.conftest import FarmMaker
from tests.support import process
from tests.support.farm import Answer, DockerObserver, UpFarm, Witness
from tests.support.farm.processes import SERVICES
from tests.support.hosts import EXAMPLE_IMAGE, DockerHost
from tests.support.waiting import wait_until

FROZEN = 2.0


@contextmanager
def frozen(farm: UpFarm, service: str) -> Iterator[None]:
    pids = farm.pids(service)
    try:
        for pid in pids:
            process.freeze(pid)
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_each_service_hangs_for_a_while(
    farm: UpFarm, hosts: list[DockerHost], task: str, numbers: random.Random
) -> None:
    witness = Witness(farm.mounts / task)
    load = Load(lambda: farm.rest, task, mixed_programs(JOBS, numbers, witness), witness)

    def disturb() -> None:
        for service in numbers.sample([*SERVICES, "redis"], 6):
            with frozen(farm, service):
                time.sleep(FROZEN)

    with DockerObserver(hosts) as observer:
        load.run(disturb, at=2)
    assert not load.check()
    for host in hosts:
        assert observer.most_on_host(host.label) <= farm.slots


@pytest.mark.slow
def test_a_store_that_hangs_is_told_in_time(new_farm: FarmMaker, task: str) -> None:
    """Answers come within the request's bound, say when to come again, and never say that a lost job was taken."""
    farm = new_farm([], env={"EASYQ_GATEWAY_MAX_REQUESTS": "4", "EASYQ_GATEWAY_REQUEST_TIMEOUT": "2"})
    rest = farm.rest

    def post(number: int) -> Answer:
        spec = {"image": EXAMPLE_IMAGE, "command": f"echo {number}"}
        return rest.call("POST", f"/tasks/{task}", spec, headers={"Idempotency-Key": f"k{number}"})

    with frozen(farm, "store"), ThreadPoolExecutor(12) as pool:
        began = time.monotonic()
        answers = list(pool.map(post, range(12)))
        assert time.monotonic() - began < 8
        assert rest.call("GET", "/healthcheck").status == 503
    statuses = {answer.status for answer in answers}
    assert statuses <= {429, 503, 504}
    assert 429 in statuses
    for answer in answers:
        assert answer.error["message"]
        if answer.status in {429, 503}:
            assert int(answer.headers["Retry-After"]) >= 1
    # Whatever became of them: each comes once, when it is sent again.
    ids = {
        rest.enqueue(task, {"image": EXAMPLE_IMAGE, "command": f"echo {n}"}, key=f"k{n}")["jobId"] for n in range(12)
    }
    assert len(ids) == 12
    assert rest.get(f"/tasks/{task}")["jobCount"] == 12


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_doctor_says_who_hangs(new_farm: FarmMaker) -> None:
    """The first look at night: who hangs and since when, as `/status` says it, and nothing that is not so."""
    farm = new_farm([])

    def doctor() -> dict[str, list[dict[str, str]]]:
        done = farm.cli("doctor", "--json", "--server", farm.grpc_address)
        assert done.returncode == 1, done
        found: dict[str, list[dict[str, str]]] = {}
        for one in json.loads(done.stdout)["checks"]:
            found.setdefault(one["name"], []).append(one)
            text = f"{one['message']} {one['todo']}"
            assert not any(lie in text for lie in ("another program", "install Docker", "start one on this machine"))
        return found

    with frozen(farm, "store"):
        told: dict[str, str] = {}

        def frozen_is_told() -> bool:
            problems = farm.rest.get("/status")["problems"]
            told.update(next((one for one in problems if "frozen" in one["message"]), {}))
            return bool(told)

        wait_until(frozen_is_told, 30)
        checks = doctor()
        [store] = checks["store"]
        assert (checks["address"][0]["state"], store["state"]) == ("ok", "fail")
        assert told["message"].startswith(store["message"].partition(" (since ")[0])
        assert told["since"][:19] in store["message"]
        assert [one["state"] for one in checks["hosts"]] == ["warn"]
    wait_until(farm.rest.accepting, 30)
    with frozen(farm, "gateway"):
        [pid] = farm.pids("gateway")
        checks = doctor()
        [address] = checks["address"]
        assert (address["state"], address["todo"]) == ("fail", f"let it go on: kill -CONT {pid}")
        assert "EasyQ hangs" in address["message"]
        assert checks["docker"][0]["state"] == "skip"
    wait_until(farm.rest.accepting, 30)
    with frozen(farm, "redis"):
        wait_until(lambda: any(one["subject"] == "redis" for one in farm.rest.get("/status")["problems"]), 30)
        checks = doctor()
        assert len(checks["redis"]) == len(checks["dispatcher"]) == 1
        assert "can't be told now" in checks["breaker"][0]["message"]
