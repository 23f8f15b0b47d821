"""What a job may ask of its container, and the ways in which one fails to be."""

import base64
import json
from typing import Any

import pytest

from tests.e2e.conftest import FarmMaker
from tests.support.farm import Rest, UpFarm, Witness, shell
from tests.support.hosts import EXAMPLE_IMAGE, DockerHost
from tests.support.registry import Registry
from tests.support.waiting import free_port, wait_until


def failure(rest: Rest, task: str, spec: dict[str, Any]) -> tuple[str, str, str]:
    """State, reason and message of a job with one execution that never ran."""
    job = rest.run(task, spec)
    assert job["executionCount"] == 1, job
    [execution] = job["executions"]
    return job["state"], execution["error"]["reason"], execution["error"]["message"]


def test_it_runs_as_asked(farm: UpFarm, rest: Rest, task: str, witness: Witness) -> None:
    script = "; ".join(
        [
            "pwd; id -u; id -g; cat /proc/1/comm",
            'echo "$EASYQ_EXECUTION_ID $EASYQ_FENCE"',
            "touch /witness/x 2>/dev/null || echo ro",
        ]
    )
    job = rest.run(
        task,
        shell(
            script,
            workdir="/tmp",
            user="65534:65534",
            init=True,
            network="none",
            mounts=[{**witness.mounts[0], "readOnly": True}, {"type": "tmpfs", "target": "/scratch"}],
        ),
    )
    assert job["state"] == "SUCCEEDED", job
    execution = job["executions"][0]
    lines = rest.output(job["jobId"], "stdout").decode().splitlines()
    assert lines[:3] == ["/tmp", "65534", "65534"]
    assert "init" in lines[3]
    assert lines[4] == f"{execution['executionId']} {execution['fence']}"
    assert lines[5] == "ro"


def test_labels_are_on_the_container(farm: UpFarm, rest: Rest, task: str, hosts: list[DockerHost]) -> None:
    job_id = rest.enqueue(task, shell("sleep 60", stopGrace="0s", labels={"team": "mail"}))["jobId"]
    found = wait_until(lambda: [c for host in hosts for c in host.containers(label="team=mail", status="running")], 20)
    assert found[0].name == f"easyq-{rest.job(job_id)['executions'][0]['executionId']}"
    rest.stop(job_id)
    assert rest.wait_job(job_id)["state"] == "STOPPED"


def test_containers_of_others_are_never_touched(
    farm: UpFarm, rest: Rest, task: str, hosts: list[DockerHost], witness: Witness
) -> None:
    other = (
        hosts[0]
        .client()
        .containers.run(EXAMPLE_IMAGE, ["sleep", "600"], detach=True, network="none", name="easyq-looks-like-one")
    )
    try:
        farm.kill("runner")
        assert rest.run(task, shell("true"))["state"] == "SUCCEEDED"
        other.reload()
        assert other.status == "running"
    finally:
        other.remove(force=True)


def test_an_out_of_memory_kill_is_told_as_such(farm: UpFarm, rest: Rest, task: str) -> None:
    script = "a=x; while :; do a=$a$a; done"
    job = rest.run(task, shell(script, resources={"memory": "16m"}))
    [execution] = job["executions"]
    assert job["state"] == "FAILED"
    if execution["error"]["reason"] == "HOST_FAILED":
        pytest.skip("this kernel has no memory control")
    assert (execution["error"]["reason"], execution["exitCode"]) == ("OOM_KILLED", 137)


@pytest.mark.parametrize("code", [137, 139, 143])
def test_an_exit_code_that_looks_like_a_signal_is_only_that(farm: UpFarm, rest: Rest, task: str, code: int) -> None:
    job = rest.run(task, shell(f"exit {code}"))
    assert job["executions"][0]["error"]["reason"] == "NONZERO_EXIT"
    assert job["executions"][0]["exitCode"] == code


def test_a_program_that_is_not_there(farm: UpFarm, rest: Rest, task: str) -> None:
    state, reason, message = failure(rest, task, {"image": EXAMPLE_IMAGE, "command": "/no/such/program", "retries": 3})
    assert (state, reason) == ("FAILED", "START_FAILED")
    assert "/no/such/program" in message
    # As a shell has it, so that it can be searched for.
    [found] = rest.get(f"/executions?taskId={task}&exitCode=127")["items"]
    assert found["error"]["reason"] == "START_FAILED"
    assert found["startedAt"] is None


def test_a_container_that_docker_refuses(farm: UpFarm, rest: Rest, task: str) -> None:
    state, reason, _ = failure(rest, task, shell("true", network="no-such-network", retries=3))
    assert state == "FAILED"
    assert reason in {"INVALID_CONTAINER", "START_FAILED"}


@pytest.mark.parametrize(
    ("wish", "word"),
    [
        ({"privileged": True}, "privileged"),
        ({"network": "host"}, "host"),
        ({"devices": ["/dev/null"]}, "device"),
        ({"mounts": [{"source": "/etc", "target": "/x"}]}, "/etc"),
    ],
)
def test_what_the_agent_does_not_allow(farm: UpFarm, rest: Rest, task: str, wish: dict[str, Any], word: str) -> None:
    state, reason, message = failure(rest, task, shell("true", retries=2, **wish))
    assert (state, reason) == ("FAILED", "NOT_ALLOWED")
    assert word in message.lower()


def test_a_mount_can_not_leave_its_root(farm: UpFarm, rest: Rest, task: str) -> None:
    inside = farm.mounts / "link"
    inside.symlink_to("/etc")
    for source in (f"{farm.mounts}/../../etc", str(inside), f"{farm.mounts}-beside"):
        spec = shell("ls /x", mounts=[{"source": source, "target": "/x"}])
        answer = rest.call("POST", f"/tasks/{task}", spec)
        if answer.status == 400:
            continue
        assert rest.wait_job(answer.json()["jobId"])["executions"][0]["error"]["reason"] == "NOT_ALLOWED", source


