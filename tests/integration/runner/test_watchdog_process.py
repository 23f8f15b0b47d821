"""`easyq runner` as two processes on a real Docker Engine: either is killed, or stands still."""

import asyncio
import os
import re
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from easyq.v1.spec_pb2 import JobSpec, OnLost
from easyq_chassis.tracing.context import TraceContext
from tests.fakes.runner import FakeFarm, FarmExecution
from tests.integration.runner.conftest import AgentProcess, held, let_go
from tests.support import process
from tests.support.collector import Collector
from tests.support.farm import DockerObserver
from tests.support.hosts import EXAMPLE_IMAGE, DockerHost
from tests.support.plugin import DockerFactory
from tests.support.scraping import scrape
from tests.support.sentry import sentry
from tests.support.waiting import eventually

pytestmark = [pytest.mark.docker, pytest.mark.timeout(120)]

Run = Callable[..., FarmExecution]
NewAgent = Callable[..., AgentProcess]
LOST_AFTER = 3.0
# No signal but SIGKILL ends it.
STUBBORN = "trap '' TERM; echo up; while :; do sleep 0.1; done"
COUNTING = held("for i in 1 2 3; do echo $i; done", "for i in 4 5 6; do echo $i; done; exit 4")


@pytest.fixture
def short_lease(farm: FakeFarm) -> None:
    farm.lease, farm.lost_after = 1.5, LOST_AFTER


def alive(host: DockerHost, one: FarmExecution) -> bool:
    found = host.containers(label=f"easyq.execution={one.execution_id}", status="running")
    return bool(found)


def dead(host: DockerHost, one: FarmExecution) -> bool:
    return not alive(host, one)


def resident(pid: int) -> int:
    """Kilobytes."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


# -------------------------------------------------------------------------------------------------------------- the two
async def test_the_watchdog_is_small(agent: AgentProcess) -> None:
    assert resident(agent.process.pid) < 24_000
    assert resident(agent.agent_pid) > 2 * resident(agent.process.pid)


async def test_killed_agent_is_started_again_and_adopts(
    agent: AgentProcess, farm: FakeFarm, run: Run, docker_host: DockerHost
) -> None:
    one = run(COUNTING)
    await eventually(lambda: one.stdout)
    watchdog, first = agent.process.pid, agent.agent_pid
    with DockerObserver([docker_host]) as observer:
        await agent.kill_agent()
        let_go(docker_host, one)
        await farm.ended(one)
        await eventually(lambda: observer.events("die"), message="the observer has heard of all that was before")
        assert observer.starts(one.execution_id) == 0
    assert (one.outcome, one.finish.exit_code, one.stdout) == ("EXITED", 4, b"1\n2\n3\n4\n5\n6\n")
    assert one.finishes == 1
    assert agent.running
    assert (agent.process.pid, agent.agent_pid != first) == (watchdog, True)
    assert "was killed by SIGKILL" in agent.log


@pytest.mark.usefixtures("busybox_image")
async def test_spans_of_a_run_outlive_their_agent(new_agent: NewAgent, farm: FakeFarm, docker_host: DockerHost) -> None:
    """What was done before the kill has been sent, what comes after it is the next agent's to tell; nothing twice."""
    execution = TraceContext(trace_id="1" * 32, span_id="2" * 16, sampled=True)
    spec = JobSpec(image=EXAMPLE_IMAGE, command=["sh", "-c", held("echo $TRACEPARENT", "exit 4")])
    with Collector() as collector:
        agent = await new_agent(otlp_endpoint=collector.url).ready()
        one = farm.run(spec, trace=execution.text)
        await eventually(lambda: "create" in [span.name for span in collector.spans()], 20)
        await eventually(lambda: one.stdout)
        assert not one.finishes
        killed, seen = time.time_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        await agent.kill_agent()
        least = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - seen
        let_go(docker_host, one)
        await farm.ended(one)
        await asyncio.to_thread(collector.wait_for, execution.trace_id, "create", "run", "finish")
        await agent.end()
        spans = {span.name: span for span in collector.spans()}
        assert len(spans) == len(collector.spans()), "none of them twice"
    run = spans["run"]
    assert one.stdout.decode().strip() == f"00-{execution.trace_id}-{run.span_id}-01"
    assert {span.parent_id for span in spans.values()} == {execution.span_id}
    assert (run.attributes["process.exit.code"], run.attributes["error.type"]) == (4, "nonzero_exit")
    # The agents reckon by a clock that knows no corrections, and tell it by one that gets them.
    assert spans["create"].end - 100_000_000 < run.start < killed
    assert run.end - run.start > least


