"""Which filling of the index holds, and making one."""

from __future__ import annotations

import pytest

from easyq_dispatcher.usecases import keeper as keeper_module
from tests.fakes.dispatcher_index import FakeMatchIndex
from tests.unit.dispatcher.rig import Core, Rig, rules


async def settled(*cores: Core) -> None:
    for _ in range(4):
        for core in cores:
            await core.keeper.run_once()


async def test_an_empty_index_is_filled_from_what_the_store_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper_module, "_PAGE", 2)
    rig = Rig(limits=["t=9"])
    heads = rig.farm.submit("t", 5)
    for head in heads[:4]:
        row = rig.farm.rows[head.execution_id]
        row.state, row.agent_id, row.pool = "RUNNING", "a", "default"
    core = rig.dispatcher()
    assert "just started" in core.keeper.problem
    await core.keeper.run_once()
    assert core.keeper.generation == rig.farm.number == 2
    assert core.keeper.problem == ""
    places = await core.index.places(2)
    assert {place.execution_id for place in places} == {head.execution_id for head in heads[:4]}


async def test_a_filling_that_holds_is_adopted() -> None:
    rig = Rig()
    first = rig.dispatcher("d1")
    await settled(first)
    second = rig.dispatcher("d2")
    await settled(second)
    assert second.keeper.generation == first.keeper.generation == rig.farm.number == 2


async def test_one_of_two_fills_and_the_other_waits() -> None:
    rig = Rig()
    one, two = rig.dispatcher("d1"), rig.dispatcher("d2")
    assert await one.index.claim_rebuild(2)
    assert await two.keeper.run_once() == pytest.approx(0.1)
    assert two.keeper.generation is None
    assert rig.farm.number == 1
    await settled(one, two)
    assert one.keeper.generation == two.keeper.generation == rig.farm.number == 2


async def test_the_work_of_one_that_died_is_taken_over() -> None:
    rig = Rig()
    dead = rig.dispatcher("dead")
    assert await dead.index.claim_rebuild(2)
    await rig.farm.raise_generation(1)
    await dead.index.begin(2)
    core = rig.dispatcher()
    await settled(core)
    assert core.keeper.generation is None
    rig.clock.seconds += 2.1
    await settled(core)
    assert core.keeper.generation == rig.farm.number == 3


async def test_a_generation_that_moved_on_is_not_adopted() -> None:
    rig = Rig()
    core = rig.dispatcher()
    await settled(core)
    await rig.farm.raise_generation(rig.farm.number)
    core.keeper.doubt("refused")
    assert core.keeper.generation is None
    await settled(core)
    assert core.keeper.generation == rig.farm.number == 4


async def test_a_server_that_started_again_is_filled_anew() -> None:
    rig = Rig()
    core = rig.dispatcher()
    await settled(core)
    rig.server.restart()
    await settled(core)
    assert core.keeper.generation == rig.farm.number == 3
    assert sorted(rig.server.spaces) == [3]


async def test_a_raise_that_another_won_is_looked_at_again() -> None:
    rig = Rig()
    core = rig.dispatcher()
    stale = await rig.farm.generation()
    await rig.farm.raise_generation(stale)
    assert await core.keeper._rebuild(stale) == pytest.approx(0.1)
    assert rig.farm.number == 2


async def test_a_flush_in_the_middle_of_filling(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    core = rig.dispatcher()
    load = FakeMatchIndex.load

    async def load_and_lose(self: FakeMatchIndex, *arguments: object) -> None:
        await load(self, *arguments)  # type: ignore[arg-type]
        rig.server.flush()

    monkeypatch.setattr(FakeMatchIndex, "load", load_and_lose)
    assert await core.keeper.run_once() == pytest.approx(0.1)
    assert core.keeper.generation is None
    assert "emptied" in core.keeper.problem
    monkeypatch.setattr(FakeMatchIndex, "load", load)
    await settled(core)
    assert core.keeper.generation == rig.farm.number == 3


async def test_neighbours_that_are_away_are_told_and_waited_for() -> None:
    rig = Rig()
    core = rig.dispatcher()
    rig.server.away = True
    assert await core.keeper.run_once() == 0.5
    assert "Redis" in core.keeper.problem
    rig.server.away, rig.farm.away = False, True
    await core.keeper.run_once()
    assert "store" in core.keeper.problem
    rig.farm.away = False
    await settled(core)
    since = core.keeper.problem_since_ms
    rig.clock.seconds += 60
    rig.server.away = True
    await core.keeper.run_once()
    assert core.keeper.generation is None
    assert core.keeper.problem_since_ms == since + 60_000
    rig.clock.seconds += 60
    await core.keeper.run_once()
    assert core.keeper.problem_since_ms == since + 60_000
    rig.server.away = False
    await settled(core)
    assert core.keeper.generation == rig.farm.number == 2


async def test_the_rules_of_the_dispatcher_that_came_last_hold() -> None:
    rig = Rig(limits=["t=1"])
    old, new = rig.dispatcher("d1"), rig.dispatcher("d2", rules(limits=["t=2"]))
    await settled(old)
    await settled(new)
    await settled(old, new)
    assert new.keeper.generation == rig.farm.number == 3
    assert old.keeper.generation is None
    assert "other pools or limits" in old.keeper.problem


async def test_a_doubt_wakes_the_keeper() -> None:
    core = Rig().dispatcher()
    woken: list[bool] = []
    core.keeper.wake = lambda: woken.append(True)
    core.keeper.doubt("refused")
    assert woken
