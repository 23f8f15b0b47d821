"""Enqueue needs the store alone: with all the rest down it answers in time, and everything runs when they return."""

import random
import statistics
import time
import uuid
from collections.abc import Iterator

import pytest

from tests.chaos.load import Load, mixed_programs, random_moment
from tests.support.farm import SplitFarm, Witness, chatty
from tests.support.ferretdb import FerretDB
from tests.support.hosts import DockerHost
from tests.support.plugin import DockerFactory
from tests.support.redis_server import RedisServer, redis_binary
from tests.support.waiting import PATIENCE, wait_until

COUNT = 20
ANSWERED_WITHIN = 1.0


@pytest.fixture(scope="module")
def own_hosts(dockerd: DockerFactory) -> list[DockerHost]:
    """Not those of other farms of this run: an agent takes the containers of its farm's name for its own."""
    return [dockerd("split-a"), dockerd("split-b")]


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer(redis_binary()) as server:
        yield server


@pytest.fixture(scope="module")
def shared_farm(own_hosts: list[DockerHost], redis: RedisServer, _ferretdb: FerretDB) -> Iterator[SplitFarm]:
    store = {"database": f"{_ferretdb.start().url}everything_{uuid.uuid4().hex[:12]}"}
    with SplitFarm(own_hosts, redis=redis.url, store=store) as farm:
        yield farm


@pytest.fixture
def farm(shared_farm: SplitFarm) -> SplitFarm:
    """Whole, whatever the test before has done to it."""
    shared_farm.mend()
    return shared_farm


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_enqueue_with_all_but_the_store_down(
    farm: SplitFarm, own_hosts: list[DockerHost], redis: RedisServer, task: str
) -> None:
    away = [redis, *farm.dispatchers, *farm.schedulers, *farm.runners, *own_hosts]
    witness = Witness(farm.mounts / task)
    programs = [chatty(number, stdout=1000, stderr=0, witness=witness) for number in range(COUNT)]
    for server in away:
        server.kill()
    took = []
    ids = []
    for program in programs:
        began = time.monotonic()
        ids.append(farm.rest.enqueue(task, program.spec)["jobId"])
        took.append(time.monotonic() - began)
    # Whoever waits for one that is down does so each time; a busy machine is late now and then.
    assert statistics.median(took) < ANSWERED_WITHIN
    assert max(took) < ANSWERED_WITHIN * PATIENCE
    began = time.monotonic()
    job = farm.rest.job(ids[0])
    assert time.monotonic() - began < ANSWERED_WITHIN * PATIENCE
    assert (job["state"], job["waiting"]["reason"]) == ("QUEUED", "DISPATCHER_UNAVAILABLE")
    status = farm.rest.get("/status")
    assert (status["accepting"], status["running"]) == (True, False)
    assert status["problems"]
    for server in away:
        server.start(wait=False)
    for server in away:
        server.wait_ready()
    jobs = farm.rest.wait_all(ids, 90)
    assert {(job["state"], job["executionCount"]) for job in jobs} == {("SUCCEEDED", 1)}
    for job, program in zip(jobs, programs, strict=True):
        assert farm.rest.output(job["jobId"], "stdout") == program.stdout
    witness.assert_none_twice()


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_half_of_everything_dies(farm: SplitFarm, task: str, numbers: random.Random) -> None:
    """One scheduler, one dispatcher: the others take over at once, before those come back."""
    witness = Witness(farm.mounts / task)
    load = Load(lambda: farm.rest, task, mixed_programs(COUNT, numbers, witness), witness)

    def disturb() -> None:
        random_moment(numbers)
        farm.dispatchers[0].kill()
        farm.schedulers[0].kill()
        before = len(witness.starts())
        wait_until(lambda: len(witness.starts()) > before, 20, message="the other dispatcher goes on")
        farm.dispatchers[0].start()
        farm.schedulers[0].start()

    load.run(disturb, at=COUNT // 3)
    assert not load.check()
