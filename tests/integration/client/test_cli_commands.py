"""The commands of `easyq` against a gateway on a socket: what they ask for, what they show, how they end."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from click.testing import CliRunner
from google.protobuf.duration_pb2 import Duration

from easyq.cli.group import root
from easyq.spec import job_spec
from easyq.v1 import farm_service_pb2 as farm_api
from easyq.v1 import job_service_pb2 as api
from easyq.v1.farm_service_pb2 import Agent, Breaker, LimitStatus, PoolStatus
from easyq.v1.job_pb2 import Execution, Failure, Job, Waiting
from easyq.v1.notification_service_pb2 import Delivery
from easyq.v1.task_service_pb2 import TaskQueue
from easyq_supervisor.adapters.folder import DataFolder, Running
from tests.fakes.public_api import abort, status
from tests.fakes.public_farm import FakeFarm, fake_farm
from tests.support.signals import hears_signals
from tests.support.waiting import wait_until

EASYQ = Path(sys.executable).parent / "easyq"


class Easyq:
    """`easyq …` in this process: exit code, stdout, stderr."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd

    def __call__(self, *arguments: str, data: str | bytes | None = None) -> tuple[int, str, str]:
        self._capfd.readouterr()
        outcome = CliRunner().invoke(root, list(arguments), prog_name="easyq", input=data)
        captured = self._capfd.readouterr()
        assert outcome.exception is None or isinstance(outcome.exception, SystemExit), outcome.exception
        return outcome.exit_code, outcome.stdout + captured.out, outcome.stderr + captured.err

    def out(self, *arguments: str) -> str:
        code, out, err = self(*arguments)
        assert (code, err) == (0, ""), (arguments, code, err)
        return out


@pytest.fixture
def farm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeFarm]:
    with fake_farm() as made:
        monkeypatch.setenv("EASYQ_SERVER", made.address)
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
        monkeypatch.delenv("COLUMNS", raising=False)
        yield made


@pytest.fixture
def easyq(farm: FakeFarm, capfd: pytest.CaptureFixture[str]) -> Easyq:
    return Easyq(capfd)


# ------------------------------------------------------------------------------------------------------------- looking


def test_ps_shows_what_goes_on_and_all_of_it_when_asked(farm: FakeFarm, easyq: Easyq) -> None:
    assert easyq.out("ps") == "no job waits, runs or recurs; `easyq ps -a` shows those that have ended\n"
    assert easyq.out("ps", "-a") == "no job yet; `easyq run IMAGE` makes one\n"
    farm.put("done", task="a", state="SUCCEEDED")
    farm.put("runs", task="b", state="RUNNING", spec=job_spec("i", labels={"k": "v"}))
    assert easyq.out("ps", "-q") == "runs\n"
    assert easyq.out("jobs", "-q", "-a") == "runs\ndone\n"
    assert easyq.out("ps", "-q", "-a", "-t", "a") == "done\n"
    assert easyq.out("ps", "-q", "--state", "succeeded") == "done\n"
    assert easyq.out("ps", "-q", "-a", "-l", "k=v") == "runs\n"
    assert easyq.out("ps", "-a", "-l", "k=w") == "no job matches\n"
    titles = ["JOB", "TASK", "STATE", "AGE", "NEXT", "IMAGE", "COMMAND", "REMARK"]
    assert easyq.out("ps").splitlines()[0].split() == titles
    assert "k=v" in easyq.out("ps", "-o", "wide")


def test_ps_in_pages(farm: FakeFarm, easyq: Easyq) -> None:
    for index in range(1005):
        farm.put(f"j{index}", state="QUEUED")
    assert easyq.out("ps", "-n", "2").splitlines()[-1] == "(the newest 2; -n 0 shows all)"
    assert len(easyq.out("ps", "-q", "-n", "0").splitlines()) == 1005
    assert len(easyq.out("ps", "-q").splitlines()) == 50


def test_documents_for_programs(farm: FakeFarm, easyq: Easyq) -> None:
    farm.put("j", task="t", state="FAILED").message.error.CopyFrom(Failure(reason=Failure.OOM_KILLED, message="\x1b["))
    for arguments in (["ps", "-a"], ["errors"], ["search", "j"]):
        found = json.loads(easyq.out(*arguments, "--json"))
        assert [item["jobId"] for item in found["items"]] == ["j"]
        assert yaml.safe_load(easyq.out(*arguments, "-o", "yaml")) == found
    assert json.loads(easyq.out("get", "j", "--json"))["error"] == {"reason": "OOM_KILLED", "message": "\x1b["}
    assert "\x1b" not in easyq.out("get", "j", "--json") + easyq.out("get", "j") + easyq.out("get", "j", "-o", "yaml")
    assert json.loads(easyq.out("tasks", "t", "--json"))["states"] == [{"state": "FAILED", "count": 1}]


