"""`easyq up` on a machine without a Docker Engine: it runs one of its own, and a newcomer sees a container's output."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from easyq_supervisor.adapters.docker_context import STANDARD
from tests.support import process
from tests.support.farm import UpFarm
from tests.support.hosts import dockerd_binary
from tests.support.waiting import wait_until


class BareUp(UpFarm):
    """Names no Docker Engine and forbids nothing."""

    def command(self) -> list[str]:
        ports = ("--rest-port", str(self.rest_port), "--grpc-port", str(self.grpc_port))
        return [super().command()[0], "up", "--data", str(self.data), *ports, *self.arguments]


@pytest.fixture
def bare() -> Iterator[BareUp]:
    dockerd_binary()
    if Path(STANDARD.removeprefix("unix://")).exists():
        pytest.skip(f"a Docker Engine of this machine listens at {STANDARD}")
    farm = BareUp()
    yield farm
    farm.cli("down", "--data", str(farm.data), "--stop-jobs")
    farm.close()


def engine_pid(farm: BareUp) -> int:
    return int((farm.data / "engine/pid").read_text(encoding="ascii"))


def curl_line(farm: BareUp) -> str:
    def found() -> list[str]:
        lines = [line for line in farm.log.splitlines(keepends=True) if '"first_job"' in line and line.endswith("\n")]
        return [json.loads(line)["command"] for line in lines]

    return wait_until(found, 60, message="a curl line")[0]


@pytest.mark.timeout(240)
def test_a_newcomer_sees_output_and_down_leaves_nothing(bare: BareUp) -> None:
    bare.start()
    # `ready` means that this works: the image is there when its engine is.
    first = bare.rest.run("at-once", {"image": "easyq-example:1", "command": "true"})
    assert (first["state"], first["executionCount"]) == ("SUCCEEDED", 1), first
    # The services' own lines may come between.
    told = [json.loads(line) for line in bare.log.splitlines(keepends=True) if line.endswith("\n")]
    said = [line["message"] for line in told if line["service"] == "up"]
    assert "starting one of EasyQ's own" in said[2]
    done = subprocess.run(["sh", "-c", curl_line(bare)], capture_output=True, check=True, timeout=30)
    job = bare.rest.wait_job(json.loads(done.stdout)["jobId"])
    assert job["state"] == "SUCCEEDED"
    assert bare.rest.output(job["jobId"], "stdout") == b"Hello from EasyQ\n"

    # A stop of the system is no stop of containers: the next one finds them in the same engine.
    script = "echo begin; until [ -e /tmp/never ]; do sleep 0.1; done"
    spec = {"image": "easyq-example:1", "command": ["sh", "-c", script], "stopGrace": "1s"}
    running = bare.rest.enqueue("long", spec)["jobId"]
    wait_until(lambda: bare.rest.output(running, "stdout") == b"begin\n", 30)
    engine = engine_pid(bare)
    assert bare.stop() == 0
    assert process.alive(engine)
    bare.start()
    assert engine_pid(bare) == engine
    job = bare.rest.job(running)
    assert (job["state"], job["executionCount"]) == ("RUNNING", 1)

    done = bare.cli("down", "--data", str(bare.data), "--stop-jobs", timeout=90)
    assert done.returncode == 0, done.stderr
    assert b"stopping jobs: 1 have not ended" in done.stderr
    wait_until(lambda: not bare.running)
    assert not process.alive(engine)
