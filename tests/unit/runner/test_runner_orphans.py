"""Containers of the farm that another agent has left on this host."""

import asyncio

from easyq_chassis.errors import Unavailable
from easyq_runner.domain.labels import labels_of
from easyq_runner.domain.outcome import Status
from easyq_runner.domain.records import ExecutionKey, Terms
from easyq_runner.errors import EngineFailed, EngineUnreachable
from tests.fakes.runner_engine import FakeContainer
from tests.fakes.runner_rig import Rig


async def left(
    rig: Rig, execution: str, *, farm: str = "easyq", agent: str = "wiped", script: str = "sleep 60", grace: float = 0.1
) -> FakeContainer:
    """A running container that another agent has made."""
    terms = Terms(
        key=ExecutionKey(execution, 1), task_id="t", job_id="j", attempt=1, fence=1, log_limit=1, stop_grace=grace
    )
    body = {
        "Image": "busybox",
        "Cmd": ["sh", "-c", script],
        "Labels": labels_of(terms, farm=farm, agent_id=agent, users={}),
        "HostConfig": {},
    }
    container_id = await rig.engine.create(f"easyq-{execution}", body, "")
    await rig.engine.start(container_id)
    return rig.engine.containers[container_id]


def hasty(rig: Rig, after: float = 0.1) -> None:
    rig.farm.lost_after = 0.1
    rig.settings = rig.settings.model_copy(update={"orphan_after": after})


async def looks(rig: Rig, times: int) -> None:
    """Waits for so many more looks at the farm's containers."""
    seen = rig.engine.calls.count("list_farm")
    await rig.until(lambda: rig.engine.calls.count("list_farm") >= seen + times)


async def test_orphans_do_not_pile_up(rig: Rig) -> None:
    """hashicorp/nomad#6325: orphans pile up."""
    hasty(rig)
    polite = await left(rig, "polite", script="trap 'exit 0' TERM; sleep 60")
    stubborn = await left(rig, "stubborn")
    ended = await left(rig, "ended", script="exit 0")
    await rig.until(lambda: ended.status is Status.EXITED)
    await rig.ready()
    own = rig.run("sleep 60")
    await rig.farm.is_running(own)
    await rig.until(lambda: len(rig.engine.containers) == 1, "only our own is left")
    assert (polite.exit_code, stubborn.exit_code) == (0, 137)
    assert own.state == "RUNNING"


async def test_other_peoples_containers_are_left_alone(rig: Rig) -> None:
    """hashicorp/nomad#7792: other people's containers removed."""
    hasty(rig)
    others = [await left(rig, "farm", farm="other"), await left(rig, "half")]
    others[1].body["Labels"].pop("easyq.terms")
    plain = {"Image": "busybox", "Cmd": ["sh", "-c", "sleep 60"], "Labels": {}, "HostConfig": {}}
    others.append(rig.engine.containers[await rig.engine.create("plain", plain, "")])
    await left(rig, "orphan")
    await rig.ready()
    await rig.until(lambda: len(rig.engine.containers) == 3)
    await looks(rig, 3)
    assert list(rig.engine.containers.values()) == others


async def test_what_another_living_agent_holds_is_left_alone(rig: Rig) -> None:
    """Two agents on one engine; or one whose job waits for it."""
    hasty(rig)
    held = await left(rig, "held", agent="neighbour")
    rig.farm.elsewhere["held"] = "neighbour"
    await rig.ready()
    await rig.until(lambda: rig.claims.asked > 2)
    assert held.status is Status.RUNNING
    # Until it is given up.
    del rig.farm.elsewhere["held"]
    await rig.until(lambda: not rig.engine.containers)


async def test_nothing_is_done_before_its_time(rig: Rig) -> None:
    hasty(rig, after=1000)
    one = await left(rig, "one")
    await rig.ready()
    await looks(rig, 3)
    assert rig.claims.asked == 0
    rig.clock.ahead += 1000
    rig.farm.break_stream()  # the clock has taken the lease along
    await rig.until(lambda: not rig.engine.containers)
    assert one.exit_code == 137


async def test_never_before_the_farm_would_have_given_its_agent_up(rig: Rig) -> None:
    hasty(rig)
    rig.farm.lost_after = 1000
    await left(rig, "one")
    await rig.ready()
    await looks(rig, 1)
    rig.clock.ahead += 2
    await looks(rig, 3)
    assert rig.claims.asked == 0


async def test_while_the_farm_cannot_be_asked_nothing_is_done(rig: Rig) -> None:
    hasty(rig)
    await left(rig, "one")
    rig.claims.failure = Unavailable("the store is away")
    await rig.ready()
    await rig.until(lambda: rig.claims.asked > 2)
    assert rig.engine.containers
    rig.claims.failure = None
    await rig.until(lambda: not rig.engine.containers)


async def test_while_the_agent_is_cut_off_nothing_is_done(rig: Rig) -> None:
    hasty(rig)
    await left(rig, "one")
    rig.link.farm = None
    await rig.start()
    await looks(rig, 1)
    rig.clock.ahead += 10
    await looks(rig, 3)
    assert rig.claims.asked == 0


async def test_what_fails_is_tried_again(rig: Rig) -> None:
    hasty(rig)
    await left(rig, "one", grace=0.0)
    rig.engine.failures["list_farm"] += [EngineFailed("busy")]
    rig.engine.failures["kill"] += [EngineFailed("busy")]
    rig.engine.failures["remove"] += [EngineUnreachable("the connection broke")]
    await rig.ready()
    await rig.until(lambda: not rig.engine.containers)


async def test_an_orphan_that_goes_by_itself(rig: Rig) -> None:
    hasty(rig)
    one = await left(rig, "one")
    gate = rig.engine.gates["kill"] = asyncio.Event()
    await rig.ready()
    await rig.until(lambda: "kill" in rig.engine.calls)
    await rig.engine.remove(one.container_id, force=True)
    gate.set()
    await looks(rig, 2)
    assert not rig.engine.containers


async def test_an_agent_that_stops_leaves_the_rest_for_the_next(rig: Rig) -> None:
    hasty(rig)
    await left(rig, "one", grace=60)
    await rig.ready()
    await rig.until(lambda: "kill" in rig.engine.calls)
    await rig.agent.stop(1.0)
    assert len(rig.engine.containers) == 1