async def test_agents_that_crash_one_after_the_other(
    agent: AgentProcess, farm: FakeFarm, run: Run, docker_host: DockerHost
) -> None:
    one = run(held("echo 1", "echo 2; exit 4"))
    await eventually(lambda: one.stdout)
    for _ in range(3):
        farm.hellos.clear()
        await agent.kill_agent()
        await eventually(lambda: farm.hellos, 20)
    let_go(docker_host, one)
    await farm.ended(one)
    assert (one.finish.exit_code, one.stdout, one.finishes) == (4, b"1\n2\n", 1)


async def test_a_killed_agent_is_counted_and_told_once(new_agent: NewAgent, farm: FakeFarm) -> None:
    """The next life does both: a process that gets SIGKILL says nothing of it itself."""
    with sentry() as server:
        agent = await new_agent(ops_listen="127.0.0.1:0", sentry_dsn=server.dsn, agent_id="a1").ready()

        async def restarts() -> dict[str, float]:
            ops = re.findall(r'"address":"(127[^"]+)","protocol":"http"', agent.log)[-1]
            found = await asyncio.to_thread(scrape, f"http://{ops}")
            return {labels["reason"]: value for labels, value in found.of("easyq_agent_restarts_total", agent="a1")}

        async def after(number: signal.Signals, events: int, counted: dict[str, float]) -> None:
            farm.hellos.clear()
            os.kill(await agent.living(), number)
            await eventually(lambda: farm.hellos, 30)
            await eventually(lambda: len(server.events) == events, 30)
            assert await restarts() == counted

        assert await restarts() == {"SIGKILL": 0, "error": 0}, "a first one is to be seen as an increase"
        await after(signal.SIGKILL, 1, {"SIGKILL": 1, "error": 0})
        await after(signal.SIGABRT, 2, {"SIGKILL": 1, "SIGABRT": 1, "error": 0})
        assert await agent.end() == 0
    told = [event["exception"]["values"][-1] for event in server.events]
    assert [one["type"] for one in told] == ["AgentKilled"] * 2
    assert [one["value"] for one in told] == [f"the agent was killed by {name}" for name in ("SIGKILL", "SIGABRT")]
    assert {(event["tags"]["service"], event["tags"]["agent"]) for event in server.events} == {("runner", "a1")}


async def test_the_agent_ends_with_its_watchdog_and_containers_live(
    agent: AgentProcess, farm: FakeFarm, run: Run, docker_host: DockerHost
) -> None:
    one = run(held("echo 1", "echo 2; exit 4"))
    await eventually(lambda: one.stdout)
    pid = await agent.living()
    os.kill(agent.process.pid, signal.SIGKILL)
    await eventually(lambda: not process.alive(pid), message="the agent has ended, too")
    assert farm.parked == 0  # the lease goes on, in case that nobody comes back
    assert alive(docker_host, one)
    await agent.end()
    await agent.ready()
    let_go(docker_host, one)
    await farm.ended(one)
    assert (one.finish.exit_code, one.stdout, one.finishes) == (4, b"1\n2\n", 1)


async def test_a_frozen_agent_ends_with_its_watchdog(agent: AgentProcess) -> None:
    pid = await agent.living()
    process.freeze(pid)
    os.kill(agent.process.pid, signal.SIGKILL)
    await eventually(lambda: not process.alive(pid))


