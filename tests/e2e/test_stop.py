"""A stop, in each phase of a job."""

import socket
import time

from tests.support.farm import Rest, UpFarm, Witness, shell
from tests.support.hosts import DockerHost
from tests.support.waiting import wait_until


def test_while_it_waits_for_its_time(farm: UpFarm, rest: Rest, task: str) -> None:
    job_id = rest.enqueue(task, shell("true", startIn="1h"))["jobId"]
    answer = rest.stop(job_id)
    assert (answer["outcome"], answer["job"]["state"]) == ("STOPPED", "STOPPED")
    job = rest.job(job_id)
    assert (job["state"], job["executions"][0]["state"]) == ("STOPPED", "STOPPED")
    assert job["executions"][0]["error"]["reason"] == "STOP_REQUESTED"
    assert rest.stop(job_id)["outcome"] == "STOPPED"


def test_while_it_waits_for_a_place(farm: UpFarm, rest: Rest, witness: Witness) -> None:
    task = f"limited-{time.time_ns()}"
    holders = [rest.enqueue(task, shell("sleep 60", stopGrace="0s"))["jobId"] for _ in range(2)]
    wait_until(lambda: all(rest.job(job)["state"] == "RUNNING" for job in holders), 20)
    waiting = [rest.enqueue(task, shell(Witness.START, mounts=witness.mounts))["jobId"] for _ in range(5)]
    wait_until(lambda: rest.job(waiting[0])["waiting"]["reason"] == "LIMIT_FULL", 10)
    assert [rest.stop(job_id)["outcome"] for job_id in waiting] == ["STOPPED"] * 5
    for job_id in holders:
        rest.stop(job_id)
    assert {job["state"] for job in rest.wait_all([*holders, *waiting])} == {"STOPPED"}
    # The places are free again for others, and none of the stopped ones takes one.
    assert rest.run(task, shell("true"))["state"] == "SUCCEEDED"
    assert not witness.starts()


def test_while_its_image_is_pulled(farm: UpFarm, rest: Rest, task: str, hosts: list[DockerHost]) -> None:
    """From a registry that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        image = f"127.0.0.1:{silent.getsockname()[1]}/some/image:1"
        job_id = rest.enqueue(task, {"image": image, "command": "true"})["jobId"]
        job = wait_until(lambda: (j := rest.job(job_id))["state"] == "RUNNING" and j, 20)
        assert job["executions"][0]["state"] == "ASSIGNED"
        wait_until(lambda: (rest.job(job_id)["waiting"] or {}).get("reason") == "PULLING", 10)
        began = time.monotonic()
        assert rest.stop(job_id)["outcome"] == "STOPPING"
        job = rest.wait_job(job_id, 20)
        assert time.monotonic() - began < 20
    [execution] = job["executions"]
    assert (job["state"], execution["state"], execution["startedAt"]) == ("STOPPED", "STOPPED", None)
    assert not [c for host in hosts for c in host.containers(label=f"easyq.task={task}")]


def test_while_it_runs(farm: UpFarm, rest: Rest, task: str) -> None:
    script = "trap 'echo bye; exit 5' TERM; echo begin; while :; do sleep 0.1; done"
    job_id = rest.enqueue(task, shell(script, retries=5))["jobId"]
    wait_until(lambda: rest.output(job_id, "stdout") == b"begin\n", 20)
    answer = rest.stop(job_id)
    assert answer["outcome"] == "STOPPING"
    assert answer["job"]["stopRequestedAt"]
    began = time.monotonic()
    job = rest.wait_job(job_id)
    assert time.monotonic() - began < 20
    assert (job["state"], job["executionCount"]) == ("STOPPED", 1)
    assert job["executions"][0]["exitCode"] == 5
    assert rest.output(job_id, "stdout") == b"begin\nbye\n"


def test_a_deaf_program_is_killed_after_its_grace(farm: UpFarm, rest: Rest, task: str) -> None:
    job_id = rest.enqueue(task, shell("trap '' TERM; echo begin; while :; do sleep 0.1; done", stopGrace="1s"))["jobId"]
    wait_until(lambda: rest.output(job_id, "stdout") == b"begin\n", 20)
    began = time.monotonic()
    assert rest.stop(job_id)["outcome"] == "STOPPING"
    job = rest.wait_job(job_id)
    assert 0.9 < time.monotonic() - began < 20
    assert (job["state"], job["executions"][0]["exitCode"]) == ("STOPPED", 137)


def test_while_it_waits_for_its_next_attempt(farm: UpFarm, rest: Rest, task: str) -> None:
    job_id = rest.enqueue(task, shell("exit 1", retries=5, backoff={"min": "1h", "max": "2h", "jitter": 0}))["jobId"]
    wait_until(lambda: rest.job(job_id)["state"] == "RETRYING", 20)
    assert rest.stop(job_id)["outcome"] == "STOPPED"
    job = rest.job(job_id)
    assert (job["state"], job["nextRunAt"]) == ("STOPPED", None)
    assert [execution["state"] for execution in job["executions"]] == ["FAILED", "STOPPED"]


def test_after_its_end(farm: UpFarm, rest: Rest, task: str) -> None:
    job = rest.run(task, shell("true"))
    answer = rest.call("POST", f"/jobs/{job['jobId']}/stop")
    assert (answer.status, answer.error["code"]) == (409, "FAILED_PRECONDITION")
    assert rest.job(job["jobId"])["state"] == "SUCCEEDED"


def test_right_after_the_enqueue(farm: UpFarm, rest: Rest, task: str, witness: Witness) -> None:
    """Whatever phase each is in: what answered STOPPED never runs, the others end STOPPED (or had ended)."""
    outcomes = {}
    for _ in range(20):
        job_id = rest.enqueue(task, shell(f"{Witness.START}; sleep 20", mounts=witness.mounts, stopGrace="0s"))["jobId"]
        outcomes[job_id] = rest.stop(job_id)["outcome"]
    jobs = rest.wait_all(outcomes)
    assert {job["state"] for job in jobs} == {"STOPPED"}
    ran = witness.starts()
    for job in jobs:
        if outcomes[job["jobId"]] == "STOPPED":
            assert job["executions"][0]["executionId"] not in ran
    witness.assert_none_twice()


def test_one_execution(farm: UpFarm, rest: Rest, task: str) -> None:
    job_id = rest.enqueue(task, shell("echo begin; sleep 60", retries=3, stopGrace="0s"))["jobId"]
    wait_until(lambda: rest.output(job_id, "stdout") == b"begin\n", 20)
    execution = rest.job(job_id)["executions"][0]["executionId"]
    assert rest.post(f"/executions/{execution}/stop")["outcome"] == "STOPPING"
    job = rest.wait_job(job_id)
    assert (job["state"], job["executionCount"]) == ("STOPPED", 1)


def test_a_stopped_job_can_be_run_again(farm: UpFarm, rest: Rest, task: str) -> None:
    job_id = rest.enqueue(task, shell("echo again", startIn="1h"))["jobId"]
    rest.stop(job_id)
    answer = rest.post(f"/jobs/{job_id}/retry")
    assert answer["jobId"] == job_id
    job = rest.wait_job(job_id)
    assert (job["state"], job["executions"][-1]["trigger"]) == ("SUCCEEDED", "MANUAL")
    assert job["executions"][-1]["executionId"] == answer["executionId"]
    assert rest.output(job_id, "stdout", answer["executionId"]) == b"again\n"
