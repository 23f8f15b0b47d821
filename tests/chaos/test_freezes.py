"""Processes that hang rather than die: connections stay open, and nobody answers."""

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
from tests.support.farm import Answer, DockerObserver, UpFarm, Witness
from tests.support.farm.processes import SERVICES
from tests.support.hosts import EXAMPLE_IMAGE, DockerHost

FROZEN = 2.0


@contextmanager
def frozen(farm: UpFarm, service: str) -> Iterator[None]:
    pids = farm.pids(service)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
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
