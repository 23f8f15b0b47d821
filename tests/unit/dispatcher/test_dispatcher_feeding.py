"""Heads from the store into the index: cursor, refills, passes."""

from __future__ import annotations

import pytest

from easyq_dispatcher.domain.breakers import Breaker, Kind
from easyq_dispatcher.domain.records import Head
from easyq_dispatcher.ports import Question, TaskCount
from easyq_dispatcher.usecases import feeder as feeder_module
from tests.unit.dispatcher.rig import Agent, Core, Rig


async def fed(core: Core) -> set[str]:
    """Executions that the index has as heads."""
    generation = core.keeper.generation
    assert generation is not None
    asked = [(row.execution_id, row.task_id) for row in core.farm.rows.values()]
    return set((await core.index.survey(generation, Question(positions=asked))).positions)


async def begun(rig: Rig) -> Core:
    core = rig.dispatcher()
    await core.keeper.run_once()
    await later(rig, core, 0)
    return core


def ids(heads: list[Head]) -> set[str]:
    return {head.execution_id for head in heads}


async def later(rig: Rig, core: Core, seconds: float = 1.0) -> None:
    rig.clock.seconds += seconds
    while await core.feeder.run_once() == 0:
        pass


async def test_the_first_pass_finds_all_that_waits() -> None:
    rig = Rig()
    heads = [*rig.farm.submit("a", 3), *rig.farm.submit("b")]
    assert await fed(await begun(rig)) == ids(heads)


async def test_the_cursor_finds_what_came_since() -> None:
    rig = Rig()
    core = await begun(rig)
    heads = rig.farm.submit("a", 2)
    assert await fed(core) == set()
    await later(rig, core)
    assert await fed(core) == ids(heads)
    more = rig.farm.submit("b", 2)
    await later(rig, core)
    assert await fed(core) == ids([*heads, *more])


async def test_a_long_page_is_followed_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeder_module, "_PAGE", 3)
    monkeypatch.setattr(feeder_module, "_AT_ONCE", 2)
    rig = Rig()
    core = await begun(rig)
    heads = rig.farm.submit("a", 10)
    await later(rig, core)
    assert await fed(core) == ids(heads)


async def test_what_is_committed_late_is_not_overlooked() -> None:
    """A place in line that was given out before others, and seen after them."""
    rig = Rig()
    core = await begun(rig)
    (late,) = rig.farm.submit("a")
    row = rig.farm.rows.pop(late.execution_id)
    others = rig.farm.submit("b", 2)
    await later(rig, core)
    assert await fed(core) == ids(others)
    rig.farm.rows[late.execution_id] = row
    await later(rig, core)
    assert await fed(core) == ids([late, *others])


async def test_the_cursor_does_not_read_everything_again() -> None:
    rig = Rig()
    core = await begun(rig)
    rig.farm.submit("a", 5)
    for _ in range(6):
        await later(rig, core)
    assert core.feeder._marks[0][1] == 5


async def test_a_task_that_runs_low_is_refilled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeder_module, "HEADS_A_TASK", 300)
    rig = Rig()
    heads = rig.farm.submit("a", 700)
    core = await begun(rig)
    assert len(await fed(core)) == 300
    agent = Agent("x", 400)
    await agent.connect(core)
    order: list[str] = []
    while len(order) < 700:
        await core.match()
        order += agent.running
        agent.finish(*agent.running)
        await core.match()
        await core.feeder.run_once()
    assert agent.started == [head.execution_id for head in heads]
    await later(rig, core)
    survey = await core.index.survey(2, Question(tasks=["a"]))
    assert survey.tasks["a"] == TaskCount(heads=0, aside=0, version="")


async def test_a_refused_head_is_fetched_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeder_module, "HEADS_A_TASK", 2)
    rig = Rig()
    rig.farm.submit("a", 2)
    core = await begun(rig)
    woken: list[bool] = []
    core.feeder.wake = lambda: woken.append(True)
    core.ledger.ready(rig.farm.submit("a"))
    await core.match()
    assert woken
    rig.clock.seconds += 0.01
    await core.feeder.run_once()
    assert len(await fed(core)) == 2


async def test_a_head_that_was_lost_is_found_by_the_pass() -> None:
    rig = Rig()
    (lost,) = rig.farm.submit("a")
    core = await begun(rig)
    for _ in range(5):
        await later(rig, core)
    space = rig.server.spaces[2]
    space.heads.clear()
    await later(rig, core)
    assert await fed(core) == set()
    await later(rig, core, 30)
    assert await fed(core) == ids([lost])


