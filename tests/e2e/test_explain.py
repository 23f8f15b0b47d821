"""armadaproject/armada#703: "why isn't it scheduled?" Each reason that a user can come to, in the words of the API."""

import socket
from typing import Any

import pytest

from tests.e2e.agents import Agents
from tests.support.farm import Rest, shell
from tests.support.hosts import DockerHost
from tests.support.waiting import wait_until

LONG = shell("sleep 60", stopGrace="0s")


def reason_of(rest: Rest, job_id: str) -> str:
    """Of the job's open execution, by `explain`; empty where it runs, and between two attempts."""
    told = rest.get(f"/jobs/{job_id}/explain")["executions"]
    return str(told[0]["waiting"]["reason"]) if told and told[0]["waiting"] else ""


def wait_reason(rest: Rest, job_id: str, reason: str, timeout: float = 20) -> Any:
    """What is told once it is `reason`."""
    wait_until(lambda: reason_of(rest, job_id) == reason, timeout, message=f"{job_id} waits for {reason}")
    return rest.get(f"/jobs/{job_id}/explain")["executions"][0]["waiting"]


@pytest.mark.timeout(180)
def test_no_agent_then_no_free_slot_then_limit(agents: Agents, split_hosts: list[DockerHost], task: str) -> None:
    rest = agents.farm.rest
    first = rest.enqueue(task, LONG)["jobId"]
    told = wait_reason(rest, first, "NO_AGENT")
    assert told["subject"] == task
    assert f"easyq runner --pools {task}" in told["message"]
    pool = rest.get(f"/pools/{task}/explain")
    assert (pool["waiting"]["reason"], pool["pool"]["agents"], pool["agents"]) == ("NO_AGENT", 0, [])
    agents.start(split_hosts[0], slots=1)
    # Whichever dispatcher it is connected to, both know of it.
    assert reason_of(rest, first) != "NO_AGENT"
    wait_until(lambda: rest.job(first)["executions"][0]["state"] == "RUNNING", 20)
    assert reason_of(rest, first) == ""
    second, third = (rest.enqueue(task, LONG)["jobId"] for _ in range(2))
    told = wait_reason(rest, third, "NO_FREE_SLOT")
    assert (int(told["position"]), "1 of 1 slots" in told["message"]) == (2, True)
    task_told = rest.get(f"/tasks/{task}/explain")
    assert [one["jobId"] for one in task_told["executions"]] == [second, third]
    agents.rule(f'[[limit]]\npattern = "{task}"\nmax_running = 1\n')
    assert wait_reason(rest, second, "LIMIT_FULL")["subject"] == task
    for job_id in (third, second, first):
        rest.stop(job_id)
    rest.wait_all([first, second, third])


@pytest.mark.timeout(180)
def test_the_place_in_the_queue(agents: Agents, split_hosts: list[DockerHost], task: str) -> None:
    rest = agents.farm.rest
    agents.start(split_hosts[0], slots=1)
    holder = rest.enqueue(task, LONG)["jobId"]
    wait_until(lambda: rest.job(holder)["executions"][0]["state"] == "RUNNING", 20)
    low, first, second, high = (rest.enqueue(task, {**LONG, "priority": p})["jobId"] for p in (-5, 0, 0, 100))

    def places(*ids: str) -> list[int]:
        told = [rest.get(f"/jobs/{job_id}/explain")["executions"][0]["waiting"] for job_id in ids]
        return [int(waiting["position"]) for waiting in told if waiting]

    order = [high, first, second, low]
    wait_until(lambda: places(*order) == [1, 2, 3, 4], 20)
    assert "3rd in line" in rest.get(f"/jobs/{second}/explain")["executions"][0]["waiting"]["message"]
    told = rest.get(f"/tasks/{task}/explain")
    assert [one["jobId"] for one in told["executions"]] == order
    assert [int(one["waiting"]["position"]) for one in told["executions"]] == [1, 2, 3, 4]
    rest.stop(holder)
    wait_until(lambda: places(*order[1:]) == [1, 2, 3], 30)
    for job_id in reversed(order):
        rest.stop(job_id)
    rest.wait_all([holder, *order])


