"""Words for people, from what index, store and roster know."""

from __future__ import annotations

from easyq_dispatcher.domain.agents import Held, Phase
from easyq_dispatcher.domain.explain import Reason, Waiting
from easyq_dispatcher.messages import Beat
from easyq_dispatcher.usecases.words import Asked
from tests.unit.dispatcher.rig import Agent, Core, Rig, idle


async def begun(rig: Rig) -> Core:
    core = rig.dispatcher()
    await core.step()
    return core


async def explain(core: Core, execution_id: str, task: str = "t", agent: str = "") -> Waiting | None:
    asked = Asked(execution_id=execution_id, task_id=task, agent_id=agent)
    return (await core.words.explain([asked])).get(execution_id)


async def reason(core: Core, execution_id: str, task: str = "t", agent: str = "") -> Reason | None:
    told = await explain(core, execution_id, task, agent)
    return told.reason if told else None


async def test_each_reason_in_turn() -> None:
    rig = Rig(limits=["t=1", "u=9"])
    core, agent = await begun(rig), Agent("a", 2)
    first, second = rig.farm.submit("t", 2)
    other, last = rig.farm.submit("u", 2)
    core.ledger.ready([first, second, other, last])
    assert await reason(core, first.execution_id) is Reason.NO_AGENT
    await agent.connect(core, healthy=False, message="drains")
    assert await reason(core, first.execution_id) is Reason.NO_HEALTHY_AGENT
    await agent.connect(core)
    assert await reason(core, first.execution_id) is Reason.POSITION
    await core.match()
    assert await reason(core, second.execution_id) is Reason.LIMIT_FULL
    assert await reason(core, last.execution_id, "u") is Reason.NO_FREE_SLOT
    rig.server.away = True
    told = await explain(core, second.execution_id)
    assert told
    assert told.reason is Reason.DISPATCHER_UNAVAILABLE
    assert "Redis" in told.message


async def test_what_an_agent_does_with_what_it_has() -> None:
    rig = Rig()
    core, agent = await begun(rig), Agent("a", 2)
    await agent.connect(core)
    core.ledger.ready(rig.farm.submit("t", 2))
    await core.match()
    pulls, fresh = sorted(agent.running)
    item = Held(execution_id=pulls, epoch=2, phase=Phase.PULLING)
    agent.say(Beat(number=1, inventory=(item,)))
    await idle()
    assert await reason(core, pulls, agent="a") is Reason.PULLING
    assert await reason(core, fresh, agent="a") is Reason.STARTING


async def test_agents_at_other_dispatchers() -> None:
    rig = Rig()
    here, elsewhere, agent = await begun(rig), await begun(rig), Agent("b", 1)
    await agent.connect(elsewhere)
    (head,) = rig.farm.submit("t")
    here.ledger.ready([head])
    await here.matcher.run_once()
    assert await reason(here, head.execution_id) is Reason.POSITION
    assert await reason(here, "some", agent="b") is None
    assert await reason(here, "some", agent="nobody") is None
    silent_for = rig.farm.silent_for
    silent_for["b"] = 16.0
    rig.clock.seconds += 2
    assert await reason(here, "some", agent="b") is Reason.HOST_SILENT


async def test_the_stores_list_is_read_about_once_a_second() -> None:
    rig = Rig()
    core = await begun(rig)
    for _ in range(5):
        await core.words.standing()
    assert rig.farm.calls["list_agents"] == 1
    rig.clock.seconds += 1.1
    await core.words.standing()
    assert rig.farm.calls["list_agents"] == 2


async def test_how_pools_and_limits_stand() -> None:
    rig = Rig(pools=["mail=m.*:5"], limits=["m.*=3"])
    core, agent = await begun(rig), Agent("a", 2)
    await agent.connect(core, pools=("mail",))
    core.ledger.ready([*rig.farm.submit("m", 3), *rig.farm.submit("other")])
    await core.match()
    standing = await core.words.standing()
    mail, default = standing.pools
    assert (mail.pool.name, mail.running, mail.slots, mail.ready) == ("mail", 2, 2, 1)
    assert (default.pool.name, default.running, default.slots, default.ready) == ("default", 0, 0, 1)
    assert [(limit.limit.pattern, limit.running) for limit in standing.limits] == [("m.*", 2)]
    assert standing.agent_ids == ["a"]
    (trouble,) = standing.troubles
    assert trouble.subject == "pool default"
    assert "easyq runner --pools default" in trouble.message


async def test_what_is_wrong_is_told() -> None:
    rig = Rig(limits=["t=3"])
    core = await begun(rig)
    core.keeper.evicts = True
    core.keeper.doubt("Redis: connection refused")
    rig.farm.away = True
    standing = await core.words.standing()
    told = {trouble.subject: trouble for trouble in standing.troubles}
    assert set(told) == {"store", "redis", "pool default"}
    messages = [trouble.message for trouble in standing.troubles if trouble.subject == "redis"]
    assert any("connection refused" in message for message in messages)
    assert any("noeviction" in message for message in messages)
    assert standing.limits[0].running == 0
    assert standing.pools[0].running == 0


async def test_an_agent_of_unknown_pools_is_told_of() -> None:
    core, agent = await begun(Rig()), Agent("a", 1)
    await agent.connect(core, pools=("gpu",))
    troubles = {trouble.subject: trouble.message for trouble in (await core.words.standing()).troubles}
    assert "gpu" in troubles["agent a"]
