"""Hosts that are cordoned, drained, lost, or broken: what becomes of their jobs, on agents of the tests' own."""

import subprocess
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from tests.e2e.agents import Agent, Agents
from tests.e2e.fires import ms
from tests.support.farm import DockerObserver, Rest, Witness, shell
from tests.support.hosts import DockerHost, dockerd_binary
from tests.support.registry import Registry
from tests.support.scraping import scrape
from tests.support.server import Server
from tests.support.waiting import wait_until

# Goes on until there is a file.
HELD = "until [ -e /witness/go ]; do sleep 0.05; done"
# The first run of a job goes on until it is ended or a file is there; the next one succeeds at once.
HELD_ONCE = (
    f'{Witness.START}; echo "run $EASYQ_FENCE";'
    ' if [ "$EASYQ_FENCE" = 1 ]; then until [ -e /witness/go ]; do sleep 0.05; done; fi'
)


def running(rest: Rest, job_ids: list[str]) -> int:
    """How many have a container that runs."""
    return sum(rest.job(one)["executions"][0]["state"] == "RUNNING" for one in job_ids)


# ---------------------------------------------------------------------------------------------------- cordon and drain
def test_cordon_and_uncordon(agents: Agents, split_hosts: list[DockerHost], task: str) -> None:
    rest, witness = agents.farm.rest, Witness(agents.farm.mounts / task)
    agent = agents.start(split_hosts[0])
    path = f"/agents/{agent.agent_id}"
    job_id = rest.enqueue(task, shell(HELD_ONCE, mounts=witness.mounts))["jobId"]
    wait_until(lambda: rest.job(job_id)["executions"][0]["state"] == "RUNNING", 20)
    cordoned = rest.post(f"{path}/cordon")["agent"]["cordonedAt"]
    assert rest.post(f"{path}/cordon")["agent"]["cordonedAt"] == cordoned
    late = rest.enqueue(task, shell("true"))["jobId"]
    # Since when may be known a moment later than that.
    waiting = wait_until(lambda: (one := rest.job(late)["waiting"]) and one["since"] == cordoned and one, 20)
    assert agent.agent_id in waiting["message"]
    assert (waiting["reason"], waiting["subject"]) == ("CORDONED", agent.agent_id)
    (witness.folder / "go").touch()
    assert rest.wait_job(job_id)["state"] == "SUCCEEDED"
    assert rest.job(late)["state"] == "QUEUED"
    for _ in range(2):
        answer = rest.call("DELETE", f"{path}/cordon")
        assert (answer.status, answer.json()["agent"]["cordonedAt"]) == (200, None)
    assert rest.wait_job(late)["state"] == "SUCCEEDED"
    for method, verb in (("POST", "cordon"), ("DELETE", "cordon"), ("POST", "drain"), ("POST", "declare-dead")):
        answer = rest.call(method, f"/agents/nobody/{verb}")
        assert (answer.status, answer.error["reason"]) == (404, "AGENT_NOT_FOUND")


@pytest.mark.timeout(180)
def test_drain_takes_no_job_more(agents: Agents, split_hosts: list[DockerHost], task: str) -> None:
    """buildkite/agent#402: drain takes one more job."""
    rest = agents.farm.rest
    first, second = agents.start(split_hosts[0]), agents.start(split_hosts[1])
    ids = [rest.enqueue(task, shell("sleep 0.1"))["jobId"] for _ in range(24)]
    wait_until(lambda: any(rest.job(one)["executions"][0]["host"] == first.agent_id for one in ids[:8]), 20)
    rest.post(f"/agents/{first.agent_id}/drain")
    # What was assigned beside it may be a moment younger than `drainedAt`, but not than the answer.
    answered = time.time() * 1000
    assert first.wait_exit() == 0
    jobs = rest.wait_all(ids)
    assert {job["state"] for job in jobs} == {"SUCCEEDED"}
    executions = [one for job in jobs for one in job["executions"]]
    assert {one["host"] for one in executions} == {first.agent_id, second.agent_id}
    assert max(ms(one["assignedAt"]) for one in executions if one["host"] == first.agent_id) <= answered
    assert {job["executionCount"] for job in jobs} == {1}
    assert (agents.shown(first)["state"], "drained" in agents.shown(first)["message"]) == ("PARKED", True)


