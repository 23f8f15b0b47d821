"""Retries with their counters, the queue of jobs that gave up, defaults by task from a file that is watched."""

import pytest

from tests.e2e.fires import ms
from tests.e2e.rules import RulesText
from tests.support.farm import Rest, SplitFarm, UpFarm, Witness, shell
from tests.support.hosts import DockerHost
from tests.support.waiting import wait_until


# ------------------------------------------------------------------------------------------------------------- retries
def test_the_back_off_is_decided_once_and_shown(farm: UpFarm, rest: Rest, task: str) -> None:
    spec = shell("exit 9", retries=3, backoff={"min": "1h", "max": "2h", "jitter": 1})
    job_id = rest.enqueue(task, spec)["jobId"]
    job = wait_until(lambda: (one := rest.job(job_id))["state"] == "RETRYING" and one, 20)
    first, second = job["executions"]
    assert 0 <= ms(job["nextRunAt"]) - ms(first["finishedAt"]) <= 3_601_000
    assert job["nextRunAt"] == second["dueAt"] == job["waiting"]["nextLookAt"]
    assert (first["retriesUsed"], second["retriesUsed"], job["error"]["reason"]) == (0, 1, "NONZERO_EXIT")
    assert rest.job(job_id)["nextRunAt"] == job["nextRunAt"]
    told = rest.get(f"/jobs/{job_id}/explain")
    assert (told["waiting"]["reason"], told["executions"][0]["waiting"]["reason"]) == ("BACKOFF", "BACKOFF")
    assert rest.stop(job_id)["outcome"] == "STOPPED"


def test_no_retry_begins_after_the_elapsed_time(farm: UpFarm, rest: Rest, task: str) -> None:
    backoff = {"min": "1s", "jitter": 0}
    late = rest.run(task, shell("exit 1", retries=1, backoff={**backoff, "maxElapsed": "900ms"}))
    assert (late["state"], late["executionCount"]) == ("FAILED", 1)
    in_time = rest.run(task, shell("exit 1", retries=1, backoff={**backoff, "maxElapsed": "1h"}))
    assert (in_time["state"], in_time["executionCount"]) == ("FAILED", 2)


def test_memory_that_ran_out_is_a_failure_and_may_be_worth_a_retry(farm: UpFarm, rest: Rest, task: str) -> None:
    """hashicorp/nomad#2203: out-of-memory kill shown as success."""
    eat = "head -c 60000000 /dev/zero | tail"
    more = {"retries": 1, "retryOn": ["oom"], "backoff": {"min": "10ms"}}
    job = rest.run(task, shell(eat, resources={"memory": "16m"}, **more))
    assert (job["state"], job["executionCount"]) == ("FAILED", 2)
    assert {one["error"]["reason"] for one in job["executions"]} == {"OOM_KILLED"}


def test_a_removed_container_uses_up_no_retry_of_the_users(
    farm: UpFarm, rest: Rest, task: str, witness: Witness, hosts: list[DockerHost]
) -> None:
    """What the infrastructure breaks has a counter of its own."""
    script = f"{Witness.START}; until [ -e /witness/go ]; do sleep 0.05; done; exit 1"
    more = {"retries": 1, "infraRetries": 2, "backoff": {"min": "10ms"}}
    job_id = rest.enqueue(task, shell(script, mounts=witness.mounts, **more))["jobId"]
    wait_until(witness.starts, 20)
    for host in hosts:
        for container in host.containers(label=f"easyq.task={task}"):
            container.remove(force=True)
    wait_until(lambda: len(witness.starts()) == 2, 40)
    (witness.folder / "go").touch()
    job = rest.wait_job(job_id)
    assert [(one["state"], one["trigger"]) for one in job["executions"]] == [
        ("LOST", "ENQUEUE"),
        ("FAILED", "INFRA_RETRY"),
        ("FAILED", "RETRY"),
    ]
    assert [(one["retriesUsed"], one["infraRetriesUsed"]) for one in job["executions"]] == [(0, 0), (0, 1), (1, 1)]
    assert [one["fence"] for one in job["executions"]] == [1, 2, 3]


