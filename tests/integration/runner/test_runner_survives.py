"""Agents and engines that are killed, on a real Docker Engine."""

import asyncio
import os
import signal
from collections.abc import Callable

import pytest
from google.protobuf.duration_pb2 import Duration

from tests.fakes.runner import FakeFarm, FarmExecution
from tests.integration.runner.conftest import AgentProcess, held, let_end, let_go, pid_of
from tests.support import process
from tests.support.farm import DockerObserver
from tests.support.hosts import DockerHost
from tests.support.plugin import DockerFactory
from tests.support.waiting import eventually

pytestmark = [pytest.mark.docker, pytest.mark.timeout(150)]

Run = Callable[..., FarmExecution]
NewAgent = Callable[..., AgentProcess]
POINTS = ("before_create", "after_create", "after_journal", "after_start", "after_exit", "after_finish_ack")
TRAP = "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done"


async def test_killed_agent_finds_its_containers(
    agent: AgentProcess, farm: FakeFarm, run: Run, docker_host: DockerHost
) -> None:
    longer = run(held("for i in 1 2 3; do echo $i; done", "for i in 4 5 6; do echo $i; done; exit 4"))
    shorter = run(held("echo a", "echo b; exit 5"))
    await eventually(lambda: longer.stdout and shorter.stdout)
    await agent.kill()
    await let_end(docker_host, shorter)  # while nobody looks
    await agent.ready()
    let_go(docker_host, longer)
    for one in (longer, shorter):
        await farm.ended(one)
        assert one.finishes == 1
    assert (longer.outcome, longer.finish.exit_code, longer.stdout) == ("EXITED", 4, b"1\n2\n3\n4\n5\n6\n")
    assert (shorter.outcome, shorter.finish.exit_code, shorter.stdout) == ("EXITED", 5, b"a\nb\n")


@pytest.mark.parametrize("point", POINTS)
async def test_crash_points(new_agent: NewAgent, farm: FakeFarm, run: Run, docker_host: DockerHost, point: str) -> None:
    agent = new_agent()
    agent.faults[point] = "kill"
    with DockerObserver([docker_host]) as observer:
        await agent.ready()
        one = run("echo hi; exit 5")
        await eventually(lambda: agent.deaths == 1, message="the crash point was passed")
        await farm.ended(one)
        await eventually(lambda: not docker_host.containers())
        # The observer has heard of all that was before.
        await eventually(lambda: [e for e in observer.events("destroy") if e.execution_id == one.execution_id])
        started = [event for event in observer.events("start") if event.execution_id == one.execution_id]
    if point == "after_journal":
        assert (one.outcome, one.finish.failure.reason, started) == ("LOST", 14, [])
    else:
        assert (one.outcome, one.finish.exit_code, one.stdout) == ("EXITED", 5, b"hi\n")
        assert len(started) == 1
    assert one.finishes == 1


async def test_clean_stop_leaves_containers_for_the_next(
    agent: AgentProcess, farm: FakeFarm, run: Run, docker_host: DockerHost
) -> None:
    one = run(held("echo 1", "echo 2; exit 6"))
    await eventually(lambda: one.stdout)
    assert await agent.end() == 0
    assert farm.parked == 1
    assert [container.status for container in docker_host.containers()] == ["running"]
    await agent.ready()
    let_go(docker_host, one)
    await farm.ended(one)
    assert (one.finish.exit_code, one.stdout) == (6, b"1\n2\n")


async def test_second_signal_ends_it_at_once(new_agent: NewAgent, farm: FakeFarm) -> None:
    agent = await new_agent(shutdown_grace="60").ready()
    farm.deaf = True  # so that the goodbye stays unanswered
    os.kill(agent.process.pid, signal.SIGTERM)
    await eventually(lambda: "stopping" in agent.log)
    os.kill(agent.process.pid, signal.SIGTERM)
    assert await asyncio.to_thread(agent.process.wait, 30) == 130


async def test_one_agent_a_data_folder(agent: AgentProcess) -> None:
    second = AgentProcess(agent.farm, agent.host, data=str(agent.folder / "data"))
    second.start()
    await eventually(lambda: not second.running)
    assert f"process id {agent.process.pid}" in second.log
    second.close()


@pytest.mark.usefixtures("agent")
async def test_agent_comes_back_after_the_server_restarted(farm: FakeFarm, run: Run, docker_host: DockerHost) -> None:
    """woodpecker-ci/woodpecker#4446: agent does not come back after the server restarted."""
    one = run(held("echo 1", "echo 2; exit 3"))
    await eventually(lambda: one.stdout)
    await farm.stop()
    await let_end(docker_host, one)
    await farm.start()
    await farm.ended(one)
    assert (one.finish.exit_code, one.stdout) == (3, b"1\n2\n")


async def test_silent_farm_ends_what_may_run_elsewhere(
    new_agent: NewAgent, farm: FakeFarm, run: Run, docker_host: DockerHost
) -> None:
    farm.lease, farm.lost_after = 1.0, 2.0
    await new_agent().ready()
    one = run("trap '' TERM; sleep 60")
    await farm.is_running(one)
    farm.go_silent()
    await eventually(lambda: [one.attrs["State"]["ExitCode"] for one in docker_host.containers()] == [137])
    farm.speak_again()
    await farm.ended(one)
    assert one.outcome == "LOST"