@pytest.mark.timeout(180)
def test_deadline_of_a_drain(agents: Agents, split_hosts: list[DockerHost], task: str) -> None:
    """What runs beyond it runs again elsewhere, and no retry is used up."""
    rest, witness = agents.farm.rest, Witness(agents.farm.mounts / task)
    first = agents.start(split_hosts[0])
    spec = shell(HELD_ONCE, mounts=witness.mounts, stopGrace="0s")
    job_id = rest.enqueue(task, spec)["jobId"]
    wait_until(lambda: rest.output(job_id, "stdout") == b"run 1\n", 20)
    second = agents.start(split_hosts[1])
    agent = rest.post(f"/agents/{first.agent_id}/drain?deadline=1s")["agent"]
    assert ms(agent["drainDeadline"]) - ms(agent["drainedAt"]) == 1000
    assert first.wait_exit() == 0
    job = rest.wait_job(job_id)
    one, two = job["executions"]
    assert (job["state"], one["state"], one["error"]["reason"]) == ("SUCCEEDED", "LOST", "DRAINED")
    assert (two["host"], two["trigger"], two["fence"]) == (second.agent_id, "INFRA_RETRY", 2)
    assert (two["retriesUsed"], two["infraRetriesUsed"]) == (0, 1)
    assert ms(two["startedAt"]) >= ms(one["finishedAt"])
    witness.assert_none_twice()


# --------------------------------------------------------------------------------------------------------- lost hosts
@pytest.mark.timeout(180)
def test_a_host_is_declared_dead(agents: Agents, split_hosts: list[DockerHost], task: str) -> None:
    """Its job runs again even if it was told to wait for its host; what it left behind is found and ended.

    argoproj/argo-workflows#1832: a job is stuck "running" after its host died; hashicorp/nomad#6325: orphans pile up.
    """
    rest, witness, host = agents.farm.rest, Witness(agents.farm.mounts / task), split_hosts[0]
    agents.rule(pool='lost_after = "9s"')
    dead = agents.start(host)
    spec = shell(HELD_ONCE, mounts=witness.mounts, stopGrace="0s", onLost="WAIT")
    job_id = rest.enqueue(task, spec)["jobId"]
    wait_until(lambda: rest.output(job_id, "stdout") == b"run 1\n", 20)
    old = rest.job(job_id)["executions"][0]["executionId"]
    dead.kill_both()
    waiting = wait_until(lambda: rest.get(f"/jobs/{job_id}/explain")["executions"][0]["waiting"], 40)
    assert (waiting["reason"], waiting["subject"]) == ("HOST_SILENT", dead.agent_id)
    assert rest.job(job_id)["state"] == "RUNNING"
    answer = rest.post(f"/agents/{dead.agent_id}/declare-dead")
    assert (answer["lost"], answer["agent"]["state"]) == (1, "DEAD")
    assert rest.post(f"/agents/{dead.agent_id}/declare-dead")["lost"] == 0
    assert rest.job(job_id)["executions"][0]["error"]["reason"] == "HOST_LOST"
    heir = agents.start(host, orphan_after="1")
    job = rest.wait_job(job_id)
    one, two = job["executions"]
    assert (job["state"], one["state"], two["host"]) == ("SUCCEEDED", "LOST", heir.agent_id)
    assert (two["fence"], two["retriesUsed"], two["infraRetriesUsed"]) == (2, 0, 1)
    wait_until(lambda: not host.containers(name=f"easyq-{old}"), 60, message="the orphan is removed")
    wait_until(lambda: "orphan" in heir.log, 10)
    counted = scrape(agents.farm.store.metrics)
    assert counted.value("easyq_executions_lost_total", task=task, pool=agents.name) == 1
    assert counted.value("easyq_executions_ended_total", task=task, state="LOST", reason="HOST_LOST") == 1
    assert counted.value("easyq_executions_retried_total", task=task, kind="infra") == 1
    assert counted.value("easyq_agents_lost_total") >= 1
    assert counted.value("easyq_agents", state="DEAD") >= 1
    assert counted.value("db_client_operation_duration_seconds_count", db_system_name="mongodb") > 0


