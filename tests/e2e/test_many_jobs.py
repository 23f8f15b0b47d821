"""200 jobs over two daemons: every exit code, every byte, nothing left over, slots held."""

import os
import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.conftest import SLOTS
from tests.support.farm import DockerObserver, Rest, UpFarm, Witness, chatty
from tests.support.farm.programs import Program
from tests.support.hosts import DockerHost
from tests.support.waiting import wait_until

JOBS = int(os.environ.get("EASYQ_TEST_JOBS", "200"))
FULL = os.environ.get("FULL", "") not in {"", "0"}
MOST_BYTES = 1_000_000


def programs(witness: Witness) -> list[Program]:
    """Every tenth writes up to 1 MB on both streams, with FULL=1 each one; the first one writes all of it."""
    numbers = random.Random(20_240_607)
    most = [MOST_BYTES if FULL or number % 10 == 0 else 20_000 for number in range(JOBS)]
    return [
        chatty(
            number,
            stdout=MOST_BYTES if number == 0 else numbers.randrange(most[number]),
            stderr=MOST_BYTES if number == 0 else numbers.randrange(most[number]),
            exit_code=numbers.choice([0, 0, 1, 2, 42, 137, 255]),
            witness=witness,
        )
        for number in range(JOBS)
    ]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_hundred_jobs_over_two_daemons(
    farm: UpFarm, rest: Rest, task: str, hosts: list[DockerHost], witness: Witness
) -> None:
    asked = programs(witness)
    with DockerObserver(hosts) as observer, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda program: rest.enqueue(task, program.spec), asked))
        jobs = rest.wait_all([answer["jobId"] for answer in answers], 240)
    wrong = [
        (number, job["executions"][-1]["exitCode"], program.exit_code)
        for number, (job, program) in enumerate(zip(jobs, asked, strict=True))
        if (job["state"], job["executions"][-1]["exitCode"]) != (program.state, program.exit_code)
    ]
    assert not wrong
    assert all(job["executionCount"] == 1 for job in jobs)
    for job, program in zip(jobs, asked, strict=True):
        assert job["executions"][0]["logsComplete"]
        assert rest.output(job["jobId"], "stdout") == program.stdout, job["jobId"]
        assert rest.output(job["jobId"], "stderr") == program.stderr, job["jobId"]
    executions = {job["executions"][0]["executionId"] for job in jobs}
    assert witness.starts() == witness.ends() == dict.fromkeys(executions, 1)
    assert {event.execution_id for event in observer.events("start")} >= executions

    def left() -> list[str | None]:
        found = [container.name for host in hosts for container in host.containers()]
        return [name for name in found if (name or "").removeprefix("easyq-") in executions]

    # The agent removes a container once its end is acknowledged, which is a moment after the job shows it.
    wait_until(lambda: not left(), 20, message="no container is left")
    assert observer.hosts_used() == {host.label for host in hosts}
    for host in hosts:
        assert 1 < observer.most_on_host(host.label) <= SLOTS
