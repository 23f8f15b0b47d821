"""A stop, and the end of the time to start, at each step between a job's places: held there until it has arrived.

Beside these: before its time, before a place is free, while pulling, while running, while a retry waits
(`test_stop.py`), and between the fires of a recurring job (`test_recurring.py`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.farm import DockerObserver, Rest, UpFarm, Witness, shell
from tests.support.hosts import DockerHost
from tests.support.waiting import wait_until

# What answers STOPPED there; the rest is in an agent's hand, or on its way there, and answers STOPPING.
UNASSIGNED = ("dispatcher.after_take",)
ON_ITS_WAY = ("dispatcher.after_assign", "dispatcher.before_run")
BEFORE_START = ("runner.before_create", "runner.after_create", "runner.after_journal")
STARTED = "runner.after_start"
FINISHING = "runner.after_exit"
ANSWERED = "runner.after_finish_ack"
POINTS = (*UNASSIGNED, *ON_ITS_WAY, *BEFORE_START, STARTED, FINISHING, ANSWERED)

NEVER = f"{Witness.START}; sleep 60"


class HoldingFarm(UpFarm):
    """Holds jobs at a point of POINTS while a test wants it."""

    @contextmanager
    def held(self, point: str) -> Iterator[None]:
        """What comes there meanwhile waits for the end of this."""
        want, here = self.once / f"{point}.hold", self.once / point
        here.unlink(missing_ok=True)
        want.touch()
        try:
            yield
        finally:
            want.unlink()

    def wait_held(self, point: str) -> None:
        wait_until((self.once / point).exists, 30, message=f"something is held at {point}")


@pytest.fixture(scope="module")
def holding_farm(hosts: list[DockerHost]) -> Iterator[HoldingFarm]:
    faults = dict.fromkeys(POINTS, "hold")
    farm = HoldingFarm(hosts[:1], slots=4, faults=faults, arguments=["--log-level", "debug"])
    try:
        yield farm.start()
    finally:
        farm.close()


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The farm, its one host, and what tells of a test's own task."""

    farm: HoldingFarm
    host: DockerHost
    observer: DockerObserver
    witness: Witness
    task: str

    @property
    def rest(self) -> Rest:
        return self.farm.rest

    def post(self, script: str, **more: Any) -> str:
        """A job that would be retried; its id."""
        job = self.rest.enqueue(self.task, shell(script, mounts=self.witness.mounts, retries=3, **more))
        return str(job["jobId"])

    def execution(self, job_id: str) -> str:
        """Of a job that has one."""
        [only] = self.rest.job(job_id)["executions"]
        return str(only["executionId"])

    def wait_ordered(self, job_id: str) -> None:
        """Until the agent has the order to stop it."""
        words = (self.execution(job_id), '"event":"order"', '"kind":"stop"')
        wait_until(
            lambda: any(all(word in line for word in words) for line in self.farm.log.splitlines()),
            30,
            message="the stop has reached the agent",
        )

    def wait_beat(self) -> None:
        """Until the agent was just heard: what it has to run goes with the answers of its beats as well, and the next
        one is some seconds away."""

        def heard() -> object:
            [agent] = self.rest.get("/agents")["items"]
            return agent["lastBeatAt"]

        before = heard()
        wait_until(lambda: heard() != before, message="the agent has sent a beat")

    def check_gone(self) -> None:
        found = f"easyq.task={self.task}"
        wait_until(lambda: not self.host.containers(label=found), 20, message="no container is left")

    def check_started_once(self, execution_id: str) -> None:
        # What Docker tells comes by a stream of its own, which may be behind.
        wait_until(lambda: self.observer.starts(execution_id), message="Docker has told of the start")
        assert self.observer.starts(execution_id) == 1

    def check_never_ran(self, job: dict[str, Any]) -> None:
        """No start, no container that is left, and another job is run as ever."""
        [execution] = job["executions"]
        assert self.rest.run(f"{self.task}-next", shell("true"))["state"] == "SUCCEEDED"
        self.check_gone()
        assert self.observer.starts(execution["executionId"]) == 0
        assert not self.witness.starts()
        assert execution["startedAt"] is None
        again = self.rest.job(job["jobId"])
        assert (again["lastModifiedAt"], again["executionCount"]) == (job["lastModifiedAt"], 1)


