"""A process dies at a named point between two steps: after its restart every job ends, and none runs twice.

One slot, so that nothing else is under way in the process that dies, and what becomes of the one job is certain.
"""

import random
from collections.abc import Iterator

import pytest

from tests.chaos.conftest import FULL, SEED
from tests.chaos.load import Load, mixed_programs
from tests.support.farm import UpFarm, Witness
from tests.support.hosts import DockerHost
from tests.support.waiting import wait_until

JOBS = 12 if FULL else 4

# Where what happened can't be known, the execution is LOST and its job runs again, as another execution.
POINTS = {
    "runner.before_create": 0,
    "runner.after_create": 0,
    "runner.after_journal": 1,
    "runner.after_start": 0,
    "runner.after_exit": 0,
    "runner.after_finish_ack": 0,
    "dispatcher.after_take": 0,
    "dispatcher.after_assign": 0,
    "dispatcher.before_run": 0,
}


@pytest.fixture(scope="module")
def crashing(hosts: list[DockerHost]) -> Iterator[UpFarm]:
    """One farm for all points, each of which counts its passes from when it is armed."""
    moments = random.Random(f"{SEED} moments")
    farm = UpFarm(hosts[:1], slots=1, faults={point: f"kill@{moments.randrange(1, JOBS)}" for point in POINTS})
    for point in POINTS:
        (farm.once / point).touch()
    try:
        yield farm.start()
    finally:
        farm.close()


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_a_crash_there(
    crashing: UpFarm, hosts: list[DockerHost], task: str, numbers: random.Random, point: str
) -> None:
    farm = crashing
    witness = Witness(farm.mounts / task)
    load = Load(lambda: farm.rest, task, mixed_programs(JOBS, numbers, witness), witness)
    (farm.once / point).unlink()
    load.run(lambda: None, at=0, timeout=90)
    assert farm.fired(point)
    lost = load.check()
    assert len(lost) == POINTS[point], lost
    assert {one.reason for one in lost} <= {"START_UNKNOWN"}
    # What was given up around its start has not run, and will not.
    assert not [one for one in lost if one.execution_id in witness.starts()]
    # The agent removes a container once its end is acknowledged, which is a moment after the job shows it.
    wait_until(lambda: not hosts[0].containers(label=f"easyq.task={task}"), 20, message="no container is left")
