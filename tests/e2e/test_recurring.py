"""Recurring jobs: each nominal time once, overlaps, pauses, triggers, changed schedules, what is told and refused."""

from collections.abc import Iterator

import grpc
import pytest

from easyq.v1 import job_pb2, job_service_pb2, spec_pb2
from easyq.v1.job_service_pb2_grpc import JobServiceStub
from tests.e2e.fires import assert_decided_once, at, first_attempts, ms
from tests.support.farm import DockerObserver, Rest, SplitFarm, UpFarm, Witness, shell
from tests.support.hosts import EXAMPLE_IMAGE, DockerHost
from tests.support.waiting import wait_until

# Goes on until somebody puts a file beside it: a test says when, not the clock.
HELD = f"{Witness.START}; until [ -e /witness/go ]; do sleep 0.05; done; {Witness.END}"


def runs(rest: Rest, job_id: str) -> int:
    return int(rest.job(job_id)["schedule"]["runs"])


def running(rest: Rest, job_id: str) -> list[str]:
    return [one["executionId"] for one in rest.job(job_id)["executions"] if one["state"] == "RUNNING"]


def wait_fires(rest: Rest, job_id: str, count: int) -> None:
    """Until so many more have run."""
    goal = runs(rest, job_id) + count
    wait_until(lambda: runs(rest, job_id) >= goal, 30, message=f"{goal} fires have run")


def skips(rest: Rest, job_id: str) -> dict[str, int]:
    """How many fires were skipped, by reason."""
    found: dict[str, int] = {}
    for skip in rest.job(job_id)["schedule"]["skips"]:
        found[skip["reason"]] = found.get(skip["reason"], 0) + skip["count"]
    return found


@pytest.fixture
def metronome(farm: UpFarm, rest: Rest, task: str) -> Iterator[str]:
    """A job that fires once a second, by which a test sees that time has passed for others too."""
    job_id: str = rest.enqueue(f"{task}-metronome", shell("true", cron="@every 1s"))["jobId"]
    yield job_id
    rest.stop(job_id)


@pytest.fixture(autouse=True)
def nothing_fires_on(request: pytest.FixtureRequest, task: str) -> Iterator[None]:
    """What a test that failed leaves behind would fire for ever."""
    farm = next(
        request.getfixturevalue(name) for name in ("either", "split_farm", "farm") if name in request.fixturenames
    )
    yield
    farm.rest.post("/jobs/stop", {"selection": {"taskId": task}})


# ------------------------------------------------------------------------------------------------------ each time once
def test_each_nominal_time_fires_once_and_the_job_expires_after_its_runs(either: UpFarm | SplitFarm, task: str) -> None:
    """dkron-io/dkron#1210, hashicorp/nomad#2721, celery/celery#1495: fires doubled by a second scheduler."""
    rest, witness = either.rest, Witness(either.mounts / task)
    script = f"{Witness.START}; {Witness.END}"
    spec = shell(script, cron="@every 1s", overlap="ALLOW", maxRuns=4, mounts=witness.mounts)
    job_id = rest.enqueue(task, spec)["jobId"]
    assert rest.job(job_id)["state"] == "ACTIVE"
    job = rest.wait_job(job_id)
    ran = assert_decided_once(rest, job_id)
    anchor = ms(job["schedule"]["anchor"])
    assert (job["state"], ran) == ("EXPIRED", [anchor + n * 1000 for n in (1, 2, 3, 4)])
    assert (job["nextRunAt"], job["schedule"]["nextFireAt"], job["executionCount"]) == (None, None, 4)
    executions = first_attempts(rest, job_id)
    assert [one["state"] for one in executions] == ["SUCCEEDED"] * 4
    assert all(at(one["startedAt"]) >= at(one["fireAt"]) for one in executions)
    # What containers were told grows with the fires, and each ran once.
    lines = [line.split() for line in witness.trace.read_text(encoding="ascii").splitlines()]
    fences = {line[1]: int(line[2]) for line in lines if line[0] == "start"}
    assert [fences[one["executionId"]] for one in executions] == [1, 2, 3, 4]
    assert witness.starts() == witness.ends() == dict.fromkeys(fences, 1)


