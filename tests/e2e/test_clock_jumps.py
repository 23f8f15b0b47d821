"""The services' wall clock jumps, forwards and back: fires come once or are missed, and durations don't notice."""

from pathlib import Path

import pytest

from tests.e2e.conftest import FarmMaker
from tests.e2e.fires import assert_decided_once
from tests.support.farm import Rest, UpFarm, Witness, shell
from tests.support.hosts import DockerHost
from tests.support.waiting import wait_until

HOUR_MS = 3_600_000
# Seconds; much less than the jumps, as is the time after which an agent is given up.
TIMEOUT = 90


class JumpingFarm:
    """`easyq up` whose services look at the clock through a file."""

    def __init__(self, farm: UpFarm, file: Path) -> None:
        self.farm = farm
        self._file = file

    def set_wrong(self, ms: int) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(str(ms), encoding="ascii")
        new.rename(self._file)


@pytest.fixture
def jumping(new_farm: FarmMaker, hosts: list[DockerHost], tmp_path: Path) -> JumpingFarm:
    file = tmp_path / "clock"
    return JumpingFarm(new_farm(hosts[:1], slots=6, env={"EASYQ_TEST_CLOCK_FILE": str(file)}), file)


def wait_runs(rest: Rest, job_id: str, more: int) -> None:
    goal = int(rest.job(job_id)["schedule"]["runs"]) + more
    wait_until(lambda: int(rest.job(job_id)["schedule"]["runs"]) >= goal, 30, message=f"{goal} fires have run")


def missed(rest: Rest, job_id: str, reason: str) -> int:
    return sum(skip["count"] for skip in rest.job(job_id)["schedule"]["skips"] if skip["reason"] == reason)


@pytest.mark.timeout(180)
def test_forwards_is_a_misfire_backwards_fires_nothing_twice_and_durations_go_on(
    jumping: JumpingFarm, task: str
) -> None:
    farm, rest = jumping.farm, jumping.farm.rest
    witness = Witness(farm.mounts / "w")
    held = f"{Witness.START}; until [ -e /witness/go ]; do sleep 0.1; done; {Witness.END}"
    running = rest.enqueue(task, shell(held, mounts=witness.mounts, timeout=f"{TIMEOUT}s"))["jobId"]
    wait_until(witness.starts, 30)
    [agent] = rest.get("/agents")["items"]
    tick = {"cron": "@every 1s", "overlap": "ALLOW", "misfireDeadline": "5s", "mounts": witness.mounts}
    reasons = {"ONCE": "COALESCED", "SKIP": "MISFIRED"}
    crons = {
        policy: rest.enqueue(f"{task}-{policy.lower()}", shell(Witness.START, misfire=policy, **tick))["jobId"]
        for policy in reasons
    }
    for offset in (HOUR_MS, 0, -HOUR_MS, HOUR_MS // 2):
        for job_id in crons.values():
            wait_runs(rest, job_id, 2)
        jumping.set_wrong(offset)
    for job_id in crons.values():
        wait_runs(rest, job_id, 2)
    rest.post("/jobs/stop", {"selection": {"taskId": f"{task}-once"}})
    rest.post("/jobs/stop", {"selection": {"taskId": f"{task}-skip"}})
    for policy, job_id in crons.items():
        rest.wait_job(job_id)
        # Of an hour's fires only the newest were made up for.
        assert missed(rest, job_id, reasons[policy]) >= HOUR_MS // 1000 - 10, policy
        assert_decided_once(rest, job_id)
    # Neither the timeout nor the agent's silence was counted by the wall clock.
    [after] = rest.get("/agents")["items"]
    assert (after["state"], after["session"]) == ("LIVE", agent["session"])
    assert rest.job(running)["state"] == "RUNNING"
    (witness.folder / "go").touch()
    job = rest.wait_job(running, 30)
    assert (job["state"], job["executionCount"]) == ("SUCCEEDED", 1)
    witness.assert_none_twice()
