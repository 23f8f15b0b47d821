"""Hosts at real dispatchers over real Redis: what they have, what they are told, and what breaks on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc.aio
import pytest

from easyq.v1.farm_service_pb2 import Breaker
from easyq.v1.job_pb2 import Failure, Waiting
from easyq_dispatcher.domain.assigning import Verdict
from easyq_dispatcher.domain.needs import Needs
from easyq_internal.dispatcher.v1 import dispatcher_pb2 as pb
from easyq_internal.store.v1.records_pb2 import Upkeep
from tests.fakes.dispatcher import FakeFarm
from tests.support import RedisServer, eventually

HOST = (4_000, 8 << 30, 2)
HALF = Needs(cpu_millis=2_000)


async def word(it: Any, execution_id: str, task: str = "t") -> Any:
    """Why it waits, once there is a word."""
    return await eventually(lambda: it.explain(execution_id, task))


async def reason(it: Any, head: Any) -> Any:
    waiting = await it.explain(head.execution_id, head.task_id)
    return waiting.reason if waiting else None


async def until(it: Any, head: Any, expected: Waiting.Reason.ValueType) -> Any:
    async def so() -> bool:
        return bool(await reason(it, head) == expected)

    await eventually(so, message=Waiting.Reason.Name(expected))
    return await it.explain(head.execution_id, head.task_id)


def raised(farm: FakeFarm, since: int) -> Callable[[], bool]:
    return lambda: farm.number > since


def more_started(agent: Any, before: int) -> Callable[[], bool]:
    return lambda: len(agent.started) > before


def runs(agent: Any, head: Any) -> Callable[[], bool]:
    return lambda: head.execution_id in agent.running


async def is_ready(it: Any, count: int) -> bool:
    ready: int = sum(pool.ready for pool in (await it.matching()).pools)
    return ready >= count


# ---------------------------------------------------------------------------------------------------------------- room
async def test_a_hosts_offer_holds_also_after_a_flush(
    farm: FakeFarm, dispatcher: Any, agents: Any, redis_server: RedisServer
) -> None:
    it = await dispatcher()
    agent = await agents(it, slots=20, offer=HOST)
    farm.submit("t", 30, needs=HALF)
    farm.submit("u", 5)
    await eventually(lambda: len(agent.running) == 7)
    for _ in range(3):
        generation = farm.number
        redis_server.flush()
        await eventually(raised(farm, generation))
        await eventually(it.assigns)
        before = len(agent.started)
        await agent.finish(*[name for name in agent.running if name.startswith("t")][:1])
        await eventually(more_started(agent, before))
    assert farm.most_held["t"] == 2

    async def all_in_use() -> bool:
        used: float = (await it.matching()).used["a"].cpus
        return used == 4.0

    await eventually(all_in_use)


async def test_what_fits_nowhere_is_told_and_holds_up_nobody(farm: FakeFarm, dispatcher: Any, agents: Any) -> None:
    it = await dispatcher()
    agent = await agents(it, slots=5, offer=HOST)
    (huge,) = farm.submit("t", needs=Needs(cpu_millis=64_000))
    (labelled,) = farm.submit("t", needs=Needs(labels=(("gpu", "a100"),)))
    rest = farm.submit("t", 2)
    await it.notify([huge, labelled, *rest])
    await eventually(lambda: len(agent.running) == 2)
    told = await until(it, huge, Waiting.NO_FIT)
    assert (told.subject, told.position) == ("default", 1)
    assert "64 cpus" in told.message
    assert "4 cpus" in told.message
    assert "gpu=a100" in (await until(it, labelled, Waiting.NO_FIT)).message
    right = await agents(it, "right", offer=(64_000, 0, 0), labels={"gpu": "a100"})
    await eventually(lambda: len(right.running) == 2)


async def test_a_large_job_gets_its_turn(farm: FakeFarm, dispatcher: Any, agents: Any) -> None:
    it = await dispatcher(reserve_after=0.2)
    agent = await agents(it, slots=8, offer=HOST)
    small = Needs(cpu_millis=1_000)
    farm.submit("small", 200, needs=small)
    await eventually(lambda: len(agent.running) == 4)
    (big,) = farm.submit("big", needs=Needs(cpu_millis=4_000))
    await it.notify([big])
    told = await until(it, big, Waiting.NO_ROOM)
    assert told.subject == "default"

    async def another_ends() -> bool:
        """One after the other ends, so that there is never room for four at once."""
        if agent.running and big.execution_id not in agent.running:
            await agent.finish(next(iter(agent.running)))
        return big.execution_id in agent.running

    await eventually(another_ends, interval=0.05)
    # The answer to what was said of the last small one may come after it.
    await eventually(lambda: list(agent.running) == [big.execution_id])
    assert farm.count("QUEUED"), "it did not get its turn for want of others"


async def test_weights_share_out_the_turns(farm: FakeFarm, dispatcher: Any, agents: Any) -> None:
    it = await dispatcher(weights=["heavy=3"])
    await it.notify([*farm.submit("heavy", 30), *farm.submit("light", 30)])
    await eventually(lambda: is_ready(it, 60))
    agent = await agents(it, slots=1, at_once=True)
    await eventually(lambda: len(agent.started) == 60)
    order = [name.partition("#")[0] for name, _ in agent.started[:16]]
    assert "".join(name[0] for name in order) in "hhhl" * 5


async def test_a_flood_does_not_hold_up_a_single_job(farm: FakeFarm, dispatcher: Any, agents: Any) -> None:
    """100,000 of one task before it: it is among the next two takes (kubernetes-sigs/kueue#8309)."""
    it = await dispatcher()
    farm.submit("flood", 100_000)
    agent = await agents(it, slots=1)
    await eventually(lambda: agent.running, timeout=30)
    (single,) = farm.submit("single")
    await it.notify([single])
    # It is in line: whatever is taken from now on may be it.
    await eventually(lambda: is_waiting(it, single))
    taken = len(agent.started)
    for _ in range(2):
        before = len(agent.started)
        await agent.finish()
        await eventually(more_started(agent, before))
    assert single.execution_id in [name for name, _ in agent.started[taken : taken + 2]]


async def is_waiting(it: Any, head: Any) -> bool:
    waiting = await it.explain(head.execution_id, head.task_id)
    return bool(waiting and waiting.position == 1)


# -------------------------------------------------------------------------------------------------------------- upkeep
async def test_a_cordon_reaches_the_agent_at_once_and_keeps_work_away(
    farm: FakeFarm, dispatcher: Any, agents: Any
) -> None:
    it = await dispatcher()
    agent = await agents(it, slots=1)
    farm.cordon("a")
    await it.notify([], upkeep=[pb.UpkeepNews(agent_id="a", upkeep=Upkeep(cordoned=True))])
    await eventually(lambda: agent.upkeep)
    assert agent.upkeep[-1].cordoned
    (head,) = farm.submit("t")
    await it.notify([head])
    told = await until(it, head, Waiting.CORDONED)
    assert told.subject == "a"
    pool = (await it.stub.ExplainPool(pb.ExplainPoolRequest(name="default"))).pool
    assert (pool.agents, pool.healthy_agents) == (1, 0)
    number = await agent.beat()
    await eventually(lambda: number in agent.acknowledged)
    assert agent.upkeep[-1].cordoned
    assert farm.refusals == []
    farm.cordon("a", cordoned=False)
    await agent.beat()
    await eventually(lambda: agent.running)


async def test_a_cordon_that_only_the_store_knows_refuses_once(farm: FakeFarm, dispatcher: Any, agents: Any) -> None:
    it = await dispatcher()
    agent = await agents(it, slots=2)
    farm.cordon("a")
    heads = farm.submit("t", 3)
    await it.notify(heads)
    await eventually(lambda: farm.refusals)
    await until(it, heads[0], Waiting.CORDONED)
    assert set(farm.refusals) == {Verdict.CORDONED}
    refused = len(farm.refusals)
    other = await agents(it, "b", slots=3)
    await eventually(lambda: len(other.started) == 3)
    assert [name for name, _ in other.started] == [head.execution_id for head in heads]
    assert len(farm.refusals) == refused
    assert not agent.started
    draining = await agents(it, "c")
    farm.agents["c"].upkeep = Upkeep(draining=True)
    draining.vanish()
    again = await agents(it, "c")
    assert again.welcome.upkeep.draining


# ------------------------------------------------------------------------------------------------------ what breaks
async def fail(agent: Any, reason: Failure.Reason.ValueType, times: int = 3) -> None:
    """Gives back what it is given, so many times."""
    for _ in range(times):
        await eventually(lambda: agent.running)
        await agent.give_back(*agent.running, reason=reason)


async def test_a_host_that_fails_eats_no_jobs(farm: FakeFarm, dispatcher: Any, agents: Any) -> None:
    one, two = await dispatcher(breaker_wait=0.3), await dispatcher(breaker_wait=0.3)
    broken = await agents(one, "broken", slots=1)
    (head,) = farm.submit("t")
    await one.notify([head])
    await fail(broken, Failure.HOST_FAILED)

    async def breaker_is_told() -> Any:
        # Whoever looks too late finds that it was tried again: it fails again, and is waited for longer.
        if broken.running:
            await broken.give_back(*broken.running, reason=Failure.HOST_FAILED)
        waiting = await one.explain(head.execution_id)
        return waiting if waiting and waiting.reason == Waiting.HOST_BREAKER else None

    told = await eventually(breaker_is_told)
    assert (told.subject, told.position) == ("broken", 1)
    assert "so it is" in told.message
    assert told.HasField("next_look_at")
    # Shown by the other dispatcher as well, and its agents go on.
    (breaker,) = (await two.matching()).breakers
    assert (breaker.kind, breaker.subject, breaker.cause) == (Breaker.HOST, "broken", "so it is")
    # One job tries; it fails, and then another works.
    await fail(broken, Failure.HOST_FAILED, 1)
    await eventually(lambda: broken.running)
    farm.submit("t", 5)
    await broken.start(head.execution_id)

    async def closed() -> bool:
        return not (await two.matching()).breakers

    await eventually(closed)
    await broken.finish()
    await eventually(lambda: len(broken.started) > 5)
    assert farm.rows[head.execution_id].state == "SUCCEEDED"


async def test_an_image_that_fails_holds_up_no_other(farm: FakeFarm, dispatcher: Any, agents: Any) -> None:
    it = await dispatcher(breaker_wait=60)
    agent = await agents(it, slots=1)
    (bad,) = farm.submit("t", image="bad:1")
    await it.notify([bad])
    await fail(agent, Failure.PULL_FAILED)
    told = await until(it, bad, Waiting.IMAGE_BREAKER)
    assert (told.subject, told.position) == ("bad:1", 1)
    good = farm.submit("t", 3, image="good:1")
    await it.notify(good)
    for head in good:
        await eventually(runs(agent, head))
        await agent.finish()
    assert [name for name, _ in agent.started[3:]] == [head.execution_id for head in good]
    waiting = (await it.stub.ExplainPool(pb.ExplainPoolRequest(name="default"))).waiting
    assert (waiting.reason, waiting.subject) == (Waiting.IMAGE_BREAKER, "bad:1")
    # Closed by hand, it runs.
    await it.stub.ResetBreaker(pb.ResetBreakerRequest(kind=Breaker.IMAGE, subject="bad:1"))
    await eventually(lambda: bad.execution_id in agent.running)
    assert not (await it.matching()).breakers


async def test_breakers_are_forgotten_with_redis_and_open_again(
    farm: FakeFarm, dispatcher: Any, agents: Any, redis_server: RedisServer
) -> None:
    it = await dispatcher(breaker_wait=60)
    agent = await agents(it, slots=1)
    await it.notify(farm.submit("t"))
    await fail(agent, Failure.HOST_FAILED)

    async def opened() -> bool:
        return bool((await it.matching()).breakers)

    await eventually(opened)
    redis_server.flush()
    await fail(agent, Failure.HOST_FAILED)
    await eventually(opened)


async def test_a_wrong_breaker_is_refused(dispatcher: Any) -> None:
    it = await dispatcher()
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await it.stub.ResetBreaker(pb.ResetBreakerRequest(subject="x"))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


# ---------------------------------------------------------------------------------------------------------------- words
async def test_words_on_tasks_and_pools(farm: FakeFarm, dispatcher: Any, agents: Any) -> None:
    it = await dispatcher(pools=["mail=m.*"], limits=["m=1", ".*=9"])
    task = await it.stub.ExplainTask(pb.ExplainTaskRequest(task_id="m"))
    assert task.pool == "mail"
    assert [(limit.pattern, limit.max_running, limit.running) for limit in task.limits] == [("m", 1, 0), (".*", 9, 0)]
    assert not (await it.stub.ExplainPool(pb.ExplainPoolRequest(name="mail"))).HasField("waiting")
    await it.notify(farm.submit("m", 3))
    await eventually(lambda: is_ready(it, 3))
    waiting = (await it.stub.ExplainPool(pb.ExplainPoolRequest(name="mail"))).waiting
    assert (waiting.reason, waiting.subject) == (Waiting.NO_AGENT, "mail")
    agent = await agents(it, slots=5, pools=("mail",))
    await eventually(lambda: agent.running)

    async def full() -> bool:
        found = (await it.stub.ExplainPool(pb.ExplainPoolRequest(name="mail"))).waiting
        return bool((found.reason, found.subject) == (Waiting.LIMIT_FULL, "m"))

    await eventually(full)
    response = await it.stub.ExplainPool(pb.ExplainPoolRequest(name="mail"))
    assert (list(response.agent_ids), response.pool.agents, response.pool.running) == (["a"], 1, 1)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await it.stub.ExplainPool(pb.ExplainPoolRequest(name="unknown"))
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
