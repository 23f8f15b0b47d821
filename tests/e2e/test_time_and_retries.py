"""Start times, retries with back-off, timeouts, expiry."""

import datetime
import time
from typing import Any

import pytest

from tests.support.farm import Rest, UpFarm, Witness, shell
from tests.support.waiting import PATIENCE, wait_until

# Seconds by which a busy machine may be late.
LATE = 5 * PATIENCE


def at(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)


def check_waits(job: Any) -> None:
    """It waits for its time, unless that has come already: a busy machine may look late."""
    due = job["executions"][0]["dueAt"]
    if datetime.datetime.now(datetime.UTC) < at(due):
        assert (job["state"], job["waiting"]["reason"], job["nextRunAt"]) == ("SCHEDULED", "NOT_DUE", due)


@pytest.mark.parametrize("start_in", ["1.5s", 1.5, "2s"])
def test_start_in(farm: UpFarm, rest: Rest, task: str, start_in: object) -> None:
    answer = rest.enqueue(task, shell("true", startIn=start_in))
    job = rest.job(answer["jobId"])
    due = at(job["executions"][0]["dueAt"])
    check_waits(job)
    done = rest.wait_job(answer["jobId"])
    [execution] = done["executions"]
    started = at(execution["startedAt"])
    seconds = float(str(start_in).rstrip("s"))
    assert abs((due - at(job["createdAt"])).total_seconds() - seconds) < 0.1
    assert datetime.timedelta(0) <= started - due < datetime.timedelta(seconds=LATE)


def test_start_at_in_the_future_and_in_the_past(farm: UpFarm, rest: Rest, task: str) -> None:
    now = datetime.datetime.now(datetime.UTC)
    later = rest.enqueue(task, shell("true", startAt=(now + datetime.timedelta(seconds=2)).isoformat()))
    unix = rest.enqueue(task, shell("true", startAt=int(time.time()) + 2))
    past = rest.enqueue(task, shell("true", startAt=(now - datetime.timedelta(days=30)).isoformat()))
    for answer in (later, unix):
        check_waits(rest.job(answer["jobId"]))
    assert rest.wait_job(past["jobId"])["state"] == "SUCCEEDED"
    for answer in (later, unix):
        job = rest.wait_job(answer["jobId"])
        assert job["state"] == "SUCCEEDED"
        assert at(job["executions"][0]["startedAt"]) >= at(job["executions"][0]["dueAt"])


def test_retries_with_back_off(farm: UpFarm, rest: Rest, task: str) -> None:
    backoff = {"min": "1s", "factor": 2, "jitter": 0, "max": "10s"}
    answer = rest.enqueue(task, shell("exit 3", retries=2, backoff=backoff))
    waiting = wait_until(lambda: (job := rest.job(answer["jobId"]))["state"] == "RETRYING" and job, 20)
    assert waiting["waiting"]["reason"] == "BACKOFF"
    assert waiting["nextRunAt"]
    job = rest.wait_job(answer["jobId"])
    executions = job["executions"]
    assert (job["state"], job["executionCount"]) == ("FAILED", 3)
    assert [execution["attempt"] for execution in executions] == [1, 2, 3]
    assert [execution["trigger"] for execution in executions] == ["ENQUEUE", "RETRY", "RETRY"]
    assert {execution["exitCode"] for execution in executions} == {3}
    for wait, before, after in zip([1, 2], executions, executions[1:], strict=False):
        gap = (at(after["startedAt"]) - at(before["finishedAt"])).total_seconds()
        assert wait - 0.1 <= gap < wait + LATE


def test_a_retry_that_succeeds_ends_the_job(farm: UpFarm, rest: Rest, task: str, witness: Witness) -> None:
    script = f'{Witness.START}; [ "$(wc -l < /witness/trace)" -ge 3 ]'
    job = rest.run(task, shell(script, retries=10, backoff={"min": "0s"}, mounts=witness.mounts))
    assert (job["state"], job["executionCount"]) == ("SUCCEEDED", 3)
    assert witness.starts() == {execution["executionId"]: 1 for execution in job["executions"]}


def test_only_what_is_worth_a_retry_gets_one(farm: UpFarm, rest: Rest, task: str) -> None:
    common = {"retries": 3, "backoff": {"min": "0s", "jitter": 0}, "retryOn": ["75", "100-110"]}
    assert rest.run(task, shell("exit 1", **common))["executionCount"] == 1
    assert rest.run(task, shell("exit 105", **common))["executionCount"] == 4


def test_a_timeout_ends_the_container_and_keeps_its_output(farm: UpFarm, rest: Rest, task: str) -> None:
    script = "trap 'echo term; exit 0' TERM; echo begin; while :; do sleep 0.1; done"
    job = rest.run(task, shell(script, timeout="1s"))
    [execution] = job["executions"]
    assert (job["state"], execution["state"]) == ("TIMED_OUT", "TIMED_OUT")
    assert execution["error"]["reason"] == "TIMEOUT"
    assert rest.output(job["jobId"], "stdout") == b"begin\nterm\n"
    assert execution["logsComplete"]


def test_after_the_grace_it_is_killed(farm: UpFarm, rest: Rest, task: str) -> None:
    script = "trap 'echo deaf' TERM; echo begin; while :; do sleep 0.1; done"
    job = rest.run(task, shell(script, timeout="1s", stopGrace="1s"))
    [execution] = job["executions"]
    assert job["state"] == "TIMED_OUT"
    ran = (at(execution["finishedAt"]) - at(execution["startedAt"])).total_seconds()
    assert 1.9 <= ran < 2 + LATE
    assert rest.output(job["jobId"], "stdout") == b"begin\ndeaf\n"


def test_a_timeout_can_be_retried(farm: UpFarm, rest: Rest, task: str) -> None:
    wish = shell("sleep 30", timeout="1s", stopGrace="0s", retries=1, retryOn=["timeout"], backoff={"min": "0s"})
    job = rest.run(task, wish)
    assert (job["state"], job["executionCount"]) == ("TIMED_OUT", 2)


def test_what_did_not_start_in_time_expires(farm: UpFarm, rest: Rest) -> None:
    """Tasks `limited-…` run two at once: a third one waits until it is too late for it."""
    task = f"limited-{time.time_ns()}"
    holders = [rest.enqueue(task, shell("sleep 60", stopGrace="0s"))["jobId"] for _ in range(2)]
    try:
        wait_until(lambda: all(rest.job(job)["state"] == "RUNNING" for job in holders), 20)
        by_deadline = rest.enqueue(task, shell("true", startDeadline="1s"))["jobId"]
        soon = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=1)).isoformat()
        by_time = rest.enqueue(task, shell("true", expiration=soon))["jobId"]
        for job_id in (by_deadline, by_time):
            job = rest.wait_job(job_id, 15)
            [execution] = job["executions"]
            assert (job["state"], execution["state"]) == ("EXPIRED", "EXPIRED")
            assert execution["error"]["reason"] == "START_DEADLINE"
            assert execution["startedAt"] is None
    finally:
        for job_id in holders:
            rest.stop(job_id)
    assert all(job["state"] == "STOPPED" for job in rest.wait_all(holders))
