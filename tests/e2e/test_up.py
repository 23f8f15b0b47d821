"""`easyq up` itself: its one line, its end, its restarts, who may run beside it."""

import json
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
import requests

from tests.e2e.conftest import FarmMaker
from tests.support import process
from tests.support.farm import Rest, UpFarm, Witness, chatty, shell
from tests.support.farm.processes import SERVICES
from tests.support.farm.up import EASYQ
from tests.support.hosts import DockerHost
from tests.support.plugin import DockerFactory
from tests.support.redis_server import RedisServer
from tests.support.waiting import wait_until


@pytest.fixture
def host(dockerd: DockerFactory) -> DockerHost:
    return dockerd("c")


@pytest.fixture(scope="module")
def shared_lone_farm(dockerd: DockerFactory) -> Iterator[UpFarm]:
    farm = UpFarm([dockerd("c")])
    yield farm
    farm.close()


@pytest.fixture
def lone_farm(shared_lone_farm: UpFarm, host: DockerHost) -> UpFarm:
    """One with one agent, which tests stop and start as they like; each finds it running."""
    if not shared_lone_farm.running:
        shared_lone_farm.start()
    return shared_lone_farm


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_it_says_one_line_and_ends_with_status_0_and_nothing_left(
    new_farm: FarmMaker, host: DockerHost, sig: signal.Signals
) -> None:
    farm = new_farm([host])
    assert farm.stdout == f"ready {farm.rest.url}\n"
    assert farm.rest.run("first", shell("true"))["state"] == "SUCCEEDED"
    children = [pid for service in (*SERVICES, "redis") for pid in farm.pids(service)]
    assert len(children) >= len(SERVICES) + 1
    assert farm.stop(sig, timeout=20) == 0
    assert not [pid for pid in children if process.alive(pid)]
    log = farm.log
    assert "Traceback" not in log
    # Each line is an event of a service or of the supervisor, and says so.
    assert {json.loads(line)["service"] for line in log.splitlines()} == {*SERVICES, "up"}


def test_running_containers_are_adopted_by_the_next_one(lone_farm: UpFarm, host: DockerHost) -> None:
    farm, witness = lone_farm, Witness(lone_farm.mounts / "adopted")
    # One that ends while nothing runs, and one that ends later.
    short = chatty(1, stdout=5000, stderr=3000, parts=4, pause=0.5, exit_code=3, witness=witness)
    script = (
        f"{Witness.START}; echo begin; until [ -e /witness/go ]; do sleep 0.1; done; echo end; {Witness.END}; exit 4"
    )
    jobs = [
        farm.rest.enqueue("short", short.spec)["jobId"],
        farm.rest.enqueue("long", shell(script, mounts=witness.mounts))["jobId"],
    ]
    wait_until(lambda: len(witness.starts()) == 2, 20)
    assert farm.stop() == 0
    assert len(host.containers(status="running")) >= 1
    wait_until(lambda: len(witness.ends()) == 1, 20)
    farm.start()
    (witness.folder / "go").touch()
    first, second = farm.rest.wait_all(jobs)
    assert (first["executionCount"], first["executions"][0]["exitCode"]) == (1, 3)
    assert (second["executionCount"], second["executions"][0]["exitCode"]) == (1, 4)
    assert farm.rest.output(jobs[0], "stdout") == short.stdout
    assert farm.rest.output(jobs[0], "stderr") == short.stderr
    assert farm.rest.output(jobs[1], "stdout") == b"begin\nend\n"
    assert witness.starts() == witness.ends() == {job["executions"][0]["executionId"]: 1 for job in (first, second)}
    # The agent removes a container once its end is acknowledged, which is a moment after the job shows it.
    wait_until(lambda: not host.containers(label="easyq.farm"), 20, message="no container is left")