# --------------------------------------------------------------------------------------------------- signals, statuses
async def test_second_signal_ends_a_frozen_agent(agent: AgentProcess) -> None:
    pid = await agent.living()
    process.freeze(pid)
    os.kill(agent.process.pid, signal.SIGTERM)
    await asyncio.sleep(0.3)
    assert agent.running
    os.kill(agent.process.pid, signal.SIGINT)
    assert await asyncio.to_thread(agent.process.wait, 30) == 130
    await eventually(lambda: not process.alive(pid))


async def test_stop_while_no_agent_lives(agent: AgentProcess, farm: FakeFarm) -> None:
    """Crash after crash, the pause is long enough to hit it."""
    while True:
        await agent.kill_agent()
        if '"again_in": 1.6' in agent.log:
            # The pause stands still until the signal is there, unless it was over before.
            process.freeze(agent.process.pid)
            if not agent.agent_pid:
                break
            os.kill(agent.process.pid, signal.SIGCONT)
    began = len(farm.hellos)
    os.kill(agent.process.pid, signal.SIGTERM)
    os.kill(agent.process.pid, signal.SIGCONT)
    assert await asyncio.to_thread(agent.process.wait, 30) == 0
    assert len(farm.hellos) == began


@pytest.mark.parametrize(
    ("settings", "status"), [({"slots": "0"}, 2), ({"docker_host": "ssh://nowhere"}, 1), ({"data": "/dev/null/x"}, 1)]
)
async def test_agent_that_cannot_start(new_agent: NewAgent, settings: dict[str, str], status: int) -> None:
    """What would not get better by another try is passed on."""
    agent = new_agent(**settings).start()
    assert await asyncio.to_thread(agent.process.wait, 60) == status


# ------------------------------------------------------------------------------------------------------- a lost lease
@pytest.mark.usefixtures("short_lease")
async def test_watchdog_kills_for_a_frozen_agent(
    new_agent: NewAgent, farm: FakeFarm, run: Run, docker_host: DockerHost
) -> None:
    """The farm still waits for it when it wakes: its end is the host's fault, and uses up nobody's retries."""
    agent = await new_agent().ready()
    one, patient = run(STUBBORN), run(STUBBORN, on_lost=OnLost.WAIT)
    for each in (one, patient):
        await farm.is_running(each)
    process.freeze(await agent.living())
    await eventually(lambda: not alive(docker_host, one), LOST_AFTER + 5)
    # It tells of all once it has killed all.
    await eventually(lambda: "killed_by_watchdog" in agent.log)
    os.kill(await agent.living(), signal.SIGCONT)
    await farm.ended(one)
    assert (one.outcome, one.finish.failure.reason) == ("LOST", 11)
    assert not one.finish.HasField("exit_code")
    assert alive(docker_host, patient)
    assert patient.state == "RUNNING"


@pytest.mark.usefixtures("short_lease")
async def test_frozen_watchdog_does_not_keep_the_agent_from_killing(
    new_agent: NewAgent, farm: FakeFarm, run: Run, docker_host: DockerHost
) -> None:
    agent = await new_agent().ready()
    one = run(STUBBORN)
    await farm.is_running(one)
    process.freeze(agent.process.pid)
    farm.go_silent()
    await eventually(lambda: not alive(docker_host, one), LOST_AFTER + 5)
    farm.speak_again()
    os.kill(agent.process.pid, signal.SIGCONT)
    await farm.ended(one)
    assert (one.outcome, one.finishes) == ("LOST", 1)


@pytest.mark.usefixtures("short_lease")
async def test_both_kill_at_once(new_agent: NewAgent, farm: FakeFarm, run: Run, docker_host: DockerHost) -> None:
    """A silent farm: agent and watchdog come to the same end at the same time, and none minds the other."""
    agent = await new_agent().ready()
    many = [run(STUBBORN) for _ in range(4)]
    for one in many:
        await farm.is_running(one)
    farm.go_silent()
    for one in many:
        await eventually(partial(dead, docker_host, one), LOST_AFTER + 8)
    farm.speak_again()
    for one in many:
        await farm.ended(one)
        assert (one.outcome, one.finish.failure.reason, one.finishes) == ("LOST", 11, 1)
    await eventually(lambda: not docker_host.containers())
    assert agent.deaths == 0