def test_a_retry_of_a_fire_belongs_to_it(farm: UpFarm, rest: Rest, task: str) -> None:
    spec = shell('[ "$EASYQ_FENCE" != 1 ]', cron="@every 1s", maxRuns=2, retries=3, backoff={"min": "10ms"})
    job_id = rest.enqueue(task, spec)["jobId"]
    assert rest.wait_job(job_id)["state"] == "EXPIRED"
    executions = rest.executions(job_id)
    assert [one["fence"] for one in executions] == list(range(1, len(executions) + 1))
    [retry] = [one for one in executions if one["trigger"] == "RETRY"]
    assert (retry["fireAt"], retry["retriesUsed"], retry["state"]) == (executions[0]["fireAt"], 1, "SUCCEEDED")
    assert_decided_once(rest, job_id)


def test_everything_is_killed_between_fires(farm: UpFarm, task: str) -> None:
    """dkron-io/dkron#1210: cron stops after a leader change. Nothing is lost or doubled over kills of all."""
    rest, witness = farm.rest, Witness(farm.mounts / task)
    spec = shell(Witness.START, cron="@every 1s", overlap="ALLOW", misfire="ALL", mounts=witness.mounts)
    job_id = rest.enqueue(task, spec)["jobId"]
    for service in ("scheduler", "store", "all"):
        wait_until(lambda: runs(rest, job_id) >= 1, 30)
        wait_fires(rest, job_id, 1)
        if service == "all":
            farm.kill_all()
            farm.start()
        else:
            farm.kill(service)
        wait_until(rest.accepting, 30)
    wait_fires(rest, job_id, 2)
    rest.stop(job_id)
    rest.wait_job(job_id)
    ran = assert_decided_once(rest, job_id)
    # All of it was within the deadline for misfires, so that nothing was skipped.
    assert (skips(rest, job_id), len(ran)) == ({}, len(set(ran)))
    witness.assert_none_twice()


def test_a_scheduler_is_killed_and_the_other_goes_on(split_farm: SplitFarm, task: str) -> None:
    """dkron-io/dkron#1210: cron stops after a leader change."""
    rest, witness = split_farm.rest, Witness(split_farm.mounts / task)
    spec = shell(Witness.START, cron="@every 1s", overlap="ALLOW", mounts=witness.mounts)
    job_id = rest.enqueue(task, spec)["jobId"]
    one, two = split_farm.schedulers
    for dead in ((one,), (two,), (one, two), (split_farm.store,)):
        wait_fires(rest, job_id, 1)
        for service in dead:
            service.kill()
        if len(dead) == 1 and dead[0] is not split_farm.store:
            wait_fires(rest, job_id, 2)
        for service in dead:
            service.start()
        wait_until(rest.accepting, 30)
    wait_fires(rest, job_id, 2)
    rest.stop(job_id)
    rest.wait_job(job_id)
    assert_decided_once(rest, job_id)
    assert skips(rest, job_id) == {}
    witness.assert_none_twice()


# ------------------------------------------------------------------------------------------------------------- overlap
def test_overlap_skip(farm: UpFarm, rest: Rest, task: str, witness: Witness, hosts: list[DockerHost]) -> None:
    """hashicorp/nomad#11052: overlap despite prohibition."""
    with DockerObserver(hosts) as observer:
        job_id = rest.enqueue(task, shell(HELD, cron="@every 1s", maxRuns=2, mounts=witness.mounts))["jobId"]
        wait_until(lambda: skips(rest, job_id).get("OVERLAP", 0) >= 2, 30)
        assert (runs(rest, job_id), len(running(rest, job_id))) == (1, 1)
        (witness.folder / "go").touch()
        assert rest.wait_job(job_id)["state"] == "EXPIRED"
    executions = {one["executionId"] for one in rest.executions(job_id)}
    assert observer.most_at_once(lambda event: event.execution_id in executions) == 1
    assert len(assert_decided_once(rest, job_id)) == 2
    assert set(skips(rest, job_id)) == {"OVERLAP"}


