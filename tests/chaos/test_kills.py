"""kill -9 of each service, of Redis, of all at once, in the middle of jobs: nothing is lost, nothing done twice."""

import random

import pytest

from tests.chaos.conftest import JOBS, ROUNDS
from tests.chaos.load import Load, mixed_programs, random_moment
from tests.support.farm import DockerObserver, UpFarm, Witness
from tests.support.farm.processes import SERVICES
from tests.support.hosts import DockerHost
from tests.support.waiting import wait_until

# Both processes of each agent at once, and each alone.
RUNNERS = ("runner", "watchdog", "agent")
VICTIMS = (*SERVICES, "watchdog", "agent", "redis", "all")


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("victim", [victim for victim in VICTIMS for _ in range(ROUNDS)])
def test_in_the_middle_of_jobs(
    farm: UpFarm, hosts: list[DockerHost], task: str, numbers: random.Random, victim: str
) -> None:
    witness = Witness(farm.mounts / task)
    load = Load(lambda: farm.rest, task, mixed_programs(JOBS, numbers, witness), witness)

    def disturb() -> None:
        random_moment(numbers)
        if victim == "all":
            farm.kill_all()
            farm.start()
        else:
            killed = farm.kill(victim)
            wait_until(lambda: len(farm.pids(victim)) == len(killed), 60, message=f"{victim} is back")

    with DockerObserver(hosts) as observer:
        load.run(disturb, at=numbers.randrange(1, JOBS * 3 // 4))
    lost = load.check()
    # Only an agent that dies between its journal and the start can't know; nobody else loses anything.
    assert len(lost) <= (len(hosts) if victim in RUNNERS or victim == "all" else 0), lost
    assert {one.reason for one in lost} <= {"START_UNKNOWN"}
    for host in hosts:
        assert observer.most_on_host(host.label) <= farm.slots
    # The agent removes a container once its end is acknowledged, which is a moment after the job shows it.
    wait_until(lambda: not any(host.containers(label=f"easyq.task={task}") for host in hosts), 20)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_supervisor_alone(farm: UpFarm, task: str, numbers: random.Random) -> None:
    """Its services end with it or are replaced: two sets never work on one store."""
    witness = Witness(farm.mounts / task)
    load = Load(lambda: farm.rest, task, mixed_programs(JOBS // 2, numbers, witness), witness)

    def disturb() -> None:
        farm.kill("up")
        wait_until(lambda: not farm.running)
        farm.start()

    load.run(disturb, at=JOBS // 4)
    assert len(load.check()) <= len(farm.docker)
