"""Hosts that are drained, stopped, full, or littered, on a real Docker Engine."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest
from google.protobuf.duration_pb2 import Duration

from easyq.v1.job_pb2 import Failure
from easyq.v1.spec_pb2 import JobSpec
from easyq_runner.domain.labels import labels_of
from easyq_runner.domain.records import ExecutionKey, Terms
from tests.fakes.runner import FakeFarm, FarmExecution
from tests.integration.runner.conftest import AgentProcess, held, let_go
from tests.support.hosts import EXAMPLE_IMAGE, DockerHost, dockerd_binary
from tests.support.registry import Registry
from tests.support.registry_proxy import RegistryProxy
from tests.support.waiting import eventually

pytestmark = [pytest.mark.docker, pytest.mark.timeout(120)]

Run = Callable[..., FarmExecution]
NewAgent = Callable[..., AgentProcess]
TRAP = "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done"


async def exit_status(agent: AgentProcess) -> int:
    return await asyncio.to_thread(agent.process.wait, 30)


# -------------------------------------------------------------------------------------------------------------- drains
async def test_offers_what_the_machine_has(agent: AgentProcess, farm: FakeFarm, docker_host: DockerHost) -> None:
    told = docker_host.client().info()
    offer = farm.hellos[-1].offer
    assert (offer.cpu_millis, offer.memory, offer.gpus) == (told["NCPU"] * 1000, told["MemTotal"], 0)


async def test_a_drained_agent_ends_when_it_is_empty(
    agent: AgentProcess, farm: FakeFarm, run: Run, docker_host: DockerHost
) -> None:
    one = run(held("echo 1", "echo 2; exit 3"))
    await farm.is_running(one)
    await eventually(lambda: one.stdout)
    farm.tell_upkeep(draining=True)
    await eventually(lambda: farm.healths and farm.healths[-1].message == "draining")
    late = await farm.ended(run("exit 0"))
    assert (late.state, late.give_back.failure.reason) == ("QUEUED", Failure.Reason.DRAINED)
    let_go(docker_host, one)
    await farm.ended(one)
    assert (one.finish.exit_code, one.stdout) == (3, b"1\n2\n")
    # Neither its watchdog nor anybody else takes that for a crash.
    assert await exit_status(agent) == 0
    assert (farm.parked, agent.deaths) == (1, 0)
    assert not docker_host.containers()


async def test_deadline_of_a_drain(agent: AgentProcess, farm: FakeFarm, run: Run, docker_host: DockerHost) -> None:
    polite = run(TRAP)
    stubborn = run("trap '' TERM; echo up; sleep 60", stop_grace=Duration(seconds=1))
    for one in (polite, stubborn):
        await farm.is_running(one)
        await eventually(lambda one=one: one.stdout == b"up\n")  # type: ignore[misc]
    farm.tell_upkeep(draining=True, within=1.0)
    for one in (polite, stubborn):
        await farm.ended(one)
        assert (one.outcome, one.finish.failure.reason) == ("LOST", Failure.Reason.DRAINED)
    assert await exit_status(agent) == 0
    assert not docker_host.containers()


# ------------------------------------------------------------------------------------------------------------- signals
async def test_first_signal_gives_back_what_has_not_begun_and_leaves_what_runs(
    *, new_agent: NewAgent, farm: FakeFarm, run: Run, docker_host: DockerHost, registry: Registry
) -> None:
    with RegistryProxy(registry) as proxy:
        proxy.silent = True
        agent = await new_agent(shutdown_grace="10").ready()
        running = run(held("echo 1", "echo 2; exit 3"))
        pulling = farm.run(JobSpec(image=f"{proxy.address}/team/slow:1", command=["true"]))
        await farm.is_running(running)
        await eventually(lambda: running.stdout)
        await eventually(lambda: any("/manifests/" in path for _, path in proxy.requests), message="it pulls")
        assert await agent.end() == 0
    assert (pulling.state, pulling.give_back.failure.reason) == ("QUEUED", Failure.Reason.DRAINED)
    assert farm.parked == 1
    assert [container.status for container in docker_host.containers()] == ["running"]
    await agent.ready()
    let_go(docker_host, running)
    await farm.ended(running)
    assert (running.finish.exit_code, running.stdout) == (3, b"1\n2\n")


async def test_second_signal_stops_at_once_and_leaves_what_runs(
    new_agent: NewAgent, farm: FakeFarm, run: Run, docker_host: DockerHost
) -> None:
    agent = await new_agent(shutdown_grace="60").ready()
    one = run(held("echo 1", "echo 2; exit 3"))
    await farm.is_running(one)
    await eventually(lambda: one.stdout)
    farm.go_silent()  # so that the goodbye stays unanswered
    os.kill(agent.process.pid, signal.SIGTERM)
    await eventually(lambda: "stopping" in agent.log)
    os.kill(agent.process.pid, signal.SIGTERM)
    assert await asyncio.to_thread(agent.process.wait, 30) == 130
    assert [container.status for container in docker_host.containers()] == ["running"]
    farm.speak_again()
    await agent.ready()
    let_go(docker_host, one)
    await farm.ended(one)
    assert (one.finish.exit_code, one.stdout) == (3, b"1\n2\n")


# --------------------------------------------------------------------------------------------------------------- disks
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


async def test_a_full_disk_sends_jobs_elsewhere(
    new_agent: NewAgent, farm: FakeFarm, run: Run, small_host: DockerHost
) -> None:
    """DataBiosphere/toil#5452: one broken host fails fast and eats everyone's retries."""
    agent = await new_agent(small_host, min_free_disk="8m").ready()
    assert (await farm.ended(run("echo hi"))).stdout == b"hi\n"
    # What its container took must not come free after the disk was filled.
    await eventually(lambda: not small_host.containers())
    filler = small_host.folder / "data" / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 65_536)
        except OSError:
            pass
    many = [run("echo hi") for _ in range(4)]
    for one in many:
        await farm.ended(one)
        assert one.state == "QUEUED", agent.log
        assert one.give_back.failure.reason == Failure.Reason.HOST_FAILED
    await eventually(lambda: farm.healths and "disk full" in farm.healths[-1].message)
    assert str(small_host.folder / "data") in farm.healths[-1].message
    filler.unlink()
    await eventually(lambda: farm.healths[-1].healthy, 20)
    farm.assign_again(many[0])
    assert (await farm.ended(many[0])).stdout == b"hi\n"


