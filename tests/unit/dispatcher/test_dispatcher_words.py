"""Words for people, from what index, store and roster know."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from easyq.v1 import farm_service_pb2
from easyq.v1.job_pb2 import Failure
from easyq.v1.job_pb2 import Waiting as WaitingMessage
from easyq_chassis.errors import InvalidArgument, NotFound
from easyq_dispatcher.convert import people as convert_people
from easyq_dispatcher.domain.agents import Held, Phase
from easyq_dispatcher.domain.breakers import Breaker, Kind
from easyq_dispatcher.domain.explain import AgentView, Reason, Waiting
from easyq_dispatcher.domain.needs import ALL_GPUS, Needs, Offer
from easyq_dispatcher.messages import Beat
from easyq_dispatcher.usecases import words
from easyq_dispatcher.usecases.words import Asked
from easyq_internal.store.v1.records_pb2 import GiveBack, Upkeep
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


async def test_a_stream_that_is_open_does_not_hide_silence() -> None:
    """A stopped process, or half a connection: nobody closes it."""
    rig = Rig()
    core, agent = await begun(rig), Agent("a", 1)
    await agent.connect(core)
    core.ledger.ready(rig.farm.submit("t"))
    await core.match()
    (held,) = agent.running
    assert await reason(core, held, agent="a") is Reason.STARTING
    rig.farm.silent_for["a"] = 16.0
    rig.clock.seconds += 2
    assert await reason(core, held, agent="a") is Reason.HOST_SILENT


async def test_an_agent_that_came_to_another_dispatcher_a_moment_ago() -> None:
    """Its list is a moment old, and what it says of the agents must not be wrong for that."""
    rig = Rig()
    here, elsewhere, agent = await begun(rig), await begun(rig), Agent("b", 1)
    (head,) = rig.farm.submit("t")
    here.ledger.ready([head])
    await here.matcher.run_once()
    assert await reason(here, head.execution_id) is Reason.NO_AGENT
    rig.clock.seconds += 0.1
    await agent.connect(elsewhere)
    assert await reason(here, head.execution_id) is Reason.POSITION
    rig.clock.seconds += 0.1
    rig.farm.lose("b")
    elsewhere.roster.dismiss()
    await idle()
    assert (await here.words.explain_pool("default")).standing.agents == 0
    assert [trouble.subject for trouble in (await here.words.standing()).troubles] == ["pool default"]


async def test_an_agent_that_left_for_another_dispatcher() -> None:
    """Its old stream is open still: what was heard there is not what holds."""
    rig = Rig()
    here, elsewhere, agent = await begun(rig), await begun(rig), Agent("b", 1)
    await agent.connect(here, healthy=False, message="drains")
    (head,) = rig.farm.submit("t")
    here.ledger.ready([head])
    await here.matcher.run_once()
    assert await reason(here, head.execution_id) is Reason.NO_HEALTHY_AGENT
    rig.clock.seconds += 0.1
    await Agent("b", 1).connect(elsewhere)
    told = await explain(here, head.execution_id)
    assert told
    assert (told.reason, told.agents_here) == (Reason.POSITION, 0)
    told = await explain(elsewhere, head.execution_id)
    assert told
    assert (told.reason, told.agents_here) == (Reason.POSITION, 1)


async def test_an_agent_that_nobody_hears_takes_nothing() -> None:
    rig = Rig()
    here, elsewhere = await begun(rig), await begun(rig)
    await Agent("b", 1).connect(elsewhere)
    (head,) = rig.farm.submit("t")
    here.ledger.ready([head])
    await here.matcher.run_once()
    rig.farm.silent_for["b"] = 16.0
    told = await explain(here, head.execution_id)
    assert told
    assert (told.reason, told.subject) == (Reason.NO_HEALTHY_AGENT, "b")
    assert "silent for 16 s" in told.message


async def test_the_stores_list_is_read_about_once_a_second() -> None:
    rig = Rig()
    core = await begun(rig)
    await Agent("a", 1).connect(core)
    (head,) = rig.farm.submit("t")
    core.ledger.ready([head])
    await core.matcher.run_once()
    for _ in range(5):
        rig.clock.seconds += 0.1
        assert await reason(core, head.execution_id)
    assert rig.farm.calls["list_agents"] == 1
    rig.clock.seconds += 1
    await reason(core, head.execution_id)
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


async def test_a_store_that_hangs_is_named_and_what_is_known_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Soon: whoever looks at everything has little patience with the dispatcher."""
    monkeypatch.setattr(words, "_STORE_PATIENCE", 0.01)
    rig = Rig()
    core, agent = await begun(rig), Agent("a", 1)
    await agent.connect(core)
    hangs = asyncio.Event()

    async def list_agents() -> list[AgentView]:
        await hangs.wait()
        return []

    monkeypatch.setattr(rig.farm, "list_agents", list_agents)
    standing = await core.words.standing()
    (trouble,) = standing.troubles
    assert trouble.subject == "store"
    assert "the dispatcher waits for the store" in trouble.message
    assert standing.pools[0].agents == 1