def found_silent(dispatchers: Sequence[Server], agent_id: str) -> bool:
    """Whether a dispatcher has found that nothing is heard of the agent."""
    lines = [line for one in dispatchers for line in one.log_path.read_text(encoding="utf-8").splitlines()]
    return any("agent_silent" in line and agent_id in line for line in lines)


def told_of(rest: Rest, agent: Agent) -> list[dict[str, Any]]:
    """What the status says is wrong with it."""
    return [problem for problem in rest.get("/status")["problems"] if problem["subject"] == agent.agent_id]


@pytest.mark.timeout(180)
def test_a_silent_host_is_given_nothing(agents: Agents, split_hosts: list[DockerHost], task: str) -> None:
    """Found within the lease, though its stream is open: what it would not start runs elsewhere."""
    rest = agents.farm.rest
    frozen, other = agents.start(split_hosts[0]), agents.start(split_hosts[1])
    session = agents.shown(frozen)["session"]
    frozen.freeze()
    try:
        wait_until(lambda: found_silent(agents.farm.dispatchers, frozen.agent_id), 30)
        jobs = rest.wait_all([rest.enqueue(task, shell("true"))["jobId"] for _ in range(4)])
        assert {job["executions"][0]["host"] for job in jobs} == {other.agent_id}
        # Each look tells so: which host, and since when.
        shown = wait_until(lambda: (one := agents.shown(frozen))["silentSince"] and one, 30)
        assert (shown["state"], shown["healthy"], shown["silentSince"]) == ("LIVE", False, shown["lastBeatAt"])
        [problem] = told_of(rest, frozen)
        assert (problem["since"], "is silent since" in problem["message"]) == (shown["silentSince"], True)
        checked = rest.get("/healthcheck")
        assert (checked["status"], problem["message"] in checked["problems"]) == ("DEGRADED", True)
        counted = scrape(agents.farm.store.metrics)
        assert counted.value("easyq_agents", state="SILENT") >= 1
        assert counted.value("easyq_agent_away", agent=frozen.agent_id, state="SILENT") == 1
    finally:
        frozen.thaw()
    wait_until(lambda: int(agents.shown(frozen)["session"]) > int(session), 30)
    assert told_of(rest, frozen) == []
    rest.post(f"/agents/{other.agent_id}/cordon")
    assert rest.run(task, shell("true"))["executions"][0]["host"] == frozen.agent_id


# Breakers ----------------------------------------------------------------------------------------------------------
@pytest.mark.timeout(180)
def test_the_breaker_of_an_image(agents: Agents, split_hosts: list[DockerHost], registry: Registry, task: str) -> None:
    """Others of the same task run while it can't be pulled; one job at a time tries again."""
    rest = agents.farm.rest
    image = registry.push_example(split_hosts[0], name=f"team/{task}")
    agent = agents.start(split_hosts[0])
    registry.stop()
    try:
        spec = {"image": image, "command": "true", "infraRetries": 50, "backoff": {"min": "0s"}}
        ids = [rest.enqueue(task, spec)["jobId"] for _ in range(4)]

        def breaker() -> Any:
            found = [one for one in rest.get("/breakers")["items"] if one["subject"] == image]
            return found and found[0]

        told = wait_until(breaker, 60)
        assert (told["kind"], told["state"] in {"OPEN", "HALF_OPEN"}) == ("IMAGE", True)
        assert told["cause"]
        assert told["since"]
        assert any(one["subject"] == image for one in rest.get("/status")["breakers"])
        shown = {"kind": "IMAGE", "subject": image}

        def open_at() -> list[float]:
            found = [scrape(one.metrics).value("easyq_breaker_open", **shown) for one in agents.farm.dispatchers]
            return [value for value in found if value]

        wait_until(lambda: open_at() == [1, 1], 30, message="both dispatchers show it")

        def barred() -> list[dict[str, str]]:
            waits = [rest.job(one)["waiting"] for one in ids]
            return [one for one in waits if one and one["reason"] == "IMAGE_BREAKER"]

        waiting = wait_until(barred, 30)[0]
        assert (waiting["subject"], bool(waiting["nextLookAt"])) == (image, True)
        assert rest.run(task, shell("true"))["state"] == "SUCCEEDED"
    finally:
        registry.start()
    for _ in range(2):
        assert rest.call("POST", "/breakers/reset", {"kind": "IMAGE", "subject": image}).status == 200
    jobs = rest.wait_all(ids)
    assert {job["state"] for job in jobs} == {"SUCCEEDED"}
    assert not breaker()
    wait_until(lambda: not open_at(), 30, message="nobody shows it any more")
    assert {job["executions"][-1]["host"] for job in jobs} == {agent.agent_id}
    wrong = rest.call("POST", "/breakers/reset", {"kind": "NONE", "subject": ""})
    assert (wrong.status, set(wrong.fields)) == (400, {"kind", "subject"})


