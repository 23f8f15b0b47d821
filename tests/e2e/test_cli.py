"""`easyq run` as `docker run` users know it."""

import base64
import json
import os
import random
import signal
import subprocess

import pytest

from tests.support.farm import Rest, UpFarm, chatty
from tests.support.farm.up import EASYQ, clean_environment
from tests.support.hosts import EXAMPLE_IMAGE
from tests.support.registry import Registry
from tests.support.waiting import wait_until


@pytest.mark.parametrize("exit_code", [0, 1, 42, 255])
def test_it_ends_with_the_exit_code_of_the_container(farm: UpFarm, task: str, exit_code: int) -> None:
    program = chatty(exit_code, stdout=3000, stderr=500, exit_code=exit_code)
    done = farm.cli("run", EXAMPLE_IMAGE, "--task", task, "--", "sh", "-c", program.script)
    assert (done.returncode, done.stdout, done.stderr) == (exit_code, program.stdout, program.stderr)


def test_binary_output_passes_unchanged(farm: UpFarm, task: str) -> None:
    data = random.Random(3).randbytes(60_000)
    script = 'echo "$DATA" | base64 -d; echo "$DATA" | base64 -d | head -c 5000 >&2'
    variable = f"DATA={base64.b64encode(data).decode()}"
    done = farm.cli("run", "-e", variable, "--task", task, EXAMPLE_IMAGE, "--", "sh", "-c", script)
    assert (done.returncode, done.stdout == data, done.stderr == data[:5000]) == (0, True, True)


def test_output_comes_while_the_container_runs(farm: UpFarm, task: str) -> None:
    command = [
        EASYQ,
        "run",
        EXAMPLE_IMAGE,
        "--task",
        task,
        "--",
        "sh",
        "-c",
        "trap exit TERM; echo first; sleep 900 & wait",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=_environment(farm)) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"first\n"
            assert process.poll() is None
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=30)


def test_ctrl_c_stops_the_job_and_says_so(farm: UpFarm, rest: Rest, task: str) -> None:
    script = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.1; done"
    command = [EASYQ, "run", EXAMPLE_IMAGE, "--task", task, "--", "sh", "-c", script]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=_environment(farm))
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=30)
    finally:
        process.kill()
    [job] = rest.get(f"/tasks/{task}/jobs")["items"]
    assert process.returncode == 130
    assert stdout == b"bye\n"
    assert f"stopping job {job['jobId']}".encode() in stderr
    assert rest.wait_job(job["jobId"])["state"] == "STOPPED"


def test_detach_prints_the_id_and_leaves(farm: UpFarm, rest: Rest, task: str) -> None:
    done = farm.cli("run", "--detach", "--task", task, EXAMPLE_IMAGE, "--", "echo", "later")
    assert done.returncode == 0
    job = rest.wait_job(done.stdout.decode().strip())
    assert (job["taskId"], job["state"]) == (task, "SUCCEEDED")
    assert rest.output(job["jobId"], "stdout") == b"later\n"


def test_environment_and_files_of_it(farm: UpFarm, task: str) -> None:
    file = farm.folder / "variables"
    file.write_text("# comment\nA=from file\nB=2\n", encoding="ascii")
    done = farm.cli(
        *("run", "-e", "A=from option", "--env-file", str(file), EXAMPLE_IMAGE, "--task", task),
        *("--", "sh", "-c", 'echo "$A,$B"'),
    )
    assert done.stdout == b"from option,2\n"


def test_json_and_timeout(farm: UpFarm, task: str) -> None:
    script = "trap exit TERM; sleep 60 & wait"
    done = farm.cli("run", "--json", "--timeout", "1s", "--task", task, EXAMPLE_IMAGE, "--", "sh", "-c", script)
    told = json.loads(done.stdout)
    assert (done.returncode, told["state"], told["error"]["reason"]) == (124, "TIMED_OUT", "TIMEOUT")


def test_an_image_that_is_nowhere(farm: UpFarm, task: str, registry: Registry) -> None:
    image = f"{registry.address}/nobody/has-this:1"
    done = farm.cli("run", "--task", task, image, "--", "true", timeout=90)
    assert done.returncode == 125
    assert image.encode() in done.stderr


@pytest.mark.parametrize(("program", "code"), [("no-such-program", 127), ("/etc/passwd", 126)])
def test_a_program_that_is_not_there_or_is_none(farm: UpFarm, task: str, program: str, code: int) -> None:
    """As `docker run` exits, and a shell."""
    done = farm.cli("run", "--task", task, EXAMPLE_IMAGE, "--", program)
    assert done.returncode == code
    assert program.encode() in done.stderr
    document = json.loads(farm.cli("run", "--json", "--task", task, EXAMPLE_IMAGE, "--", program).stdout)
    assert (document["exitCode"], document["error"]["reason"]) == (code, "START_FAILED")


def test_a_server_that_is_not_there() -> None:
    environment = {**clean_environment(), "EASYQ_SERVER": "127.0.0.1:9"}
    done = subprocess.run([EASYQ, "run", EXAMPLE_IMAGE], env=environment, capture_output=True, timeout=60, check=False)
    assert done.returncode == 125
    assert b"127.0.0.1:9" in done.stderr
    assert b"Traceback" not in done.stderr


def test_the_reader_of_the_output_may_leave(farm: UpFarm, rest: Rest, task: str) -> None:
    """`easyq run … | head -1`: no stack trace, and the job goes on."""
    read, write = os.pipe()
    command = [EASYQ, "run", EXAMPLE_IMAGE, "--task", task, "--", "sh", "-c", "seq 1 100000; sleep 1; seq 1 100000"]
    process = subprocess.Popen(command, stdout=write, stderr=subprocess.PIPE, env=_environment(farm))
    os.close(write)
    os.read(read, 10)
    os.close(read)
    _, stderr = process.communicate(timeout=60)
    assert b"Traceback" not in stderr
    assert process.returncode == 141
    [job] = rest.get(f"/tasks/{task}/jobs")["items"]
    assert rest.wait_job(job["jobId"])["state"] == "SUCCEEDED"


def test_two_ctrl_c_leave_at_once(farm: UpFarm, rest: Rest, task: str) -> None:
    script = "trap 'sleep 2; exit' TERM; echo ready; sleep 60 & wait"
    command = [EASYQ, "run", EXAMPLE_IMAGE, "--task", task, "--", "sh", "-c", script]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=_environment(farm))
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        assert b"stopping job" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
    finally:
        process.kill()
        process.communicate(timeout=10)
    [job] = rest.get(f"/tasks/{task}/jobs")["items"]
    wait_until(lambda: rest.job(job["jobId"])["stopRequestedAt"], 10)
    assert rest.wait_job(job["jobId"])["state"] == "STOPPED"


def _environment(farm: UpFarm) -> dict[str, str]:
    return {**clean_environment(), "EASYQ_SERVER": farm.grpc_address}