def test_get_explain_schedule(farm: FakeFarm, easyq: Easyq) -> None:
    job = farm.put("j", state="QUEUED")
    job.wait_for("No agent is connected: start one")
    assert "No agent is connected" in easyq.out("get", "j")
    assert "No agent is connected" in easyq.out("explain", "j")
    execution = job.attempts[0].execution.execution_id
    assert json.loads(easyq.out("get", execution, "--json"))["jobId"] == "j"
    assert easyq.out("explain", "--task", "t").splitlines()[0].split() == ["Task", "t"]
    assert json.loads(easyq.out("schedule", "j", "-n", "3", "--json"))["cron"] == "@daily"
    assert farm.asked[-1].next == 3
    assert "no job recurs" in easyq.out("schedule")
    farm.put("r", state="PAUSED", spec=job_spec("i", cron="@hourly"))
    assert "@hourly" in easyq.out("schedule")
    assert easyq("get", "nobody")[0] == 4
    assert easyq("get", "00000000-0000-0000-0000-000000000000") == (4, "", "easyq: no such execution\n")
    assert easyq("explain", "--pool", "none")[0] == 4


def test_stats(farm: FakeFarm, easyq: Easyq) -> None:
    farm.put("j", task="t")
    counted = farm.counted
    counted.from_time.FromJsonString("2026-11-26T10:00:00Z")
    counted.to_time.FromJsonString("2026-11-26T11:00:00Z")
    counted.step.FromSeconds(60)
    for minute in range(60):
        counted.points.add().at.FromJsonString(f"2026-11-26T10:{minute:02}:00Z")
    shown = "2026-11-26T10:00:00Z to 2026-11-26T11:00:00Z, by 1m"
    assert easyq.out("stats") == f"nothing happened: {shown}\n"
    for point in (counted.points[7], counted.total):
        point.jobs, point.executions, point.succeeded, point.failed = 1200, 1201, 3, 4
        point.run_time.p50.FromMilliseconds(350)
        point.run_time.p95.FromSeconds(130)
    counted.exits.add(state=Execution.FAILED, exit_code=75, count=4)
    counted.exits.add(state=Execution.LOST, count=1)
    counted.reasons.add(reason=Failure.OOM_KILLED, count=2)
    assert [" ".join(line.split()) for line in easyq.out("stats", "t").splitlines()] == [
        shown,
        "FROM JOBS RUNS OK FAILED TIMED OUT STOPPED LOST EXPIRED RUN P50 RUN P95 WAIT P50 WAIT P95",
        "10:07 1,200 1,201 3 4 - - - - 350ms 2m10s - -",
        "total 1,200 1,201 3 4 - - - - 350ms 2m10s - -",
        "",
        "ENDED EXIT CODE TIMES",
        "FAILED 75 4",
        "LOST - 1",
        "",
        "FAILED BY TIMES",
        "OOM_KILLED 2",
    ]
    assert farm.asked[-1].task_id == "t"
    assert len(easyq.out("stats", "--all").splitlines()) == 2 + 60 + 1 + 7
    found = json.loads(
        easyq.out("stats", "t", "--since", "2026-11-26T10:00:00Z", "--until", "1m", "--step", "5m", "--json")
    )
    assert (found["taskId"], found["from"], found["total"]["runTime"]["p95"]) == (
        "t",
        "2026-11-26T10:00:00.000Z",
        "130s",
    )
    assert (farm.asked[-1].from_time.ToJsonString(), farm.asked[-1].step.seconds) == ("2026-11-26T10:00:00Z", 300)
    assert yaml.safe_load(easyq.out("stats", "t", "-o", "yaml")) == found
    assert easyq("stats", "nobody")[0] == 4
    code, out, err = easyq("stats", "--since", "yesterday")
    assert (code, out) == (2, "")
    assert "neither how long ago" in err
    # Of two days the date is shown as well.
    counted.from_time.FromJsonString("2026-11-25T10:00:00Z")
    assert "2026-11-26 10:07" in easyq.out("stats")


def test_deliveries_and_resend(farm: FakeFarm, easyq: Easyq) -> None:
    farm.put("j")
    assert "nobody was told" in easyq.out("deliveries", "j")
    farm.told = [
        Delivery(
            job_id="j", delivery_id="d2", state=Delivery.FAILED, outcome=Job.FAILED, attempts=9, response_code=503
        ),
        Delivery(job_id="j", delivery_id="d1", state=Delivery.DELIVERED, outcome=Job.SUCCEEDED, attempts=1),
        Delivery(job_id="other", delivery_id="d0"),
    ]
    farm.told[0].response_code = 503
    farm.told[0].target, farm.told[0].error = "https://example.com/\x1b[", "it said 503"
    lines = easyq.out("deliveries", "j").splitlines()
    assert [" ".join(line.split()) for line in lines] == [
        "DELIVERY STATE OUTCOME TRIES CODE NEXT TARGET ERROR",
        "d2 FAILED FAILED 9 503 - https://example.com/\\x1b[ it said 503",
        "d1 DELIVERED SUCCEEDED 1 - -",
    ]
    assert "EXECUTION" in easyq.out("deliveries", "j", "-o", "wide")
    found = json.loads(easyq.out("deliveries", "j", "--json"))
    assert [(item["deliveryId"], item["responseCode"]) for item in found["items"]] == [("d2", 503), ("d1", None)]
    assert yaml.safe_load(easyq.out("deliveries", "j", "-o", "yaml")) == found
    assert easyq("deliveries", "nobody")[0] == 4

    assert easyq.out("resend", "j", "d1") == "d1 is sent again to \n"
    assert farm.told[1].state == Delivery.PENDING
    assert easyq.out("resend", "j", "--failed").startswith("d2 is sent again to https://example.com/")
    assert easyq.out("resend", "j", "--failed") == "no delivery was given up\n"
    assert easyq("resend", "j", "d0", "d1") == (4, "d1 is sent again to \n", "easyq: d0: there is no such delivery\n")
    assert easyq("resend", "j")[0] == easyq("resend", "j", "d1", "--failed")[0] == 2


