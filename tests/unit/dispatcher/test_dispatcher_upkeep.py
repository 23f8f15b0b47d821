"""Operators' wishes about agents: relayed, and obeyed at once."""

from __future__ import annotations

from typing import Any

import pytest

from easyq_dispatcher.domain.assigning import Verdict
from easyq_dispatcher.messages import Acknowledged, Welcome, Wish, is_cordoned
from easyq_internal.store.v1.records_pb2 import Upkeep
from tests.unit.dispatcher.rig import Agent, Core, Rig, idle


async def begun(rig: Rig, *agents: Agent) -> Core:
    core = rig.dispatcher()
    await core.step()
    for agent in agents:
        await agent.connect(core)
    return core


def heard(agent: Agent, kind: type) -> list[Any]:
    return [message for message in agent.heard if isinstance(message, kind)]


@pytest.mark.parametrize(
    ("upkeep", "cordoned"),
    [(None, False), (Upkeep(), False), (Upkeep(cordoned=True), True), (Upkeep(draining=True), True)],
)
def test_what_takes_nothing_new(upkeep: Upkeep | None, cordoned: bool) -> None:
    assert is_cordoned(upkeep) is cordoned


async def test_a_cordoned_agent_gets_no_seat_from_its_hello_on() -> None:
    rig = Rig()
    agent = Agent("a", 2)
    core = await begun(rig, agent)
    rig.farm.cordon("a")
    await agent.connect(core)
    assert heard(agent, Welcome)[-1].upkeep.cordoned
    core.ledger.ready(rig.farm.submit("t"))
    await core.match()
    assert agent.started == []
    assert core.roster.seats() == []
    # The next beat brings the news that it may go on.
    rig.farm.cordon("a", cordoned=False)
    agent.beat()
    await idle()
    assert not heard(agent, Acknowledged)[-1].upkeep.cordoned
    await core.match()
    assert len(agent.running) == 1


async def test_a_beat_brings_a_cordon() -> None:
    rig = Rig()
    agent = Agent("a", 2)
    core = await begun(rig, agent)
    rig.farm.agents["a"].upkeep = Upkeep(draining=True)
    agent.beat()
    await idle()
    assert heard(agent, Acknowledged)[-1].upkeep.draining
    assert core.roster.seats() == []


async def test_news_are_passed_on_at_once() -> None:
    rig = Rig()
    agent = Agent("a", 2)
    core = await begun(rig, agent)
    wakes = core.wakes
    core.conversations.wish("a", Upkeep(cordoned=True))
    core.conversations.wish("elsewhere", Upkeep(cordoned=True))
    await idle()
    assert [message.upkeep.cordoned for message in heard(agent, Wish)] == [True]
    assert core.roster.seats() == []
    core.conversations.wish("a", Upkeep())
    assert len(core.roster.seats()) == 1
    assert core.wakes > wakes


async def test_an_older_word_does_not_undo_a_newer_wish() -> None:
    """An answer to a beat was made before the wish, and comes after its news."""
    rig = Rig()
    agent = Agent("a", 2)
    core = await begun(rig, agent)
    rig.farm.agents["a"].upkeep = Upkeep(version=4)
    core.conversations.wish("a", Upkeep(cordoned=True, version=5))
    agent.beat()
    await idle()
    assert core.roster.seats() == []
    # The agent isn't told otherwise either.
    assert heard(agent, Acknowledged)[-1].upkeep == Upkeep(cordoned=True, version=5)
    # Nor does news that another one overtook.
    core.conversations.wish("a", Upkeep(version=3))
    assert core.roster.seats() == []
    assert len(heard(agent, Wish)) == 1
    rig.farm.agents["a"].upkeep = Upkeep(version=6)
    agent.beat()
    await idle()
    assert len(core.roster.seats()) == 1


async def test_news_of_an_agent_that_is_about_to_be_welcomed() -> None:
    rig = Rig()
    agent = Agent("a", 2)
    core = await begun(rig)
    core.conversations.wish("a", Upkeep(cordoned=True, version=5))
    core.conversations.wish("a", Upkeep(version=4))
    await agent.connect(core)
    assert heard(agent, Welcome)[-1].upkeep.cordoned
    assert core.roster.seats() == []
    rig.farm.agents["a"].upkeep = Upkeep(version=6)
    await agent.connect(core)
    assert len(core.roster.seats()) == 1


async def test_a_refusal_puts_the_head_back_in_its_place_and_drops_the_seat() -> None:
    rig = Rig()
    agent, other = Agent("a", 1), Agent("b", 9)
    core = await begun(rig, agent)
    heads = rig.farm.submit("t", 2)
    core.ledger.ready(heads)
    rig.farm.cordon("a")
    await core.match()
    assert rig.farm.refusals == [Verdict.CORDONED]
    assert (agent.started, agent.connected) == ([], True)
    # However often every agent is looked at again.
    core.roster.assume_room()
    assert core.roster.seats() == []
    await core.match()
    await other.connect(core)
    await core.match()
    assert other.started == [head.execution_id for head in heads]
    assert rig.farm.refusals == [Verdict.CORDONED]
