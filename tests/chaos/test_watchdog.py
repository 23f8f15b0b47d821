"""What a lost host's jobs meet when its agent hangs: the watchdog ends them before they run again elsewhere."""

import os
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support import process
from tests.support.farm import DockerObserver, SplitFarm, Witness
from tests.support.farm.split import RunnerService
from tests.support.hosts import EXAMPLE_IMAGE, DockerHost
from tests.support.plugin import DockerFactory
from tests.support.redis_server import RedisServer, redis_binary
from tests.support.waiting import wait_until

LOST_AFTER = 4.0
MARGIN = 1.0
# What starts anew has to be there before: for a busy machine.
LONGER = 12.0
# The first run goes on until somebody ends it; the next one succeeds at once. Neither minds SIGTERM.
ENDLESS = (
    f"trap '' TERM; {Witness.START}; echo \"run $EASYQ_FENCE\";"
    f' if [ "$EASYQ_FENCE" = 1 ]; then until [ -e /witness/go ]; do sleep 0.1; done; fi; {Witness.END}'
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def lost_after(request: pytest.FixtureRequest) -> float:
    return float(getattr(request, "param", LOST_AFTER))


@pytest.fixture(scope="module")
def shared_farm(
    dockerd: DockerFactory, tmp_path_factory: pytest.TempPathFactory, lost_after: float
) -> Iterator[SplitFarm]:
    """Two agents, which are given up quickly."""
    hosts = [dockerd("split-a"), dockerd("split-b")]
    data = tmp_path_factory.mktemp("store")
    with RedisServer(redis_binary()) as redis:
        farm = SplitFarm(
            hosts,
            redis=redis.url,
            store={"database": f"sqlite:///{data}/easyq.db", "lost_margin": f"{MARGIN}", "lost_interval": "0.2"},
            slots=2,
            settings={"dispatcher": {"lost_after": f"{lost_after:g}s", "lease": "2", "beat_every": "0.5"}},
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
def observer(hosts: dict[str, DockerHost]) -> Iterator[DockerObserver]:
    with DockerObserver(hosts.values()) as running:
        yield running


@pytest.fixture
def witness(farm: SplitFarm, task: str) -> Witness:
    return Witness(farm.mounts / task)


class Running:
    """A job whose first run goes on until it is ended, on an agent of the farm."""

    def __init__(self, farm: SplitFarm, hosts: dict[str, DockerHost], task: str, witness: Witness, **more: Any) -> None:
        spec = {
            "image": EXAMPLE_IMAGE,
            "command": ["sh", "-c", ENDLESS],
            "mounts": witness.mounts,
            "stopGrace": "0s",
            **more,
        }
        self.farm = farm
        self.job_id = farm.rest.enqueue(task, spec)["jobId"]
        wait_until(lambda: farm.rest.output(self.job_id, "stdout") == b"run 1\n", 30)
        first = farm.rest.job(self.job_id)["executions"][0]
        self.first, self.name = first["executionId"], first["host"]
        self.host = hosts[self.name]
        [self.agent] = [one for one in farm.runners if one.settings["agent_id"] == self.name]
        assert isinstance(self.agent, RunnerService)
        self._log_begins = self.agent.log_path.stat().st_size

    @property
    def log(self) -> str:
        """What the agent and its watchdog have said since."""
        return self.agent.log_path.read_bytes()[self._log_begins :].decode(errors="replace")

    @property
    def alive(self) -> bool:
        return bool(self.host.containers(label=f"easyq.execution={self.first}", status="running"))

    @property
    def executions(self) -> list[dict[str, Any]]:
        executions: list[dict[str, Any]] = self.farm.rest.job(self.job_id)["executions"]
        return executions

    @property
    def heard_at(self) -> datetime:
        """When the agent was heard last, by the store's clock."""
        return datetime.fromisoformat(self.farm.rest.get(f"/agents/{self.name}")["lastBeatAt"])

    def wait_lost(self) -> float:
        """When the store gave it up, in seconds since the epoch."""
        first = wait_until(
            lambda: next((e for e in self.executions if (e["executionId"], e["state"]) == (self.first, "LOST")), None),
            LOST_AFTER * 6,
            message="the first run is given up",
        )
        assert first is not None
        return datetime.fromisoformat(first["finishedAt"]).timestamp()

    def check_run_again(self, witness: Witness) -> dict[str, Any]:
        """The next run succeeded, with a greater fence, and nothing came of the first; the next run."""
        job = self.farm.rest.wait_job(self.job_id, 40)
        first, second = job["executions"]
        assert (first["executionId"], first["state"], first["error"]["reason"]) == (self.first, "LOST", "HOST_LOST")
        assert (second["state"], second["trigger"]) == ("SUCCEEDED", "INFRA_RETRY")
        fences = [int(line.split()[2]) for line in witness.trace.read_text().splitlines() if line.startswith("start")]
        assert fences == sorted(set(fences))
        assert len(fences) == 2
        witness.assert_none_twice()
        return dict(second)


def event(observer: DockerObserver, action: str, execution: str) -> float:
    """When it happened, in seconds since the epoch."""
    found = wait_until(
        lambda: [one for one in observer.events(action) if one.execution_id == execution],
        message=f"{action} of {execution}",
    )
    return found[0].nanoseconds / 1e9


def test_the_watchdogs_kill_comes_before_the_store_gives_up(
    farm: SplitFarm, hosts: dict[str, DockerHost], observer: DockerObserver, task: str, witness: Witness
) -> None:
    """What it prints are the margins, in seconds."""
    job = Running(farm, hosts, task, witness)
    process.freeze(job.agent.agent_pid)
    stopped = time.time()
    lost = job.wait_lost()
    second = job.check_run_again(witness)
    died = event(observer, "die", job.first)
    began = event(observer, "start", second["executionId"])
    margins = {"silence": died - stopped, "before_lost": lost - died, "before_next_start": began - died}
    print("MARGIN", " ".join(f"{name}={seconds:.3f}" for name, seconds in margins.items()))
    assert died < lost < began
    # It did not wait for its agent, and was not hasty: the last beat may have been sent just before a full period.
    assert LOST_AFTER - 1 < died - stopped < LOST_AFTER + MARGIN
    os.kill(job.agent.agent_pid, signal.SIGCONT)
    wait_until(lambda: farm.rest.get(f"/agents/{job.name}")["state"] == "LIVE", 20)
    wait_until(lambda: not job.host.containers(label=f"easyq.task={task}"), 20)
    assert [one["state"] for one in job.executions] == ["LOST", "SUCCEEDED"]
    assert set(witness.ends()) == {second["executionId"]}


@pytest.mark.parametrize("wakes", ["both", "watchdog"])
def test_agent_and_watchdog_stopped_the_overlap_ends_when_they_wake(
    farm: SplitFarm, hosts: dict[str, DockerHost], task: str, witness: Witness, wakes: str
) -> None:
    job = Running(farm, hosts, task, witness)
    job.agent.freeze()
    job.check_run_again(witness)
    assert job.alive  # nobody could end it
    before = farm.rest.job(job.job_id)
    with DockerObserver([job.host]) as observer:
        woke = time.time()
        if wakes == "both":
            job.agent.thaw()
        else:
            os.kill(job.agent.pid, signal.SIGCONT)
        assert event(observer, "die", job.first) - woke < 2.0
    job.agent.thaw()
    wait_until(lambda: not job.host.containers(label=f"easyq.task={task}"), 20)
    after = farm.rest.job(job.job_id)
    assert (after["state"], after["lastModifiedAt"]) == ("SUCCEEDED", before["lastModifiedAt"])
    assert [one["state"] for one in after["executions"]] == ["LOST", "SUCCEEDED"]


def test_result_of_a_run_that_outlived_its_lease_is_refused(
    farm: SplitFarm, hosts: dict[str, DockerHost], task: str, witness: Witness
) -> None:
    """It came to its end, with 0, while agent and watchdog were stopped: too late all the same."""
    job = Running(farm, hosts, task, witness)
    job.agent.freeze()
    second = job.check_run_again(witness)
    (witness.folder / "go").touch()
    wait_until(lambda: not job.alive, 10)
    before = farm.rest.job(job.job_id)
    job.agent.thaw()
    wait_until(lambda: not job.host.containers(label=f"easyq.task={task}"), 20)
    after = farm.rest.job(job.job_id)
    assert after["lastModifiedAt"] == before["lastModifiedAt"]
    assert [one["state"] for one in after["executions"]] == ["LOST", "SUCCEEDED"]
    assert farm.rest.output(job.job_id, "stdout", second["executionId"]) == b"run 2\n"


def test_an_engine_and_an_agent_that_hang(
    farm: SplitFarm, hosts: dict[str, DockerHost], observer: DockerObserver, task: str, witness: Witness
) -> None:
    """The engine obeys nobody while it is stopped; the watchdog's kill is there when it goes on."""
    job = Running(farm, hosts, task, witness)
    process.freeze(job.agent.agent_pid)
    job.host.freeze()
    try:
        job.wait_lost()
        job.check_run_again(witness)
    finally:
        woke = time.time()
        job.host.thaw()
    assert event(observer, "die", job.first) - woke < 2.0
    os.kill(job.agent.agent_pid, signal.SIGCONT)
    wait_until(lambda: not job.host.containers(label=f"easyq.task={task}"), 20)
    assert [one["state"] for one in job.executions] == ["LOST", "SUCCEEDED"]


def test_what_waits_for_its_host_is_not_killed(
    farm: SplitFarm, hosts: dict[str, DockerHost], task: str, witness: Witness
) -> None:
    waiting = Running(farm, hosts, task, witness, onLost="wait")
    # Another of the same host shows that the watchdog has done its work.
    other = Running(farm, hosts, f"{task}-other", witness)
    if other.name != waiting.name:
        process.freeze(other.agent.agent_pid)
    process.freeze(waiting.agent.agent_pid)
    other.wait_lost()
    wait_until(lambda: "lease_lost" in waiting.log)
    assert waiting.alive
    assert [one["state"] for one in waiting.executions] == ["RUNNING"]
    (witness.folder / "go").touch()
    for one in {waiting.agent.agent_pid, other.agent.agent_pid}:
        os.kill(one, signal.SIGCONT)
    job = farm.rest.wait_job(waiting.job_id, 40)
    assert (job["state"], job["executionCount"]) == ("SUCCEEDED", 1)


@pytest.mark.parametrize("lost_after", [LONGER], indirect=True)
def test_either_is_killed_and_the_jobs_go_on(
    farm: SplitFarm, hosts: dict[str, DockerHost], task: str, witness: Witness
) -> None:
    """Of one host the watchdog, of the other one the agent."""
    watched = Running(farm, hosts, task, witness)
    farm.rest.post(f"/agents/{watched.name}/cordon")
    led = Running(farm, hosts, task, witness)
    assert farm.rest.call("DELETE", f"/agents/{watched.name}/cordon").status == 200
    killed = {job.name: job.agent.agent_pid for job in (watched, led)}
    os.kill(watched.agent.pid, signal.SIGKILL)
    os.kill(killed[led.name], signal.SIGKILL)
    wait_until(lambda: not any(map(process.alive, killed.values())), message="the agents have ended")
    # The agent ends with its first thread; the others may take longer.
    wait_until(lambda: not watched.agent.running, message="the watchdog has ended")
    watched.agent.start()  # as whoever supervises it would
    assert watched.alive
    assert led.alive
    # For longer than after silence.
    later = datetime.now(UTC) + timedelta(seconds=LONGER + MARGIN)
    for job in (watched, led):
        wait_until(lambda job=job: job.heard_at > later, LONGER + 20, message=f"{job.name} is heard after {later}")  # type: ignore[misc]
    (witness.folder / "go").touch()
    for job in (watched, led):
        done = farm.rest.wait_job(job.job_id, 40)
        assert (done["state"], done["executionCount"]) == ("SUCCEEDED", 1)
    witness.assert_none_twice()
