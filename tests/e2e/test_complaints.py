"""What users of such systems suffer from, each shown to be otherwise; further ones stand beside what they are about."""

import pytest

from tests.e2e.agents import Agents
from tests.e2e.fires import ms
from tests.support.farm import Rest, SplitFarm, UpFarm, Witness, shell
from tests.support.hosts import DockerHost
from tests.support.redis_server import RedisServer
from tests.support.registry import Registry
from tests.support.registry_proxy import RegistryProxy
from tests.support.waiting import free_port, wait_until

SECRET = "hunter2-hunter2"


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_visibility_timeout_runs_a_long_job_twice(agents: Agents, split_hosts: list[DockerHost], task: str) -> None:
    """celery/kombu#337, riverqueue/river#682: a job may run for longer than its host may be silent."""
    rest, witness = agents.farm.rest, Witness(agents.farm.mounts / task)
    agents.rule(pool='lost_after = "9s"')
    for host in split_hosts:
        agents.start(host)
    script = f"{Witness.START}; sleep 15; {Witness.END}"
    job = rest.run(task, shell(script, mounts=witness.mounts))
    assert (job["state"], job["executionCount"]) == ("SUCCEEDED", 1)
    witness.assert_none_twice()
    assert witness.starts() == witness.ends()


@pytest.mark.parametrize("service", ["agent", "dispatcher", "store"])
def test_a_killed_process_loses_its_jobs(farm: UpFarm, rest: Rest, witness: Witness, task: str, service: str) -> None:
    """contribsys/faktory#268, sidekiq/sidekiq#3845: what was running goes on, without a second start."""
    script = f"{Witness.START}; until [ -e /witness/go ]; do sleep 0.05; done; echo end; {Witness.END}"
    ids = [rest.enqueue(task, shell(script, mounts=witness.mounts))["jobId"] for _ in range(3)]
    wait_until(lambda: len(witness.starts()) == 3, 30)
    farm.kill(service)
    (witness.folder / "go").touch()
    jobs = rest.wait_all(ids)
    assert {(job["state"], job["executionCount"]) for job in jobs} == {("SUCCEEDED", 1)}
    assert {rest.output(one, "stdout") for one in ids} == {b"end\n"}
    witness.assert_none_twice()


def test_endless_uncounted_retries(farm: UpFarm, rest: Rest, task: str) -> None:
    """armadaproject/armada#1077: what goes wrong around a job is counted, shown, and has an end."""
    image = f"127.0.0.1:{free_port()}/some/image:1"
    spec = {"image": image, "command": "true", "retries": 3, "infraRetries": 2}
    job = rest.wait_job(rest.enqueue(task, spec)["jobId"], 60)
    assert (job["state"], job["error"]["reason"], job["executionCount"]) == ("FAILED", "PULL_FAILED", 3)
    used = [(one["trigger"], one["retriesUsed"], one["infraRetriesUsed"]) for one in job["executions"]]
    assert used == [("ENQUEUE", 0, 0), ("INFRA_RETRY", 0, 1), ("INFRA_RETRY", 0, 2)]


def test_history_lost_at_restart(farm: UpFarm, rest: Rest, task: str) -> None:
    """hashicorp/nomad#13927, mher/flower#542."""
    job_id = rest.run(task, shell("echo kept; exit 3"))["jobId"]
    before = wait_until(lambda: (job := rest.job(job_id))["executions"][0]["logsComplete"] and job, 20)
    for service in ("store", "dispatcher", "agent"):
        farm.kill(service)
    assert rest.wait_job(job_id) == before
    assert rest.output(job_id, "stdout") == b"kept\n"
    assert [job["jobId"] for job in rest.get(f"/errors?taskId={task}&reason=NONZERO_EXIT")["items"]] == [job_id]