@pytest.fixture
def small_host() -> Iterator[DockerHost]:
    """An engine whose data lies on a disk of 96 MiB."""
    host = DockerHost(dockerd_binary(), "small")
    data = host.folder / "data"
    data.mkdir(mode=0o711)
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", data], check=True)
        host.start()
        host.load_example_image()
        yield host
    finally:
        host.close()


@pytest.mark.timeout(300)
def test_a_broken_host_eats_no_jobs(
    agents: Agents, split_hosts: list[DockerHost], small_host: DockerHost, task: str
) -> None:
    """DataBiosphere/toil#5452: one broken host fails fast and eats everyone's retries."""
    rest, witness = agents.farm.rest, Witness(agents.farm.mounts / task)
    broken = agents.start(small_host, min_free_disk="0")
    assert rest.run(task, shell("true"))["state"] == "SUCCEEDED"
    filler = small_host.folder / "data" / "filler"
    with filler.open("wb") as file:
        try:
            while True:
                file.write(b"\0" * 65_536)
                file.flush()
        except OSError:
            pass
    ids = [rest.enqueue(task, shell("true"))["jobId"] for _ in range(5)]
    waiting = wait_until(
        lambda: [one for job in ids if (one := rest.job(job)["waiting"]) and one["reason"] == "HOST_BREAKER"], 60
    )[0]
    assert (waiting["subject"], bool(waiting["nextLookAt"])) == (broken.agent_id, True)
    [told] = [one for one in rest.get("/breakers")["items"] if one["subject"] == broken.agent_id]
    assert (told["kind"], bool(told["cause"])) == ("HOST", True)
    # Another host takes them, and what it did to them uses up none of their retries.
    sound = agents.start(split_hosts[0])
    jobs = rest.wait_all(ids)
    assert {job["state"] for job in jobs} == {"SUCCEEDED"}
    last = [job["executions"][-1] for job in jobs]
    assert {(one["host"], one["retriesUsed"]) for one in last} == {(sound.agent_id, 0)}
    # Mended, it gets one job that tries, and then again as any other.
    filler.unlink()
    rest.post(f"/agents/{sound.agent_id}/cordon")
    assert rest.run(task, shell(Witness.START, mounts=witness.mounts))["executions"][0]["host"] == broken.agent_id
    # What it says by its success may be lost where its agent has to find another dispatcher meanwhile; then the breaker
    # closes by itself, a minute after anybody might have tried.
    wait_until(lambda: not [b for b in rest.get("/breakers")["items"] if b["subject"] == broken.agent_id], 40)
    # Its engine goes away: told, and nothing is given to it.
    small_host.kill()
    wait_until(lambda: not agents.shown(broken)["healthy"], 30)
    late = rest.enqueue(task, shell("true"))["jobId"]
    waiting = wait_until(lambda: (one := rest.job(late)["waiting"]) and one["reason"] == "NO_HEALTHY_AGENT" and one, 20)
    assert broken.agent_id in waiting["message"]
    rest.call("DELETE", f"/agents/{sound.agent_id}/cordon")
    assert rest.wait_job(late)["state"] == "SUCCEEDED"
    small_host.start()


