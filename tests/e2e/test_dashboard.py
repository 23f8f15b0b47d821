"""The Grafana dashboard on a real run: a real Prometheus scrapes it, and has an answer to every question."""

import contextlib
import math
import os
import re
import signal
import urllib.request
from collections.abc import Iterator

import pytest

from tests.chaos.nemesis.hardships import told_in_vain
from tests.support import process
from tests.support.dashboard import Prometheus, dashboard, questions
from tests.support.farm import UpFarm, shell
from tests.support.hosts import DockerHost
from tests.support.waiting import wait_until

RUN_FOR_EVER = "until [ -e /tmp/never ]; do sleep 0.1; done"


@pytest.fixture
def watched(hosts: list[DockerHost]) -> Iterator[tuple[UpFarm, Prometheus]]:
    env = {"EASYQ_GATEWAY_MAX_STREAMS": "2", "EASYQ_DISPATCHER_GAUGE_INTERVAL": "0.5"}
    with (
        UpFarm(hosts[:1], arguments=["--limit", "limited-.*=1"], env=env) as farm,
        contextlib.closing(Prometheus(farm.metrics).start()) as prometheus,
    ):
        yield farm, prometheus


@pytest.mark.timeout(300)
def test_every_question_of_the_dashboard_is_answered(
    watched: tuple[UpFarm, Prometheus], hosts: list[DockerHost]
) -> None:
    farm, prometheus = watched
    _let_everything_happen(farm, prometheus, hosts[0])
    asked = questions()
    assert len(asked) > 40

    def unanswered() -> dict[str, str]:
        return {title: expression for title, expression in asked.items() if not _numbers(prometheus, expression)}

    with contextlib.suppress(AssertionError):
        wait_until(lambda: not unanswered(), 15, interval=0.5)
    assert unanswered() == {}
    # What can be chosen.
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            match = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"])
            assert match is not None
            assert prometheus.label_values(match[1], match[2]), variable["name"]
    # So that the above can fail.
    assert not _numbers(prometheus, "easyq_nobody_has_this")


def _numbers(prometheus: Prometheus, expression: str) -> list[float]:
    values = [float(one["value"][1]) for one in prometheus.query(expression)]
    return [value for value in values if not math.isnan(value)]


def _let_everything_happen(farm: UpFarm, prometheus: Prometheus, host: DockerHost) -> None:
    """Each event of which a panel tells, at least once."""
    rest = farm.rest
    # First, since the store's own counters go with it.
    farm.kill("store")
    wait_until(lambda: rest.get("/status")["running"], 60)
    # Loops fail where what they ask does not answer.
    frozen = farm.pids("store")
    assert frozen
    for pid in frozen:
        process.freeze(pid)
    try:
        wait_until(lambda: _numbers(prometheus, "rate(easyq_loop_failures_total[5m]) > 0"), 60)
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
    wait_until(lambda: rest.get("/status")["running"], 60)
    lost = rest.enqueue("lost", shell(RUN_FOR_EVER, onLost="FAIL", stopGrace="0s"))
    rest.enqueue("waits", shell("true", agentLabels={"no": "such"}))
    told, end = told_in_vain()
    # Twice: a counter is not seen to grow by its first event.
    for _ in range(2):
        jobs = [
            rest.enqueue("told", told),
            rest.enqueue("again", shell("exit 1", retries=1, backoff={"min": "0.1s"})),
            rest.enqueue("later", shell("true", startIn="0.3s")),
            rest.enqueue("limited-a", shell("true")),
            rest.enqueue("pulled", {"image": "127.0.0.1:1/nowhere:1", "command": "true", "infraRetries": 0}),
        ]
        rest.wait_all([job["jobId"] for job in jobs])
        wait_until(lambda: _numbers(prometheus, "easyq_notifications_given_up_total"), 30)
        wait_until(lambda: _numbers(prometheus, "easyq_image_pull_duration_seconds_count"), 30)
    end()
    # A container that somebody removes.
    wait_until(lambda: rest.job(lost["jobId"])["executions"][0]["state"] == "RUNNING", 30)
    for container in host.containers(status="running"):
        container.remove(force=True)
    rest.wait_all([lost["jobId"]])
    # More streams than the gateway has.
    with contextlib.ExitStack() as streams:
        for _ in range(2):
            streams.enter_context(urllib.request.urlopen(f"{rest.url}/events", timeout=10))  # noqa: S310 - this farm's
        assert rest.call("GET", "/events").status == 429
