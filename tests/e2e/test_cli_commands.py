"""Each command of `easyq` once, as a user of a whole farm meets it."""

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.e2e.test_notifications import hook
from tests.support.farm import Rest, UpFarm, shell
from tests.support.hosts import EXAMPLE_IMAGE
from tests.support.waiting import wait_until


class Easyq:
    """`easyq …` against the farm, which must do what it was asked for."""

    def __init__(self, farm: UpFarm) -> None:
        self._farm = farm

    def done(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        return self._farm.cli(*arguments)

    def __call__(self, *arguments: str) -> str:
        done = self.done(*arguments)
        assert (done.returncode, done.stderr) == (0, b""), (arguments, done)
        return done.stdout.decode()

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--json"))


def test_a_job_from_submit_to_delete(farm: UpFarm, rest: Rest, task: str) -> None:
    easyq = Easyq(farm)
    script = "echo out; echo err >&2; exit 3"
    job = easyq("submit", "-t", task, "-l", f"of={task}", EXAMPLE_IMAGE, "--", "sh", "-c", script).strip()
    ended = easyq.done("wait", job)
    assert (ended.returncode, ended.stdout.decode()) == (3, f"{job}  FAILED\n")
    output = easyq.done("logs", job)
    assert (output.stdout, output.stderr) == (b"out\n", b"err\n")
    assert easyq("ps", "-q", "-t", task) == ""
    assert easyq("ps", "-aq", "-l", f"of={task}") == f"{job}\n"
    assert easyq.json("get", job) == rest.job(job)
    assert easyq.json("tasks", task) == rest.get(f"/tasks/{task}")
    [error] = easyq.json("errors", "-t", task)["items"]
    assert error["error"]["reason"] == "NONZERO_EXIT"
    assert easyq("errors", "retry", "-t", task, "-y") == "1 run again\n"
    assert easyq.done("wait", job).returncode == 3
    execution = easyq.json("get", job)["executions"][1]["executionId"]
    assert easyq.json("get", execution)["attempt"] == 2
    assert easyq("logs", job, "--attempt", "2", "--stdout") == "out\n"
    assert [hit["jobId"] for hit in easyq.json("search", job)["items"]] == [job]
    assert easyq("retry", job).startswith(f"{job} runs again: execution ")
    assert easyq.done("wait", job).returncode == 3
    assert easyq("errors", "discard", "-t", task, "-y") == "1 discarded\n"
    assert easyq.done("get", job).returncode == 4


def test_deliveries_and_statistics(farm: UpFarm, rest: Rest, task: str) -> None:
    easyq = Easyq(farm)
    with hook() as receiver:
        receiver.works = True
        spec = shell("exit 3", webhooks={"fails": [{"url": receiver.url}]})
        job = rest.enqueue(task, spec)["jobId"]
        wait_until(lambda: [one["state"] for one in told(easyq, job)] == ["DELIVERED"], 60)
        [first] = told(easyq, job)
        assert (first["responseCode"], first["outcome"]) == (200, "FAILED")
        assert easyq("resend", job, first["deliveryId"]) == f"{first['deliveryId']} is sent again to {receiver.url}\n"
        wait_until(lambda: len(receiver.calls) == 2, 60)
        assert {headers["EasyQ-Delivery"] for headers, _ in receiver.calls} == {first["deliveryId"]}
        wait_until(lambda: [one["state"] for one in told(easyq, job)] == ["DELIVERED"], 60)
        assert easyq("resend", job, "--failed") == "no delivery was given up\n"
    # Statistics are written once a second.
    wait_until(lambda: easyq.json("stats", task)["total"]["failed"] == 1, 60)
    assert easyq.json("stats", task)["exits"] == [{"state": "FAILED", "exitCode": 3, "count": 1}]
    assert [line.split()[:3] for line in easyq("stats", task).splitlines() if line.startswith("total")] == [
        ["total", "1", "1"]
    ]
    assert easyq.done("stats", "no-such-task").returncode == 4


def told(easyq: Easyq, job: str) -> list[Any]:
    found: list[Any] = easyq.json("deliveries", job)["items"]
    return found


def test_jobs_that_wait(farm: UpFarm, task: str) -> None:
    easyq = Easyq(farm)
    jobs = [easyq("submit", "-t", task, "--in", "1h", EXAMPLE_IMAGE, "--", "true").strip() for _ in range(3)]
    assert easyq("ps", "-q", "-t", task).split() == jobs[::-1]
    assert easyq.json("explain", jobs[0])["waiting"]["reason"] == "NOT_DUE"
    assert task in easyq("explain", "--task", task)
    assert "default" in easyq("explain", "--pool", "default")
    assert easyq("trigger", jobs[0]).startswith(f"{jobs[0]} triggered")
    assert easyq("wait", jobs[0]) == f"{jobs[0]}  SUCCEEDED\n"
    assert easyq("stop", jobs[1]) == f"{jobs[1]} stopped\n"
    assert easyq("stop", "-t", task, "-y") == "1 stopped, 0 are being stopped\n"
    assert easyq("rm", *jobs).splitlines() == [f"{job} deleted" for job in jobs]


def test_many_from_a_file(farm: UpFarm, rest: Rest, task: str, tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    item = {"taskId": task, "spec": {"image": EXAMPLE_IMAGE, "command": "true", "startIn": "1h"}}
    items = [{**item, "idempotencyKey": f"{task}-{index}"} for index in range(300)]
    path.write_text("".join(f"{json.dumps(one)}\n" for one in items), encoding="utf-8")
    done = farm.cli("submit", "-f", str(path))
    assert done.stderr == b"easyq: 300 accepted, 0 refused\n"
    assert rest.get(f"/tasks/{task}")["jobCount"] == 300
    assert farm.cli("submit", "-f", str(path)).stdout == done.stdout
    assert rest.get(f"/tasks/{task}")["jobCount"] == 300
    assert Easyq(farm)("stop", "-t", task, "-y") == "300 stopped, 0 are being stopped\n"


def test_jobs_that_recur(farm: UpFarm, task: str, tmp_path: Path) -> None:
    easyq = Easyq(farm)
    path = tmp_path / "jobs.yaml"
    one = f"- taskId: {task}\n  jobId: NAME-{task}\n  spec:\n    image: {EXAMPLE_IMAGE}\n"
    one += "    command: 'true'\n    cron: '@yearly'\n    timeout: 2h\n    envs: {PASSWORD: hunter2}\n"
    path.write_text(one.replace("NAME", "a") + one.replace("NAME", "b"), encoding="utf-8")
    apply = ("apply", "--set", task, "-f", str(path))
    assert [item["action"] for item in easyq.json(*apply)["items"]] == ["created", "created"]
    # What the server makes of a spec is what it shows of the job: nothing differs that nobody changed.
    assert [item["action"] for item in easyq.json(*apply, "--dry-run")["items"]] == ["unchanged", "unchanged"]
    assert [item["action"] for item in easyq.json(*apply)["items"]] == ["unchanged", "unchanged"]
    path.write_text(one.replace("NAME", "a").replace("2h", "3h").replace("hunter2", "hunter3"), encoding="utf-8")
    told = easyq.json(*apply, "--prune")["items"]
    assert [(item["jobId"], item["action"]) for item in told] == [(f"a-{task}", "changed"), (f"b-{task}", "stopped")]
    assert told[0]["changes"] == [{"field": "spec.timeout", "before": "7200s", "after": "10800s"}]
    assert "hunter" not in json.dumps(told)
    job = f"a-{task}"
    assert len(easyq.json("schedule", job, "-n", "3")["nextFires"]) == 3
    assert job in easyq("schedule", "-t", task)
    assert easyq("pause", job) == f"{job} paused\n"
    assert easyq("trigger", job).startswith(f"{job} triggered")
    assert easyq("resume", job).startswith(f"{job} resumed, next run ")
    path.write_text(f"set: {task}\njobs: []\n", encoding="utf-8")
    assert f"- {job} of {task} stopped" in easyq("apply", "-f", str(path), "--prune")


def test_the_farm(farm: UpFarm, rest: Rest) -> None:
    easyq = Easyq(farm)
    assert easyq.json("hosts", "ls")["items"][0]["agentId"] == rest.get("/agents")["items"][0]["agentId"]
    name = easyq.json("hosts")["items"][0]["agentId"]
    assert easyq("hosts", "cordon", name).startswith(f"{name} takes nothing new")
    assert easyq("agents", "uncordon", name) == f"{name} takes new work\n"
    assert [pool["name"] for pool in easyq.json("queues")["pools"]] == ["default"]
    assert easyq.json("version")["server"] == rest.get("/status")["version"]

    def well() -> bool:
        found = json.loads(easyq.done("doctor", "--json").stdout)
        bad = [one for one in found["checks"] if one["state"] == "fail" and one["name"] != "disk"]
        return not bad

    wait_until(well, 30)
