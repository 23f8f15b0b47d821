"""Jobs on a real Docker Engine."""

import asyncio
import base64
import hashlib
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration

from easyq.v1.spec_pb2 import JobSpec, Mount, Pull, Resources
from tests.fakes.runner import FakeFarm, FarmExecution
from tests.integration.runner.conftest import AgentProcess
from tests.support.farm.programs import counted
from tests.support.hosts import EXAMPLE_IMAGE, DockerHost
from tests.support.registry import PASSWORD, USER, Registry
from tests.support.waiting import eventually

pytestmark = [pytest.mark.docker, pytest.mark.timeout(120)]

Run = Callable[..., FarmExecution]


async def test_first_job(agent: AgentProcess, farm: FakeFarm, run: Run, docker_host: DockerHost) -> None:
    one = await farm.ended(
        run('echo "$SMTP $EASYQ_TASK_ID $EASYQ_FENCE $EASYQ_ATTEMPT"; echo oops >&2; exit 3', envs={"SMTP": "mail"})
    )
    assert (one.outcome, one.finish.exit_code) == ("EXITED", 3)
    assert (one.stdout, one.stderr) == (b"mail task 7 1\n", b"oops\n")
    assert one.finish.image_digest.startswith("sha256:")
    await eventually(lambda: not docker_host.containers())


async def test_output_is_kept_byte_for_byte(agent: AgentProcess, farm: FakeFarm, run: Run) -> None:
    """Also what is no text, and a last line without an end."""
    script = "head -c 300000 /dev/urandom > /tmp/x; cat /tmp/x; sha256sum < /tmp/x >&2; printf 'no end' >&2"
    one = await farm.ended(run(script))
    assert len(one.stdout) == 300_000
    assert one.stderr == hashlib.sha256(one.stdout).hexdigest().encode() + b"  -\nno end"


async def test_many_with_much_output(
    new_agent: Callable[..., AgentProcess], farm: FakeFarm, run: Run, docker_host: DockerHost
) -> None:
    await new_agent(slots=4).ready()
    script = "seq 1000000 1200000 | head -c 1000000 & seq 1000000 1200000 | head -c 1000000 >&2; wait; exit {}"
    many = [run(script.format(number)) for number in range(8)]
    for number, one in enumerate(many):
        await farm.ended(one, 60)
        assert (one.finish.exit_code, one.finish.failure.message) == (
            number,
            f"exit code {number}" if number else "",
        )
        assert one.stdout == one.stderr == counted(1_000_000)
    await eventually(lambda: not docker_host.containers())


async def test_live_lines_arrive_soon(agent: AgentProcess, farm: FakeFarm, run: Run) -> None:
    one = run("for i in $(seq 30); do cat /proc/uptime; sleep 0.1; done")
    late, seen = [], 0
    while one.state != "ENDED":
        lines = one.stdout.splitlines()
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        late += [now - float(line.split()[0]) for line in lines[seen:]]
        seen = len(lines)
        await asyncio.sleep(0.002)
    assert seen == 30
    # The first come after the start was answered for; uptime counts in steps of 10 ms.
    # What is held back is late each time; a machine that is busy makes some late.
    assert statistics.quantiles(late)[0] < 0.05, late


async def test_timeout_and_stop(agent: AgentProcess, farm: FakeFarm, run: Run) -> None:
    # Long enough for each to have said its word by then.
    late = run("trap 'echo bye; exit 0' TERM; echo hi; while :; do sleep 0.05; done", timeout=Duration(seconds=3))
    hard = run("echo hard; sleep 60", timeout=Duration(seconds=3), stop_grace=Duration(nanos=300_000_000))
    asked = run("trap 'exit 9' TERM; echo up; while :; do sleep 0.05; done")
    await eventually(lambda: asked.stdout, message="its trap is set")
    farm.stop_execution(asked)
    for one in (late, hard, asked):
        await farm.ended(one)
    assert (late.outcome, late.finish.exit_code, late.stdout) == ("TIMED_OUT", 0, b"hi\nbye\n")
    assert (hard.outcome, hard.finish.exit_code, hard.stdout) == ("TIMED_OUT", 137, b"hard\n")
    assert (asked.outcome, asked.finish.exit_code) == ("STOPPED", 9)
    # The usual grace is ten seconds more.
    assert 3.0 <= hard.finish.ran_for.ToMilliseconds() / 1000 < 13.0


async def test_cancel_does_not_leave_the_container_running(
    agent: AgentProcess, farm: FakeFarm, run: Run, docker_host: DockerHost
) -> None:
    """hashicorp/nomad#6325: cancel leaves the container running."""
    started = [
        run("trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done"),
        run("trap '' TERM; echo up; sleep 60", stop_grace=Duration(nanos=300_000_000)),
        # The shell is not told what happens to its child.
        run("echo up; sleep 60 & wait", stop_grace=Duration(nanos=300_000_000)),
    ]
    for one in started:
        await eventually(lambda one=one: one.stdout == b"up\n")  # type: ignore[misc]
        farm.stop_execution(one)
    for one in started:
        assert (await farm.ended(one)).outcome == "STOPPED"
    await eventually(lambda: not docker_host.containers())