def test_overlap_allow(farm: UpFarm, rest: Rest, task: str, witness: Witness) -> None:
    spec = shell(HELD, cron="@every 1s", overlap="allow", maxRuns=2, mounts=witness.mounts)
    job_id = rest.enqueue(task, spec)["jobId"]
    wait_until(lambda: len(running(rest, job_id)) == 2, 30)
    # The last fire was made; it is EXPIRED when that has ended.
    assert rest.job(job_id)["state"] == "ACTIVE"
    (witness.folder / "go").touch()
    assert rest.wait_job(job_id)["state"] == "EXPIRED"
    assert {one["state"] for one in rest.executions(job_id)} == {"SUCCEEDED"}


def test_overlap_queue_keeps_one(farm: UpFarm, rest: Rest, task: str, witness: Witness) -> None:
    spec = shell(HELD, cron="@every 1s", overlap="QUEUE", maxRuns=3, mounts=witness.mounts)
    job_id = rest.enqueue(task, spec)["jobId"]
    wait_until(lambda: skips(rest, job_id).get("ONE_WAITS", 0) >= 2, 30)
    job = rest.job(job_id)
    assert len(running(rest, job_id)) == 1
    assert ms(job["schedule"]["waitingFireAt"]) == ms(job["executions"][0]["fireAt"]) + 1000
    told = rest.get(f"/jobs/{job_id}/explain")["waiting"]
    assert told["reason"] == "OVERLAP"
    assert job["waiting"]["reason"] == "OVERLAP"
    (witness.folder / "go").touch()
    assert rest.wait_job(job_id)["state"] == "EXPIRED"
    ran = assert_decided_once(rest, job_id)
    assert ran[1] == ran[0] + 1000
    assert [one["state"] for one in rest.executions(job_id)] == ["SUCCEEDED"] * 3
    witness.assert_none_twice()


def test_overlap_replace_stops_the_one_before(
    farm: UpFarm, rest: Rest, task: str, witness: Witness, hosts: list[DockerHost]
) -> None:
    spec = shell(HELD, cron="@every 1s", overlap="REPLACE", maxRuns=3, mounts=witness.mounts, stopGrace="0s")
    with DockerObserver(hosts) as observer:
        job_id = rest.enqueue(task, spec)["jobId"]
        wait_until(lambda: runs(rest, job_id) == 3 and running(rest, job_id), 40)
        wait_until(lambda: not rest.job(job_id)["schedule"]["waitingFireAt"], 20)
        (witness.folder / "go").touch()
        job = rest.wait_job(job_id)
    executions = rest.executions(job_id)
    states = [one["state"] for one in executions]
    assert (job["state"], states[0], states[-1], set(states[:-1])) == ("EXPIRED", "STOPPED", "SUCCEEDED", {"STOPPED"})
    ids = {one["executionId"] for one in executions}
    assert observer.most_at_once(lambda event: event.execution_id in ids) == 1
    assert_decided_once(rest, job_id)
    assert set(skips(rest, job_id)) <= {"REPLACED"}


