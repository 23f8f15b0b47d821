"""A curl becomes a container: the answer to the letter, what ran, and what came out of it."""

import datetime
import hashlib
import json
import re
import subprocess
import urllib.request
from typing import Any

import pytest

from tests.support.farm import Rest, UpFarm, Witness, chatty
from tests.support.hosts import EXAMPLE_IMAGE, DockerHost
from tests.support.registry import Registry
from tests.support.waiting import wait_until

JOB_ID = re.compile(r"[0-9a-f]{24}")
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def curl(*arguments: str) -> Any:
    """What the real curl prints, as JSON."""
    done = subprocess.run(["curl", "-sS", *arguments], capture_output=True, timeout=30, check=True)
    return json.loads(done.stdout)


def mail_image(registry: Registry, host: DockerHost) -> str:
    """Pushes an image with a `python` and /app/sendmail.py (a shell script: the image is busybox's); its name."""
    client = host.client()
    script = (
        "printf '#!/bin/sh\\nexec sh \"$@\"\\n' > /bin/python; chmod 755 /bin/python;"
        " mkdir /app; echo 'echo \"sending by $SMTP_SERVER\"; exit 7' > /app/sendmail.py"
    )
    container = client.containers.run(EXAMPLE_IMAGE, ["sh", "-c", script], detach=True, network="none")
    assert container.wait()["StatusCode"] == 0
    repository = f"{registry.address}/my-send-email-image"
    container.commit(repository, "latest")
    container.remove()
    for line in client.api.push(repository, "latest", stream=True, decode=True):
        assert "error" not in line, line
    client.images.remove(f"{repository}:latest")
    return f"{repository}:latest"


def test_the_curl_of_the_readme(farm: UpFarm, rest: Rest) -> None:
    """Word for word. Its image is nobody's here, so only the answer counts, and that it can be stopped."""
    answer = curl(
        *("-XPOST", "-H", "Content-Type: application/json", "-d"),
        '{"image": "my.docker.repo.com/my-send-email-image:latest",'
        ' "command": "python /app/sendmail.py", "envs": {"SMTP_SERVER": "my-smtp-server"}}',
        f"{rest.url}/tasks/send-very-specific-email",
    )
    task, job, execution = answer["taskId"], answer["jobId"], answer["executionId"]
    assert list(answer)[:3] == ["taskId", "jobId", "queueJobId"]
    assert task == "send-very-specific-email"
    assert JOB_ID.fullmatch(job)
    assert UUID.fullmatch(answer["queueJobId"])
    assert answer["queueJobId"] == execution
    assert answer["taskUrl"] == f"/tasks/{task}"
    assert answer["jobUrl"] == f"/tasks/{task}/jobs/{job}"
    assert answer["executionUrl"] == f"/tasks/{task}/jobs/{job}/executions/{execution}"
    for url in (answer["taskUrl"], answer["jobUrl"], answer["executionUrl"]):
        assert rest.get(url)
    assert rest.stop(job)["outcome"] in {"STOPPED", "STOPPING"}
    assert rest.wait_job(job)["state"] == "STOPPED"


def test_its_program_runs_with_its_environment(
    farm: UpFarm, rest: Rest, hosts: list[DockerHost], registry: Registry
) -> None:
    """The same with an image that is there to be pulled: `latest` is pulled each time."""
    image = mail_image(registry, hosts[0])
    body = {"image": image, "command": "python /app/sendmail.py", "envs": {"SMTP_SERVER": "my-smtp-server"}}
    answer = curl(
        *("-XPOST", "-H", "Content-Type: application/json", "-d", json.dumps(body)),
        f"{rest.url}/tasks/send-very-specific-email",
    )
    job = rest.wait_job(answer["jobId"])
    [execution] = job["executions"]
    assert rest.output(job["jobId"], "stdout") == b"sending by my-smtp-server\n"
    assert (job["state"], execution["state"], execution["exitCode"]) == ("FAILED", "FAILED", 7)
    assert execution["error"]["reason"] == "NONZERO_EXIT"
    assert execution["imageDigest"].startswith("sha256:")