def test_down_stops_the_jobs_as_well(lone_farm: UpFarm, host: DockerHost) -> None:
    farm = lone_farm
    job_id = farm.rest.enqueue("task", shell("echo begin; sleep 300", stopGrace="0s"))["jobId"]
    wait_until(lambda: farm.rest.output(job_id, "stdout") == b"begin\n", 20)
    done = farm.cli("down", "--data", str(farm.data), "--stop-jobs")
    assert done.returncode == 0, done.stderr
    wait_until(lambda: not farm.running, 20)
    assert not host.containers(status="running")
    farm.start()
    assert farm.rest.wait_job(job_id)["state"] == "STOPPED"
    done = farm.cli("down", "--data", str(farm.data))
    assert done.returncode == 0
    wait_until(lambda: not farm.running, 20)


def test_recurring_jobs_go_on_after_a_down_that_stops_jobs(lone_farm: UpFarm, host: DockerHost) -> None:
    """But not one that its owner had paused."""
    farm, rest = lone_farm, lone_farm.rest
    spec = shell("sleep 300", stopGrace="0s", cron="@every 1s", overlap="ALLOW")
    fires, rests = (rest.enqueue(task, spec)["jobId"] for task in ("fires", "rests"))
    wait_until(lambda: all(rest.job(job_id)["schedule"]["runs"] for job_id in (fires, rests)), 20)
    rest.post(f"/jobs/{rests}/pause")
    wait_until(lambda: len(host.containers(label="easyq.farm", status="running")) >= 3, 20)
    done = farm.cli("down", "--data", str(farm.data), "--stop-jobs")
    assert done.returncode == 0, done.stderr
    wait_until(lambda: not farm.running, 20)
    assert not host.containers(label="easyq.farm", status="running")
    [note] = json.loads((farm.data / "paused.json").read_text(encoding="utf-8"))
    assert (note["job_id"], note["task_id"]) == (fires, "fires")
    farm.start()
    wait_until(lambda: "1 recurring job goes on" in farm.log, 20)
    assert not (farm.data / "paused.json").exists()
    assert [rest.job(job_id)["state"] for job_id in (fires, rests)] == ["ACTIVE", "PAUSED"]
    wait_until(lambda: any(run["state"] == "RUNNING" for run in rest.executions(fires)), 20)
    paused = datetime.fromtimestamp(note["paused_at"] / 1000, UTC)
    old = [run for run in rest.executions(fires) if datetime.fromisoformat(run["fireAt"]) <= paused]
    assert {run["state"] for run in (*old, *rest.executions(rests))} == {"STOPPED"}
    rest.post("/jobs/stop", {"selection": {"taskPattern": "fires|rests"}})


def test_two_farms_on_one_docker_engine_leave_each_other_alone(
    new_farm: FarmMaker, host: DockerHost, new_redis: Callable[..., RedisServer]
) -> None:
    """And on one Redis: neither takes the work of the other for its own."""
    redis = new_redis()
    one, two = (new_farm([host], arguments=["--redis", redis.url]) for _ in range(2))
    witness = Witness(one.mounts / "w")
    script = f"{Witness.START}; until [ -e /witness/go ]; do sleep 0.1; done; {Witness.END}"
    job_id = one.rest.enqueue("mine", shell(script, mounts=witness.mounts))["jobId"]
    wait_until(witness.starts, 20)
    two.kill("runner")
    two.kill("dispatcher")
    assert two.rest.run("theirs", shell("true"))["executionCount"] == 1
    (witness.folder / "go").touch()
    job = one.rest.wait_job(job_id)
    assert (job["state"], job["executionCount"]) == ("SUCCEEDED", 1)
    assert {agent["running"] for agent in two.rest.get("/agents")["items"]} == {0}


def test_a_second_one_on_the_same_data_is_refused(farm: UpFarm, new_farm: FarmMaker) -> None:
    second = new_farm(start=False)
    second.data = farm.data
    with pytest.raises(RuntimeError, match=str(farm.pid)):
        second.start()
    assert not second.ready_url()
    assert farm.rest.accepting()