def test_queues_and_hosts(farm: FakeFarm, easyq: Easyq) -> None:
    assert "no pool is known" in easyq.out("queues")
    farm.pools.append(PoolStatus(name="default", ready=3, slots=4, agents=2, healthy_agents=1))
    farm.limits.append(LimitStatus(pattern="a.*", max_running=2, running=2))
    farm.shut.append(Breaker(kind=Breaker.IMAGE, subject="i:1", state=Breaker.Phase.OPEN, failures=3, cause="gone"))
    farm.pool_waits["default"] = Waiting(message="All slots are taken")
    text = easyq.out("queues")
    assert all(word in text for word in ("All slots are taken", "a.*", "i:1", "OPEN", "gone", "1/2"))
    tree = json.loads(easyq.out("queues", "--json"))
    assert (list(tree), tree["pools"][0]["waiting"]["message"]) == (
        ["pools", "tasks", "limits", "breakers", "unknown"],
        "All slots are taken",
    )
    assert "All slots are taken" in easyq.out("explain", "--pool", "default")
    farm.queues += [TaskQueue(task_id=f"task-{n}", queued=1000 + n, running=n, pool="default") for n in range(3)]
    farm.queues[0].waiting.message = "It is in line"
    text = easyq.out("queues")
    assert all(word in text for word in ("TASK ", "task-0", "1,002", "It is in line"))
    assert [one["queued"] for one in json.loads(easyq.out("queues", "--json"))["tasks"]] == [1000, 1001, 1002]
    text = easyq.out("queues", "-n", "1")
    assert ("task-1" in text, "(the first 1 by name; -n 0 shows all)" in text) == (False, True)
    assert "task-2" in easyq.out("queues", "-n", "0")
    assert "no host has connected yet" in easyq.out("hosts")


def test_queues_claim_nothing_that_nobody_knows(farm: FakeFarm, easyq: Easyq) -> None:
    farm.pools.append(PoolStatus(name="default", slots=4, agents=1, healthy_agents=1))
    farm.limits.append(LimitStatus(pattern="a.*", max_running=7))
    why = "Redis can't be asked (Timeout)"
    for field in ("jobs", "pools.ready", "pools.running", "limits.running"):
        farm.health.unknown.add(field=field, why=why)
    first, _, pool, _, _, limit = easyq.out("queues").splitlines()
    assert first == f"What can't be told now: pools.ready, pools.running, limits.running ({why})."
    assert (pool.split()[2:4], limit.split()) == (["?", "?"], ["a.*", "?", "7"])
    unknown = json.loads(easyq.out("queues", "--json"))["unknown"]
    assert [one["field"] for one in unknown] == ["pools.ready", "pools.running", "limits.running"]


def once_watched(farm: FakeFarm, act: Callable[[], None]) -> None:
    """Acts when somebody has got an answer of how a job is, and asks again."""

    def wait_and_act() -> None:
        wait_until(lambda: len(farm.looks) > 1, 20)
        act()

    threading.Thread(target=wait_and_act, daemon=True).start()


def test_watching_a_job_ends_with_it(farm: FakeFarm, easyq: Easyq) -> None:
    job = farm.put("j", state="RUNNING")
    once_watched(farm, job.end)
    lines = easyq.out("get", "j", "--json", "-w", "--every", "0.1").splitlines()
    assert [json.loads(line)["state"] for line in (lines[0], lines[-1])] == ["RUNNING", "SUCCEEDED"]
    assert len(lines) == len(set(lines))


def test_a_watch_outlives_an_outage(farm: FakeFarm, easyq: Easyq) -> None:
    job = farm.put("j", state="RUNNING")

    def break_and_end() -> None:
        for _ in range(4):
            farm.failures.append(status(grpc.StatusCode.UNAVAILABLE, "away", reason="UNAVAILABLE"))
        wait_until(lambda: not farm.failures, 20)
        job.end()

    once_watched(farm, break_and_end)
    code, out, err = easyq("get", "j", "--json", "-w", "--every", "0.1")
    assert (code, err) == (0, "easyq: away; trying again\n")
    assert json.loads(out.splitlines()[-1])["state"] == "SUCCEEDED"


# ---------------------------------------------------------------------------------------------------------------- logs


