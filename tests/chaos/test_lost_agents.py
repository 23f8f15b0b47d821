"""An agent that stays away: after `lostAfter` its jobs run again elsewhere, and its old containers die."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.farm import SplitFarm, Witness
from tests.support.farm.split import Service
from tests.support.hosts import EXAMPLE_IMAGE, DockerHost
from tests.support.plugin import DockerFactory
from tests.support.redis_server import RedisServer, redis_binary
from tests.support.waiting import wait_until

LOST_AFTER = 6
# The first run goes on until somebody ends it; the next one succeeds at once.
ENDLESS = (
    f'{Witness.START}; echo "run $EASYQ_FENCE";'
    f' if [ "$EASYQ_FENCE" = 1 ]; then until [ -e /witness/go ]; do sleep 0.1; done; fi; {Witness.END}'
)


@pytest.fixture(scope="module")
def shared_farm(dockerd: DockerFactory, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SplitFarm]:
    """Two agents of two slots, which are given up quickly."""
    hosts = [dockerd("split-a"), dockerd("split-b")]
    data = tmp_path_factory.mktemp("store")
    with RedisServer(redis_binary()) as redis:
        farm = SplitFarm(
            hosts,
            redis=redis.url,
            store={"database": f"sqlite:///{data}/easyq.db", "lost_margin": "1", "lost_interval": "0.2"},
            slots=2,
            settings={"dispatcher": {"lost_after": f"{LOST_AFTER}s", "lease": "4", "beat_every": "1"}},
        )
        with farm:
            yield farm


@pytest.fixture
def farm(shared_farm: SplitFarm) -> SplitFarm:
    """Whole, whatever the test before has done to it."""
    shared_farm.mend()
    return shared_farm


@pytest.fixture
def hosts(farm: SplitFarm, dockerd: DockerFactory) -> dict[str, DockerHost]:
    """By the name of their agent."""
    return {f"agent-{label}": dockerd(label) for label in ("split-a", "split-b")}


@pytest.fixture
def witness(farm: SplitFarm, task: str) -> Witness:
    return Witness(farm.mounts / task)


def spec(witness: Witness, **more: Any) -> dict[str, Any]:
    return {
        "image": EXAMPLE_IMAGE,
        "command": ["sh", "-c", ENDLESS],
        "mounts": witness.mounts,
        "stopGrace": "0s",
        **more,
    }


def start_one(farm: SplitFarm, task: str, wish: dict[str, Any]) -> tuple[str, str, Service]:
    """Enqueues a job and waits until it writes; its id, the name of its agent, and that agent."""
    rest = farm.rest
    job_id = rest.enqueue(task, wish)["jobId"]
    wait_until(lambda: rest.output(job_id, "stdout") == b"run 1\n", 30)
    name = rest.job(job_id)["executions"][0]["host"]
    [agent] = [runner for runner in farm.runners if runner.settings["agent_id"] == name]
    return job_id, name, agent


def alive(host: DockerHost, task: str) -> int:
    return len(host.containers(label=f"easyq.task={task}", status="running"))


@pytest.mark.slow
def test_no_job_stays_running_after_its_host_has_died(
    farm: SplitFarm, hosts: dict[str, DockerHost], task: str, witness: Witness
) -> None:
    job_id, name, agent = start_one(farm, task, spec(witness))
    agent.kill()
    job = farm.rest.wait_job(job_id, LOST_AFTER * 4)
    first, second = job["executions"]
    assert (first["state"], first["error"]["reason"]) == ("LOST", "HOST_LOST")
    assert (second["state"], second["trigger"]) == ("SUCCEEDED", "INFRA_RETRY")
    assert second["host"] != name
    assert farm.rest.get(f"/agents/{name}")["state"] == "DEAD"
    [told] = [problem for problem in farm.rest.get("/status")["problems"] if problem["subject"] == name]
    assert "was declared dead" in told["message"]
    # Nobody could end the old container yet; its agent does, as soon as it is back.
    assert alive(hosts[name], task) == 1
    agent.start()
    wait_until(lambda: not hosts[name].containers(label=f"easyq.task={task}"), 20, message="the old one is gone")
    assert not [problem for problem in farm.rest.get("/status")["problems"] if problem["subject"] == name]
    again = farm.rest.job(job_id)
    assert [execution["state"] for execution in again["executions"]] == ["LOST", "SUCCEEDED"]
    assert farm.rest.output(job_id, "stdout", second["executionId"]) == b"run 2\n"
    witness.assert_none_twice()
    assert set(witness.ends()) == {second["executionId"]}
    assert farm.rest.run(task, {"image": EXAMPLE_IMAGE, "command": "true"})["state"] == "SUCCEEDED"


@pytest.mark.slow
def test_no_rerun_after_a_partition_while_the_first_still_runs(
    farm: SplitFarm, hosts: dict[str, DockerHost], task: str, witness: Witness
) -> None:
    """It lives, and nobody hears it: by the time at which its job may run elsewhere, the old container is dead."""
    job_id, name, _ = start_one(farm, task, spec(witness))
    for dispatcher in farm.dispatchers:
        dispatcher.kill()
    wait_until(lambda: not alive(hosts[name], task), LOST_AFTER * 3, message="the agent has ended its container")
    for dispatcher in farm.dispatchers:
        dispatcher.start()
    job = farm.rest.wait_job(job_id, 40)
    assert [execution["state"] for execution in job["executions"]] == ["LOST", "SUCCEEDED"]
    witness.assert_none_twice()


@pytest.mark.slow
def test_a_frozen_agent_is_refused_when_it_wakes(
    farm: SplitFarm, hosts: dict[str, DockerHost], task: str, witness: Witness
) -> None:
    job_id, name, agent = start_one(farm, task, spec(witness))
    agent.freeze()
    job = farm.rest.wait_job(job_id, LOST_AFTER * 4)
    # The old program ends with 0 while nobody watches: a result that comes too late.
    (witness.folder / "go").touch()
    agent.thaw()
    wait_until(lambda: not hosts[name].containers(label=f"easyq.task={task}"), 20, message="the old one is gone")
    again = farm.rest.job(job_id)
    assert [execution["state"] for execution in again["executions"]] == ["LOST", "SUCCEEDED"]
    assert again["lastModifiedAt"] == job["lastModifiedAt"]
    wait_until(lambda: farm.rest.get(f"/agents/{name}")["state"] == "LIVE", 20)


@pytest.mark.slow
def test_fail_and_wait_run_nothing_again(
    farm: SplitFarm, hosts: dict[str, DockerHost], task: str, witness: Witness
) -> None:
    failing, name, agent = start_one(farm, task, spec(witness, onLost="fail"))
    waiting, other_name, other_agent = start_one(farm, task, spec(witness, onLost="wait"))
    agent.kill()
    other_agent.kill()
    job = farm.rest.wait_job(failing, LOST_AFTER * 4)
    assert (job["state"], [execution["state"] for execution in job["executions"]]) == ("FAILED", ["LOST"])
    assert farm.rest.job(waiting)["state"] == "RUNNING"
    (witness.folder / "go").touch()
    for one in {id(agent): agent, id(other_agent): other_agent}.values():
        one.start()
    job = farm.rest.wait_job(waiting, 30)
    assert (job["state"], job["executionCount"]) == ("SUCCEEDED", 1)
    assert farm.rest.output(waiting, "stdout") == b"run 1\n"
    for host in {name, other_name}:
        wait_until(lambda host=host: not hosts[host].containers(label=f"easyq.task={task}"), 20)  # type: ignore[misc]


@pytest.mark.slow
def test_a_clean_stop_parks_the_agent(farm: SplitFarm, task: str, witness: Witness) -> None:
    """Its containers run on and its lease stands still, however long it stays away."""
    job_id, name, agent = start_one(farm, task, spec(witness))
    agent.stop()
    wait_until(lambda: farm.rest.get(f"/agents/{name}")["state"] == "PARKED", 10)
    # Another agent that is silent meanwhile is given up: so much time has passed.
    other_id, _, other = start_one(farm, task, spec(witness))
    other.kill()
    wait_until(lambda: farm.rest.job(other_id)["executions"][0]["state"] == "LOST", LOST_AFTER * 4)
    assert farm.rest.job(job_id)["state"] == "RUNNING"
    (witness.folder / "go").touch()
    agent.start()
    other.start()
    job = farm.rest.wait_job(job_id, 30)
    assert (job["state"], job["executionCount"]) == ("SUCCEEDED", 1)
    assert farm.rest.output(job_id, "stdout") == b"run 1\n"
    assert farm.rest.wait_job(other_id, 30)["state"] == "SUCCEEDED"