def test_a_container_that_somebody_else_removes(
    farm: UpFarm, rest: Rest, task: str, hosts: list[DockerHost], witness: Witness
) -> None:
    """How it ended can't be known, so that it is LOST and runs again without using up a retry."""
    script = f'{Witness.START}; [ "$EASYQ_FENCE" != 1 ] || sleep 60; {Witness.END}'
    job_id = rest.enqueue(task, shell(script, mounts=witness.mounts))["jobId"]
    [container] = wait_until(lambda: [c for h in hosts for c in h.containers(label=f"easyq.job={job_id}")], 20)
    wait_until(witness.starts, 20)
    container.remove(force=True)
    job = rest.wait_job(job_id, 40)
    first, second = job["executions"]
    assert (first["state"], first["error"]["reason"]) == ("LOST", "CONTAINER_VANISHED")
    assert (second["state"], second["trigger"]) == ("SUCCEEDED", "INFRA_RETRY")
    witness.assert_none_twice()


def test_a_container_that_somebody_else_kills(farm: UpFarm, rest: Rest, task: str, hosts: list[DockerHost]) -> None:
    """That is an exit like any other."""
    job_id = rest.enqueue(task, shell("echo begin; sleep 60"))["jobId"]
    wait_until(lambda: rest.output(job_id, "stdout") == b"begin\n", 20)
    [container] = [c for host in hosts for c in host.containers(label=f"easyq.job={job_id}")]
    container.kill()
    job = rest.wait_job(job_id)
    assert (job["state"], job["executions"][0]["exitCode"]) == ("FAILED", 137)
    assert job["executions"][0]["error"]["reason"] == "NONZERO_EXIT"


# Images ----------------------------------------------------------------------------------------------------------
def test_an_image_is_pulled(farm: UpFarm, rest: Rest, task: str, hosts: list[DockerHost], registry: Registry) -> None:
    image = registry.push_example(hosts[0], f"{task}/tool")
    job = rest.run(task, {"image": image, "command": "echo pulled"})
    assert rest.output(job["jobId"], "stdout") == b"pulled\n"
    assert job["executions"][0]["imageDigest"].startswith("sha256:")


def test_never_does_not_pull(farm: UpFarm, rest: Rest, task: str, hosts: list[DockerHost], registry: Registry) -> None:
    image = registry.push_example(hosts[0], f"{task}/tool")
    state, reason, message = failure(rest, task, {"image": image, "command": "true", "pull": "never"})
    assert (state, reason) == ("FAILED", "IMAGE_NOT_FOUND")
    assert image in message


def test_an_image_that_the_registry_does_not_have(farm: UpFarm, rest: Rest, task: str, registry: Registry) -> None:
    image = f"{registry.address}/no/such:1"
    state, reason, message = failure(rest, task, {"image": image, "command": "true", "retries": 3})
    assert (state, reason) == ("FAILED", "IMAGE_NOT_FOUND")
    assert image in message


def test_a_registry_that_is_away_uses_up_no_retries(farm: UpFarm, rest: Rest, task: str) -> None:
    image = f"127.0.0.1:{free_port()}/some/image:1"
    job_id = rest.enqueue(task, {"image": image, "command": "true", "retries": 1, "infraRetries": 1})["jobId"]
    job = rest.wait_job(job_id, 60)
    assert job["state"] == "FAILED"
    assert {execution["error"]["reason"] for execution in job["executions"]} == {"PULL_FAILED"}
    assert [execution["trigger"] for execution in job["executions"]] == ["ENQUEUE", "INFRA_RETRY"]


def test_a_private_registry_refuses_who_has_no_credentials(
    farm: UpFarm, rest: Rest, task: str, hosts: list[DockerHost], private_registry: Registry
) -> None:
    image = private_registry.push_example(hosts[0], "team/secret")
    job = rest.run(task, {"image": image, "command": "true", "infraRetries": 0})
    assert job["state"] == "FAILED"
    assert job["executions"][0]["error"]["reason"] in {"IMAGE_NOT_FOUND", "PULL_FAILED"}


def test_a_private_registry_by_the_docker_config_of_the_host(
    new_farm: FarmMaker, hosts: list[DockerHost], dockerd: Any, private_registry: Registry, task: str
) -> None:
    host = dockerd("c")
    image = private_registry.push_example(host, "team/secret")
    farm = new_farm([host], start=False)
    _write_docker_config(farm, private_registry)
    farm.env["DOCKER_CONFIG"] = str(farm.folder / "docker")
    rest = farm.start().rest
    job = rest.run(task, {"image": image, "command": "echo in"})
    assert rest.output(job["jobId"], "stdout") == b"in\n", job


def _write_docker_config(farm: UpFarm, registry: Registry) -> None:
    assert registry.credentials
    pair = f"{registry.credentials['username']}:{registry.credentials['password']}"
    config = {"auths": {registry.address: {"auth": base64.b64encode(pair.encode()).decode()}}}
    (farm.folder / "docker").mkdir()
    (farm.folder / "docker/config.json").write_text(json.dumps(config), encoding="ascii")


def test_output_beyond_the_limit_is_cut_and_marked(farm: UpFarm, rest: Rest, task: str) -> None:
    job = rest.run(task, shell("seq 1 100000; echo err >&2", logLimit=1000))
    [execution] = job["executions"]
    assert len(rest.output(job["jobId"], "stdout")) == 1000
    assert (execution["stdoutTruncated"], execution["stderrTruncated"]) == (True, False)
    assert execution["logsComplete"]
    assert rest.output(job["jobId"], "stderr") == b"err\n"