def test_logs(farm: FakeFarm, easyq: Easyq) -> None:
    job = farm.put("j")
    job.write(stdout=b"1\n2\n\x1b[31m3\n", stderr=b"e1\ne2")
    job.end("FAILED", 1, retrying=True)
    job.attempt()
    job.write(stdout=b"again\n")
    job.end()
    assert easyq("logs", "j") == (0, "1\n2\n\x1b[31m3\nagain\n", "e1\ne2")
    assert easyq("logs", "j", "-f", "--stdout") == (0, "1\n2\n\x1b[31m3\nagain\n", "")
    assert easyq("logs", "j", "--attempt", "1", "--stderr") == (0, "", "e1\ne2")
    stamped = "1970-01-01T00:00:00.000Z e1\n1970-01-01T00:00:00.000Z e2"
    assert easyq("logs", "j", "--attempt", "1", "-t", "--stderr") == (0, "", stamped)
    assert easyq("logs", job.attempts[1].execution.execution_id) == (0, "again\n", "")
    assert easyq("logs", "j", "--attempt", "9")[::2] == (4, "easyq: j has no attempt 9; it has had 2\n")
    assert easyq("logs", "j", "--stdout", "--stderr")[0] == 2
    assert easyq("logs", "j", "--since", "yesterday")[0] == 2


def test_a_part_of_the_output_is_asked_for(farm: FakeFarm, easyq: Easyq) -> None:
    farm.put("j").end()
    easyq.out("logs", "j", "--tail", "7", "--since", "10m", "-t")
    easyq.out("logs", "j", "-n", "0", "--since", "2030-01-31T08:00:00+01:00")
    easyq.out("logs", "j")
    ago, since, whole = farm.log_requests
    assert (ago.tail, ago.since_ago.seconds, ago.timestamps, ago.stored_only) == (7, 600, True, True)
    assert (since.HasField("tail"), since.tail, since.since.ToJsonString()) == (True, 0, "2030-01-31T07:00:00Z")
    assert [whole.HasField(name) for name in ("tail", "since", "since_ago")] == [False, False, False]


# ------------------------------------------------------------------------------------------------------------ steering


def test_many_jobs_at_once_and_one_that_fails(farm: FakeFarm, easyq: Easyq) -> None:
    for name in ("a", "b"):
        farm.put(name, state="ACTIVE")
    assert easyq("pause", "a", "nobody", "b") == (4, "a paused\nb paused\n", "easyq: nobody: no job nobody\n")
    assert easyq.out("resume", "a").startswith("a resumed, next run ")
    assert easyq.out("trigger", "a") == "a triggered: execution e\n"
    assert easyq.out("retry", "a") == "a runs again: execution e\n"
    assert easyq.out("stop", "a", "b") == "a is being stopped\nb is being stopped\n"
    assert easyq.out("rm", "a") == "a deleted\n"
    assert easyq.out("delete", "-f", "a") == "a is deleted once it has stopped\n"


def test_stop_by_what_jobs_have_in_common_asks_first(farm: FakeFarm, easyq: Easyq) -> None:
    farm.put("a", task="x")
    farm.put("b", task="y")
    which = ("--task", "x", "--state", "queued", "--label", "k=v", "--task-pattern", "x.*", "--older-than", "2h")
    assert easyq("stop", "--task", "x", data="n\n")[0] == 1
    assert [request.dry_run for request in farm.asked] == [True]
    assert easyq.out("stop", "--task", "x", "--dry-run") == "1 job matches\n"
    assert easyq("stop", "--task", "x", data="y\n")[1].endswith("1 stopped, 0 are being stopped\n")
    assert easyq.out("stop", "--task", "x", "-y") == "1 stopped, 0 are being stopped\n"
    assert easyq.out("stop", *which) == "0 jobs match\n"
    assert farm.asked[-1].selection == api.JobSelection(
        task_id="x", state=[Job.QUEUED], label=["k=v"], task_pattern="x.*", older_than=Duration(seconds=7200)
    )


def test_a_call_for_many_goes_on_until_it_is_through(
    farm: FakeFarm, easyq: Easyq, monkeypatch: pytest.MonkeyPatch
) -> None:
    farm.put("a", task="x", state="FAILED")
    selected, late = farm._selected, [True, True]

    def slow(request: Any, context: Any) -> list[Job]:
        if not request.dry_run and late:
            late.pop()
            abort(context, grpc.StatusCode.DEADLINE_EXCEEDED, "there are more", reason="DEADLINE_EXCEEDED")
        return selected(request, context)

    monkeypatch.setattr(farm, "_selected", slow)
    assert easyq.out("stop", "--task", "x", "-y") == "1 stopped, or being stopped\n"
    late.append(True)
    assert easyq.out("errors", "discard", "-y") == "1 discarded\n"
    late.append(True)
    assert easyq("errors", "retry", "-y") == (3, "", "easyq: there are more\n")


def test_the_error_queue(farm: FakeFarm, easyq: Easyq) -> None:
    assert easyq.out("errors") == "no job gave up\n"
    job = farm.put("a", task="x", state="FAILED")
    job.message.error.CopyFrom(Failure(reason=Failure.OOM_KILLED, message="out of memory"))
    farm.put("b", task="y", state="TIMED_OUT")
    assert "out of memory" in easyq.out("errors", "--task", "x", "--reason", "oom-killed")
    assert easyq.out("errors", "--task", "z") == "no job that matches gave up\n"
    assert easyq.out("errors", "retry", "--reason", "oom_killed", "-y") == "1 run again\n"
    assert easyq.out("errors", "discard", "-y") == "2 discarded\n"
    assert easyq("errors", "discard", data="\n")[0] == 1


