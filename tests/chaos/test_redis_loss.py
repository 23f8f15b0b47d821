"""Redis loses everything, in mid-run: within 5 s it is filled again from the store, and no limit was ever passed."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.chaos.conftest import SLOTS
from tests.e2e.conftest import FarmMaker
from tests.support.farm import DockerObserver, Rest, Witness
from tests.support.hosts import EXAMPLE_IMAGE, DockerHost
from tests.support.redis_server import RedisServer
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


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("loss", [flushed, restarted, frozen_then_empty])
def test_an_empty_redis_is_filled_again(
    new_farm: FarmMaker, new_redis: Callable[..., RedisServer], hosts: list[DockerHost], loss: Any
) -> None:
    redis = new_redis()
    farm = new_farm(hosts, slots=SLOTS, arguments=["--redis", redis.url, "--limit", f"limited-.*={LIMIT}"])
    rest, witness = farm.rest, Witness(farm.mounts / "w")

    def enqueue(task: str, count: int, seconds: float) -> list[str]:
        script = f"{Witness.START}; sleep {seconds}; {Witness.END}"
        spec = {"image": EXAMPLE_IMAGE, "command": ["sh", "-c", script], "mounts": witness.mounts}
        return [rest.enqueue(task, spec)["jobId"] for _ in range(count)]

    with DockerObserver(hosts) as observer:
        # Holders keep their places over the loss: who counts anew and forgets them passes the limits.
        holders = enqueue("limited-holders", LIMIT, 9)
        wait_until(lambda: len(witness.starts()) == LIMIT, 30)
        jobs = [*enqueue("limited-others", 4, 0.1), *enqueue("free", 24, 1)]
        wait_until(lambda: len(witness.starts()) >= LIMIT + 3, 30)
        loss(redis)
        healed_in = _seconds_until_something_starts(rest, witness, lambda: enqueue("fresh", 1, 0))
        ended = rest.wait_all([*holders, *jobs], 90)
    assert healed_in < HEALED_WITHIN
    assert [job for job in ended if (job["state"], job["executionCount"]) != ("SUCCEEDED", 1)] == []
    witness.assert_none_twice()
    for host in hosts:
        assert observer.most_on_host(host.label) <= SLOTS
    limited = {job["executions"][0]["executionId"] for job in ended if job["taskId"].startswith("limited-")}
    assert observer.most_at_once(lambda event: event.execution_id in limited) == LIMIT


def _seconds_until_something_starts(rest: Rest, witness: Witness, enqueue: Callable[[], list[str]]) -> float:
    """From now to the next start of a program; a fresh job makes sure that there is something to start."""
    began, before = time.monotonic(), len(witness.starts())
    enqueue()
    wait_until(lambda: len(witness.starts()) > before, 30, message="something starts again")
    return time.monotonic() - began
