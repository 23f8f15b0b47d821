"""Agents at one dispatcher: hello, runs, reports, beats, health, stops, goodbye."""

from __future__ import annotations

from typing import Any

import grpc.aio
import pytest

from easyq_internal.store.v1.job_store_pb2 import StopHint
from easyq_internal.store.v1.records_pb2 import Directive, ReportResult
from tests.fakes.dispatcher import FakeFarm
from tests.integration.dispatcher.scripted_agent import ScriptedAgent
from tests.support import eventually

Order = Directive.Order
Verdict = ReportResult.Verdict


async def test_from_the_news_to_the_answer(farm: FakeFarm, dispatcher: Any, agents: Any) -> None:
    it = await dispatcher()
    agent = await agents(it)
    assert (agent.welcome.session, agent.welcome.protocol) == (1, 1)
    assert agent.welcome.beat_every.ToMilliseconds() == 5_000
    assert agent.welcome.lease.ToMilliseconds() == 15_000
    assert agent.welcome.lost_after.ToMilliseconds() == 120_000
    heads = farm.submit("t", 3)
    await it.notify(heads)
    await eventually(lambda: len(agent.running) == 2)
    assert farm.count("ASSIGNED") == 2
    await agent.start(heads[0].execution_id)
    await eventually(lambda: farm.count("RUNNING") == 1)
    await agent.finish(heads[0].execution_id)
    await eventually(lambda: len(agent.started) == 3)
    await agent.finish()
    await eventually(lambda: farm.count("SUCCEEDED") == 3)
    # The answers come after that.
    await eventually(lambda: len(agent.results) == 4)
    assert [result.verdict for result in agent.results] == [Verdict.OK] * 4
    assert agent.started == [(head.execution_id, 2) for head in heads]


async def test_work_that_nobody_told_of_is_found(farm: FakeFarm, dispatcher: Any, agents: Any) -> None:
    before = farm.submit("early", 2)
    it = await dispatcher()
    agent = await agents(it, slots=9)
    await eventually(lambda: len(agent.running) == len(before))
    farm.submit("late", 3)
    await eventually(lambda: len(agent.running) == 5)


async def test_an_agents_slots_are_never_exceeded(farm: FakeFarm, dispatcher: Any, agents: Any) -> None:
    it = await dispatcher()
    one = await agents(it, "one", slots=3, at_once=True)
    two = await agents(it, "two", slots=5, at_once=True)
    await it.notify(farm.submit("t", 400))
    await eventually(lambda: farm.count("SUCCEEDED") == 400)
    assert one.most_running <= 3
    assert two.most_running <= 5
    assert set(farm.assigned.values()) == {1}
    assert one.started
    assert two.started


async def test_a_give_back_comes_first_again(farm: FakeFarm, dispatcher: Any, agents: Any) -> None:
    it = await dispatcher()
    agent = await agents(it, slots=1)
    first, second = farm.submit("t", 2)
    await it.notify([first, second])
    await eventually(lambda: agent.running)
    await agent.give_back(first.execution_id)
    await eventually(lambda: len(agent.started) == 2)
    assert agent.started == [(first.execution_id, 2), (first.execution_id, 3)]
    await agent.finish()
    await eventually(lambda: len(agent.started) == 3)


async def test_beats_are_acknowledged_and_bring_directives(farm: FakeFarm, dispatcher: Any, agents: Any) -> None:
    it = await dispatcher()
    agent = await agents(it, slots=1)
    (head,) = farm.submit("t")
    await it.notify([head])
    await eventually(lambda: agent.running)
    agent.running["unknown"] = 7
    number = await agent.beat()
    await eventually(lambda: number in agent.acknowledged)
    assert [(order.kind, order.execution_id) for order in agent.directives] == [(Order.KILL, "unknown")]
    agent.running.clear()
    number = await agent.beat()
    await eventually(lambda: agent.running)
    assert agent.directives[-1].kind == Order.RUN
    assert agent.directives[-1].assignment.task_id == "t"


async def test_a_stop_reaches_the_agent_at_once(farm: FakeFarm, dispatcher: Any, agents: Any) -> None:
    it = await dispatcher()
    agent = await agents(it)
    (head,) = farm.submit("t")
    await it.notify([head])
    await eventually(lambda: agent.running)
    hints = [
        StopHint(execution_id=head.execution_id, epoch=2, agent_id="a"),
        StopHint(execution_id="other", epoch=2, agent_id="not-here"),
    ]
    await it.notify([], hints)
    await eventually(lambda: agent.directives)
    assert [(o.kind, o.execution_id, o.epoch) for o in agent.directives] == [(Order.STOP, head.execution_id, 2)]


async def test_an_unhealthy_agent_is_given_nothing(farm: FakeFarm, dispatcher: Any, agents: Any) -> None:
    it = await dispatcher()
    agent = await agents(it, healthy=False)
    # The store knows it before any beat.
    assert (farm.agents["a"].healthy, farm.agents["a"].message) == (False, "Docker Engine does not answer")
    (head,) = farm.submit("t")
    await it.notify([head])
    waiting = await eventually(lambda: it.explain(head.execution_id))
    assert "Docker Engine does not answer" in waiting.message
    assert not agent.started
    await agent.health(True)
    await eventually(lambda: agent.running)
    await agent.health(False, "draining")
    # Once the beat behind it was heard it was heard too: news of work come by another stream.
    number = await agent.beat()
    await eventually(lambda: number in agent.acknowledged)
    assert (farm.agents["a"].healthy, farm.agents["a"].message) == (False, "draining")
    (late,) = farm.submit("t")
    await it.notify([late])

    async def waits() -> bool:
        told = await it.explain(late.execution_id)
        return bool(told and "draining" in told.message)

    await eventually(waits)
    assert len(agent.started) == 1


