"""Failures and crashes of a whole system, told to Sentry and to a handler of the operator's own."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import easyq
from tests.support.canaries import Canaries, Seen
from tests.support.farm import UpFarm
from tests.support.farm.up import EASYQ, clean_environment
from tests.support.hosts import EXAMPLE_IMAGE, DockerHost
from tests.support.sentry import KEY, Sentry, sentry
from tests.support.waiting import wait_until

EXAMPLE = Path(__file__).parents[2] / "examples" / "error-handler"
CANARY = Canaries()


class World:
    """A farm that reports to Sentry and to the example's file."""

    def __init__(self, farm: UpFarm, server: Sentry, file: Path) -> None:
        self.farm, self.server, self.rest = farm, server, farm.rest
        self._file = file

    @property
    def lines(self) -> list[dict[str, Any]]:
        """What the example has written."""
        return [json.loads(line) for line in self._file.read_text().splitlines()] if self._file.exists() else []

    def job(self, task: str, **spec: Any) -> str:
        body = {
            "image": EXAMPLE_IMAGE,
            "command": ["sh", "-c", "echo using $API_TOKEN; echo it broke >&2; exit 3"],
            "envs": {"API_TOKEN": CANARY["env"]},
            "backoff": {"min": "0s", "max": "0s"},
            **spec,
        }
        return str(self.rest.enqueue(task, body)["jobId"])

    def told(self, job_id: str, number: int) -> list[dict[str, Any]]:
        """The job's events, oldest first, once there are so many and both handlers have them."""

        def there() -> bool:
            mine = [line for line in self.lines if line["tags"].get("job") == job_id]
            return len(self.server.of(job=job_id)) == len(mine) == number

        wait_until(there, 60, message=f"{number} reports of {job_id}")
        return sorted(self.server.of(job=job_id), key=lambda event: str(event["tags"]["attempt"]))


