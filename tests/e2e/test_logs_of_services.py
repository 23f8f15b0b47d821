"""What an operator reads: a line for each decision, few lines of an outage, the stacks of a living service."""

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from easyq_chassis.outages import STARTING
from tests.support.farm import UpFarm
from tests.support.hosts import EXAMPLE_IMAGE, DockerHost
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until

# Seconds of an outage, in which services try again many times.
OUTAGE = 6.0


@pytest.fixture(scope="module")
def redis(_redis: RedisServer) -> RedisServer:
    return _redis.start()


@pytest.fixture(scope="module")
def farm(hosts: list[DockerHost], redis: RedisServer) -> Iterator[UpFarm]:
    """`easyq up` on a Redis that the test can take away."""
    farm = UpFarm(hosts[:1], arguments=["--redis", redis.url])
    farm.env["TMPDIR"] = str(farm.folder)
    with farm:
        yield farm


def lines_of(farm: UpFarm, begin: int = 0) -> list[dict[str, Any]]:
    """The log from this byte on."""
    with farm.log_path.open("rb") as file:
        file.seek(begin)
        text = file.read().decode()
    # The last one may not be whole yet.
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def test_a_line_for_each_decision_about_a_job(farm: UpFarm) -> None:
    """What happened to a job, and why it was tried again, can be read from the log alone, by its id."""
    spec = {"image": EXAMPLE_IMAGE, "command": "sh -c 'exit 3'", "retries": 1, "backoff": {"min": 0.1, "jitter": 0}}
    spec["envs"] = {"SOME_TOKEN": "cnry5e6f7a8b"}
    job_id = farm.rest.enqueue("told", spec)["jobId"]
    [job] = farm.rest.wait_all([job_id], 60)
    first, second = (one["executionId"] for one in job["executions"])

    def told() -> list[dict[str, Any]]:
        return [line for line in lines_of(farm) if line.get("job") == job_id and line["service"] == "store"]

    wait_until(lambda: [line["event"] for line in told()].count("ended") == 2)
    host = job["executions"][0]["host"]
    assert [(line["event"], line["execution"], line.get("agent")) for line in told()] == [
        ("job_accepted", first, None),
        ("assigned", first, host),
        ("ended", first, host),
        ("execution_planned", second, None),
        ("assigned", second, host),
        ("ended", second, host),
    ]
    ends = [line for line in told() if line["event"] == "ended"]
    assert [(line["state"], line["exit_code"], line["reason"]) for line in ends] == [("FAILED", 3, "NONZERO_EXIT")] * 2
    assert [line.get("next") for line in ends] == [second, None]
    assert {line["task"] for line in told()} == {"told"}
    assert all(line["epoch"] == 1 and line["session"] >= 1 for line in told() if "agent" in line)
    # The agent's own lines have the same ids.
    ours = [line for line in lines_of(farm) if line.get("execution") == first and line["service"] == "runner"]
    assert {"accepted", "started", "finished"} <= {line["event"] for line in ours}
    [started] = [line for line in ours if line["event"] == "started"]
    assert (started["image"], started["create"] > 0) == (EXAMPLE_IMAGE, True)
    assert {(line["task"], line["job"], line["agent"], line["epoch"]) for line in ours} == {("told", job_id, host, 1)}
    assert "cnry5e6f7a8b" not in farm.log


def test_what_was_asked_of_a_job_is_told(farm: UpFarm) -> None:
    farm.rest.call("PUT", "/tasks/told/jobs/asked", {"image": EXAMPLE_IMAGE, "command": "true", "startIn": "1h"})
    farm.rest.call("PUT", "/tasks/told/jobs/asked", {"image": EXAMPLE_IMAGE, "command": "false", "startIn": "1h"})
    farm.rest.call("POST", "/jobs/asked/stop")

    def events() -> list[str]:
        return [line["event"] for line in lines_of(farm) if line.get("job") == "asked" and line["service"] == "store"]

    wait_until(lambda: events() == ["job_accepted", "job_replaced", "stop_requested", "ended"], message=str(events()))


def test_each_process_tells_what_it_does(farm: UpFarm) -> None:
    """SIGUSR2 ends none of them, also not the agent's watchdog, which hands it on."""
    services = ("gateway", "scheduler", "store", "dispatcher", "runner")
    pids = {service: farm.pids(service) for service in services}
    begin = farm.log_path.stat().st_size
    for service in services:
        for pid in farm.pids("watchdog" if service == "runner" else service):
            os.kill(pid, signal.SIGUSR2)
    os.kill(farm.pid, signal.SIGUSR2)

    def told() -> list[dict[str, Any]]:
        return [line for line in lines_of(farm, begin) if line["event"] == "stacks" and line["service"] != "up"]

    # Of a runner the agent and its watchdog.
    wait_until(lambda: len(told()) == len(services) + 1, message=f"all tell: {told()}")
    for line in told():
        text = Path(line["path"]).read_text(encoding="utf-8")
        assert text.startswith(line["text"])
        assert ("Thread MainThread" in text, "Task loop:" in text or "Task " in text or "watchdog" in text) == (
            True,
        ) * 2
    store = next(line["text"] for line in told() if line["service"] == "store")
    assert "Loop._run" in store
    wait_until(lambda: "the stacks of easyq up are in" in farm.log)
    assert {service: farm.pids(service) for service in services} == pids


@pytest.mark.timeout(120)
def test_a_redis_that_is_away_is_some_lines_with_a_count(farm: UpFarm, redis: RedisServer) -> None:
    """However often it is tried. Jobs are accepted meanwhile, and run once it is back."""
    # For so long after its first answer it might still be starting.
    here = next(line["timestamp"] for line in lines_of(farm) if line["event"] == "index_adopted")
    wait_until(lambda: datetime.now(UTC) - datetime.fromisoformat(here) > timedelta(seconds=STARTING), 20)
    begin = farm.log_path.stat().st_size
    redis.kill()
    try:
        until = time.monotonic() + OUTAGE
        jobs = []
        while time.monotonic() < until:
            jobs.append(farm.rest.enqueue("waits", {"image": EXAMPLE_IMAGE, "command": "true"})["jobId"])
            time.sleep(0.2)
        outage = lines_of(farm, begin)
    finally:
        redis.start()
    warnings = [line for line in outage if line["level"] in {"warning", "error"} and line.get("neighbour") != "store"]
    assert [(line["event"], line["service"], line["neighbour"]) for line in warnings] == [
        ("outage_began", "dispatcher", "redis")
    ]
    # All else is of the jobs: nothing tells in other words of each try.
    assert Counter(line["event"] for line in outage)["job_accepted"] == len(jobs)
    assert len([line for line in outage if "job" not in line]) <= 6
    ended = farm.rest.wait_all(jobs, 60)
    assert {job["state"] for job in ended} == {"SUCCEEDED"}

    def of_redis(*events: str) -> list[dict[str, Any]]:
        return [line for line in lines_of(farm, begin) if line.get("neighbour") == "redis" and line["event"] in events]

    [end] = wait_until(lambda: of_redis("outage_ended"), 30)
    assert end["attempts"] > 5
    assert OUTAGE - 1 < end["seconds"] < OUTAGE + 30
    assert of_redis("outage_began") == warnings


def test_nothing_else_is_in_the_log(farm: UpFarm) -> None:
    """Of libraries and of gRPC neither: each line of a service is an event of ours."""
    lines = lines_of(farm)
    assert [line for line in lines if line["event"] == "output" or " " in line["event"]] == []
    assert {"listening", "ready", "first_job"} <= {line["event"] for line in lines if line["service"] == "up"}