def test_wait_ends_as_the_job_did(farm: FakeFarm, easyq: Easyq) -> None:
    farm.put("good").end()
    farm.put("bad").end("FAILED", 42)
    farm.put("goes-on", state="RUNNING")
    assert easyq("wait", "good") == (0, "good  SUCCEEDED\n", "")
    assert easyq("wait", "bad") == (42, "bad  FAILED\n", "")
    assert easyq("wait", "good", "bad")[0] == 1
    assert easyq("wait", "goes-on", "--timeout", "50ms")[0] == 3


# -------------------------------------------------------------------------------------------------------------- submit


def test_submit_with_all_its_options(farm: FakeFarm, easyq: Easyq) -> None:
    out = easyq.out(
        *("submit", "i:1", "-t", "t", "-e", "A=1", "--cron", "@daily", "--tz", "Europe/Berlin", "--timeout", "90s"),
        *("--retries", "2", "--priority", "-5", "-l", "a=b", "--entrypoint", "/sh", "--workdir", "/w", "-u", "u"),
        *("--network", "none", "--key", "k", "--", "-c", "x y"),
    )
    request = farm.jobs[0].request
    assert out == f"{farm.jobs[0].job_id}\n"
    assert (request.task_id, request.idempotency_key, list(request.spec.command)) == ("t", "k", ["-c", "x y"])
    spec = request.spec
    assert (spec.cron, spec.time_zone, spec.timeout.seconds) == ("@daily", "Europe/Berlin", 90)
    assert (spec.retries, spec.priority, dict(spec.labels)) == (2, -5, {"a": "b"})
    easyq.out("submit", "i", "--at", "2030-01-31T08:00:00+01:00", "--json")
    easyq.out("submit", "i", "--in", "2h")
    assert farm.jobs[1].request.spec.start_at.seconds == 1896073200
    assert farm.jobs[2].request.spec.start_in.seconds == 7200
    assert "Europe/Berlin" in easyq.out("submit", "i", "--dry-run", "--cron", "@daily", "--tz", "Europe/Berlin")
    assert len(farm.jobs) == 3


def test_submit_of_a_file(farm: FakeFarm, easyq: Easyq, tmp_path: Path) -> None:
    path = tmp_path / "jobs.yaml"
    path.write_text("jobs:\n- {taskId: a, spec: {image: i}}\n- spec: {image: i, timeout: 2m}\n", encoding="utf-8")
    code, out, err = easyq("submit", "-t", "b", "-f", str(path))
    assert (code, err) == (0, "easyq: 2 accepted, 0 refused\n")
    assert out.split() == [job.job_id for job in farm.jobs]
    assert [job.request.task_id for job in farm.jobs] == ["a", "b"]
    path.write_text("- spec: {image: i}\n- spec: {image: i, timeout: soon}\n- {spec: {}, jobId: x}\n", encoding="utf-8")
    code, out, err = easyq("submit", "-f", str(path))
    assert (code, out, len(farm.jobs)) == (2, "", 2)
    assert f"{path}:2: spec.timeout: is not a duration" in err
    assert "are for `easyq apply`" in err


def test_submit_of_lines_accepts_and_refuses_each(farm: FakeFarm, easyq: Easyq) -> None:
    farm.judge = lambda spec: {"spec.image": "is bad"} if spec.image == "bad" else {}
    lines = '{"spec": {"image": "a"}}\n\n{"spec": {"image": "bad"}}\nnonsense\n'
    lines += '{"spec": {"imgae": "a"}}\n{"spec": {"image": "c"}}'
    code, out, err = easyq("submit", "--json", "-f", "-", data=lines)
    assert code == 1
    assert "easyq: stdin:3: a field is wrong (spec.image: is bad)" in err
    assert "easyq: stdin:4: is not JSON" in err
    assert "easyq: stdin:5: spec.imgae: is not a field of JobSpec; did you mean `image`?" in err
    assert err.endswith("easyq: 2 accepted, 3 refused\n")
    results = [json.loads(line) for line in out.splitlines()]
    assert [(one["line"], one["error"] and one["error"]["reason"]) for one in results] == [
        (1, None),
        (3, "INVALID_FIELDS"),
        (6, None),
    ]


# --------------------------------------------------------------------------------------------------------------- apply

MANIFEST = """\
set: s
jobs:
  - taskId: t
    jobId: a
    spec: {image: "i:1", cron: "@daily"}
  - taskId: t
    jobId: b
    spec: {image: "i:1", cron: "@daily"}
"""