@pytest.fixture
def bench(holding_farm: HoldingFarm, hosts: list[DockerHost], task: str) -> Iterator[Bench]:
    with DockerObserver(hosts[:1]) as observer:
        witness = Witness(holding_farm.mounts / task)
        yield Bench(farm=holding_farm, host=hosts[0], observer=observer, witness=witness, task=task)


@pytest.mark.parametrize("point", [*UNASSIGNED, *ON_ITS_WAY, *BEFORE_START])
def test_a_stop_before_the_start_wins(bench: Bench, point: str) -> None:
    with bench.farm.held(point):
        job_id = bench.post(NEVER)
        bench.farm.wait_held(point)
        outcome = bench.rest.stop(job_id)["outcome"]
        assert outcome == ("STOPPED" if point in UNASSIGNED else "STOPPING")
        if point in ON_ITS_WAY:
            # The stop overtakes the order to run.
            bench.rest.wait_job(job_id, 30)
        elif point in BEFORE_START:
            bench.wait_ordered(job_id)
    job = bench.rest.wait_job(job_id, 30)
    assert (job["state"], [one["state"] for one in job["executions"]]) == ("STOPPED", ["STOPPED"])
    bench.check_never_ran(job)


def test_a_stop_right_after_the_start(bench: Bench) -> None:
    with bench.farm.held(STARTED):
        job_id = bench.post(NEVER, stopGrace="0s")
        bench.farm.wait_held(STARTED)
        assert bench.rest.stop(job_id)["outcome"] == "STOPPING"
        bench.wait_ordered(job_id)
    job = bench.rest.wait_job(job_id, 30)
    assert (job["state"], [one["state"] for one in job["executions"]]) == ("STOPPED", ["STOPPED"])
    bench.check_started_once(bench.execution(job_id))
    bench.check_gone()


@pytest.mark.parametrize("code", [0, 3])
def test_a_stop_while_it_finishes_finds_its_true_end(bench: Bench, code: int) -> None:
    """It has ended by itself: that is what is told, and nothing is retried."""
    with bench.farm.held(FINISHING):
        job_id = bench.post(f"echo bye; exit {code}")
        bench.farm.wait_held(FINISHING)
        assert bench.rest.stop(job_id)["outcome"] == "STOPPING"
        bench.wait_ordered(job_id)
    job = bench.rest.wait_job(job_id, 30)
    [only] = job["executions"]
    assert (only["state"], only["exitCode"]) == ("FAILED" if code else "SUCCEEDED", code)
    assert job["state"] == ("STOPPED" if code else "SUCCEEDED")
    assert bench.rest.output(job_id, "stdout") == b"bye\n"
    bench.check_started_once(only["executionId"])
    bench.check_gone()


def test_a_stop_after_the_end_was_told(bench: Bench) -> None:
    with bench.farm.held(ANSWERED):
        job_id = bench.post("true")
        bench.farm.wait_held(ANSWERED)
        answer = bench.rest.call("POST", f"/jobs/{job_id}/stop")
        assert (answer.status, answer.error["code"]) == (409, "FAILED_PRECONDITION")
    assert bench.rest.job(job_id)["state"] == "SUCCEEDED"
    bench.check_gone()


@pytest.mark.parametrize("point", [*UNASSIGNED, *ON_ITS_WAY, *BEFORE_START])
def test_what_is_late_is_not_started_wherever_it_was(bench: Bench, point: str) -> None:
    """Out of Redis and not assigned yet, on its way to the agent, in the agent's hand."""
    if point in ON_ITS_WAY:
        bench.wait_beat()
    with bench.farm.held(point):
        job_id = bench.post(NEVER, startDeadline="1s", stopGrace="0s")
        # One that nobody can run expires by the same clock.
        wish = shell("true", startDeadline="1s", agentLabels={"there": "no"})
        other = bench.rest.enqueue(bench.task, wish)["jobId"]
        bench.farm.wait_held(point)
        assert bench.rest.wait_job(other, 30)["state"] == "EXPIRED"
    job = bench.rest.wait_job(job_id, 30)
    [only] = job["executions"]
    assert (job["state"], only["state"], only["error"]["reason"]) == ("EXPIRED", "EXPIRED", "START_DEADLINE")
    bench.check_never_ran(job)
