"""What is deleted is gone with all that belongs to it, and what runs is stopped first."""

from http.client import IncompleteRead

import pytest

from tests.e2e.rules import RulesText
from tests.support.farm import Rest, SplitFarm, UpFarm, Witness, shell
from tests.support.hosts import DockerHost
from tests.support.waiting import wait_until

ENDLESS = f"{Witness.START}; echo out; sleep 60"


def gone(rest: Rest, *paths: str) -> bool:
    return all(rest.call("GET", path).status == 404 for path in paths)


def test_a_job_that_has_ended(either: UpFarm | SplitFarm, task: str) -> None:
    rest = either.rest
    job, other = rest.run(task, shell("echo out; exit 1")), rest.run(task, shell("echo other"))
    job_id, [execution] = job["jobId"], job["executions"]
    answer = rest.call("DELETE", f"/jobs/{job_id}")
    assert (answer.status, answer.json()["stopping"]) == (200, False)
    assert gone(rest, f"/jobs/{job_id}", f"/executions/{execution['executionId']}", f"/jobs/{job_id}/stdout")
    assert rest.call("DELETE", f"/jobs/{job_id}").error["reason"] == "JOB_NOT_FOUND"
    assert [one["jobId"] for one in rest.get(f"/tasks/{task}/jobs")["items"]] == [other["jobId"]]
    assert rest.get(f"/errors?taskId={task}")["items"] == []
    assert rest.output(other["jobId"], "stdout") == b"other\n"


def test_a_job_that_runs_needs_force(either: UpFarm | SplitFarm, task: str) -> None:
    rest, witness = either.rest, Witness(either.mounts / task)
    spec = shell(ENDLESS, mounts=witness.mounts, stopGrace="0s", retries=5)
    job_id = rest.enqueue(task, spec)["jobId"]
    wait_until(witness.starts, 30)
    refused = rest.call("DELETE", f"/jobs/{job_id}")
    assert (refused.status, refused.error["reason"]) == (409, "NEEDS_FORCE")
    assert rest.job(job_id)["state"] == "RUNNING"
    answer = rest.call("DELETE", f"/jobs/{job_id}?force=true")
    assert (answer.status, answer.json()["stopping"]) == (200, True)
    wait_until(lambda: gone(rest, f"/jobs/{job_id}"), 30)
    assert gone(rest, *(f"/executions/{one}" for one in witness.starts()))
    assert sum(witness.starts().values()) == 1


def test_a_recurring_job(farm: UpFarm, rest: Rest, task: str) -> None:
    job_id = rest.enqueue(task, shell("true", cron="@every 1s"))["jobId"]
    wait_until(lambda: int(rest.job(job_id)["schedule"]["runs"]) >= 1, 20)
    assert rest.call("DELETE", f"/jobs/{job_id}").error["reason"] == "NEEDS_FORCE"
    assert rest.call("DELETE", f"/jobs/{job_id}?force=true").status == 200
    wait_until(lambda: gone(rest, f"/jobs/{job_id}", f"/jobs/{job_id}/schedule"), 20)
    wait_until(lambda: rest.get(f"/tasks/{task}")["jobCount"] in {0, "0"}, 10)
    assert rest.get(f"/executions?taskId={task}")["items"] == [] or gone(rest, f"/jobs/{job_id}/executions")


@pytest.mark.timeout(180)
def test_a_task_with_all_that_belongs_to_it(
    farm: UpFarm, rest: Rest, task: str, witness: Witness, hosts: list[DockerHost]
) -> None:
    ended = [rest.run(task, shell("exit 1"))["jobId"] for _ in range(2)]
    running = rest.enqueue(task, shell(ENDLESS, mounts=witness.mounts, stopGrace="0s"))["jobId"]
    later = rest.enqueue(task, shell("true", startIn="1h"))["jobId"]
    fires = rest.enqueue(task, shell("true", cron="@daily"))["jobId"]
    key = {"Idempotency-Key": "once"}
    rest.post(f"/tasks/{task}", shell("true", startIn="2h"), headers=key)
    wait_until(witness.starts, 30)
    refused = rest.call("DELETE", f"/tasks/{task}")
    assert (refused.status, refused.error["reason"]) == (409, "NEEDS_FORCE")
    assert "6" in refused.error["message"]
    answer = rest.call("DELETE", f"/tasks/{task}?force=true")
    assert answer.status == 200
    assert (int(answer.json()["deleted"]), int(answer.json()["stopping"])) == (5, 1)
    wait_until(lambda: gone(rest, *(f"/jobs/{one}" for one in (*ended, running, later, fires))), 30)
    wait_until(lambda: not [c for host in hosts for c in host.containers(label=f"easyq.task={task}")], 30)
    # It may be used again, its keys too.
    fresh = rest.post(f"/tasks/{task}", shell("exit 0"), headers=key)
    assert not fresh["replayed"]
    assert rest.wait_job(fresh["jobId"])["state"] == "SUCCEEDED"
    assert rest.call("DELETE", f"/tasks/{task}?force=true").status == 200
    wait_until(lambda: gone(rest, f"/tasks/{task}"), 20)
    assert rest.call("DELETE", f"/tasks/{task}").error["reason"] == "TASK_NOT_FOUND"


RETENTION = """
[[retention]]
pattern = "TASK-a"
failed = "1s"
stopped = "1s"

[[retention]]
pattern = "TASK-n"
succeeded_count = 2

[[retention]]
pattern = "TASK-l"
logs = "1s"
"""


@pytest.mark.timeout(180)
def test_what_is_kept_no_longer_goes_by_itself(split_farm: SplitFarm, rules: RulesText, task: str) -> None:
    """By age and outcome, by number, and logs apart from the record of their job; other tasks keep all."""
    rest = split_farm.rest
    failed, kept = rest.run(f"{task}-a", shell("exit 1")), rest.run(f"{task}-a", shell("echo kept"))
    other = rest.run(task, shell("exit 1"))
    stopped = rest.enqueue(f"{task}-a", shell("true", startIn="1h"))["jobId"]
    rest.stop(stopped)
    counted = [rest.run(f"{task}-n", shell(f"echo {number}"))["jobId"] for number in range(4)]
    logged = rest.run(f"{task}-l", shell("echo out"))
    # Not before they are there, and their ends were seen.
    assert log_of(rest, logged["jobId"]) == b"out\n"
    rules.write(RETENTION.replace("TASK", task))
    wait_until(lambda: gone(rest, f"/jobs/{failed['jobId']}", f"/jobs/{stopped}"), 30)
    wait_until(lambda: gone(rest, *(f"/jobs/{one}" for one in counted[:2])), 30)
    wait_until(lambda: not log_of(rest, logged["jobId"]), 30)
    assert rest.get(f"/errors?taskId={task}-a")["items"] == []
    assert [rest.output(one, "stdout") for one in counted[2:]] == [b"2\n", b"3\n"]
    for job in (kept, other, logged):
        assert rest.job(job["jobId"])["state"] == job["state"]
    assert rest.output(kept["jobId"], "stdout") == b"kept\n"


def log_of(rest: Rest, job_id: str) -> bytes:
    try:
        answer = rest.call("GET", f"/jobs/{job_id}/stdout")
    except IncompleteRead:
        return b"?"  # it goes at this very moment
    return answer.body if answer.status == 200 else b""