@pytest.mark.parametrize("service", [*SERVICES, "redis"])
def test_a_service_that_crashes_is_restarted(farm: UpFarm, rest: Rest, task: str, service: str) -> None:
    killed = farm.kill(service)
    wait_until(lambda: len(farm.pids(service)) == len(killed), 30, message=f"{service} is back")
    assert not set(killed) & set(farm.pids(service))
    wait_until(rest.accepting, 20)
    answer = rest.enqueue(task, shell("true"), key="k")
    assert rest.wait_job(answer["jobId"])["state"] == "SUCCEEDED"


def test_without_docker_everything_else_runs_and_says_what_is_missing(new_farm: FarmMaker, host: DockerHost) -> None:
    farm = new_farm([])
    status = farm.rest.get("/status")
    assert (status["accepting"], status["running"]) == (True, False)
    # The first look names the agent, its engine, and since when.
    [agent] = status["agents"]
    [problem] = [one for one in status["problems"] if one["subject"] == agent["agentId"]]
    assert f"Docker Engine at unix://{farm.folder}/no-docker.sock does not answer" in problem["message"]
    assert problem["since"] == agent["unhealthySince"] is not None
    done = farm.cli("doctor", "--server", farm.grpc_address)
    assert done.returncode == 1
    assert b"no-docker.sock does not answer" in done.stdout
    assert problem["since"][:19].encode() in done.stdout
    assert "Docker" in farm.log
    job_id = farm.rest.enqueue("later", shell("true"))["jobId"]
    reasons = {"NO_AGENT", "NO_HEALTHY_AGENT"}
    wait_until(lambda: farm.rest.job(job_id)["waiting"]["reason"] in reasons, 10)
    assert farm.stop() == 0
    farm.docker = [("", host)]
    farm.start()
    assert farm.rest.wait_job(job_id)["state"] == "SUCCEEDED"


def test_port_0_takes_a_free_one(new_farm: FarmMaker) -> None:
    farm = new_farm([], start=False)
    farm.rest_port = 0
    farm.start()
    found = re.fullmatch(r"ready (http://127\.0\.0\.1:[1-9]\d*)\n", farm.stdout)
    assert found
    assert Rest(found[1]).accepting()


def test_a_config_file_says_it_all(new_farm: FarmMaker, host: DockerHost) -> None:
    farm = new_farm([], start=False)
    config = farm.folder / "easyq.toml"
    config.write_text(
        f'docker-host = ["gpu={host.url}"]\npool = ["gpu=gpu-.*:3"]\nlimit = ["x-.*=1"]\nslots = 7\n'
        f'data = "{farm.data}"\nrest-port = {farm.rest_port}\ngrpc-port = {farm.grpc_port}\n',
        encoding="utf-8",
    )
    farm.command = lambda: [EASYQ, "up", "--config", str(config)]  # type: ignore[method-assign]
    rest = farm.start().rest
    status = wait_until(lambda: (found := rest.get("/status"))["agents"] and found, 10)
    assert [limit["pattern"] for limit in status["limits"]] == ["x-.*"]
    assert [(agent["pools"], agent["slots"]) for agent in status["agents"]] == [(["gpu"], 7)]
    assert {pool["name"]: pool["maxRunning"] for pool in status["pools"]} == {"gpu": 3, "default": 0}
    assert rest.run("gpu-job", shell("true"))["state"] == "SUCCEEDED"


