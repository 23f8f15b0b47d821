"""PUT, idempotency, batches, lists, search."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.farm import Rest, UpFarm, Witness, shell
from tests.support.waiting import wait_until


# PUT ---------------------------------------------------------------------------------------------------------------
def test_put_creates_then_changes_nothing_then_replaces(farm: UpFarm, rest: Rest, task: str) -> None:
    path = f"/tasks/{task}/jobs/{task}-mine"
    first = rest.call("PUT", path, shell("echo one", startIn="1h"))
    assert first.status == 200
    assert first.json()["created"] is True
    again = rest.call("PUT", path, shell("echo one", startIn="1h")).json()
    assert (again["created"], again["job"]["revision"]) == (False, 1)
    replaced = rest.call("PUT", path, shell("echo two")).json()["job"]
    assert replaced["revision"] == 2
    job = rest.wait_job(f"{task}-mine")
    assert rest.output(job["jobId"], "stdout") == b"two\n"
    assert job["executions"][-1]["specRevision"] == 2
    assert job["executionCount"] == 1


def test_put_runs_an_ended_job_again(farm: UpFarm, rest: Rest, task: str) -> None:
    path = f"/tasks/{task}/jobs/{task}-again"
    assert rest.call("PUT", path, shell("exit 1")).status == 200
    assert rest.wait_job(f"{task}-again")["state"] == "FAILED"
    rest.call("PUT", path, shell("exit 0"))
    job = wait_until(lambda: (j := rest.job(f"{task}-again"))["state"] == "SUCCEEDED" and j, 20)
    assert [execution["state"] for execution in job["executions"]] == ["FAILED", "SUCCEEDED"]


def test_put_with_a_revision(farm: UpFarm, rest: Rest, task: str) -> None:
    path = f"/tasks/{task}/jobs/{task}-rev"
    rest.call("PUT", path, shell("true", startIn="1h"))
    answer = rest.call("PUT", f"{path}?revision=7", shell("false", startIn="1h"))
    assert (answer.status, answer.error["reason"]) == (409, "REVISION_MISMATCH")
    assert rest.call("PUT", f"{path}?revision=1", shell("false", startIn="1h")).status == 200
    elsewhere = rest.call("PUT", f"/tasks/{task}-other/jobs/{task}-rev", shell("true"))
    assert (elsewhere.status, elsewhere.error["code"]) == (409, "FAILED_PRECONDITION")
    rest.stop(f"{task}-rev")


def test_put_keeps_a_redacted_secret(farm: UpFarm, rest: Rest, task: str) -> None:
    path = f"/tasks/{task}/jobs/{task}-secret"
    rest.call("PUT", path, shell('echo "$DB_PASSWORD"', envs={"DB_PASSWORD": "real"}, startIn="1h"))
    shown = rest.job(f"{task}-secret")["spec"]["envs"]["DB_PASSWORD"]
    assert shown == "[redacted]"
    rest.call("PUT", path, shell('echo "$DB_PASSWORD"', envs={"DB_PASSWORD": shown}))
    rest.wait_job(f"{task}-secret")
    assert rest.output(f"{task}-secret", "stdout") == b"real\n"


# Idempotency -------------------------------------------------------------------------------------------------------
def test_the_same_key_gives_the_same_job(farm: UpFarm, rest: Rest, task: str, witness: Witness) -> None:
    wish = shell(Witness.START, mounts=witness.mounts)

    def post(_: int) -> Any:
        return rest.post(f"/tasks/{task}", wish, headers={"Idempotency-Key": "once"})

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(post, range(24)))
    assert len({answer["jobId"] for answer in answers}) == 1
    assert sum(not answer["replayed"] for answer in answers) == 1
    job = rest.wait_job(answers[0]["jobId"])
    assert job["idempotencyKey"] == "once"
    assert witness.starts() == {job["executions"][0]["executionId"]: 1}
    other = rest.call("POST", f"/tasks/{task}", shell("other"), headers={"Idempotency-Key": "once"})
    assert (other.status, other.error["reason"]) == (409, "IDEMPOTENCY_CONFLICT")
    elsewhere = rest.post(f"/tasks/{task}-2", wish, headers={"Idempotency-Key": "once"})
    assert elsewhere["jobId"] != job["jobId"]


# Batches -----------------------------------------------------------------------------------------------------------
def test_a_batch_takes_what_is_good(farm: UpFarm, rest: Rest, task: str) -> None:
    jobs = [{"taskId": task, "spec": shell(f"exit {number}")} for number in range(6)]
    jobs[2]["spec"] = shell("true", retries=-1)
    jobs[4] = {"taskId": "not/a/name", "spec": shell("true")}
    results = rest.post("/batch", {"jobs": jobs})["results"]
    assert [result["index"] for result in results] == list(range(6))
    assert results[2]["error"]["fields"][0]["field"] == "jobs[2].spec.retries"
    assert results[4]["error"]["fields"][0]["field"] == "jobs[4].taskId"
    for number in (0, 1, 3, 5):
        job = rest.wait_job(results[number]["job"]["jobId"])
        assert job["executions"][0]["exitCode"] == number


@pytest.mark.slow
def test_a_batch_of_thousands(farm: UpFarm, rest: Rest, task: str) -> None:
    """They wait for their time, so that this machine need not run them; pages show each once."""
    count = 3000
    jobs = [{"taskId": task, "spec": shell("true", startIn="1h", labels={"n": str(n)})} for n in range(count)]
    results = rest.post("/batch", {"jobs": jobs})["results"]
    ids = [result["job"]["jobId"] for result in results]
    assert len(set(ids)) == count
    assert rest.get(f"/tasks/{task}")["jobCount"] == count
    seen: list[str] = []
    path = f"/tasks/{task}/jobs?pageSize=700&state=SCHEDULED"
    while path:
        page = rest.get(path)
        seen += [job["jobId"] for job in page["items"]]
        path = page["nextUrl"]
    assert len(seen) == count
    assert set(seen) == set(ids)


# Lists and search --------------------------------------------------------------------------------------------------
def test_lists_filter_and_page_newest_first(farm: UpFarm, rest: Rest, task: str) -> None:
    good = [rest.enqueue(task, shell("true", labels={"kind": "good"}))["jobId"] for _ in range(3)]
    bad = [rest.enqueue(task, shell("exit 1", labels={"kind": "bad"}))["jobId"] for _ in range(2)]
    jobs = rest.wait_all([*good, *bad])

    def ids(query: str) -> list[str]:
        return [item["jobId"] for item in rest.get(f"/jobs?taskId={task}{query}")["items"]]

    assert ids("") == [*good, *bad][::-1]
    assert ids("&state=FAILED") == bad[::-1]
    assert ids("&state=failed&state=SUCCEEDED") == [*good, *bad][::-1]
    assert ids("&label=kind=good") == good[::-1]
    assert ids(f"&createdAfter={jobs[3]['createdAt']}") == bad[::-1]
    assert ids(f"&createdBefore={jobs[3]['createdAt']}") == good[::-1]
    first = rest.get(f"/tasks/{task}/jobs?pageSize=2")
    second = rest.get(first["nextUrl"])
    assert [item["jobId"] for item in first["items"] + second["items"]] == [*good, *bad][::-1][:4]
    other = rest.call("GET", f"/tasks/{task}/jobs?state=FAILED&pageToken={first['nextPageToken']}")
    assert other.status == 400
    executions = rest.get(f"/executions?taskId={task}&reason=NONZERO_EXIT")["items"]
    assert {execution["jobId"] for execution in executions} == set(bad)
    counts = {count["state"]: count["count"] for count in rest.get(f"/tasks/{task}")["states"]}
    assert counts == {"SUCCEEDED": 3, "FAILED": 2}
    assert task in [item["taskId"] for item in rest.get("/tasks?pageSize=1000")["items"]]


def test_search_finds_tasks_jobs_and_executions(farm: UpFarm, rest: Rest, task: str) -> None:
    job = rest.run(task, shell("true"))
    execution = job["executions"][0]["executionId"]
    for query, kind in ((task, "task"), (task[:-2], "task"), (job["jobId"], "job"), (execution, "execution")):
        hits = rest.get(f"/search?query={query}")["items"]
        assert kind in {hit["kind"] for hit in hits}, (query, hits)
        for hit in hits:
            assert rest.call("GET", hit["url"]).status == 200
    assert rest.get("/search?query=nothing-is-called-so")["items"] == []


def test_a_job_of_another_task_is_not_found(farm: UpFarm, rest: Rest, task: str) -> None:
    job = rest.run(task, shell("true"))
    assert rest.call("GET", f"/tasks/{task}/jobs/{job['jobId']}").status == 200
    assert rest.call("GET", f"/tasks/{task}-x/jobs/{job['jobId']}").status == 404


def test_retry_runs_an_ended_job_once_more(farm: UpFarm, rest: Rest, task: str) -> None:
    job = rest.run(task, shell("echo $EASYQ_FENCE; exit 1"))
    answer = rest.post(f"/jobs/{job['jobId']}/retry")
    done = wait_until(lambda: (j := rest.job(job["jobId"]))["executionCount"] == 2 and j["state"] == "FAILED" and j, 20)
    assert done["executions"][1]["executionId"] == answer["executionId"]
    assert done["executions"][1]["trigger"] == "MANUAL"
    running = rest.enqueue(task, shell("sleep 60", stopGrace="0s"))["jobId"]
    refused = rest.call("POST", f"/jobs/{running}/retry")
    assert (refused.status, refused.error["code"]) == (409, "FAILED_PRECONDITION")
    rest.stop(running)