async def test_goodbye_parks_the_session(farm: FakeFarm, dispatcher: Any, agents: Any) -> None:
    it = await dispatcher()
    agent = await agents(it)
    await agent.goodbye()
    await eventually(lambda: agent.parked and agent.ended is grpc.StatusCode.OK)
    assert farm.agents["a"].state == "PARKED"
    await it.notify(farm.submit("t"))
    await eventually(lambda: farm.count("QUEUED") == 1)
    assert (await it.matching()).agent_ids == []


async def test_an_assign_under_way_reaches_an_agent_that_leaves(farm: FakeFarm, dispatcher: Any, agents: Any) -> None:
    it = await dispatcher()
    agent = await agents(it)
    farm.gate.clear()
    await it.notify(farm.submit("t"))
    await farm.assigning.wait()
    await agent.goodbye()
    farm.gate.set()
    await eventually(lambda: agent.parked)
    assert len(agent.started) == 1


async def test_a_new_stream_of_the_same_agent_ends_the_old_one(dispatcher: Any, agents: Any) -> None:
    it = await dispatcher()
    old = await agents(it)
    new = await agents(it)
    await eventually(lambda: old.ended is grpc.StatusCode.ABORTED)
    assert new.welcome.session == 2
    assert (await it.matching()).agent_ids == ["a"]


async def test_a_new_stream_at_another_dispatcher_fences_the_old_one(dispatcher: Any, agents: Any) -> None:
    one, two = await dispatcher(), await dispatcher()
    old = await agents(one)
    await agents(two)
    await old.beat()
    await eventually(lambda: old.ended is grpc.StatusCode.ABORTED)
    assert old.acknowledged == []


async def test_a_fenced_agent_is_closed_by_its_first_assign(farm: FakeFarm, dispatcher: Any, agents: Any) -> None:
    one, two = await dispatcher(), await dispatcher()
    old = await agents(one, slots=1)
    new = await agents(two, slots=1, healthy=False)
    await one.notify(farm.submit("t"))
    await eventually(lambda: old.ended is grpc.StatusCode.ABORTED)
    await new.health(True)
    await eventually(lambda: new.running)
    assert old.started == []
    assert (await one.matching()).pools[0].running == 1


async def test_an_agent_that_comes_back_goes_on(farm: FakeFarm, dispatcher: Any, agents: Any) -> None:
    it = await dispatcher()
    agent = await agents(it, slots=1, reconnect=True)
    await it.notify(farm.submit("t", 2))
    await eventually(lambda: agent.running)
    agent._call.cancel()
    await eventually(lambda: agent.welcome.session == 2)
    assert agent.directives == []
    await agent.finish()
    await eventually(lambda: len(agent.started) == 2)


async def test_an_agent_that_vanished_is_forgotten(dispatcher: Any, agents: Any) -> None:
    it = await dispatcher()
    agent = await agents(it)
    assert (await it.matching()).agent_ids == ["a"]
    agent.vanish()

    async def gone() -> bool:
        return list((await it.matching()).agent_ids) == []

    await eventually(gone)


@pytest.mark.parametrize("settings", [{"protocol": (2, 3)}, {"daemon": "another"}])
async def test_agents_that_can_not_be_served_are_told_why(
    settings: dict[str, Any], dispatcher: Any, agents: Any
) -> None:
    it = await dispatcher()
    await agents(it)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await agents(it, **settings)
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "a" in str(refused.value.details())


async def test_a_wrong_hello_names_its_fields(dispatcher: Any) -> None:
    it = await dispatcher()
    agent = ScriptedAgent(it.address, "", slots=-1)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await agent.connect()
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "agentId" in str(refused.value.details())
    assert "slots" in str(refused.value.details())
    await agent.close()


async def test_a_second_hello_ends_the_stream(dispatcher: Any, agents: Any) -> None:
    it = await dispatcher()
    agent = await agents(it)
    await agent.send_hello_again()
    await eventually(lambda: agent.ended is grpc.StatusCode.INVALID_ARGUMENT)


async def test_pools_decide_who_runs_what(farm: FakeFarm, dispatcher: Any, agents: Any) -> None:
    it = await dispatcher(pools=["mail=mail-.*", "gpu=gpu-.*:1"], pool_lost_after=["mail=60s"])
    mail = await agents(it, "mail", pools=("mail", "default"), slots=9)
    gpu = await agents(it, "gpu", pools=("gpu", "elsewhere"), slots=9)
    assert mail.welcome.lost_after.ToMilliseconds() == 60_000
    await it.notify([*farm.submit("mail-a", 2), *farm.submit("gpu-a", 2), *farm.submit("other", 2)])
    await eventually(lambda: (len(mail.running), len(gpu.running)) == (4, 1))
    assert {row.pool for row in farm.rows.values() if row.agent_id == "mail"} == {"mail", "default"}
    await gpu.finish()
    await eventually(lambda: len(gpu.started) == 2)


async def test_a_dispatcher_that_stops_sends_its_agents_away(dispatcher: Any, agents: Any) -> None:
    it = await dispatcher()
    agent = await agents(it)
    await it.app._loops["keeper"].stop()
    it.app._roster.dismiss()
    await eventually(lambda: agent.ended is grpc.StatusCode.UNAVAILABLE)
