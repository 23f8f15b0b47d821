"""Redis loses everything, in mid-run: within 5 s it is filled again from the store, and no limit was ever passed."""

import json
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from tests.chaos.conftest import SLOTS
from tests.support.farm import DockerObserver, UpFarm, Witness
from tests.support.hosts import EXAMPLE_IMAGE, DockerHost
from tests.support.redis_server import RedisServer, redis_binary
from tests.support.waiting import wait_until

HEALED_WITHIN = 5.0
LIMIT = 2


def flushed(redis: RedisServer) -> None:
    redis.flush()


def restarted(redis: RedisServer) -> None:
    redis.restart()


def frozen_then_empty(redis: RedisServer) -> None:
    """Connections stay open and silent for a moment before they break."""
    redis.freeze()
    time.sleep(2)
    redis.thaw()
    redis.restart()


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer(redis_binary()) as server:
        yield server


@pytest.fixture(scope="module")
def limited_farm(hosts: list[DockerHost], redis: RedisServer) -> Iterator[UpFarm]:
    with UpFarm(hosts, slots=SLOTS, arguments=["--redis", redis.url, "--limit", f"limited-.*={LIMIT}"]) as farm:
        yield farm


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("loss", [flushed, restarted, frozen_then_empty])
def test_an_empty_redis_is_filled_again(
    limited_farm: UpFarm, redis: RedisServer, hosts: list[DockerHost], task: str, loss: Any
) -> None:
    rest, witness = limited_farm.rest, Witness(limited_farm.mounts / task)

    def enqueue(name: str, count: int, script: str) -> list[str]:
        whole = f"{Witness.START}; {script}; {Witness.END}"
        spec = {"image": EXAMPLE_IMAGE, "command": ["sh", "-c", whole], "mounts": witness.mounts}
        return [rest.enqueue(f"{name}-{task}", spec)["jobId"] for _ in range(count)]

    with DockerObserver(hosts) as observer:
        # Holders keep their places over the loss: who counts anew and forgets them passes the limits.
        holders = enqueue("limited-holders", LIMIT, "until [ -e /witness/healed ]; do sleep 0.1; done")
        wait_until(lambda: len(witness.starts()) == LIMIT, 30)
        jobs = [*enqueue("limited-others", 4, "sleep 0.1"), *enqueue("free", 24, "sleep 1")]
        wait_until(lambda: len(witness.starts()) >= LIMIT + 3, 30)
        filling, _ = _adopted(limited_farm)
        loss(redis)
        lost = time.time()
        wait_until(lambda: _adopted(limited_farm)[0] > filling, 30, message="it is filled again")
        _, healed = _adopted(limited_farm)
        before = len(witness.starts())
        fresh = enqueue("fresh", 1, "true")
        wait_until(lambda: len(witness.starts()) > before, 30, message="something starts again")
        # By now all that are free have had time to begin, and the others as well if they were let.
        rest.wait_all([*jobs[4:], *fresh], 90)
        (witness.folder / "healed").touch()
        ended = rest.wait_all([*holders, *jobs, *fresh], 90)
    assert healed - lost < HEALED_WITHIN
    assert [job for job in ended if (job["state"], job["executionCount"]) != ("SUCCEEDED", 1)] == []
    witness.assert_none_twice()
    for host in hosts:
        assert observer.most_on_host(host.label) <= SLOTS
    limited = {job["executions"][0]["executionId"] for job in ended if job["taskId"].startswith("limited-")}
    assert observer.most_at_once(lambda event: event.execution_id in limited) == LIMIT


def _adopted(farm: UpFarm) -> tuple[int, float]:
    """The newest filling of Redis that the dispatcher works with, and since when (seconds since the epoch)."""
    lines = farm.log_path.read_bytes().splitlines(keepends=True)
    told = [json.loads(line) for line in lines if b'"index_adopted"' in line and line.endswith(b"\n")]
    newest = max(told, key=lambda line: int(line["generation"]))
    return newest["generation"], datetime.fromisoformat(newest["timestamp"]).timestamp()
