"""Places against what the store holds."""

from __future__ import annotations

import asyncio

import pytest

from easyq_dispatcher.domain.records import Seat
from easyq_dispatcher.ports import Changes
from easyq_dispatcher.usecases import settler as settler_module
from tests.unit.dispatcher.rig import ORPHAN_AFTER, Agent, Core, Rig, idle

GHOST = Seat(agent_id="ghost", session=1, slots=9, pools=("default",))


async def begun(rig: Rig, name: str = "d1") -> Core:
    core = rig.dispatcher(name)
    await core.step()
    return core


async def counted(core: Core) -> set[str]:
    assert core.keeper.generation is not None
    return {place.execution_id for place in await core.index.places(core.keeper.generation)}


async def test_an_orphaned_take_is_left_after_a_fence() -> None:
    rig = Rig()
    rig.farm.submit("t", 2)
    core = await begun(rig)
    taken = await core.index.take(2, [GHOST])
    held = rig.farm.rows[taken.items[0].head.execution_id]
    held.state, held.epoch, held.agent_id = "ASSIGNED", held.epoch + 1, "ghost"
    await core.step()
    assert len(await counted(core)) == 2
    assert not rig.farm.calls["fence"]
    rig.clock.seconds += ORPHAN_AFTER
    await core.step()
    assert await counted(core) == {held.execution_id}
    assert await core.index.overdue(2, 0) == []
    # The other one is ready again, under the epoch that the fence gave it.
    (again,) = (await core.index.take(2, [GHOST])).items
    assert (again.head.execution_id, again.head.epoch) == (taken.items[1].head.execution_id, 2)


async def test_an_assign_that_is_slow_does_not_come_through_after_the_fence() -> None:
    rig = Rig(limits=["t=1"])
    core, other = await begun(rig), await begun(rig, "d2")
    one, two = Agent("one", 1), Agent("two", 1)
    await one.connect(core)
    await two.connect(other)
    rig.farm.submit("t", 1)
    rig.farm.gate.clear()
    rig.clock.seconds += 1
    await core.step()
    assert rig.farm.assigning.is_set()
    rig.clock.seconds += ORPHAN_AFTER
    await other.settler.run_once()
    rig.farm.gate.set()
    await other.match()
    await idle()
    await core.match()
    assert len(one.running) + len(two.running) == 1
    assert list(rig.farm.assigned.values()) == [1]
    assert rig.farm.most_held["t"] == 1


async def test_unanswered_assigns_are_looked_into_at_once() -> None:
    rig = Rig(limits=["t=2"])
    core = await begun(rig)
    agent = Agent("a", 3)
    await agent.connect(core)
    rig.farm.lose_answers = 2
    core.ledger.ready(rig.farm.submit("t", 3))
    await core.match()
    assert (rig.farm.count("ASSIGNED"), agent.running) == (2, {})
    await core.settler.run_once()
    await core.match()
    assert rig.farm.count("ASSIGNED") == 2
    assert len(await counted(core)) == 2
    agent.beat()
    await idle()
    assert len(agent.running) == 2


async def test_unanswered_assigns_that_never_arrived_are_queued_again() -> None:
    rig = Rig()
    core = await begun(rig)
    agent = Agent("a", 3)
    await agent.connect(core)
    heads = rig.farm.submit("t", 2)
    core.ledger.ready(heads)
    rig.farm.away = True
    await core.match()
    assert await core.settler.run_once() == 1.0
    assert len(await counted(core)) == 2
    rig.farm.away = False
    await core.settler.run_once()
    await core.match()
    assert set(agent.running) == {head.execution_id for head in heads}


async def test_places_of_what_ended_unseen_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settler_module, "_PAGE", 2)
    rig = Rig()
    core = await begun(rig)
    agent = Agent("a", 5)
    await agent.connect(core)
    core.ledger.ready(rig.farm.submit("t", 5))
    await core.match()
    await core.match()
    agent.disconnect()
    rig.farm.lose("a")
    await core.settler.run_once()
    assert len(await counted(core)) == 5
    rig.clock.seconds += 5
    await core.step()
    assert await counted(core) == set()


async def test_what_the_store_holds_and_nobody_counts_gets_a_place() -> None:
    rig = Rig()
    core = await begun(rig)
    (head,) = rig.farm.submit("t")
    row = rig.farm.rows[head.execution_id]
    row.state, row.epoch, row.agent_id, row.pool = "RUNNING", 2, "a", "default"
    rig.clock.seconds += 5
    await core.step()
    assert await counted(core) == {head.execution_id}
    # It ends before anybody could confirm it: that is found as for an orphan.
    row.state = "SUCCEEDED"
    rig.clock.seconds += ORPHAN_AFTER
    await core.step()
    assert await counted(core) == set()


async def test_takes_under_way_are_none_of_the_comparison() -> None:
    rig = Rig()
    core = await begun(rig)
    agent = Agent("a", 1)
    await agent.connect(core)
    rig.farm.gate.clear()
    core.ledger.ready(rig.farm.submit("t"))
    matching = asyncio.create_task(core.match())
    await idle()
    rig.clock.seconds += 1.9
    core.settler._next_reconcile = 0.0
    await core.settler.run_once()
    assert len(await counted(core)) == 1
    assert not rig.farm.calls["fence"]
    rig.farm.gate.set()
    await matching
    await idle()
    assert len(agent.running) == 1


async def test_an_old_word_does_not_free_a_newer_take() -> None:
    rig = Rig()
    (head,) = rig.farm.submit("t")
    core = await begun(rig)
    (first,) = (await core.index.take(2, [GHOST])).items
    await core.index.settle(2, Changes(dropped=[(head.execution_id, first.token)], ready=[head]))
    await core.index.take(2, [GHOST])
    core.settler.suspect([first])
    await core.settler.run_once()
    await core.matcher.run_once()
    assert await counted(core) == {head.execution_id}


async def test_without_a_filling_there_is_nothing_to_settle() -> None:
    rig = Rig()
    core = rig.dispatcher()
    assert await core.settler.run_once() == 1.0
    rig.server.away = True
    assert not rig.farm.calls


async def test_a_filling_that_is_gone_is_doubted() -> None:
    rig = Rig()
    core = await begun(rig)
    rig.server.flush()
    await core.settler.run_once()
    assert core.keeper.generation is None