# ---------------------------------------------------------------------------------------------------- steering
def test_pause_and_resume(farm: UpFarm, rest: Rest, task: str, metronome: str) -> None:
    """riverqueue/river#1035, kubernetes/kubernetes#42649: one fire for all that were missed, and then it goes on."""
    spec = shell("true", cron="@every 1s", overlap="ALLOW", misfireDeadline="1s")
    job_id = rest.enqueue(task, spec)["jobId"]
    wait_fires(rest, job_id, 1)
    paused = rest.post(f"/jobs/{job_id}/pause")["job"]
    assert (paused["state"], paused["waiting"]["reason"]) == ("PAUSED", "PAUSED")
    assert rest.post(f"/jobs/{job_id}/pause")["job"]["schedule"]["pausedAt"] == paused["schedule"]["pausedAt"]
    before = runs(rest, job_id)
    wait_fires(rest, metronome, 4)
    job = rest.job(job_id)
    assert (job["state"], runs(rest, job_id), job["schedule"]["nextFireAt"]) == ("PAUSED", before, None)
    assert rest.get(f"/jobs/{job_id}/explain")["waiting"]["reason"] == "PAUSED"
    assert rest.post(f"/jobs/{job_id}/resume")["job"]["state"] == "ACTIVE"
    assert rest.post(f"/jobs/{job_id}/resume")["job"]["state"] == "ACTIVE"
    wait_fires(rest, job_id, 2)
    # One for all that were missed, which is what `misfire` says by default.
    assert skips(rest, job_id)["COALESCED"] >= 2
    rest.stop(job_id)
    rest.wait_job(job_id)
    assert_decided_once(rest, job_id)


def test_what_was_missed_is_skipped_where_misfire_says_so(farm: UpFarm, rest: Rest, task: str, metronome: str) -> None:
    spec = shell("true", cron="@every 1s", misfire="SKIP", misfireDeadline="1s")
    job_id = rest.enqueue(task, spec)["jobId"]
    wait_fires(rest, job_id, 1)
    rest.post(f"/jobs/{job_id}/pause")
    wait_fires(rest, metronome, 4)
    rest.post(f"/jobs/{job_id}/resume")
    wait_fires(rest, job_id, 1)
    rest.stop(job_id)
    assert skips(rest, job_id)["MISFIRED"] >= 2
    rest.wait_job(job_id)
    assert_decided_once(rest, job_id)


def test_trigger(farm: UpFarm, rest: Rest, task: str, witness: Witness) -> None:
    """It runs beside the schedule, within its overlap, also while it is paused."""
    job_id = rest.enqueue(task, shell(HELD, cron="@every 1h", mounts=witness.mounts))["jobId"]
    rest.post(f"/jobs/{job_id}/pause")
    answer = rest.post(f"/jobs/{job_id}/trigger")
    wait_until(lambda: running(rest, job_id) == [answer["executionId"]], 30)
    refused = rest.call("POST", f"/jobs/{job_id}/trigger")
    assert (refused.status, refused.error["reason"]) == (409, "OVERLAP")
    (witness.folder / "go").touch()
    wait_until(lambda: rest.job(job_id)["executions"][0]["state"] == "SUCCEEDED", 30)
    [execution] = rest.executions(job_id)
    assert (execution["trigger"], execution["fireAt"]) == ("MANUAL", None)
    job = rest.job(job_id)
    assert (job["state"], job["schedule"]["runs"]) == ("PAUSED", 0)
    rest.stop(job_id)


def test_trigger_of_a_job_that_waits_for_its_time(farm: UpFarm, rest: Rest, task: str) -> None:
    job_id = rest.enqueue(task, shell("true", startIn="1h"))["jobId"]
    assert rest.post(f"/jobs/{job_id}/trigger")["executionId"] == rest.job(job_id)["executions"][0]["executionId"]
    assert rest.wait_job(job_id)["state"] == "SUCCEEDED"
    refused = rest.call("POST", f"/jobs/{job_id}/trigger")
    assert (refused.status, refused.error["reason"]) == (409, "ILLEGAL_STATE")
    back = rest.enqueue(task, shell('[ "$EASYQ_FENCE" != 1 ]', retries=1, backoff={"min": "1h", "max": "1h"}))["jobId"]
    wait_until(lambda: rest.job(back)["state"] == "RETRYING", 20)
    rest.post(f"/jobs/{back}/trigger")
    assert rest.wait_job(back)["state"] == "SUCCEEDED"