async def test_an_agent_of_unknown_pools_is_told_of() -> None:
    core, agent = await begun(Rig()), Agent("a", 1)
    await agent.connect(core, pools=("gpu",))
    troubles = {trouble.subject: trouble.message for trouble in (await core.words.standing()).troubles}
    assert "gpu" in troubles["agent a"]


HOST = Offer(cpu_millis=4_000, memory=8 << 30, gpus=2)


async def test_the_reasons_of_needs_and_upkeep() -> None:
    rig = Rig()
    core, agent = await begun(rig), Agent("a", 9)
    await agent.connect(core, offer=HOST)
    big, label = Needs(cpu_millis=8_000), Needs(labels=(("gpu", "a100"),))
    (huge,) = rig.farm.submit("huge", needs=big)
    (labelled,) = rig.farm.submit("labelled", needs=label)
    first, second = rig.farm.submit("half", 2, needs=Needs(cpu_millis=3_000))
    core.ledger.ready([huge, labelled, first, second])
    await core.match()
    assert list(agent.running) == [first.execution_id]
    told = await explain(core, huge.execution_id, "huge")
    assert told
    assert (told.reason, told.subject, told.position) == (Reason.NO_FIT, "default", 1)
    assert "8 cpus" in told.message
    assert "4 cpus" in told.message
    told = await explain(core, labelled.execution_id, "labelled")
    assert told
    assert told.reason is Reason.NO_FIT
    assert "gpu=a100" in told.message
    told = await explain(core, second.execution_id, "half")
    assert told
    assert (told.reason, told.since_ms) == (Reason.NO_ROOM, rig.clock.now_ms())
    rig.farm.cordon("a")
    rig.clock.seconds += 2
    agent.beat()
    await idle()
    told = await explain(core, second.execution_id, "half")
    assert told
    assert (told.reason, told.subject, told.since_ms) == (Reason.CORDONED, "a", 7_000)


@pytest.mark.parametrize(
    ("failure", "reason", "subject"),
    [
        (Failure.HOST_FAILED, Reason.HOST_BREAKER, "a"),
        (Failure.PULL_FAILED, Reason.IMAGE_BREAKER, "image:1"),
        (Failure.REGISTRY_BUSY, Reason.IMAGE_BREAKER, "image:1"),
    ],
)
async def test_the_reasons_of_breakers(failure: Any, reason: Reason, subject: str) -> None:
    rig = Rig()
    core, agent = await begun(rig), Agent("a", 1)
    await agent.connect(core)
    (head,) = rig.farm.submit("t")
    core.ledger.ready([head])
    for _ in range(3):
        await core.match()
        if agent.running:
            agent.report(head.execution_id, give_back=GiveBack(failure=Failure(reason=failure, message="so it is")))
            await idle()
    await core.match()
    told = await explain(core, head.execution_id)
    assert told
    assert (told.reason, told.subject, told.position) == (reason, subject, 1)
    assert "so it is" in told.message
    now = rig.clock.now_ms()
    assert (told.since_ms, told.next_look_at_ms) == (now, now + 5_000)
    (breaker,) = (await core.words.standing()).breakers
    assert breaker.subject == subject


async def test_what_holds_for_a_task() -> None:
    rig = Rig(pools=["mail=m.*"], limits=["m.*=3", "x=1", ".*=9"])
    core, agent = await begun(rig), Agent("a", 2)
    await agent.connect(core, pools=("mail",))
    core.ledger.ready(rig.farm.submit("m", 3))
    await core.match()
    words = await core.words.explain_task("m")
    assert (words.pool, words.blind) == ("mail", False)
    assert [(limit.limit.pattern, limit.running) for limit in words.limits] == [("m.*", 2), (".*", 2)]
    rig.server.away = True
    words = await core.words.explain_task("other")
    assert ([limit.running for limit in words.limits], words.blind) == ([0], True)
    assert convert_people.task_response(words).blind


