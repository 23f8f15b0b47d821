"""A process dies at a named point between two steps: after its restart every job ends, and none runs twice.

One slot, so that nothing else is under way in the process that dies, and what becomes of the one job is certain.
"""

import random

import pytest

from tests.chaos.conftest import FULL
from tests.chaos.load import Load, mixed_programs
from tests.e2e.conftest import FarmMaker
from tests.support.farm import Witness
from tests.support.hosts import DockerHost

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


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_a_crash_there(
    new_farm: FarmMaker, hosts: list[DockerHost], task: str, numbers: random.Random, point: str
) -> None:
    farm = new_farm(hosts[:1], slots=1, faults={point: f"kill@{numbers.randrange(1, JOBS)}"})
    witness = Witness(farm.mounts / "w")
    load = Load(lambda: farm.rest, task, mixed_programs(JOBS, numbers, witness), witness)
    load.run(lambda: None, at=0, timeout=90)
    assert farm.fired(point)
    lost = load.check()
    assert len(lost) == POINTS[point], lost
    assert {one.reason for one in lost} <= {"START_UNKNOWN"}
    # What was given up around its start has not run, and will not.
    assert not [one for one in lost if one.execution_id in witness.starts()]
    assert not hosts[0].containers(label=f"easyq.task={task}")