def test_stop_between_fires_is_final(farm: UpFarm, rest: Rest, task: str, metronome: str) -> None:
    job_id = rest.enqueue(task, shell("true", cron="@every 1s"))["jobId"]
    wait_until(lambda: runs(rest, job_id) and not running(rest, job_id), 30)
    wait_until(lambda: rest.stop(job_id)["outcome"] == "STOPPED", 20)
    count = len(rest.executions(job_id))
    wait_fires(rest, metronome, 2)
    job = rest.job(job_id)
    assert (job["state"], job["nextRunAt"], len(rest.executions(job_id))) == ("STOPPED", None, count)
    for verb in ("pause", "resume", "trigger"):
        refused = rest.call("POST", f"/jobs/{job_id}/{verb}")
        assert (refused.status, refused.error["reason"]) == (409, "ILLEGAL_STATE")
    assert rest.get(f"/jobs/{job_id}/schedule")["nextFires"] == []


def test_a_stop_reaches_what_runs_and_what_waits_for_it(farm: UpFarm, rest: Rest, task: str, witness: Witness) -> None:
    spec = shell(HELD, cron="@every 1s", overlap="QUEUE", mounts=witness.mounts, stopGrace="0s")
    job_id = rest.enqueue(task, spec)["jobId"]
    wait_until(lambda: rest.job(job_id)["schedule"]["waitingFireAt"] and running(rest, job_id), 30)
    assert rest.stop(job_id)["outcome"] == "STOPPING"
    job = rest.wait_job(job_id)
    # The fire that waited is on record as well, and never began.
    assert (job["state"], {one["state"] for one in job["executions"]}) == ("STOPPED", {"STOPPED"})
    assert job["schedule"]["waitingFireAt"] is None
    assert_decided_once(rest, job_id)
    assert sum(witness.starts().values()) == 1


def test_put_changes_a_running_schedule(farm: UpFarm, rest: Rest, task: str, witness: Witness) -> None:
    """What runs goes on as it was; the new times count from the change."""
    path = f"/tasks/{task}/jobs/{task}-nightly"
    assert rest.call("PUT", path, shell(HELD, cron="@every 1s", mounts=witness.mounts)).json()["created"]
    job_id = f"{task}-nightly"
    wait_until(lambda: running(rest, job_id), 30)
    before = rest.job(job_id)
    changed = rest.call("PUT", path, shell("echo new", cron="@every 1h")).json()["job"]
    assert (changed["state"], changed["revision"]) == ("ACTIVE", 2)
    assert ms(changed["schedule"]["anchor"]) > ms(before["schedule"]["anchor"])
    told = rest.get(f"{path}/schedule?next=3")
    anchor = ms(told["schedule"]["anchor"])
    assert (told["cron"], [ms(one) for one in told["nextFires"]]) == (
        "@every 1h",
        [anchor + n * 3_600_000 for n in (1, 2, 3)],
    )
    wait_until(lambda: rest.job(job_id)["schedule"]["nextFireAt"] == told["nextFires"][0], 10)
    assert len(running(rest, job_id)) == 1
    (witness.folder / "go").touch()
    wait_until(lambda: rest.job(job_id)["executions"][-1]["state"] == "SUCCEEDED", 20)
    assert {one["specRevision"] for one in rest.executions(job_id)} == {1}
    # The new spec with the schedule as it is moves no fire.
    rest.call("PUT", path, shell("echo newer", cron="@every 1h"))
    assert rest.job(job_id)["schedule"]["anchor"] == told["schedule"]["anchor"]
    execution = rest.post(f"/jobs/{job_id}/trigger")["executionId"]
    wait_until(lambda: rest.output(job_id, "stdout", execution) == b"newer\n", 20)
    refused = rest.call("PUT", path, shell("true"))
    assert (refused.status, refused.error["reason"]) == (409, "ILLEGAL_STATE")
    rest.stop(job_id)