def test_a_job_shows_what_it_was_asked_and_what_became_of_it(farm: UpFarm, rest: Rest, task: str) -> None:
    spec = {
        "image": EXAMPLE_IMAGE,
        "command": 'sh -c "echo $A; echo oops >&2"',
        "envs": {"A": "b c", "PORT": 8080, "DEBUG": True, "API_TOKEN": "hidden"},
        "labels": {"team": "x"},
        "metadata": {"nested": [1, {"two": None}]},
    }
    job = rest.run(task, spec)
    assert job["state"] == "SUCCEEDED"
    assert (job["taskId"], job["revision"], job["executionCount"]) == (task, 1, 1)
    assert job["spec"]["command"] == ["sh", "-c", "echo $A; echo oops >&2"]
    assert job["spec"]["envs"] == {"A": "b c", "PORT": "8080", "DEBUG": "true", "API_TOKEN": "[redacted]"}
    assert job["spec"]["metadata"] == spec["metadata"]
    assert (job["spec"]["retries"], job["spec"]["pull"], job["spec"]["onLost"]) == (0, "MISSING", "RERUN")
    [execution] = job["executions"]
    assert UUID.fullmatch(execution["executionId"])
    assert (execution["attempt"], execution["trigger"], execution["state"]) == (1, "ENQUEUE", "SUCCEEDED")
    assert (execution["exitCode"], execution["error"], execution["logsComplete"]) == (0, None, True)
    assert (execution["stdoutBytes"], execution["stderrBytes"]) == (4, 5)
    assert execution["envs"]["API_TOKEN"] == "[redacted]"
    assert re.fullmatch(r"[0-9a-f]{64}", execution["containerId"])
    assert execution["host"]
    times = [execution[name] for name in ("queuedAt", "assignedAt", "startedAt", "finishedAt")]
    assert all(TIME.fullmatch(time) for time in times), times
    assert times == sorted(times)
    now = datetime.datetime.now(datetime.UTC)
    assert abs(now - datetime.datetime.fromisoformat(times[-1])) < datetime.timedelta(seconds=60)
    assert rest.output(job["jobId"], "stdout") == b"b c\n"
    assert rest.output(job["jobId"], "stderr") == b"oops\n"


def test_no_container_is_left_over(farm: UpFarm, rest: Rest, task: str, hosts: list[DockerHost]) -> None:
    job = rest.run(task, chatty(0, stdout=10, stderr=10).spec)
    name = f"easyq-{job['executions'][0]['executionId']}"
    # The agent removes it once the end is acknowledged, which is a moment after the job shows it.
    wait_until(lambda: name not in {container.name for host in hosts for container in host.containers()})


def test_the_command_is_the_arguments_of_the_entrypoint(farm: UpFarm, rest: Rest, task: str) -> None:
    spec = {"image": EXAMPLE_IMAGE, "entrypoint": ["echo", "-n"], "command": "a 'b  c' $X | wc > y"}
    job = rest.run(task, spec)
    assert rest.output(job["jobId"], "stdout") == b"a b  c $X | wc > y"


def test_output_is_kept_byte_for_byte(farm: UpFarm, rest: Rest, task: str, witness: Witness) -> None:
    """Random bytes: no line ends, no encoding, zeros among them; the container keeps a copy."""
    script = (
        "head -c 300001 /dev/urandom | tee /witness/out; head -c 70003 /dev/urandom | tee /witness/err >&2;"
        ' printf "\\0\\377\\r\\n" | tee -a /witness/out'
    )
    job = rest.run(task, {"image": EXAMPLE_IMAGE, "command": ["sh", "-c", script], "mounts": witness.mounts})
    for stream, name in (("stdout", "out"), ("stderr", "err")):
        bytes_now = rest.output(job["jobId"], stream)
        assert hashlib.sha256(bytes_now).digest() == hashlib.sha256((witness.folder / name).read_bytes()).digest()
    assert len(rest.output(job["jobId"], "stdout")) == 300_005