@pytest.mark.timeout(180)
def test_a_pool_that_is_full(agents: Agents, split_hosts: list[DockerHost], task: str) -> None:
    rest = agents.farm.rest
    agents.rule(pool="max_running = 1")
    agents.start(split_hosts[0], slots=3)
    first, second = (rest.enqueue(task, LONG)["jobId"] for _ in range(2))
    told = wait_reason(rest, second, "LIMIT_FULL")
    assert (told["subject"], f"pool {task}" in told["message"]) == (task, True)
    rest.stop(second)
    rest.stop(first)
    rest.wait_all([first, second])


@pytest.mark.timeout(180)
def test_without_dispatchers(agents: Agents, split_hosts: list[DockerHost], task: str) -> None:
    rest, farm = agents.farm.rest, agents.farm
    agents.start(split_hosts[0], slots=1)
    holder, job_id = rest.enqueue(task, LONG)["jobId"], rest.enqueue(task, shell("true"))["jobId"]
    wait_reason(rest, job_id, "NO_FREE_SLOT")
    try:
        for dispatcher in farm.dispatchers:
            dispatcher.kill()
        wait_reason(rest, job_id, "DISPATCHER_UNAVAILABLE")
    finally:
        for dispatcher in farm.dispatchers:
            dispatcher.start()
    rest.stop(holder)
    assert rest.wait_job(job_id)["state"] == "SUCCEEDED"


@pytest.mark.timeout(180)
def test_starting_silent_and_pulling(agents: Agents, split_hosts: list[DockerHost], task: str) -> None:
    rest = agents.farm.rest
    agent = agents.start(split_hosts[0])
    agent.freeze()
    try:
        job_id = rest.enqueue(task, shell("true"))["jobId"]
        told = wait_reason(rest, job_id, "STARTING")
        assert told["subject"] == agent.agent_id
        assert wait_reason(rest, job_id, "HOST_SILENT", 30)["subject"] == agent.agent_id
    finally:
        agent.thaw()
    assert rest.wait_job(job_id)["state"] == "SUCCEEDED"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        image = f"127.0.0.1:{silent.getsockname()[1]}/some/image:1"
        job_id = rest.enqueue(task, {"image": image, "command": "true"})["jobId"]
        wait_reason(rest, job_id, "PULLING")
        assert rest.stop(job_id)["outcome"] == "STOPPING"
        assert rest.wait_job(job_id)["state"] == "STOPPED"


def test_time_and_back_off(agents: Agents, split_hosts: list[DockerHost], task: str) -> None:
    rest = agents.farm.rest
    agents.start(split_hosts[0])
    later = rest.enqueue(task, shell("true", startIn="1h"))["jobId"]
    told = wait_reason(rest, later, "NOT_DUE")
    job = rest.job(later)
    assert told["nextLookAt"] == job["nextRunAt"] == job["waiting"]["nextLookAt"]
    again = rest.enqueue(task, shell("exit 1", retries=1, backoff={"min": "1h", "max": "1h"}))["jobId"]
    told = wait_reason(rest, again, "BACKOFF")
    assert told["nextLookAt"] == rest.job(again)["nextRunAt"]
    for job_id in (later, again):
        assert rest.stop(job_id)["outcome"] == "STOPPED"
    ended = rest.get(f"/jobs/{later}/explain")
    assert (ended["state"], ended["waiting"], ended["executions"]) == ("STOPPED", None, [])


def test_unknown_things(agents: Agents) -> None:
    rest = agents.farm.rest
    for path in ("/jobs/nothing/explain", "/tasks/nothing/explain", "/pools/nothing/explain"):
        assert rest.call("GET", path).status == 404