async def test_why_work_of_a_pool_waits() -> None:
    rig = Rig(pools=["mail=m.*"], limits=["mm=0"])
    core, agent = await begun(rig), Agent("a", 1)
    words = await core.words.explain_pool("mail")
    assert (words.waiting, words.agent_ids, words.standing.agents) == (None, [], 0)
    core.ledger.ready(rig.farm.submit("m", 2))
    await core.match()
    await core.matcher.run_once()
    core.roster.assume_room()

    async def why(name: str = "mail") -> Reason | None:
        waiting = (await core.words.explain_pool(name)).waiting
        return waiting.reason if waiting else None

    await agent.connect(core, pools=("mail",))
    # About to be assigned: nothing is in its way.
    core.farm.gate.clear()
    await core.match()
    assert await why() is Reason.NO_FREE_SLOT
    core.farm.gate.set()
    await core.match()
    words = await core.words.explain_pool("mail")
    assert (words.agent_ids, words.standing.agents, words.standing.healthy_agents) == (["a"], 1, 1)
    assert convert_people.pool_response(words).agents_here == 1
    agent.finish(*agent.running)
    await core.match()
    agent.finish(*agent.running)
    await core.match()
    assert await why() is None
    core.ledger.ready(rig.farm.submit("mm"))
    await core.match()
    assert await why() is Reason.LIMIT_FULL
    rig.server.away = True
    assert await why() is Reason.DISPATCHER_UNAVAILABLE
    with pytest.raises(NotFound, match="nothing"):
        await core.words.explain_pool("nothing")


async def test_a_pool_without_agents_says_so() -> None:
    rig = Rig()
    core = await begun(rig)
    core.ledger.ready(rig.farm.submit("t"))
    await core.match()
    rig.clock.seconds += 1
    await core.step()
    waiting = (await core.words.explain_pool("default")).waiting
    assert waiting
    assert (waiting.reason, waiting.subject) == (Reason.NO_AGENT, "default")


async def test_what_agents_use() -> None:
    rig = Rig()
    core, agent, cordoned = await begun(rig), Agent("a", 5), Agent("b", 5)
    await agent.connect(core, offer=HOST)
    await cordoned.connect(core)
    core.conversations.wish("b", Upkeep(cordoned=True))
    core.ledger.ready(
        [
            *rig.farm.submit("t", needs=Needs(cpu_millis=1_500, memory=1)),
            *rig.farm.submit("u", needs=Needs(gpus=ALL_GPUS)),
        ]
    )
    await core.match()
    standing = await core.words.standing()
    assert standing.used == {"a": Offer(cpu_millis=1_500, memory=1, gpus=2, whole_gpus=1)}
    assert (standing.pools[0].agents, standing.pools[0].healthy_agents, standing.pools[0].slots) == (2, 1, 10)
    response = convert_people.matching_response(standing)
    assert response.used["a"] == farm_service_pb2.Capacity(cpus=1.5, memory=1, gpus=2)
    assert (response.pools[0].agents, response.pools[0].healthy_agents) == (2, 1)


def test_a_reason_as_a_message() -> None:
    word = Waiting(reason=Reason.NO_ROOM, message="m", subject="s", position=3, since_ms=5_000, next_look_at_ms=7_000)
    message = convert_people.waiting(word)
    assert (message.reason, message.message, message.subject, message.position) == (WaitingMessage.NO_ROOM, "m", "s", 3)
    assert (message.since.seconds, message.next_look_at.seconds) == (5, 7)
    bare = convert_people.waiting(Waiting(reason=Reason.POSITION, message="m"))
    assert not bare.HasField("since")
    assert not bare.HasField("next_look_at")
    assert bare.position == 0
    assert convert_people.explanation("e", Waiting(reason=Reason.POSITION, message="m", agents_here=2)).agents_here == 2


def test_every_reason_has_its_number() -> None:
    assert all(convert_people.waiting(Waiting(reason=reason, message="")).reason for reason in Reason)


def test_a_breaker_as_a_message() -> None:
    trying = Breaker(
        kind=Kind.IMAGE, subject="i", failures=4, since_ms=1_000, wait_ms=5, until_ms=2_000, probe="x", cause="c"
    )
    opened = convert_people.breaker(trying, 1_500)
    assert (opened.kind, opened.subject, opened.cause, opened.failures) == (farm_service_pb2.Breaker.IMAGE, "i", "c", 4)
    assert opened.state == farm_service_pb2.Breaker.Phase.OPEN
    assert (opened.since.seconds, opened.next_try_at.seconds) == (1, 2)
    half = convert_people.breaker(trying, 2_500)
    assert half.state == farm_service_pb2.Breaker.Phase.HALF_OPEN
    assert not half.HasField("next_try_at")


def test_kinds_of_breakers() -> None:
    assert convert_people.breaker_kind(farm_service_pb2.Breaker.HOST) is Kind.HOST
    for wrong in (0, 99):
        with pytest.raises(InvalidArgument):
            convert_people.breaker_kind(farm_service_pb2.Breaker.Kind.ValueType(wrong))