def test_ranges_of_the_output(farm: UpFarm, rest: Rest, task: str) -> None:
    program = chatty(5, stdout=10_000, stderr=0)
    job = rest.run(task, program.spec)
    path = f"/jobs/{job['jobId']}/stdout"
    part = rest.call("GET", path, headers={"Range": "bytes=100-199"})
    assert (part.status, part.body) == (206, program.stdout[100:200])
    assert part.headers["Content-Range"].startswith("bytes 100-199/")
    assert rest.call("GET", path, headers={"Range": "bytes=9990-"}).body == program.stdout[9990:]
    assert rest.call("GET", path, headers={"Range": "bytes=-7"}).body == program.stdout[-7:]
    assert rest.call("GET", f"{path}?offset=9000").body == program.stdout[9000:]
    assert rest.call("GET", path, headers={"Range": "bytes=20000-"}).status == 416


def test_logs_hold_both_streams(farm: UpFarm, rest: Rest, task: str) -> None:
    program = chatty(6, stdout=1000, stderr=500)
    job = rest.run(task, program.spec)
    logs = rest.output(job["jobId"], "logs")
    assert len(logs) == 1500
    assert sorted(logs.split()) == sorted(program.stdout.split() + program.stderr.split())


def test_the_stream_comes_while_it_runs(farm: UpFarm, rest: Rest, task: str, witness: Witness) -> None:
    script = "echo one; until [ -e /witness/go ]; do sleep 0.1; done; echo two >&2; echo three"
    spec = {"image": EXAMPLE_IMAGE, "command": ["sh", "-c", script], "mounts": witness.mounts}
    job_id = rest.enqueue(task, spec)["jobId"]
    with urllib.request.urlopen(f"http://{rest.host}:{rest.port}/jobs/{job_id}/stream", timeout=30) as stream:
        assert stream.readline() == b"one\n"
        assert rest.job(job_id)["state"] == "RUNNING"
        (witness.folder / "go").touch()
        assert sorted(stream.read().splitlines()) == [b"three", b"two"]
    assert rest.wait_job(job_id)["state"] == "SUCCEEDED"


@pytest.mark.parametrize("suffix", ["", "/"])
def test_a_trailing_slash_changes_nothing(farm: UpFarm, rest: Rest, task: str, suffix: str) -> None:
    answer = rest.call("POST", f"/tasks/{task}{suffix}", {"image": EXAMPLE_IMAGE, "command": "true"})
    assert answer.status == 200
    job = answer.json()["jobId"]
    assert rest.call("GET", f"/jobs/{job}{suffix}").status == 200
    assert rest.wait_job(job)["state"] == "SUCCEEDED"


def test_validate_only_stores_nothing(farm: UpFarm, rest: Rest, task: str) -> None:
    answer = rest.enqueue(task, {"image": "nginx", "command": "a 'b c'"}, validateOnly="true")
    assert not answer["jobId"]
    assert answer["spec"]["command"] == ["a", "b c"]
    assert answer["spec"]["pull"] == "ALWAYS"
    assert rest.call("GET", f"/tasks/{task}").status == 404


def test_health_and_status(farm: UpFarm, rest: Rest) -> None:
    assert rest.call("GET", "/healthcheck").status == 200
    # On a busy machine one may be asked that has no time to answer, which is then told.
    status: Any = wait_until(lambda: not (told := rest.get("/status"))["problems"] and told, 20)
    assert status["accepting"] is True
    assert status["running"] is True
    assert {agent["state"] for agent in status["agents"]} == {"LIVE"}
    assert len(status["agents"]) == 2
    assert all(service["healthy"] for service in status["services"])
    assert {agent["agentId"] for agent in rest.get("/agents")["items"]} == {a["agentId"] for a in status["agents"]}


def test_a_web_page_can_not_start_a_container(farm: UpFarm, rest: Rest, task: str) -> None:
    spec = {"image": EXAMPLE_IMAGE, "command": "true"}
    for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}, {"Origin": "null"}):
        answer = rest.call("POST", f"/tasks/{task}", spec, headers=headers)
        assert (answer.status, answer.error["reason"]) == (403, "ORIGIN_NOT_ALLOWED")
    assert rest.call("POST", f"/tasks/{task}", b'{"image":"x"}', headers={"Content-Type": "text/plain"}).status == 415
    assert rest.call("GET", f"/tasks/{task}").status == 404