def test_a_changed_config_file_holds_without_a_restart(new_farm: FarmMaker, host: DockerHost) -> None:
    """In the dispatcher and in the gateway; a wrong one changes nothing in either."""
    config = process.make_folder("cfg") / "easyq.toml"
    config.write_text('limit = ["held=0"]\n', encoding="utf-8")
    farm = new_farm([host], arguments=["--config", str(config)])
    before = [farm.pids(service) for service in SERVICES]
    job_id = farm.rest.enqueue("held", shell("true"))["jobId"]
    wait_until(lambda: farm.rest.job(job_id)["waiting"]["reason"] == "LIMIT_FULL", 10)
    config.write_text('limit = ["held=0"', encoding="utf-8")
    wait_until(lambda: f"REFUSED: {config}" in farm.log, 10)

    def refused() -> list[str]:
        return [one["message"] for one in farm.rest.get("/status")["problems"] if one["subject"] == "rules"]

    # Once, whoever tells it.
    [told] = wait_until(refused, 10)
    assert told.startswith(f"The config file was refused: {config}: ")
    assert farm.rest.job(job_id)["waiting"]["reason"] == "LIMIT_FULL"
    config.write_text(
        'limit = ["held=1"]\n[[default]]\npattern = "held"\nretries = 7\n[[retention]]\npattern = "held"\nlogs = 9\n',
        encoding="utf-8",
    )
    assert farm.rest.wait_job(job_id)["state"] == "SUCCEEDED"
    assert [(limit["pattern"], limit["maxRunning"]) for limit in farm.rest.get("/status")["limits"]] == [("held", 1)]

    def retries() -> int:
        found: int = farm.rest.job(farm.rest.enqueue("held", shell("true"))["jobId"])["spec"]["retries"]
        return found

    wait_until(lambda: retries() == 7, 10)
    wait_until(lambda: not refused(), 10)
    assert before == [farm.pids(service) for service in SERVICES]
    assert "rules_refused" not in farm.log
    process.remove_folder(config.parent)


def test_a_drained_agent_ends_and_can_be_had_back(lone_farm: UpFarm) -> None:
    farm = lone_farm
    [agent] = wait_until(lambda: farm.rest.get("/agents")["items"], 20)
    requests.post(f"{farm.rest.url}/agents/{agent['agentId']}/drain", json={}, timeout=10).raise_for_status()
    wait_until(lambda: not farm.pids("runner"), 20)
    wait_until(lambda: f"agent {agent['agentId']} was drained, or told to stop, and has ended" in farm.log, 10)
    job_id = farm.rest.enqueue("later", shell("true"))["jobId"]
    [command] = re.findall(r"curl -XDELETE \S+/drain && kill -HUP \d+", farm.log)
    subprocess.run(command, shell=True, check=True, capture_output=True, timeout=20)
    assert farm.rest.wait_job(job_id)["state"] == "SUCCEEDED"


def test_either_process_of_an_agent_may_crash(lone_farm: UpFarm) -> None:
    farm = lone_farm
    script = f"{Witness.START}; until [ -e /witness/go ]; do sleep 0.1; done; {Witness.END}"
    known: set[int] = set()
    for part in ("watchdog", "agent"):
        witness = Witness(farm.mounts / part)
        job_id = farm.rest.enqueue("task", shell(script, mounts=witness.mounts))["jobId"]
        wait_until(witness.starts, 20)
        both = {name: farm.pids(name) for name in ("watchdog", "agent")}
        known.update(*both.values())
        farm.kill(part)
        wait_until(lambda old=both["agent"]: farm.pids("agent") and farm.pids("agent") != old, 20)  # type: ignore[misc]
        # A watchdog that starts a new agent lives on.
        assert (farm.pids("watchdog") == both["watchdog"]) == (part == "agent")
        (witness.folder / "go").touch()
        job = farm.rest.wait_job(job_id)
        assert (job["state"], job["executionCount"]) == ("SUCCEEDED", 1)
    assert farm.stop() == 0
    assert not any(process.alive(pid) for pid in known)


def test_wrong_arguments_are_refused(new_farm: FarmMaker) -> None:
    for arguments in (["--slots", "0"], ["--limit", "(=2"], ["--pool", "x"], ["--rest-port", "99999"]):
        farm = new_farm([], arguments=arguments, start=False)
        with pytest.raises(RuntimeError, match="ended with 2"):
            farm.start()
        assert "Traceback" not in farm.log
