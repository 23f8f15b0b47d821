"""The second lane: services as separate commands, Redis, MongoDB's protocol, two of each that may be two."""

import os
import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.conftest import SLOTS
from tests.support.farm import DockerObserver, SplitFarm, Witness, chatty
from tests.support.hosts import EXAMPLE_IMAGE, DockerHost
from tests.support.waiting import wait_until

JOBS = int(os.environ.get("EASYQ_TEST_SPLIT_JOBS", "60"))


@pytest.fixture
def hosts(split_hosts: list[DockerHost]) -> list[DockerHost]:
    return split_hosts


@pytest.fixture
def farm(split_farm: SplitFarm) -> SplitFarm:
    return split_farm


@pytest.mark.timeout(240)
def test_jobs_over_two_daemons(farm: SplitFarm, hosts: list[DockerHost], task: str) -> None:
    witness = Witness(farm.mounts / task)
    numbers = random.Random(7)
    programs = [
        chatty(
            number,
            stdout=numbers.randrange(1_000_000 if number % 10 == 0 else 20_000),
            stderr=numbers.randrange(20_000),
            exit_code=numbers.choice([0, 0, 1, 42]),
            witness=witness,
        )
        for number in range(JOBS)
    ]
    rest = farm.rest
    with DockerObserver(hosts) as observer, ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda program: rest.enqueue(task, program.spec)["jobId"], programs))
        jobs = rest.wait_all(ids, 180)
    for job, program in zip(jobs, programs, strict=True):
        [execution] = job["executions"]
        assert (execution["state"], execution["exitCode"]) == (program.state, program.exit_code)
        assert rest.output(job["jobId"], "stdout") == program.stdout
        assert rest.output(job["jobId"], "stderr") == program.stderr
    assert witness.starts() == dict.fromkeys([job["executions"][0]["executionId"] for job in jobs], 1)
    assert observer.hosts_used() == {host.label for host in hosts}
    # The agent removes a container once its end is acknowledged, which is a moment after the job shows it.
    wait_until(lambda: not any(host.containers(label=f"easyq.task={task}") for host in hosts), 20)
    for host in hosts:
        assert observer.most_on_host(host.label) <= SLOTS


def test_times_and_retries(farm: SplitFarm, task: str) -> None:
    """Two schedulers look at what is due: each time fires once."""
    rest, witness = farm.rest, Witness(farm.mounts / task)
    script = f"{Witness.START}; exit 1"
    spec = {
        "image": EXAMPLE_IMAGE,
        "command": ["sh", "-c", script],
        "mounts": witness.mounts,
        "startIn": "1s",
        "retries": 2,
        "backoff": {"min": "0.5s", "jitter": 0},
    }
    ids = [rest.enqueue(task, spec)["jobId"] for _ in range(6)]
    jobs = rest.wait_all(ids, 60)
    assert {(job["state"], job["executionCount"]) for job in jobs} == {("FAILED", 3)}
    assert len(witness.starts()) == 18
    witness.assert_none_twice()


def test_a_stop_reaches_the_agent_of_the_other_dispatcher(farm: SplitFarm, task: str) -> None:
    rest = farm.rest
    spec = {"image": EXAMPLE_IMAGE, "command": ["sh", "-c", "echo begin; sleep 100"], "stopGrace": "0s"}
    ids = [rest.enqueue(task, spec)["jobId"] for _ in range(4)]
    wait_until(lambda: all(rest.job(job_id)["state"] == "RUNNING" for job_id in ids), 30)
    assert {rest.stop(job_id)["outcome"] for job_id in ids} == {"STOPPING"}
    assert {job["state"] for job in rest.wait_all(ids, 30)} == {"STOPPED"}


def test_search_lists_and_keys(farm: SplitFarm, task: str) -> None:
    rest = farm.rest
    spec = {"image": EXAMPLE_IMAGE, "command": "true", "labels": {"a": "b"}}
    first = rest.post(f"/tasks/{task}", spec, headers={"Idempotency-Key": "k"})
    again = rest.post(f"/tasks/{task}", spec, headers={"Idempotency-Key": "k"})
    assert (again["jobId"], again["replayed"]) == (first["jobId"], True)
    assert rest.wait_job(first["jobId"])["state"] == "SUCCEEDED"
    assert [job["jobId"] for job in rest.get(f"/jobs?label=a=b&taskId={task}")["items"]] == [first["jobId"]]
    assert task in {hit["taskId"] for hit in rest.get(f"/search?query={task[:-1]}")["items"]}
