"""Matching, step by step over fakes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest

from easyq_chassis.errors import Aborted
from easyq_dispatcher.domain.records import Taking
from easyq_dispatcher.messages import Runs
from easyq_dispatcher.ports import Assigned
from easyq_dispatcher.usecases import matcher as matcher_module
from tests.unit.dispatcher.rig import Agent, Core, Rig, idle


async def begun(rig: Rig, *agents: Agent, name: str = "d1") -> Core:
    core = rig.dispatcher(name)
    await core.step()
    for agent in agents:
        await agent.connect(core)
    return core


async def places(core: Core) -> int:
    assert core.keeper.generation is not None
    return len(await core.index.places(core.keeper.generation))


async def test_nothing_is_taken_where_no_filling_holds() -> None:
    rig = Rig()
    core = rig.dispatcher()
    core.ledger.ready(rig.farm.submit("t"))
    assert await core.matcher.run_once() is None
    assert core.ledger


async def test_what_could_not_be_told_is_told_later() -> None:
    rig = Rig()
    agent = Agent("a", 2)
    core = await begun(rig, agent)
    core.ledger.ready(rig.farm.submit("t", 4))
    await core.match()
    rig.server.away = True
    agent.finish(*agent.running)
    await idle()
    await core.match()
    assert core.keeper.generation is None
    assert "Redis" in core.keeper.problem
    rig.server.away = False
    await core.keeper.run_once()
    await core.match()
    assert len(agent.started) == 4
    assert rig.farm.number == 2


async def test_an_index_that_was_emptied_is_doubted() -> None:
    rig = Rig()
    core = await begun(rig, Agent("a", 1))
    rig.server.flush()
    await core.match()
    assert core.keeper.generation is None


async def test_a_generation_that_moved_on_is_noticed_at_the_next_assign() -> None:
    rig = Rig()
    agent = Agent("a", 1)
    core = await begun(rig, agent)
    core.ledger.ready(rig.farm.submit("t"))
    await rig.farm.raise_generation(rig.farm.number)
    await core.match()
    assert core.keeper.generation is None
    await core.step()
    rig.clock.seconds += 1
    await core.step()
    assert len(agent.started) == 1


async def test_a_refused_session_is_closed_and_its_head_kept() -> None:
    rig = Rig()
    agent, other = Agent("a", 1), Agent("b", 1)
    core = await begun(rig, agent)
    rig.farm.agents["a"].session += 1
    (head,) = rig.farm.submit("t")
    core.ledger.ready([head])
    await core.match()
    assert isinstance(agent.ended, Aborted)
    await core.match()
    assert await places(core) == 0
    await other.connect(core)
    await core.match()
    assert other.started == [head.execution_id]


async def test_an_assign_for_an_agent_that_has_gone_keeps_its_places() -> None:
    rig = Rig()
    agent = Agent("a", 1)
    core = await begun(rig, agent)
    rig.farm.gate.clear()
    core.ledger.ready(rig.farm.submit("t"))
    await core.match()
    agent.disconnect()
    await idle()
    rig.farm.gate.set()
    await idle()
    await core.match()
    assert (rig.farm.count("ASSIGNED"), await places(core)) == (1, 1)
    assert agent.started == []
    await agent.connect(core)
    assert len(agent.started) == 1


async def test_no_more_assigns_are_under_way_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matcher_module, "MOST_UNDER_WAY", 2)
    rig = Rig()
    agent = Agent("a", 9)
    core = await begun(rig, agent)
    woken: list[bool] = []
    core.matcher.wake = lambda: woken.append(True)
    rig.farm.gate.clear()
    core.ledger.ready(rig.farm.submit("t", 2))
    await core.match()
    core.ledger.ready(rig.farm.submit("t", 2))
    await core.match()
    assert await places(core) == 2
    rig.farm.gate.set()
    await idle()
    assert woken
    await core.match()
    assert len(agent.started) == 4


async def test_places_freed_by_others_are_found_by_the_poll() -> None:
    rig = Rig()
    agent = Agent("a", 1)
    core, other = await begun(rig, agent), await begun(rig, name="d2")
    core.ledger.ready(rig.farm.submit("t", 2))
    await core.match()
    assert len(agent.running) == 1
    (name,) = agent.running
    row = rig.farm.rows[name]
    row.state = "LOST"
    rig.clock.seconds += 5
    await other.settler.run_once()
    await other.match()
    core.matcher._looked_at_all = rig.clock.monotonic()
    await core.match()
    assert len(agent.started) == 1
    rig.clock.seconds += 0.3
    await core.match()
    assert len(agent.started) == 2


async def test_a_stop_waits_for_assigns_under_way() -> None:
    rig = Rig()
    agent = Agent("a", 1)
    core = await begun(rig, agent)
    rig.farm.gate.clear()
    core.ledger.ready(rig.farm.submit("t"))
    await core.match()
    draining = asyncio.create_task(core.matcher.drain(5))
    await idle()
    assert not draining.done()
    rig.farm.gate.set()
    await draining
    assert not core.ledger
    assert len(agent.running) == 1


async def test_a_stop_ends_although_the_index_is_away() -> None:
    rig = Rig()
    agent = Agent("a", 1)
    core = await begun(rig, agent)
    core.ledger.ready(rig.farm.submit("t"))
    await core.match()
    agent.finish(*agent.running)
    await idle()
    rig.server.away = True
    await core.matcher.drain(1)
    assert core.ledger


async def test_a_stop_does_not_wait_for_ever() -> None:
    rig = Rig()
    core = await begun(rig, Agent("a", 1))
    rig.farm.gate.clear()
    core.ledger.ready(rig.farm.submit("t"))
    await core.match()
    await core.matcher.drain(0.01)
    await idle()
    assert not core.matcher._tasks


async def test_the_time_to_start_passes_on_the_way_to_the_agent_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store counts it from its answer, and the agent from what it hears."""
    rig = Rig()
    agent = Agent("a", 3)
    core = await begun(rig, agent)
    within = iter([1.0, 0.5])
    ask = rig.farm.assign

    async def slowly(generation: int, takings: Sequence[Taking]) -> Sequence[Assigned]:
        answers = await ask(generation, takings)
        for answer, seconds in zip(answers, within, strict=False):
            assert answer.assignment is not None
            answer.assignment.start_within.FromTimedelta(timedelta(seconds=seconds))
        rig.clock.seconds += 0.6
        return answers

    monkeypatch.setattr(rig.farm, "assign", slowly)
    core.ledger.ready(rig.farm.submit("t", 3))
    await core.match()
    items = [item for message in agent.heard if isinstance(message, Runs) for item in message.items]
    left = [item.start_within.ToTimedelta() if item.HasField("start_within") else None for item in items]
    assert left == [timedelta(seconds=0.4), timedelta(), None]
