"""One agent's stream over fakes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from easyq_chassis.errors import Aborted, EasyQError, FailedPrecondition, InvalidArgument, Unavailable
from easyq_dispatcher.domain.agents import Hello, Phase
from easyq_dispatcher.messages import Acknowledged, Beat, Farewell, Goodbye, HealthChange, Incoming, Welcome
from easyq_internal.store.v1.records_pb2 import ReportResult
from tests.support.waiting import eventually
from tests.unit.dispatcher.rig import Agent, Core, Rig, idle

Said = ReportResult.Verdict


async def begun(rig: Rig) -> Core:
    core = rig.dispatcher()
    await core.step()
    return core


async def with_work(rig: Rig, slots: int = 2, count: int = 2) -> tuple[Core, Agent]:
    """An agent that runs something."""
    core, agent = await begun(rig), Agent("a", slots)
    await agent.connect(core)
    core.ledger.ready(rig.farm.submit("t", count))
    await core.match()
    return core, agent


async def test_a_welcome_tells_session_and_times() -> None:
    rig = Rig(pools=["mail=m.*"])
    core, agent = await begun(rig), Agent("a", 2)
    await agent.connect(core, pools=())
    (welcome,) = agent.heard
    assert isinstance(welcome, Welcome)
    assert (welcome.session, welcome.protocol) == (1, 1)
    assert (welcome.beat_every_ms, welcome.lease_ms, welcome.lost_after_ms) == (5_000, 15_000, 120_000)
    assert rig.farm.agents["a"].pools == ("default",)


@pytest.mark.parametrize(
    ("changes", "error", "told"),
    [
        ({"agent_id": ""}, InvalidArgument, "agentId"),
        ({"slots": -1}, InvalidArgument, "slots"),
        ({"protocol_min": 2, "protocol_max": 2}, FailedPrecondition, "protocol"),
        ({"daemon_id": "another"}, FailedPrecondition, "bound"),
    ],
)
async def test_hellos_that_are_refused(changes: dict[str, object], error: type[EasyQError], told: str) -> None:
    core, agent = await begun(Rig()), Agent("a", 1)
    await Agent("a", 1).connect(core)
    await agent.connect(core, **changes)
    assert isinstance(agent.ended, error)
    assert told in agent.ended.message


async def test_the_first_word_has_to_be_a_hello_and_no_other() -> None:
    core, agent = await begun(Rig()), Agent("a", 1)
    await agent.connect(core)
    agent.say(Hello(**dict.fromkeys(Hello.__slots__)))  # type: ignore[arg-type]
    await idle()
    assert isinstance(agent.ended, InvalidArgument)

    async def only_a_beat() -> AsyncIterator[Incoming]:
        yield Beat(number=1, inventory=())

    with pytest.raises(InvalidArgument):
        await anext(core.conversations.talk(only_a_beat()))


async def test_a_store_that_is_away_refuses_hellos() -> None:
    rig = Rig()
    core, agent = await begun(rig), Agent("a", 1)
    rig.farm.away = True
    await agent.connect(core)
    assert isinstance(agent.ended, Unavailable)
    assert core.roster.links() == []


async def test_beats_are_acknowledged_after_commit_and_remembered() -> None:
    rig = Rig()
    core, agent = await with_work(rig)
    agent.beat()
    await idle()
    (ack,) = [message for message in agent.heard if isinstance(message, Acknowledged)]
    assert ack.number == 1
    link = core.roster.get("a")
    assert link
    assert set(link.agent.phases.values()) == {Phase.RUNNING}
    rig.farm.away = True
    agent.beat()
    await idle()
    assert len([message for message in agent.heard if isinstance(message, Acknowledged)]) == 1
    assert agent.connected


async def test_a_fenced_session_ends() -> None:
    rig = Rig()
    _, agent = await with_work(rig)
    rig.farm.agents["a"].session += 1
    agent.beat()
    await idle()
    assert isinstance(agent.ended, Aborted)


async def test_reports_are_answered_and_make_room() -> None:
    rig = Rig()
    core, agent = await with_work(rig, slots=1, count=2)
    (first,) = agent.running
    agent.finish(first)
    await idle()
    await core.match()
    assert [result.verdict for result in agent.results] == [Said.OK]
    assert len(agent.started) == 2


async def test_reports_while_the_store_is_away_are_to_be_repeated() -> None:
    rig = Rig()
    core, agent = await with_work(rig, slots=1)
    rig.farm.away = True
    agent.finish(*agent.running)
    await idle()
    assert [result.verdict for result in agent.results] == [Said.RETRY]
    assert len(agent.running) == 1
    rig.farm.away = False
    agent.finish(*agent.running)
    await idle()
    await core.match()
    assert len(agent.started) == 2


async def test_what_an_agent_said_last_counts_although_it_has_gone() -> None:
    rig = Rig()
    core, agent = await with_work(rig, slots=1, count=1)
    agent.finish(*agent.running)
    agent.hang_up()
    await idle()
    await core.match()
    assert rig.farm.count("SUCCEEDED") == 1
    assert agent.ended is None
    assert not agent.connected
    assert core.roster.links() == []


async def test_an_agent_that_vanishes_is_forgotten() -> None:
    core, agent = await with_work(Rig())
    agent.disconnect()
    await idle()
    assert core.roster.links() == []


async def test_health_changes_what_it_is_given() -> None:
    rig = Rig()
    core, agent = await begun(rig), Agent("a", 2)
    await agent.connect(core, healthy=False, message="no Docker")
    core.ledger.ready(rig.farm.submit("t"))
    await core.match()
    assert agent.started == []
    wakes = core.wakes
    agent.say(HealthChange(healthy=True, message=""))
    await idle()
    assert core.wakes > wakes
    await core.match()
    assert len(agent.started) == 1


async def test_a_goodbye_parks_and_ends() -> None:
    rig = Rig()
    core, agent = await with_work(rig)
    agent.say(Goodbye())
    await idle()
    assert isinstance(agent.heard[-1], Farewell)
    assert (agent.connected, agent.ended) == (False, None)
    assert rig.farm.agents["a"].state == "PARKED"
    assert core.roster.links() == []


async def test_a_goodbye_does_not_wait_for_ever_for_assigns() -> None:
    rig = Rig()
    core, agent = await begun(rig), Agent("a", 1)
    await agent.connect(core)
    rig.farm.gate.clear()
    core.ledger.ready(rig.farm.submit("t"))
    await core.match()
    agent.say(Goodbye())
    await idle()
    assert not isinstance(agent.heard[-1], Farewell)
    await eventually(lambda: isinstance(agent.heard[-1], Farewell))
    rig.farm.gate.set()
    await idle()
    await core.match()
    assert rig.farm.count("QUEUED") == 1


async def test_a_goodbye_that_the_store_does_not_take_ends_with_its_error() -> None:
    rig = Rig()
    _, agent = await with_work(rig)
    rig.farm.away = True
    agent.say(Goodbye())
    await idle()
    assert isinstance(agent.ended, Unavailable)


async def test_a_silent_agent_is_given_nothing_though_nobody_closes_its_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stopped process, or half a connection, is found within the lease."""
    rig = Rig()
    core, agent, other = await begun(rig), Agent("a", 2), Agent("b", 2)
    monkeypatch.setattr(core.conversations, "_lease_ms", 30)
    await agent.connect(core)
    monkeypatch.undo()
    await other.connect(core)
    await eventually(lambda: core.roster.get("a") is None)
    await eventually(lambda: isinstance(agent.ended, Unavailable))
    core.ledger.ready(rig.farm.submit("t", 2))
    await core.match()
    assert (len(agent.running), len(other.running)) == (0, 2)