@pytest.mark.slow
@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGKILL])
async def test_engine_that_goes_down(
    new_agent: NewAgent, farm: FakeFarm, run: Run, new_dockerd: DockerFactory, sig: signal.Signals
) -> None:
    """A program that traps SIGTERM exits 0 then, and is still lost."""
    host = new_dockerd("own")
    agent = await new_agent(host).ready()
    trapping, plain = run(TRAP), run("echo up; sleep 1000")
    await eventually(lambda: trapping.stdout and plain.stdout)
    await asyncio.to_thread(host.stop if sig is signal.SIGTERM else host.kill)
    await eventually(lambda: farm.healths and "does not answer: start it" in farm.healths[-1].message)
    assert not farm.healths[-1].healthy
    given_back = await farm.ended(run("echo later"))
    assert given_back.state == "QUEUED"
    await asyncio.to_thread(host.start)
    for one in (trapping, plain):
        await farm.ended(one, 60)
        assert (one.outcome, one.finish.failure.reason) == ("LOST", 12), agent.log
        assert one.stdout == b"up\n"
        assert not one.finish.HasField("exit_code")
    await eventually(lambda: farm.healths[-1].healthy)
    farm.assign_again(given_back)
    assert (await farm.ended(given_back)).stdout == b"later\n"
    await eventually(lambda: not host.containers())


async def test_engine_and_agent_go_down_together(
    new_agent: NewAgent, farm: FakeFarm, run: Run, new_dockerd: DockerFactory
) -> None:
    host = new_dockerd("own")
    agent = await new_agent(host).ready()
    one = run(TRAP)
    await eventually(lambda: one.stdout)
    await agent.kill()
    await asyncio.to_thread(host.stop)
    await asyncio.to_thread(host.start)
    await agent.ready()
    await farm.ended(one, 60)
    assert (one.outcome, one.finish.failure.reason, one.stdout) == ("LOST", 12, b"up\n")


async def test_live_restore_keeps_what_runs(
    new_agent: NewAgent, farm: FakeFarm, run: Run, new_dockerd: DockerFactory
) -> None:
    host = new_dockerd("own", arguments=("--live-restore",))
    await new_agent(host).ready()
    goes_on, ends = run(held("echo 1", "echo 2; exit 4")), run(held("echo up", "exit 3"))
    await eventually(lambda: goes_on.stdout and ends.stdout)
    pid = pid_of(host, ends)
    await asyncio.to_thread(host.stop)
    os.kill(pid, signal.SIGUSR1)
    await eventually(lambda: not process.alive(pid), message="it ends while the engine is away")
    await eventually(lambda: farm.healths and not farm.healths[-1].healthy)
    await asyncio.to_thread(host.start)
    await eventually(lambda: farm.healths[-1].healthy)
    let_go(host, goes_on)
    for one, code in ((goes_on, 4), (ends, 3)):
        await farm.ended(one, 60)
        assert (one.outcome, one.finish.exit_code) == ("EXITED", code), one.finish
    assert goes_on.stdout == b"1\n2\n"


async def test_other_peoples_containers_are_left_alone(
    new_agent: NewAgent, farm: FakeFarm, run: Run, docker_host: DockerHost
) -> None:
    """hashicorp/nomad#7792: other people's containers removed."""
    client = docker_host.client()
    labelled = {"easyq.farm": "easyq", "easyq.agent": "another", "easyq.execution": "x", "easyq.epoch": "1"}
    theirs = {
        client.containers.create("easyq/example:1", "true", labels=labels, network_mode="none").id
        for labels in ({}, labelled)
    }
    agent = await new_agent().ready()
    await farm.ended(run("exit 0"))
    await agent.kill()
    await agent.ready()
    await farm.ended(run("exit 0"))
    await eventually(lambda: {container.id for container in docker_host.containers()} == theirs)


@pytest.mark.slow
async def test_a_busy_host_keeps_its_lease(new_agent: NewAgent, farm: FakeFarm, run: Run) -> None:
    """actions/runner#3539: a busy host starves lease renewal and loses its job."""
    farm.beat_every = 0.25
    await new_agent(slots=8).ready()
    many = [run("yes 0123456789 | head -c 20000000", timeout=Duration(seconds=60)) for _ in range(4)]
    gaps, last, seen = [], asyncio.get_running_loop().time(), 0
    while any(one.state != "ENDED" for one in many):
        if len(farm.beats) > seen:
            now = asyncio.get_running_loop().time()
            gaps.append(now - last)
            last, seen = now, len(farm.beats)
        await asyncio.sleep(0.01)
    assert all(len(one.stdout) == 20_000_000 for one in many)
    assert max(gaps) < farm.lease, gaps


async def test_data_folder_is_private(agent: AgentProcess) -> None:
    data = agent.folder / "data"
    modes = [file.stat().st_mode & 0o077 for file in (data, data / "journal", data / "lock")]
    assert modes == [0, 0, 0]