# -------------------------------------------------------------------------------------------- limits, room, labels
@pytest.mark.timeout(180)
def test_two_limits_hold_together_and_change_while_it_runs(
    agents: Agents, split_hosts: list[DockerHost], task: str
) -> None:
    """hashicorp/nomad#5323: no cap on how many run at once."""
    rest, witness = agents.farm.rest, Witness(agents.farm.mounts / task)
    both = f'[[limit]]\npattern = "{task}.*"\nmax_running = 3\n[[limit]]\npattern = "{task}-b"\nmax_running = ONE\n'
    agents.rule(both.replace("ONE", "1"))
    for host in split_hosts:
        agents.start(host, slots=4)
    with DockerObserver(split_hosts) as observer:
        b = [rest.enqueue(f"{task}-b", shell(HELD, mounts=witness.mounts))["jobId"] for _ in range(3)]
        wait_until(lambda: running(rest, b) == 1, 20)
        a = [rest.enqueue(f"{task}-a", shell(HELD, mounts=witness.mounts))["jobId"] for _ in range(6)]
        wait_until(lambda: running(rest, [*a, *b]) == 3, 20)
        (witness.folder / "go").touch()
        ended_a, ended_b = rest.wait_all(a), rest.wait_all(b)
        ids_b = {job["executions"][0]["executionId"] for job in ended_b}
        ids = ids_b | {job["executions"][0]["executionId"] for job in ended_a}
        assert observer.most_at_once(lambda event: event.execution_id in ids_b) == 1
        assert observer.most_at_once(lambda event: event.execution_id in ids) == 3
    # What waits is let go as soon as the rule is another one.
    held = [rest.enqueue(f"{task}-b", shell("sleep 60", stopGrace="0s"))["jobId"] for _ in range(3)]
    wait_until(lambda: [rest.job(one)["state"] for one in held] == ["RUNNING", "QUEUED", "QUEUED"], 20)
    waiting = wait_until(lambda: (one := rest.job(held[1])["waiting"]) and one["reason"] == "LIMIT_FULL" and one, 20)
    assert (waiting["subject"], waiting["position"]) == (f"{task}-b", 1)
    agents.rule(both.replace("ONE", "2"))
    wait_until(lambda: sum(rest.job(one)["state"] == "RUNNING" for one in held) == 2, 20)
    shown = {limit["pattern"]: limit["maxRunning"] for limit in rest.get("/limits")["items"]}
    assert (shown[f"{task}-b"], shown[f"{task}.*"]) == (2, 3)
    told = rest.get(f"/tasks/{task}-b/explain")
    assert (told["pool"], int(told["queued"]), int(told["running"])) == (task, 1, 2)
    assert {limit["pattern"] for limit in told["limits"]} == {f"{task}-b", f"{task}.*"}
    assert [one["waiting"]["reason"] for one in told["executions"]] == ["LIMIT_FULL"]
    for job_id in held[::-1]:
        rest.stop(job_id)
    rest.wait_all(held)


@pytest.mark.timeout(180)
def test_tasks_take_turns_by_their_weight(agents: Agents, split_hosts: list[DockerHost], task: str) -> None:
    rest = agents.farm.rest
    agents.rule(f'[[weight]]\npattern = "{task}-a"\nweight = 3\n')
    agents.start(split_hosts[0], slots=1)
    holder = rest.enqueue(task, shell("sleep 60", stopGrace="0s"))["jobId"]
    wait_until(lambda: rest.job(holder)["executions"][0]["state"] == "RUNNING", 20)
    names = {}
    for letter in "aaaaaabb":
        names[rest.enqueue(f"{task}-{letter}", shell("true"))["jobId"]] = letter
    # All are in line before the first one's turn comes.
    wait_until(lambda: all((rest.job(one)["waiting"] or {}).get("reason") == "NO_FREE_SLOT" for one in names), 10)
    rest.stop(holder)
    jobs = sorted(rest.wait_all(names), key=lambda job: str(job["executions"][0]["assignedAt"]))
    order = "".join(names[job["jobId"]] for job in jobs)
    assert order in {"aaabaaab", "baaabaaa"}, order


