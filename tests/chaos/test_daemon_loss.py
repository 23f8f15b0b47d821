"""The Docker Engine under an agent goes away and comes back: what it took down is LOST and runs again elsewhere."""

import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.chaos.conftest import OUTAGE
from tests.e2e.conftest import FarmMaker
from tests.support.farm import DockerObserver, UpFarm, Witness
from tests.support.hosts import EXAMPLE_IMAGE, DockerHost
from tests.support.plugin import DockerFactory
from tests.support.waiting import wait_until

# The first run waits to be killed, and would exit 0 if it were asked to end; the next one succeeds at once.
TRAPPING = (
    f"trap 'echo trapped; exit 0' TERM; echo begin; {Witness.START};"
    ' if [ "$EASYQ_FENCE" = 1 ]; then while :; do sleep 0.1; done; fi; echo again;'
    f" {Witness.END}"
)


def shell(script: str, witness: Witness, **more: Any) -> dict[str, Any]:
    return {"image": EXAMPLE_IMAGE, "command": ["sh", "-c", script], "mounts": witness.mounts, **more}


@pytest.fixture
def doomed(dockerd: DockerFactory) -> DockerHost:
    """The engine that goes away; each test has it back."""
    return dockerd("doomed")


@pytest.fixture(scope="module")
def lonely_farm(dockerd: DockerFactory) -> Iterator[UpFarm]:
    """All that it has runs on the engine that goes away."""
    with UpFarm([dockerd("doomed")], slots=2) as farm:
        yield farm


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGKILL], ids=["term", "kill"])
def test_a_daemon_that_is_away_for_a_while(
    lonely_farm: UpFarm, doomed: DockerHost, task: str, sig: signal.Signals
) -> None:
    rest, witness = lonely_farm.rest, Witness(lonely_farm.mounts / task)
    wait_until(lambda: rest.get("/agents")["items"][0]["healthy"], 30)
    running = [rest.enqueue(task, shell(TRAPPING, witness))["jobId"] for _ in range(2)]
    wait_until(lambda: len(witness.starts()) == 2, 30)
    waiting = [rest.enqueue(task, shell(f"{Witness.START}; {Witness.END}", witness))["jobId"] for _ in range(6)]
    with DockerObserver([doomed]) as observer:
        doomed.stop(sig)
        wait_until(lambda: not rest.get("/agents")["items"][0]["healthy"], 15, message="the agent says so")
        explained = rest.job(waiting[-1])["waiting"]
        assert explained["reason"] == "NO_HEALTHY_AGENT"
        threading.Event().wait(OUTAGE)
        assert {rest.job(job_id)["state"] for job_id in waiting} == {"QUEUED"}
        doomed.start()
        jobs = rest.wait_all([*running, *waiting], 60)
    assert {job["state"] for job in jobs} == {"SUCCEEDED"}
    for job in jobs[:2]:
        first, second = job["executions"]
        assert (first["state"], first["error"]["reason"], first["exitCode"]) == ("LOST", "DAEMON_LOST", None)
        assert (second["state"], second["trigger"]) == ("SUCCEEDED", "INFRA_RETRY")
        assert rest.output(job["jobId"], "stdout", second["executionId"]) == b"begin\nagain\n"
        assert rest.output(job["jobId"], "stdout", first["executionId"]).startswith(b"begin\n")
    # The ones that waited ran once, and none of them failed for it.
    assert {job["executionCount"] for job in jobs[2:]} == {1}
    witness.assert_none_twice()
    assert observer.most_on_host(doomed.label) <= 2
    # The agent removes a container once its end is acknowledged, which is a moment after the job shows it.
    wait_until(lambda: not doomed.containers(label=f"easyq.task={task}"), 20, message="no container is left")


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_others_take_over_what_waits(
    new_farm: FarmMaker, doomed: DockerHost, hosts: list[DockerHost], task: str
) -> None:
    other = hosts[0]
    farm = new_farm([doomed, other], slots=2)
    witness = Witness(farm.mounts / "w")
    rest = farm.rest
    with DockerObserver([doomed, other]) as observer:
        running = [rest.enqueue(task, shell(TRAPPING, witness))["jobId"] for _ in range(4)]
        wait_until(lambda: len(witness.starts()) == 4, 30)
        waiting = [rest.enqueue(task, shell(f"{Witness.START}; {Witness.END}", witness))["jobId"] for _ in range(4)]
        wait_until(lambda: len(observer.events("start")) >= 4, 30, message="Docker has told of four starts")
        places = {event.execution_id: event.host for event in observer.events("start")}
        doomed.kill()
        there = {job_id: places[rest.job(job_id)["executions"][0]["executionId"]] == "doomed" for job_id in running}
        assert sorted(there.values()) == [False, False, True, True]
        # Frees the places on the other host.
        for job_id, is_doomed in there.items():
            if not is_doomed:
                rest.stop(job_id)
        jobs = rest.wait_all(waiting, 60)
        assert {job["state"] for job in jobs} == {"SUCCEEDED"}
        assert not doomed.running
        doomed.start()
        ended = rest.wait_all(running, 60)
    states = {job["jobId"]: job["state"] for job in ended}
    assert states == {job_id: "SUCCEEDED" if is_doomed else "STOPPED" for job_id, is_doomed in there.items()}
    witness.assert_none_twice()
    for host in (doomed, other):
        assert observer.most_on_host(host.label) <= 2