# ------------------------------------------------------------------------------------------------------------- orphans
def leave_container(host: DockerHost, *, farm: str = "easyq", agent: str = "wiped") -> str:
    """A running one as another agent would have made it; its id."""
    key = ExecutionKey("5b4c6f0e-0000-4000-8000-000000000001", 1)
    terms = Terms(key=key, task_id="t", job_id="j", attempt=1, fence=1, log_limit=1, stop_grace=1.0)
    container = host.client().containers.run(
        host.load_example_image(EXAMPLE_IMAGE),
        ["sleep", "600"],
        labels=labels_of(terms, farm=farm, agent_id=agent, users={}),
        network_mode="none",
        detach=True,
    )
    return str(container.id)


async def test_orphans_do_not_pile_up(new_agent: NewAgent, farm: FakeFarm, run: Run, docker_host: DockerHost) -> None:
    """hashicorp/nomad#6325: orphans pile up. One of an agent whose data was wiped."""
    farm.lost_after = 1.0
    docker_host.remove_containers()
    orphan = leave_container(docker_host)
    others = {
        leave_container(docker_host, farm="other"),
        docker_host.client().containers.run(EXAMPLE_IMAGE, ["sleep", "600"], network_mode="none", detach=True).id,
    }
    began = time.monotonic()
    agent = new_agent(orphan_after="5").start()
    await eventually(
        lambda: orphan not in {container.id for container in docker_host.containers()}, 60, message="it is gone"
    )
    assert time.monotonic() - began > 5.0
    await eventually(lambda: "orphan_ended" in agent.log)
    assert {container.id for container in docker_host.containers()} == others