async def test_an_out_of_memory_kill_is_not_success(agent: AgentProcess, farm: FakeFarm, run: Run) -> None:
    """hashicorp/nomad#2203: out-of-memory kill shown as success."""
    hungry = "x=$(head -c 60000000 /dev/zero | tr '\\0' a); echo ${#x}"
    one = await farm.ended(run(hungry, resources=Resources(memory=16 * 1024 * 1024)))
    assert (one.outcome, one.finish.oom_killed, one.finish.failure.reason) == ("EXITED", True, 2)
    assert one.finish.exit_code == 137


async def test_settings_of_a_spec(agent: AgentProcess, farm: FakeFarm, run: Run) -> None:
    one = await farm.ended(
        run(
            "id -u; id -g; pwd; ls /sys/class/net | wc -l; df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2",
            user="65534:1",
            workdir="/usr",
            network="none",
            shm_size=1024 * 1024,
            init=True,
            mounts=[Mount(type=Mount.Type.TMPFS, target="/fresh")],
            resources=Resources(cpus=0.5, pids=50),
            labels={"team": "mail"},
        )
    )
    assert one.stdout == b"65534\n1\n/usr\n1\n1024\n"


async def test_mounts_only_below_allowed_folders(
    new_agent: Callable[..., AgentProcess], farm: FakeFarm, run: Run, tmp_path: Path
) -> None:
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    (allowed / "way-out").symlink_to("/etc")
    await new_agent(allowed_mounts=str(allowed)).ready()
    good = await farm.ended(run("echo seen > /m/f", mounts=[Mount(source=str(allowed), target="/m")]))
    assert (good.outcome, (allowed / "f").read_text(encoding="ascii")) == ("EXITED", "seen\n")
    for source in (str(tmp_path), str(allowed / "way-out"), f"{allowed}/../"):
        bad = await farm.ended(run("cat /m/*", mounts=[Mount(source=source, target="/m")]))
        assert (bad.outcome, bad.finish.failure.reason) == ("REJECTED", 10)


async def test_what_docker_refuses(agent: AgentProcess, farm: FakeFarm, run: Run, docker_host: DockerHost) -> None:
    cases = {
        "missing program": (farm.run(JobSpec(image=EXAMPLE_IMAGE, command=["/no/such"])), 9),
        "missing user": (run("exit 0", user="nosuch"), 9),
        "missing network": (run("exit 0", network="nosuch"), 9),
        "too little memory": (run("exit 0", resources=Resources(memory=1000)), 8),
        "relative working directory": (run("exit 0", workdir="/bin/sh"), 8),
        "host network": (run("exit 0", network="host"), 10),
    }
    for what, (one, reason) in cases.items():
        await farm.ended(one)
        assert (one.outcome, one.finish.failure.reason) == ("REJECTED", reason), (what, one.finish)
        assert one.finish.failure.message
    await eventually(lambda: not docker_host.containers())


async def test_images_of_registries(
    *,
    new_agent: Callable[..., AgentProcess],
    farm: FakeFarm,
    docker_host: DockerHost,
    registry: Registry,
    private_registry: Registry,
    tmp_path: Path,
) -> None:
    open_image = registry.push_example(docker_host, tag="latest")
    closed_image = private_registry.push_example(docker_host)

    def echo(image: str, **spec: object) -> FarmExecution:
        return farm.run(JobSpec(image=image, command=["echo", "hi"], **spec))  # type: ignore[arg-type]

    agent = await new_agent(docker_config=str(tmp_path / "config.json")).ready()
    assert (await farm.ended(echo(open_image))).stdout == b"hi\n"
    denied = await farm.ended(echo(closed_image))
    assert (denied.outcome, denied.finish.failure.reason) == ("REJECTED", 6)
    absent = await farm.ended(echo(f"{registry.address}/team/nosuch:1"))
    assert (absent.outcome, absent.finish.failure.reason) == ("REJECTED", 6)
    # As `docker login` leaves it; it counts at once.
    auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    config = json.dumps({"auths": {private_registry.address: {"auth": auth}}})
    (tmp_path / "config.json").write_text(config, encoding="ascii")
    assert (await farm.ended(echo(closed_image))).stdout == b"hi\n"
    # A moving tag asks the registry each time, a fixed one only where it is missing.
    registry.stop()
    gone = await farm.ended(echo(open_image, pull=Pull.ALWAYS))
    assert (gone.outcome, gone.finish.failure.reason) == ("INFRA_FAILED", 7)
    assert (await farm.ended(echo(open_image, pull=Pull.MISSING))).stdout == b"hi\n"
    await agent.end()
    # By the agent's settings, which win over the host's file.
    (tmp_path / "config.json").write_text("{}", encoding="ascii")
    docker_host.client().images.remove(closed_image)
    await new_agent(
        registry_auths={private_registry.address: f"{USER}:{PASSWORD}"}, docker_config=str(tmp_path / "config.json")
    ).ready()
    assert (await farm.ended(echo(closed_image))).stdout == b"hi\n"
