"""Limits hold, tasks take turns, pools get what is theirs: seen by Docker's own events."""

import time
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import LIMIT, SLOTS, FarmMaker
from tests.support.farm import DockerObserver, Rest, UpFarm, Witness, shell
from tests.support.hosts import DockerHost
from tests.support.plugin import DockerFactory
from tests.support.waiting import wait_until


def test_a_limit_over_task_names_holds(farm: UpFarm, rest: Rest, hosts: list[DockerHost]) -> None:
    tasks = [f"limited-{time.time_ns()}-{letter}" for letter in "ab"]
    with DockerObserver(hosts) as observer:
        jobs = [rest.enqueue(tasks[n % 2], shell("sleep 0.4"))["jobId"] for n in range(12)]
        ended = rest.wait_all(jobs)
    executions = {job["executions"][0]["executionId"] for job in ended}
    assert {job["state"] for job in ended} == {"SUCCEEDED"}
    assert observer.most_at_once(lambda event: event.execution_id in executions) == LIMIT

    def shown() -> tuple[object, ...]:
        [limit] = rest.get("/status")["limits"]
        return limit["pattern"], limit["maxRunning"], limit["running"]

    # The dispatcher frees a place once the store has answered it, which is a moment after the job shows its end.
    wait_until(lambda: shown() == ("limited-.*", LIMIT, 0), message="no place is taken any more")


def test_a_task_at_its_limit_blocks_no_other(farm: UpFarm, rest: Rest, task: str) -> None:
    limited = f"limited-{time.time_ns()}"
    holders = [rest.enqueue(limited, shell("sleep 900", stopGrace="0s"))["jobId"] for _ in range(20)]
    wait_until(lambda: sum(rest.job(job)["state"] == "RUNNING" for job in holders[:4]) == LIMIT, 20)
    assert rest.run(task, shell("true"))["state"] == "SUCCEEDED"
    waiting = rest.job(holders[-1])["waiting"]
    assert waiting["reason"] == "LIMIT_FULL"
    assert "limited-.*" in waiting["message"]
    for job_id in holders[::-1]:
        rest.stop(job_id)
    rest.wait_all(holders)


def test_tasks_take_turns(farm: UpFarm, rest: Rest, task: str, witness: Witness) -> None:
    """A task with a long line does not make a later task wait for its end."""
    # Nobody's turn comes before the late one is in line.
    held = shell("until [ -e /witness/go ]; do sleep 0.05; done", mounts=witness.mounts)
    crowd = [rest.enqueue(f"{task}-crowd", held)["jobId"] for _ in range(20)]
    wait_until(lambda: sum(rest.job(job)["state"] == "RUNNING" for job in crowd[: 2 * SLOTS]) == 2 * SLOTS, 30)
    late = rest.enqueue(f"{task}-late", shell("true"))["jobId"]
    (witness.folder / "go").touch()
    *others, job = rest.wait_all([*crowd, late])
    assert job["state"] == "SUCCEEDED"
    at = job["executions"][0]["assignedAt"]
    before = [other for other in others if other["executions"][0]["assignedAt"] < at]
    # Those that ran already, and as many as were given out at once before its turn.
    assert len(before) <= 4 * SLOTS, f"{len(before)} of the crowd came first"


@pytest.fixture(scope="module")
def small_farm(dockerd: DockerFactory) -> Iterator[UpFarm]:
    """One slot, and a pool without an agent."""
    with UpFarm([dockerd("c")], slots=1, arguments=["--pool", "nowhere=lonely-.*"]) as farm:
        yield farm


def test_priority_then_first_in_first_out(small_farm: UpFarm, task: str) -> None:
    """One slot, taken by a holder: the others come in the order of their priority, then of their enqueue."""
    rest = small_farm.rest
    holder = rest.enqueue(task, shell("sleep 60", stopGrace="0s"))["jobId"]
    wait_until(lambda: rest.job(holder)["state"] == "RUNNING", 20)
    asked = [("a", 0), ("b", 0), ("c", -5), ("d", 10), ("e", 0), ("f", 10)]
    ids = {rest.enqueue(task, shell("true", priority=p))["jobId"]: name for name, p in asked}
    rest.stop(holder)
    jobs = sorted(rest.wait_all(ids), key=lambda job: str(job["executions"][0]["startedAt"]))
    assert "".join(ids[job["jobId"]] for job in jobs) == "dfabec"


@pytest.mark.timeout(180)
def test_pools_by_name(new_farm: FarmMaker, dockerd: DockerFactory) -> None:
    plain, special = dockerd("a"), dockerd("c")
    farm = new_farm([plain, ("special", special)], slots=3, arguments=["--pool", "special=gpu-.*:1"])
    rest = farm.rest
    with DockerObserver([plain, special]) as observer:
        gpu = [rest.enqueue("gpu-train", shell("sleep 0.3"))["jobId"] for _ in range(4)]
        other = [rest.enqueue("plain-work", shell("sleep 0.3"))["jobId"] for _ in range(6)]
        gpu_jobs, other_jobs = rest.wait_all(gpu), rest.wait_all(other)
    hosts = {event.execution_id: event.host for event in observer.events("start")}
    assert {hosts[job["executions"][0]["executionId"]] for job in gpu_jobs} == {special.label}
    assert {hosts[job["executions"][0]["executionId"]] for job in other_jobs} == {plain.label}
    gpu_ids = {job["executions"][0]["executionId"] for job in gpu_jobs}
    # The pool has three slots and a maximum of one.
    assert observer.most_at_once(lambda event: event.execution_id in gpu_ids) == 1
    pools = {pool["name"]: pool for pool in rest.get("/status")["pools"]}
    assert (pools["special"]["pattern"], pools["special"]["maxRunning"]) == ("gpu-.*", 1)
    assert "default" in pools


def test_a_pool_without_an_agent_says_so(small_farm: UpFarm) -> None:
    rest = small_farm.rest
    job_id = rest.enqueue("lonely-job", shell("true"))["jobId"]
    # The farm accepts jobs before its dispatcher answers.
    wait_until(lambda: (rest.job(job_id)["waiting"] or {}).get("reason") == "NO_AGENT", 20)
    assert "nowhere" in rest.job(job_id)["waiting"]["message"]
    assert rest.run("other", shell("true"))["state"] == "SUCCEEDED"
    assert rest.stop(job_id)["outcome"] == "STOPPED"