# ------------------------------------------------------------------------------------------ told and refused
def test_the_coming_fires_are_told_without_storing_anything(farm: UpFarm, rest: Rest, task: str) -> None:
    spec = shell("true", cron="30 4 * * mon-fri", timeZone="Europe/London", startAfter="2031-03-28T00:00:00Z")
    answer = rest.enqueue(task, spec, validateOnly="true")
    # The clock changes on Sunday, 2031-03-30.
    assert answer["nextFires"][:2] == ["2031-03-28T04:30:00.000Z", "2031-03-31T03:30:00.000Z"]
    assert (len(answer["nextFires"]), answer["spec"]["overlap"]) == (10, "SKIP")
    assert rest.call("GET", f"/tasks/{task}").status == 404
    job_id = rest.enqueue(task, spec)["jobId"]
    assert rest.get(f"/jobs/{job_id}/schedule?next=10")["nextFires"] == answer["nextFires"]
    job = wait_until(lambda: (one := rest.job(job_id))["nextRunAt"] and one, 10)
    assert (job["nextRunAt"], job["waiting"]["reason"]) == (answer["nextFires"][0], "NOT_DUE")
    rest.stop(job_id)


def test_h_spreads_jobs_over_the_hour(farm: UpFarm, rest: Rest, task: str) -> None:
    """hashicorp/nomad#17024, dkron-io/dkron#866: everything fires at :00."""
    ids = [rest.enqueue(task, shell("true", cron="H * * * *"))["jobId"] for _ in range(20)]
    minutes = [{at(one).minute for one in rest.get(f"/jobs/{job}/schedule?next=5")["nextFires"]} for job in ids]
    assert all(len(one) == 1 for one in minutes)
    assert len(set.union(*minutes)) > 5
    for job_id in ids:
        rest.stop(job_id)


def test_jitter_delays_each_fire_and_moves_no_nominal_time(farm: UpFarm, rest: Rest, task: str) -> None:
    """hashicorp/nomad#17024: wanted: jitter."""
    spec = shell("true", cron="@every 1s", jitter="1s", overlap="ALLOW", maxRuns=4)
    job_id = rest.enqueue(task, spec)["jobId"]
    assert rest.wait_job(job_id)["state"] == "EXPIRED"
    assert_decided_once(rest, job_id)
    delays = [ms(one["dueAt"]) - ms(one["fireAt"]) for one in rest.executions(job_id)]
    assert all(0 <= delay <= 1000 for delay in delays)
    assert len(set(delays)) > 1


BAD = {"cron": "61 * * * *", "timeZone": "Mars/Olympus"}


def test_bad_expression_and_zone_are_both_named_and_nothing_is_stored(farm: UpFarm, rest: Rest, task: str) -> None:
    for method, path in (("POST", f"/tasks/{task}"), ("PUT", f"/tasks/{task}/jobs/{task}-x")):
        answer = rest.call(method, path, shell("true", **BAD))
        assert (answer.status, set(answer.fields)) == (400, {"spec.cron", "spec.timeZone"})
    assert rest.call("GET", f"/tasks/{task}").status == 404


def test_by_grpc(farm: UpFarm, task: str) -> None:
    spec = spec_pb2.JobSpec(image=EXAMPLE_IMAGE, command=["true"], cron="@every 1s", max_runs=1)
    with grpc.insecure_channel(farm.grpc_address) as channel:
        jobs = JobServiceStub(channel)
        made = jobs.CreateJob(job_service_pb2.CreateJobRequest(task_id=task, spec=spec), timeout=10)
        request = job_service_pb2.GetJobRequest(job_id=made.job_id)
        wait_until(lambda: jobs.GetJob(request, timeout=10).state == job_pb2.Job.EXPIRED, 30)
        job = jobs.GetJob(request, timeout=10)
    [execution] = job.executions
    assert execution.fire_at.ToMilliseconds() == job.schedule.anchor.ToMilliseconds() + 1000