async def test_every_task_is_read_again_at_some_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A give-back that was lost while its task has other heads."""
    monkeypatch.setattr(feeder_module, "_REREAD_A_PASS", 2)
    monkeypatch.setattr(feeder_module, "_AT_ONCE", 4)
    monkeypatch.setattr(feeder_module, "_READERS", 2)
    rig = Rig()
    heads = [head for number in range(10) for head in rig.farm.submit(f"t{number}", 2)]
    core = await begun(rig)
    for _ in range(4):
        await later(rig, core)
    for task in rig.server.spaces[2].heads.values():
        del task[min(task)]
    passes = 0
    while await fed(core) != ids(heads):
        passes += 1
        assert passes < 10
        before = rig.farm.calls["list_task_queue"]
        await later(rig, core, 30)
        assert rig.farm.calls["list_task_queue"] - before < 10
    assert passes > 1


async def test_a_long_pass_does_not_hold_up_what_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeder_module, "_AT_ONCE", 2)
    rig = Rig()
    for number in range(9):
        rig.farm.submit(f"t{number}")
    core = rig.dispatcher()
    await core.keeper.run_once()
    assert await core.feeder.run_once() == 0
    (new,) = rig.farm.submit("z")
    rig.clock.seconds += 1
    assert await core.feeder.run_once() == 0
    assert new.execution_id in await fed(core)
    rig.server.flush()
    await core.feeder.run_once()
    await core.keeper.run_once()
    await later(rig, core)
    assert len(await fed(core)) == 10


async def test_another_filling_is_fed_from_the_beginning() -> None:
    rig = Rig()
    core = await begun(rig)
    heads = rig.farm.submit("a", 3)
    await later(rig, core)
    rig.server.flush()
    await core.feeder.run_once()
    rig.clock.seconds += 1
    await core.feeder.run_once()
    assert core.keeper.generation is None
    await core.keeper.run_once()
    await core.feeder.run_once()
    assert await fed(core) == ids(heads)


async def test_dropped_heads_bring_a_pass() -> None:
    rig = Rig()
    core = await begun(rig)
    heads = rig.farm.submit("a", 3)
    core.ledger.lost_heads = True
    await core.feeder.run_once()
    assert await fed(core) == ids(heads)


async def test_a_store_that_is_away_is_tried_again() -> None:
    rig = Rig()
    core = await begun(rig)
    heads = rig.farm.submit("a", 3)
    rig.farm.away = True
    rig.clock.seconds += 1
    assert await core.feeder.run_once() == 1.0
    rig.farm.away = False
    await later(rig, core)
    assert await fed(core) == ids(heads)


async def test_nothing_is_fed_where_no_filling_holds() -> None:
    rig = Rig()
    core = rig.dispatcher()
    assert await core.feeder.run_once() == 1.0
    assert not rig.farm.calls


async def test_a_head_told_while_the_index_is_new_does_not_overtake_what_waited() -> None:
    rig = Rig()
    waiting = rig.farm.submit("a", 1_200)
    core = rig.dispatcher()
    await core.keeper.run_once()
    core.ledger.ready(rig.farm.submit("a"))
    await core.matcher.run_once()
    assert await fed(core) == set()
    await later(rig, core, 0)
    assert await fed(core) == ids(waiting[: feeder_module.HEADS_A_TASK])


async def test_heads_that_are_set_aside_do_not_hide_those_behind_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeder_module, "HEADS_A_TASK", 20)
    rig = Rig()
    rig.server.breakers[Kind.IMAGE, "bad"] = Breaker(
        kind=Kind.IMAGE, subject="bad", until_ms=rig.clock.now_ms() + 10**6, since_ms=1, failures=3
    )
    rig.farm.submit("t", 50, image="bad")
    good = rig.farm.submit("t", 5, image="good")
    core, agent = await begun(rig), Agent("x", 9)
    await agent.connect(core)
    for _ in range(5):
        rig.clock.seconds += 1
        await core.step()
    assert sorted(agent.running) == [head.execution_id for head in good]


async def test_what_waits_no_more_is_not_counted_for_ever() -> None:
    """It expired, say, behind a limit of 0: nothing takes it, and nobody tells the index."""
    rig = Rig(limits=["held=0"])
    core = await begun(rig)
    gone = rig.farm.submit("held", 2)
    left = rig.farm.submit("mail", 2)
    await later(rig, core)
    generation = core.keeper.generation
    assert generation is not None

    async def ready() -> int:
        return (await core.index.survey(generation, Question())).ready["default"]

    assert await ready() == 4
    for head in (*gone, left[0]):
        rig.farm.rows[head.execution_id].state = "EXPIRED"
    await later(rig, core, 60)
    assert await ready() == 1
    assert await fed(core) == {left[1].execution_id}
    # It comes back like any other.
    again = rig.farm.submit("held")
    await later(rig, core)
    assert await fed(core) == {left[1].execution_id, *ids(again)}


async def test_beyond_what_is_read_nothing_is_taken_for_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    core = await begun(rig)
    heads = rig.farm.submit("a", 4)
    await later(rig, core)
    monkeypatch.setattr(feeder_module, "HEADS_A_TASK", 2)
    await later(rig, core, 60)
    assert await fed(core) == ids(heads)