@pytest.fixture
def manifest(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        (tmp_path / "jobs.yaml").write_text(text, encoding="utf-8")
        return str(tmp_path / "jobs.yaml")

    return write


def test_apply_is_idempotent_and_tells_what_changes(
    farm: FakeFarm, easyq: Easyq, manifest: Callable[[str], str]
) -> None:
    path = manifest(MANIFEST)
    assert easyq.out("apply", "-f", path, "--dry-run").splitlines()[0] == "+ a of t would be created"
    assert farm.jobs == []
    assert easyq.out("apply", "-f", path) == "+ a of t created\n+ b of t created\n"
    assert easyq.out("apply", "-f", path) == "= a of t unchanged\n= b of t unchanged\n"
    assert [job.message.revision for job in farm.jobs] == [1, 1]
    manifest(MANIFEST.replace("i:1", "i:2", 1))
    shown = '~ a of t would be changed\n    spec.image: "i:1" → "i:2"\n= b of t unchanged\n'
    assert easyq.out("apply", "-f", path, "--dry-run") == shown
    assert farm.jobs[0].message.spec.image == "i:1"
    [change, same] = json.loads(easyq.out("apply", "-f", path, "--json"))["items"]
    assert (change["action"], same["action"]) == ("changed", "unchanged")
    assert change["changes"] == [{"field": "spec.image", "before": "i:1", "after": "i:2"}]


def test_a_secret_that_changed_is_noted(farm: FakeFarm, easyq: Easyq, manifest: Callable[[str], str]) -> None:
    secret = MANIFEST.replace('image: "i:1"', 'image: "i:1", envs: {MY_TOKEN: one}', 1)
    path = manifest(secret)
    easyq.out("apply", "-f", path)
    manifest(secret.replace("one", "two"))
    one, _ = json.loads(easyq.out("apply", "-f", path, "--json"))["items"]
    assert (one["action"], one["changes"], one["note"]) == (
        "changed",
        [],
        "a value that EasyQ keeps secret has changed",
    )


def test_a_job_that_was_stopped_is_told(farm: FakeFarm, easyq: Easyq, manifest: Callable[[str], str]) -> None:
    path = manifest(MANIFEST)
    easyq.out("apply", "-f", path)
    farm.jobs[0].message.state = Job.STOPPED
    told = easyq.out("apply", "-f", path).splitlines()[0]
    note = "it is STOPPED; to have it recur again: easyq delete a, then apply"
    assert told == f"= a of t unchanged ({note})"
    items = json.loads(easyq.out("apply", "-f", path, "--json"))["items"]
    assert [(one["action"], one["note"]) for one in items] == [("unchanged", note), ("unchanged", None)]


def test_prune_touches_its_own_set_only(farm: FakeFarm, easyq: Easyq, manifest: Callable[[str], str]) -> None:
    for name, labels in (("mine", {"easyq/set": "s"}), ("other", {"easyq/set": "o"}), ("by-hand", {})):
        farm.put(name, state="ACTIVE", spec=job_spec("i", cron="@daily", labels=labels))
    farm.put("ended", state="STOPPED", spec=job_spec("i", cron="@daily", labels={"easyq/set": "s"}))
    path = manifest(MANIFEST)
    assert "- mine of t would be stopped" in easyq.out("apply", "-f", path, "--prune", "--dry-run")
    assert sum(job.stops for job in farm.jobs) == 0
    assert easyq.out("apply", "-f", path, "--prune").splitlines()[-1] == "- mine of t stopped"
    assert {job.job_id: job.stops for job in farm.jobs if job.stops} == {"mine": 1}


def test_prune_does_not_trust_the_filter_of_a_server(
    farm: FakeFarm, easyq: Easyq, manifest: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    farm.put("by-hand", state="ACTIVE", spec=job_spec("i", cron="@daily"))
    listed = farm._listed
    monkeypatch.setattr(farm, "_listed", lambda task, _labels: listed(task, []))
    easyq.out("apply", "-f", manifest(MANIFEST), "--prune")
    assert sum(job.stops for job in farm.jobs) == 0


def test_apply_changes_nothing_where_anything_is_wrong(
    farm: FakeFarm, easyq: Easyq, manifest: Callable[[str], str]
) -> None:
    farm.judge = lambda spec: {"spec.cron": "has no such time"} if spec.cron == "@daily" else {}
    path = manifest(MANIFEST.replace("@daily", "@hourly", 1))
    code, out, err = easyq("apply", "-f", path)
    assert (code, out, farm.jobs) == (2, "", [])
    assert err == f"easyq: {path}:8: spec.cron: has no such time\neasyq: nothing was changed\n"
    assert easyq("apply", "-f", manifest("jobs: ["))[0] == 2
    assert easyq("apply", "-f", manifest(MANIFEST.replace("set: s\n", "")), "--prune")[0] == 2
    assert farm.jobs == []


def test_apply_tells_all_that_is_wrong_in_one_look(
    farm: FakeFarm, easyq: Easyq, manifest: Callable[[str], str]
) -> None:
    wrong = {"spec.timeZone": "is no zone", "spec.priority": "is too high", "spec.image": "is required"}
    farm.judge = lambda spec: {**wrong, "spec.env": "is not a part of envs"} if spec.cron == "@daily" else {}
    path = manifest("[{taskId: t, jobId: a, spec: {image: [i], envs: {A: []}, cron: '@daily'}}]")
    code, out, err = easyq("apply", "-f", path)
    assert (code, out, farm.jobs) == (2, "", [])
    told = [line.partition(f"{path}:")[2].partition(" ")[2] for line in err.splitlines()[:-1]]
    # What the server says of a field that could not be read, it says of something else.
    assert told == [
        "spec.image: must be a string, not a list",
        'spec.envs["A"]: must be a string, not a list',
        "spec.timeZone: is no zone",
        "spec.priority: is too high",
        "spec.env: is not a part of envs",
    ]
    farm.stop()
    assert easyq("apply", "-f", path)[2].splitlines()[0].endswith(told[0])


def test_a_job_of_another_set_is_refused(farm: FakeFarm, easyq: Easyq, manifest: Callable[[str], str]) -> None:
    farm.put("a", state="ACTIVE", spec=job_spec("i", cron="@daily", labels={"easyq/set": "o"}))
    farm.put("b", task="elsewhere", state="ACTIVE", spec=job_spec("i", cron="@daily"))
    code, _, err = easyq("apply", "-f", manifest(MANIFEST))
    assert code == 2
    assert "the job 'a' belongs to the set 'o'" in err
    assert "the job 'b' is one of the task 'elsewhere'" in err


# -------------------------------------------------------------------------------------------------- doctor, completion


def test_doctor(farm: FakeFarm, easyq: Easyq, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    agent = Agent(agent_id="h", state=Agent.LIVE, healthy=True, slots=2, version="0.1.0")
    agent.last_beat_at.GetCurrentTime()
    farm.agents.append(agent)
    farm.health.services.add(name="store", address="s", healthy=True)
    farm.health.services.add(name="dispatcher", address="d", healthy=True)
    code, out, err = easyq("doctor", "--json")
    found = json.loads(out)
    states = {one["name"]: one["state"] for one in found["checks"] if one["name"] != "disk"}
    assert (code, err, found["ok"]) == (0, "", True)
    # The host that takes work has an engine of its own.
    assert states["docker"] == "skip"
    assert {states[name] for name in ("address", "server", "store", "redis", "hosts", "clock", "versions")} == {"ok"}
    agent.last_beat_at.FromSeconds(agent.last_beat_at.seconds + 3600)
    agent.version = "0.0.9"
    farm.health.services[0].healthy, farm.health.running = False, False
    farm.health.services[0].message = "disk \x1b[1m full"
    code, out, _ = easyq("doctor")
    assert code == 1
    for word in ("clock is 59m", "0.0.9", "disk \\x1b[1m full", "nothing would run them", "→ set both by NTP"):
        assert word in out, out


def test_doctor_looks_at_the_disk_of_the_server_that_answers(
    farm: FakeFarm, easyq: Easyq, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    def data() -> list[str]:
        checks = json.loads(easyq("doctor", "--json")[1])["checks"]
        return [one["message"] for one in checks if one["message"].startswith("EasyQ's data")]

    [told] = data()
    assert "can't be seen from here" in told
    folder = DataFolder(tmp_path / "elsewhere")
    folder.hold()
    folder.announce(Running(pid=os.getpid(), grpc="127.0.0.1:1", rest=""))
    assert data() == [told]  # another system's
    folder.announce(Running(pid=os.getpid(), grpc=farm.address, rest=""))
    assert data()[0].endswith(f"free at {tmp_path}/elsewhere")
    folder.release()
    farm.stop()
    assert data()[0].endswith(f"free at {tmp_path}/home/.easyq")


def test_doctor_where_nothing_answers(easyq: Easyq, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EASYQ_SERVER", "127.0.0.1:1")
    code, out, _ = easyq("doctor")
    assert code == 1
    assert "nothing listens there" in out
    assert "easyq up" in out


def complete(farm: FakeFarm, *words: str) -> list[str]:
    """What bash would be offered for the last word."""
    line = " ".join(["easyq", *words])
    environ = {**os.environ, "EASYQ_SERVER": farm.address, "_EASYQ_COMPLETE": "bash_complete"}
    environ |= {"COMP_WORDS": line, "COMP_CWORD": str(len(words))}
    done = subprocess.run([EASYQ], env=environ, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    return [item.partition(",")[2] for item in done.stdout.split()]


def offers(farm: FakeFarm, *words: str, names: list[str]) -> None:
    """Sooner or later: where the answer takes longer than a person waits, nothing is offered."""
    wait_until(lambda: complete(farm, *words) == names, 60)


def test_completion_of_names(farm: FakeFarm) -> None:
    farm.put("old-1", task="task-1", state="SUCCEEDED")
    farm.put("old-2", task="task-1", state="QUEUED")
    for index in range(200):
        farm.put(f"more-{index}", task="task-1", state="QUEUED")
    farm.put("job-1", task="task-1", state="QUEUED")
    farm.put("job-2", task="evil\x1b", state="SUCCEEDED")
    farm.agents.append(Agent(agent_id="host-1"))
    offers(farm, "logs", "job", names=["job-2", "job-1"])
    offers(farm, "stop", "job", names=["job-1"])
    # Older than the newest 200, which the list gives.
    offers(farm, "logs", "old", names=["old-1", "old-2"])
    offers(farm, "stop", "old", names=["old-2"])
    offers(farm, "tasks", "", names=["task-1"])  # no name that a terminal can't show
    offers(farm, "hosts", "drain", "h", names=["host-1"])
    offers(farm, "stats", "t", names=["task-1"])
    farm.told = [Delivery(job_id="job-1", delivery_id="d-1"), Delivery(job_id="job-2", delivery_id="d-2")]
    offers(farm, "resend", "job-2", "d", names=["d-2"])
    assert complete(farm, "comp") == ["completion"]
    farm.stop()
    assert complete(farm, "logs", "job") == []


# --------------------------------------------------------------------------------------------------- what may go wrong


def test_an_address_that_speaks_http(easyq: Easyq) -> None:
    def answer(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=answer, args=(listener,), daemon=True).start()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        code, out, err = easyq("ps", "--server", address)
        listener.shutdown(socket.SHUT_RDWR)
    assert (code, out) == (3, "")
    assert err == (
        f"easyq: {address} speaks HTTP (REST), not gRPC; its gRPC port is 10001 by default: "
        "try --server 127.0.0.1:10001\n"
    )


def test_no_server_and_no_host(easyq: Easyq) -> None:
    for arguments in (["ps"], ["get", "x"], ["stop", "a", "b"], ["errors", "retry", "-y"]):
        code, out, err = easyq(*arguments, "--server", "127.0.0.1:1")
        assert (code, out, err.count("\n")) == (3, "", 1), arguments
        assert "nothing listens there (`easyq up` starts an EasyQ on this machine)" in err
    assert "no such host" in easyq("ps", "--server", "no-such-host.invalid")[2]


def test_contexts_lead_to_servers(farm: FakeFarm, easyq: Easyq, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EASYQ_SERVER")
    farm.put("j", state="RUNNING")
    assert easyq.out("context", "ls").startswith("no context yet")
    assert easyq.out("context", "set", "it", farm.address) == f"it: {farm.address} (in use)\n"
    assert easyq.out("context", "set", "none", "127.0.0.1:1") == "none: 127.0.0.1:1\n"
    assert easyq.out("ps", "-q") == "j\n"
    assert easyq("ps", "-q", "--context", "none")[0] == 3
    assert easyq.out("--context", "it", "ps", "-q") == "j\n"
    assert easyq.out("context", "use", "none") == "none: 127.0.0.1:1\n"
    assert easyq.out("--server", farm.address, "ps", "-q") == "j\n"
    assert [line.split()[0] for line in easyq.out("context", "ls").splitlines()[2:]] == ["*"]
    assert easyq("context", "use", "x")[0] == 2
    assert easyq("context", "set", "a b", "h")[0] == 2


def test_what_a_server_says_is_escaped(farm: FakeFarm, easyq: Easyq) -> None:
    farm.failures.append(status(grpc.StatusCode.NOT_FOUND, "no \x1b]0;x\x07\njob", reason="JOB_NOT_FOUND"))
    assert easyq("get", "j") == (4, "", "easyq: no \\x1b]0;x\\x07 job\n")


def test_a_reader_that_leaves(farm: FakeFarm) -> None:
    for index in range(3000):
        farm.put(f"job-{index}", state="QUEUED")
    read, write = os.pipe()
    process = subprocess.Popen([EASYQ, "ps", "-n", "0"], stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    os.read(read, 10)
    os.close(read)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (141, b"")


def test_ctrl_c_while_watching(farm: FakeFarm) -> None:
    with subprocess.Popen(
        hears_signals([EASYQ, "ps", "-w"]), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, b"")


def test_ctrl_c_while_waiting_for_a_job(farm: FakeFarm) -> None:
    """It is heard although the call takes long, and leaves the job alone."""
    job = farm.put("j", state="RUNNING")
    with subprocess.Popen(
        hears_signals([EASYQ, "wait", "j"]), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        wait_until(lambda: farm.looks, 60)
        process.send_signal(signal.SIGINT)
        # Much longer than that, and much less than the call takes.
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err, job.stops) == (130, b"", b"", 0)


def test_drain_waits_until_the_host_is_empty(farm: FakeFarm, easyq: Easyq) -> None:
    agent = Agent(agent_id="h", state=Agent.LIVE, healthy=True, running=2)
    farm.agents.append(agent)

    def empty() -> None:
        farm.agents[0].running = 0

    threading.Timer(0.3, empty).start()
    assert easyq.out("hosts", "drain", "h", "--wait") == "h is empty\n"
    requests: list[Any] = [one for one in farm.asked if isinstance(one, farm_api.DrainAgentRequest)]
    assert len(requests) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        *(
            "get|",
            "logs|",
            "wait|",
            "wait|j|",
            "stop|",
            "retry|",
            "pause|",
            "resume|",
            "trigger|",
            "delete|",
            "explain|",
        ),
        *("deliveries|", "resend|j|", "resend||d", "schedule|", "tasks|", "stats|", "search|", "hosts|drain|"),
        *("stop|--yes|--task|", "errors|discard|--yes|--task|", "explain|--pool|", "submit|", "submit|i|--key|"),
        *("ps|--server|", "--server||ps", "ps|--context|"),
    ],
)
def test_an_empty_name_is_a_wrong_command_line(farm: FakeFarm, easyq: Easyq, arguments: str) -> None:
    farm.put("j")
    code, out, err = easyq(*arguments.split("|"))
    assert (code, out) == (2, "")
    assert "empty" in err or "can't name a context" in err or "no context ''" in err
    assert not farm.asked


def test_what_may_be_empty(farm: FakeFarm, easyq: Easyq) -> None:
    easyq.out("submit", "i", "--", "echo", "")
    assert list(farm.jobs[0].request.spec.command) == ["echo", ""]