@pytest.fixture(scope="module")
def world(hosts: list[DockerHost], tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("errors")
    # As README.md of the example says, but into a folder of its own.
    install = ["uv", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target", str(folder / "lib")]
    subprocess.run([Path(sys.executable).with_name(install[0]), *install[1:], str(EXAMPLE)], check=True)
    with sentry() as server:
        config = folder / "easyq.toml"
        config.write_text(
            f'error-handler = ["sentry", "file"]\nsentry-dsn = "{server.dsn}"\nsentry-environment = "testing"\n'
            'report-failures = "final"\n'
        )
        env = {
            "PYTHONPATH": str(folder / "lib"),
            "ERRORS_TO_FILE": str(folder / "errors.jsonl"),
            "EASYQ_SCHEDULER_PUBLIC_URL": "https://jobs.test",
            # A crash of a service: of the agent, in the middle of an execution.
            "EASYQ_TEST_FAULTS": "runner.before_create=error@1",
            "EASYQ_TEST_FAULTS_ONCE": str(folder),
            "SOME_PASSWORD": CANARY["services' environment"],
        }
        with UpFarm([hosts[0]], slots=2, arguments=["--config", str(config)], env=env) as farm:
            yield World(farm, server, folder / "errors.jsonl")


def command_line(world: World, *arguments: str) -> str:
    """What `easyq` prints."""
    command = [EASYQ, "--server", world.farm.grpc_address, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=clean_environment()).stdout.strip()


def test_a_crash_in_a_service_is_told(world: World) -> None:
    """The first job meets a fault of the agent's own: it runs again, and who looks after the farm hears of it."""
    job_id = world.job("first", command="true")
    assert world.rest.wait_job(job_id)["state"] == "SUCCEEDED"
    wait_until(lambda: world.server.of(kind="crash"), 60)
    (event,) = world.server.of(kind="crash")
    assert event["exception"]["values"][-1]["type"] == "InjectedFault"
    first, last = world.rest.get(f"/jobs/{job_id}")["executions"]
    assert first["state"] != last["state"] == "SUCCEEDED"
    tags = {"service": "runner", "task": "first", "job": job_id, "execution": first["executionId"], "epoch": "1"}
    assert tags.items() <= event["tags"].items()
    assert (event["environment"], event["fingerprint"][0]) == ("testing", "runner")
    (line,) = [line for line in world.lines if line["kind"] == "crash"]
    assert (line["service"], line["environment"], line["tags"]["job"]) == ("runner", "testing", job_id)
    assert line["raised"][-1]["kind"] == "InjectedFault"


def test_a_failed_job_is_told_as_the_setting_says(world: World) -> None:
    good, bad = world.job("mail", command="true"), world.job("mail", retries=1)
    assert world.rest.wait_job(bad)["state"] == "FAILED"
    (event,) = world.told(bad, 1)
    assert (event["tags"]["attempt"], event["tags"]["outcome"], event["tags"]["exitCode"]) == ("2", "FAILED", "3")
    assert (event["extra"]["stdout"], event["extra"]["stderr"]) == ("using [redacted]", "it broke")
    assert event["extra"]["link"] == f"https://jobs.test/tasks/mail/jobs/{bad}"
    (told,) = world.rest.get(f"/jobs/{bad}/deliveries")["items"]
    assert (told["channel"], told["target"], told["event"]) == ("REPORT", "error handlers", "FAILS")
    assert world.rest.wait_job(good)["state"] == "SUCCEEDED"
    assert world.rest.get(f"/jobs/{good}/deliveries")["items"] == []
    assert world.rest.get(f"/jobs/{bad}")["spec"]["reportFailure"] is None


def test_a_job_may_ask_for_each_failure_or_for_none(world: World) -> None:
    every = world.job("all", retries=1, reportFailure="all")
    assert world.rest.get(f"/jobs/{every}")["spec"]["reportFailure"] == "ALL"
    assert [event["tags"]["outcome"] for event in world.told(every, 2)] == ["RETRYING", "FAILED"]

    silent = command_line(world, "submit", "--task", "none", "--report-failure", "none", EXAMPLE_IMAGE, "false")
    assert "Report failure" in command_line(world, "get", silent)

    with easyq.Client(world.farm.grpc_address) as client:
        spec = easyq.job_spec(EXAMPLE_IMAGE, "false", report_failure="all")
        asked = client.submit(spec, task="client").job_id
    (event,) = world.told(asked, 1)
    assert event["fingerprint"] == ["execution", "client", "NONZERO_EXIT", "1"]

    assert world.rest.wait_job(silent)["state"] == "FAILED"
    assert world.rest.get(f"/jobs/{silent}/deliveries")["items"] == []
    assert world.server.of(job=silent) == []
    refused = world.rest.call("POST", "/tasks/mail", json.dumps({"image": "x", "reportFailure": "some"}).encode())
    assert refused.status == 400
    assert b"reportFailure" in refused.body


def test_a_service_that_is_killed_is_told_by_who_started_it(world: World) -> None:
    world.farm.kill("scheduler")
    wait_until(lambda: world.server.of(process="scheduler"), 60)
    (event,) = world.server.of(process="scheduler")
    assert (event["tags"]["service"], event["level"]) == ("up", "fatal")
    assert event["exception"]["values"][0]["value"] == "scheduler was killed by SIGKILL"
    assert event["fingerprint"][-1] == "process scheduler"


def test_none_of_it_shows_a_secret(world: World) -> None:
    """At the end: what Sentry got, what the example wrote, what the system says of itself."""
    seen = Seen(CANARY)
    seen.add("Sentry", world.server.texts())
    seen.add("the file", json.dumps(world.lines))
    seen.add("the log", world.farm.log)
    seen.check()
    assert KEY not in world.farm.log + world.farm.stdout
    assert KEY.encode() not in world.rest.call("GET", "/status").body
    assert world.farm.stop() == 0