@pytest.mark.timeout(180)
def test_resources_of_an_agent_are_not_overbooked(agents: Agents, split_hosts: list[DockerHost], task: str) -> None:
    rest, witness = agents.farm.rest, Witness(agents.farm.mounts / task)
    agent = agents.start(split_hosts[0], slots=9, cpus="2", memory="96m")
    assert agents.shown(agent)["capacity"] == {"cpus": 2, "memory": 96 << 20, "gpus": 0}
    with DockerObserver(split_hosts) as observer:
        wish = shell(HELD, mounts=witness.mounts, resources={"cpus": 0.8})
        cpus = [rest.enqueue(task, wish)["jobId"] for _ in range(5)]
        wait_until(lambda: running(rest, cpus) == 2, 20)
        (witness.folder / "go").touch()
        by_cpus = {job["executions"][0]["executionId"] for job in rest.wait_all(cpus)}
        (witness.folder / "go").unlink()
        wish = shell(HELD, mounts=witness.mounts, resources={"memory": "32m"})
        memory = [rest.enqueue(task, wish)["jobId"] for _ in range(6)]
        wait_until(lambda: running(rest, memory) == 3, 20)
        (witness.folder / "go").touch()
        by_memory = {job["executions"][0]["executionId"] for job in rest.wait_all(memory)}
        assert observer.most_at_once(lambda event: event.execution_id in by_cpus) == 2
        assert observer.most_at_once(lambda event: event.execution_id in by_memory) == 3
    holder = rest.enqueue(task, shell("sleep 60", stopGrace="0s", resources={"cpus": 1.5}))["jobId"]
    wait_until(lambda: rest.job(holder)["executions"][0]["state"] == "RUNNING", 20)
    wait_until(lambda: agents.shown(agent)["used"]["cpus"] == 1.5, 10)
    # One for which there is no room now, and one for which there never is; neither holds up what fits.
    room = rest.enqueue(task, shell("true", resources={"cpus": 1}))["jobId"]
    never = rest.enqueue(task, shell("true", resources={"cpus": 16, "memory": "1g"}))["jobId"]
    assert rest.run(task, shell("true", resources={"cpus": 0.5}))["state"] == "SUCCEEDED"
    waits = {"room": rest.job(room)["waiting"], "never": rest.job(never)["waiting"]}
    assert (waits["room"]["reason"], waits["never"]["reason"]) == ("NO_ROOM", "NO_FIT")
    assert "1 cpu" in waits["room"]["message"]
    assert "16 cpus" in waits["never"]["message"]
    assert agent.agent_id in waits["never"]["message"]
    rest.stop(holder)
    assert rest.wait_job(room)["state"] == "SUCCEEDED"
    assert rest.job(never)["state"] == "QUEUED"
    assert rest.stop(never)["outcome"] == "STOPPED"


@pytest.mark.timeout(180)
def test_labels_of_agents(agents: Agents, split_hosts: list[DockerHost], task: str) -> None:
    rest = agents.farm.rest
    plain = agents.start(split_hosts[0])
    wish = shell("true", agentLabels={"zone": task, "disk": "ssd"})
    job_id = rest.enqueue(task, wish)["jobId"]
    waiting = wait_until(lambda: (one := rest.job(job_id)["waiting"]) and one["reason"] == "NO_FIT" and one, 20)
    assert f"disk=ssd, zone={task}" in waiting["message"]
    assert rest.run(task, shell("true"))["executions"][0]["host"] == plain.agent_id
    labelled = agents.start(split_hosts[1], labels=f"zone={task},disk=ssd")
    assert rest.wait_job(job_id)["executions"][0]["host"] == labelled.agent_id
    hosts = {rest.run(task, wish)["executions"][0]["host"] for _ in range(3)}
    assert hosts == {labelled.agent_id}
    told = rest.get(f"/pools/{task}/explain")
    assert {one["agentId"] for one in told["agents"]} == {plain.agent_id, labelled.agent_id}