# --------------------------------------------------------------------------------------------------------- error queue
def test_jobs_that_gave_up_are_listed_retried_and_discarded(either: UpFarm | SplitFarm, task: str) -> None:
    rest = either.rest
    labels = {"labels": {"who": task}}
    codes = [rest.enqueue(task, shell("exit 7", **labels))["jobId"] for _ in range(3)]
    slow = rest.enqueue(task, shell("sleep 9", timeout="1s", stopGrace="0s", **labels))["jobId"]
    fine = rest.enqueue(task, shell("true", **labels))["jobId"]
    rest.wait_all([*codes, slow, fine])
    listed = rest.get(f"/errors?taskId={task}")["items"]
    assert {job["jobId"] for job in listed} == {*codes, slow}
    assert {job["error"]["reason"] for job in listed} == {"NONZERO_EXIT", "TIMEOUT"}
    assert all(job["executions"] == [] for job in listed)
    assert [job["jobId"] for job in rest.get(f"/errors?taskId={task}&reason=TIMEOUT")["items"]] == [slow]
    assert len(rest.get(f"/errors?label=who={task}")["items"]) == 4
    page = rest.get(f"/errors?taskId={task}&pageSize=3")
    assert (len(page["items"]), len(rest.get(page["nextUrl"])["items"])) == (3, 1)
    # Told first, done then: all that failed with a code, not the one that took too long.
    selection = {"taskId": task, "reason": ["NONZERO_EXIT"]}
    told = rest.post("/errors/retry", {"selection": selection, "dryRun": True})
    assert (int(told["matched"]), int(told["retried"])) == (3, 0)
    assert {rest.job(one)["executionCount"] for one in codes} == {1}
    assert int(rest.post("/errors/retry", {"selection": selection})["retried"]) == 3
    wait_until(lambda: all(rest.job(one)["executionCount"] == 2 for one in codes), 20)
    again = rest.wait_all(codes)
    assert {job["executions"][-1]["trigger"] for job in again} == {"MANUAL"}
    assert int(rest.post("/errors/discard", {"selection": {"taskId": task, "reason": ["TIMEOUT"]}})["discarded"]) == 1
    assert rest.call("GET", f"/jobs/{slow}").status == 404
    assert {job["jobId"] for job in rest.get(f"/errors?taskId={task}")["items"]} == set(codes)
    assert int(rest.post("/errors/discard", {"selection": {"taskPattern": f"{task}.*"}})["discarded"]) == 3
    assert rest.get(f"/errors?taskId={task}")["items"] == []
    assert rest.job(fine)["state"] == "SUCCEEDED"


def test_a_call_for_many_needs_a_selection(farm: UpFarm, rest: Rest) -> None:
    for path in ("/errors/retry", "/errors/discard", "/jobs/stop"):
        answer = rest.call("POST", path, {})
        assert (answer.status, set(answer.fields)) == (400, {"selection"})
        answer = rest.call("POST", path, {"selection": {"taskPattern": "(", "state": ["SOMEHOW"]}})
        assert answer.status == 400
        assert {name.partition("[")[0] for name in answer.fields} <= {"selection.taskPattern", "selection.state"}
    # To stop all there is takes more than to say nothing.
    answer = rest.call("POST", "/jobs/stop", {"selection": {}})
    assert (answer.status, set(answer.fields)) == (400, {"selection"})


# --------------------------------------------------------------------------------------------------- defaults by task
DEFAULTS = """
[[default]]
pattern = "TASK-.*"
retries = RETRIES
backoffMin = "10ms"
timeout = "20s"
retryOn = ["75"]

[[limit]]
pattern = "TASK-never"
max_running = 7
"""


def test_defaults_by_task_change_without_a_restart(split_farm: SplitFarm, rules: RulesText, task: str) -> None:
    rest = split_farm.rest
    rules.write(DEFAULTS.replace("TASK", task).replace("RETRIES", "1"))
    job = rest.run(f"{task}-a", shell("exit 75"))
    assert (job["executionCount"], job["spec"]["retries"], job["spec"]["timeout"]) == (2, 1, "20s")
    assert rest.run(f"{task}-a", shell("exit 75", retries=0))["executionCount"] == 1
    assert rest.run(f"{task}-a", shell("exit 1"))["executionCount"] == 1
    assert rest.run(task, shell("exit 75"))["executionCount"] == 1
    rules.write(DEFAULTS.replace("TASK", task).replace("RETRIES", "2"), watched=True)
    assert rest.run(f"{task}-a", shell("exit 75"))["executionCount"] == 3
    # What was accepted keeps what it was accepted with.
    assert rest.job(job["jobId"])["spec"]["retries"] == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[[default]]\npattern = "("\n', "line 2: default[0].pattern '(' is no regex"),
        ('[[default]]\npattern = ".*"\nretries = -1\n', "line 3: default[0].retries"),
        ('[[limit]]\npattern = ".*"\n', "line 1: limit[0] has no max_running"),
        ('[[retention]]\npattern = ".*"\nfailed = "soon"\n', "line 3: retention[0].failed is not a duration"),
        ('[[limit]]\npattern = "a"\nmax_running = 1\n[[lmit]]\n', "'lmit' is none of the tables"),
        ("this is no TOML", "rules"),
    ],
)
def test_a_wrong_file_of_rules_is_refused_and_told(rules: RulesText, task: str, text: str, words: str) -> None:
    """Whatever table is wrong, every service refuses the file, keeps its rules, and all say the same of it."""
    rest = rules.farm.rest
    rules.write(DEFAULTS.replace("TASK", task).replace("RETRIES", "4"))
    rules.put(text)
    wait_until(lambda: min(rules.refused()) > 0, 20)
    [problem] = wait_until(rules.problems, 20)
    assert words in problem["message"]
    assert rest.enqueue(f"{task}-a", shell("true"), validateOnly="true")["spec"]["retries"] == 4
    assert f"{task}-never" in {limit["pattern"] for limit in rest.get("/limits")["items"]}
    rules.write("")
    wait_until(lambda: not rules.problems(), 20)
    assert rest.enqueue(f"{task}-a", shell("true"), validateOnly="true")["spec"]["retries"] == 0