@pytest.mark.slow
@pytest.mark.usefixtures("short_lease")
async def test_both_frozen_for_too_long(new_agent: NewAgent, farm: FakeFarm, run: Run, docker_host: DockerHost) -> None:
    """Nobody can end it meanwhile; it dies within two seconds of their waking."""
    agent = await new_agent().ready()
    one = run(STUBBORN)
    await farm.is_running(one)
    pids = (agent.process.pid, await agent.living())
    for pid in pids:
        process.freeze(pid)
    await asyncio.sleep(LOST_AFTER + 1)
    assert alive(docker_host, one)
    farm.take_away(one)
    with DockerObserver([docker_host]) as observer:
        woke = time.time_ns()
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        [died] = await eventually(lambda: observer.events("die"))
    assert died.nanoseconds - woke < 2_000_000_000
    assert one.finishes == 0


@pytest.mark.slow
@pytest.mark.usefixtures("short_lease")
async def test_an_engine_that_hangs_is_asked_until_it_obeys(
    new_agent: NewAgent, farm: FakeFarm, run: Run, new_dockerd: DockerFactory
) -> None:
    host = new_dockerd("own")
    agent = await new_agent(host).ready()
    one = run(STUBBORN)
    await farm.is_running(one)
    process.freeze(await agent.living())
    host.freeze()
    await eventually(lambda: "lease_lost" in agent.log, LOST_AFTER + 5)
    await asyncio.sleep(1)
    woke = time.time_ns()
    host.thaw()
    # Docker's own record of the end: an event stream would hang with it.
    await eventually(lambda: not alive(host, one), 10)
    [container] = host.containers(label=f"easyq.execution={one.execution_id}")
    assert container.attrs["State"]["ExitCode"] == 137
    assert time.time_ns() - woke < 10_000_000_000
    os.kill(await agent.living(), signal.SIGCONT)
    await farm.ended(one)
    assert one.outcome == "LOST"


@pytest.mark.slow
@pytest.mark.usefixtures("short_lease")
async def test_parked_containers_are_not_killed_however_long(
    new_agent: NewAgent, farm: FakeFarm, run: Run, docker_host: DockerHost
) -> None:
    agent = await new_agent().ready()
    one = run(f"echo 1; sleep {LOST_AFTER + 5}; echo 2; exit 4")
    await eventually(lambda: one.stdout)
    assert await agent.end() == 0
    assert farm.parked == 1
    await asyncio.sleep(LOST_AFTER + 1)
    await agent.ready()
    await farm.ended(one)
    assert (one.outcome, one.finish.exit_code, one.stdout) == ("EXITED", 4, b"1\n2\n")
    assert "lease_lost" not in agent.log


@pytest.mark.slow
@pytest.mark.usefixtures("short_lease")
async def test_agent_that_can_not_come_back_is_guarded(
    new_agent: NewAgent, farm: FakeFarm, run: Run, docker_host: DockerHost
) -> None:
    """The watchdog knows whose containers it guards, although no agent lives to tell it again."""
    agent = await new_agent().ready()
    one = run(STUBBORN)
    await farm.is_running(one)
    journal = agent.folder / "data" / "journal"
    journal.rename(journal.with_suffix(".aside"))
    journal.mkdir()  # each further agent fails at its start
    os.kill(await agent.living(), signal.SIGKILL)
    await eventually(lambda: not alive(docker_host, one), LOST_AFTER + 8)
    assert agent.running
    await eventually(lambda: "killed_by_watchdog" in agent.log)
    await eventually(lambda: agent.deaths >= 2, 20, message="another agent has failed at its start")
