"""Stops of many jobs at once, by what they have in common, in whatever stage each is."""

import pytest

from tests.support.farm import Rest, SplitFarm, UpFarm, Witness, shell
from tests.support.waiting import wait_until

HELD = f"{Witness.START}; sleep 60"


@pytest.mark.timeout(180)
def test_by_task_in_every_stage(either: UpFarm | SplitFarm, task: str) -> None:
    """hashicorp/nomad#6325: cancel leaves the container running."""
    rest, witness = either.rest, Witness(either.mounts / task)
    more = {"mounts": witness.mounts, "stopGrace": "0s"}
    running = [rest.enqueue(task, shell(HELD, **more))["jobId"] for _ in range(6)]
    wait_until(lambda: sum(rest.job(one)["state"] == "RUNNING" for one in running) == 6, 40)
    wait_until(lambda: len(witness.starts()) == 6, 30)
    # All slots are taken: what follows waits.
    queued = [rest.enqueue(task, shell(HELD, **more))["jobId"] for _ in range(3)]
    later = rest.enqueue(task, shell(HELD, startIn="1h", **more))["jobId"]
    fires = rest.enqueue(task, shell(HELD, cron="@every 1h", **more))["jobId"]
    other = rest.enqueue(f"{task}-other", shell("true", startIn="1h"))["jobId"]
    selection = {"taskId": task}
    told = rest.post("/jobs/stop", {"selection": selection, "dryRun": True})
    assert {name: int(count) for name, count in told.items()} == {"matched": 11, "stopped": 0, "stopping": 0}
    assert rest.job(later)["state"] == "SCHEDULED"
    done = rest.post("/jobs/stop", {"selection": selection})
    assert {name: int(count) for name, count in done.items()} == {"matched": 11, "stopped": 5, "stopping": 6}
    jobs = rest.wait_all([*running, *queued, later, fires])
    assert {job["state"] for job in jobs} == {"STOPPED"}
    assert len(witness.starts()) == 6
    assert rest.job(other)["state"] == "SCHEDULED"
    again = rest.post("/jobs/stop", {"selection": selection})
    assert int(again["stopped"]) == int(again["stopping"]) == 0
    rest.stop(other)


def test_by_state_age_and_label(farm: UpFarm, rest: Rest, task: str) -> None:
    spec = shell("true", startIn="1h")
    red = [rest.enqueue(task, {**spec, "labels": {"colour": "red", "who": task}})["jobId"] for _ in range(2)]
    blue = rest.enqueue(f"{task}-b", {**spec, "labels": {"colour": "blue", "who": task}})["jobId"]

    def matched(**selection: object) -> int:
        return int(rest.post("/jobs/stop", {"selection": selection, "dryRun": True})["matched"])

    assert matched(label=[f"who={task}"]) == 3
    assert matched(label=[f"who={task}", "colour=red"]) == 2
    assert matched(taskPattern=f"{task}-.*") == 1
    assert matched(label=[f"who={task}"], state=["QUEUED"]) == 0
    assert matched(label=[f"who={task}"], olderThan="1h") == 0
    assert wait_until(lambda: matched(label=[f"who={task}"], olderThan="1s") == 3, 10)
    assert int(rest.post("/jobs/stop", {"selection": {"taskId": task, "state": ["SCHEDULED"]}})["stopped"]) == 2
    assert {rest.job(one)["state"] for one in red} == {"STOPPED"}
    assert rest.job(blue)["state"] == "SCHEDULED"
    rest.stop(blue)