def test_agents_do_not_come_back_after_redis_restarted(
    split_farm: SplitFarm, split_redis: RedisServer, task: str
) -> None:
    """woodpecker-ci/woodpecker#4446, celery/celery#8091. Redis comes back empty."""
    rest, witness = split_farm.rest, Witness(split_farm.mounts / task)
    held = f"{Witness.START}; until [ -e /witness/go ]; do sleep 0.05; done"
    first = rest.enqueue(task, shell(held, mounts=witness.mounts))["jobId"]
    wait_until(witness.starts, 30)
    split_redis.kill()
    during = rest.enqueue(task, shell("true"))["jobId"]
    split_redis.start()
    assert rest.wait_job(during)["state"] == "SUCCEEDED"
    (witness.folder / "go").touch()
    assert rest.wait_job(first)["executionCount"] == 1
    witness.assert_none_twice()


@pytest.mark.parametrize(
    ("cron", "start", "fires"),
    [
        # The clock goes from 01:00 to 02:00 on 2031-03-30: the time that does not come fires at the end of the gap.
        ("30 1 * * *", "2031-03-29T12:00:00Z", ["2031-03-30T01:00:00.000Z", "2031-03-31T00:30:00.000Z"]),
        # It goes from 02:00 back to 01:00 on 2031-10-26: the time that comes twice fires once.
        ("30 1 * * *", "2031-10-25T12:00:00Z", ["2031-10-26T00:30:00.000Z", "2031-10-27T01:30:00.000Z"]),
        # A pace stays a pace.
        ("*/30 * * * *", "2031-10-26T00:20:00Z", ["2031-10-26T00:30:00.000Z", "2031-10-26T01:00:00.000Z"]),
    ],
)
def test_cron_floods_skips_or_stops_at_the_clock_change(
    rest: Rest, task: str, cron: str, start: str, fires: list[str]
) -> None:
    """hashicorp/nomad#5410, #7289."""
    spec = shell("true", cron=cron, timeZone="Europe/London", startAfter=start)
    assert rest.enqueue(task, spec, validateOnly="true")["nextFires"][:2] == fires


@pytest.mark.timeout(180)
def test_registry_rate_limits_fail_jobs(
    agents: Agents, split_hosts: list[DockerHost], registry: Registry, task: str
) -> None:
    """PrefectHQ/prefect#12003. The job waits as long as the registry asks for, and no attempt of it is counted."""
    rest = agents.farm.rest
    agents.start(split_hosts[0])
    with RegistryProxy(registry) as proxy:
        image = proxy.image(registry.push_example(split_hosts[0], name=f"team/{task}"))
        proxy.busy, proxy.retry_after = True, "600"
        job_id = rest.enqueue(task, {"image": image, "command": "true", "infraRetries": 0})["jobId"]
        waiting = wait_until(
            lambda: (one := rest.job(job_id)["waiting"]) and one["reason"] == "IMAGE_BREAKER" and one, 60
        )
        assert ms(waiting["nextLookAt"]) - ms(waiting["since"]) > 300_000
        assert "429" in waiting["message"] or "rate limit" in waiting["message"].lower()
        assert rest.run(task, shell("true"))["state"] == "SUCCEEDED"
        proxy.busy = False
        rest.post("/breakers/reset", {"kind": "IMAGE", "subject": image})
        job = rest.wait_job(job_id)
    assert (job["state"], job["executionCount"]) == ("SUCCEEDED", 1)


def test_secrets_visible_in_plans_logs_and_pages(farm: UpFarm, rest: Rest, task: str) -> None:
    """hashicorp/nomad#7109, for jobs that recur and for those that gave up."""
    spec = {**shell("true", cron="@every 1h"), "envs": {"DB_PASSWORD": SECRET}}
    assert SECRET not in str(rest.enqueue(task, spec, validateOnly="true"))
    job_id = rest.enqueue(task, spec)["jobId"]
    failed = rest.run(task, {**shell(f"[ ${{#DB_PASSWORD}} = {len(SECRET)} ] && exit 9"), "envs": spec["envs"]})
    assert failed["executions"][0]["exitCode"] == 9
    paths = (f"/jobs/{job_id}", f"/jobs/{job_id}/schedule", f"/errors?taskId={task}", f"/jobs/{failed['jobId']}")
    for path in (*paths, f"/tasks/{task}/jobs", f"/executions?taskId={task}"):
        assert SECRET not in str(rest.call("GET", path).body), path
    assert SECRET not in farm.log
    rest.stop(job_id)
