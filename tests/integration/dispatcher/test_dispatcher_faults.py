"""Things that break under dispatchers: Redis, the store, dispatchers themselves, agents."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from easyq_dispatcher.adapters.redis_index import RedisMatchIndex, connect
from easyq_dispatcher.domain.assigning import Verdict
from easyq_dispatcher.domain.records import Fenced, Seat
from easyq_dispatcher.domain.rules import build_matching
from easyq_dispatcher.ports import Question
from easyq_internal.store.v1.records_pb2 import ReportResult
from tests.fakes.dispatcher import FakeFarm, FakeFarmServer
from tests.integration.dispatcher.scripted_agent import ScriptedAgent
from tests.support import RedisServer, eventually, process

Said = ReportResult.Verdict


def once_each(farm: FakeFarm) -> bool:
    """Everything ran, nothing was assigned twice."""
    return farm.count("SUCCEEDED") == len(farm.rows) and set(farm.assigned.values()) <= {1}


def slow_down(agent: ScriptedAgent) -> None:
    """Lets every program of an agent take a few milliseconds, so that something runs at any moment."""

    def begun(execution_id: str) -> None:
        asyncio.get_running_loop().call_later(0.02, lambda: asyncio.ensure_future(end(execution_id)))

    async def end(execution_id: str) -> None:
        if execution_id in agent.running:
            await agent.finish(execution_id)

    agent.on_start = begun


# -------------------------------------------------------------------------------------------------------------- limits
async def test_two_dispatchers_never_exceed_one_limit(farm: FakeFarm, dispatcher: Any, agents: Any) -> None:
    rules = {"limits": ["t=3"], "pools": ["small=u:2"]}
    one, two = await dispatcher(**rules), await dispatcher(**rules)
    for name, it in (("a", one), ("b", two), ("c", one), ("d", two)):
        slow_down(await agents(it, name, slots=4, pools=("default", "small")))
    heads = [*farm.submit("t", 60), *farm.submit("u", 40), *farm.submit("v", 40)]
    await asyncio.gather(one.notify(heads), two.notify(heads))
    await eventually(lambda: once_each(farm), timeout=30)
    assert farm.most_held["t"] == 3
    assert farm.most_held["u"] == 2
    assert farm.most_held["v"] > 4


async def test_a_flood_in_one_task_does_not_hold_up_the_next(farm: FakeFarm, dispatcher: Any, agents: Any) -> None:
    """kubernetes-sigs/kueue#8309: the second task waits for one slot, not for the end of the flood."""
    it = await dispatcher()
    agent = await agents(it, slots=2)
    await it.notify(farm.submit("flood", 500))
    await eventually(lambda: len(agent.running) == 2)
    (late,) = farm.submit("late")
    await it.notify([late])
    await agent.finish()
    await eventually(lambda: len(agent.started) == 4)
    assert late.execution_id in [name for name, _ in agent.started[2:]]


async def test_a_task_at_its_limit_blocks_nobody(farm: FakeFarm, dispatcher: Any, agents: Any) -> None:
    """hashicorp/nomad#5323."""
    it = await dispatcher(limits=["slow=1"])
    agent = await agents(it, slots=10)
    await it.notify([*farm.submit("slow", 50), *farm.submit("quick", 5)])
    await eventually(lambda: len(agent.running) == 6)
    word = await it.explain(farm.ids("QUEUED")[0], "slow")
    assert "limit slow: 1 of 1" in word.message


async def test_a_long_backlog_runs_in_its_order(farm: FakeFarm, dispatcher: Any, agents: Any) -> None:
    heads = farm.submit("t", 2_600)
    it = await dispatcher()
    agent = await agents(it, slots=100, at_once=True)
    await it.notify(farm.submit("t", 5))
    await eventually(lambda: once_each(farm), timeout=30)
    started = [name for name, _ in agent.started]
    assert started[: len(heads)] == [head.execution_id for head in heads]


# --------------------------------------------------------------------------------------------------------------- Redis
@pytest.mark.parametrize("harm", ["flush", "restart empty"])
async def test_an_index_that_is_gone_heals(
    harm: str, farm: FakeFarm, dispatcher: Any, agents: Any, redis_server: RedisServer
) -> None:
    rules = {"limits": ["t=5"]}
    one, two = await dispatcher(**rules), await dispatcher(**rules)
    for name, it in (("a", one), ("b", two)):
        slow_down(await agents(it, name, slots=8))
    farm.submit("t", 100)
    farm.submit("u", 100)
    await eventually(lambda: farm.count("SUCCEEDED") > 40)
    generation = farm.number
    await asyncio.to_thread(redis_server.flush if harm == "flush" else redis_server.restart)
    before = farm.count("SUCCEEDED")
    await eventually(lambda: farm.count("SUCCEEDED") >= min(before + 30, 200))
    await eventually(lambda: once_each(farm), timeout=30)
    await eventually(lambda: farm.number > generation)
    assert farm.most_held["t"] <= 5
    assert max(farm.held_by("a"), farm.held_by("b")) == 0


async def test_what_was_held_when_the_index_went_still_counts(
    farm: FakeFarm, dispatcher: Any, agents: Any, redis_server: RedisServer
) -> None:
    it = await dispatcher(limits=["t=2"])
    agent = await agents(it, slots=8)
    farm.submit("t", 4)
    await eventually(lambda: len(agent.running) == 2)
    redis_server.flush()
    generation = farm.number
    await eventually(lambda: farm.number > generation)
    await eventually(it.assigns)
    assert (await it.matching()).limits[0].running == 2
    assert len(agent.running) == 2
    await agent.finish(*[name for name, _ in agent.started[:1]])
    await eventually(lambda: len(agent.started) == 3)


async def test_without_redis_all_but_assigning_goes_on(
    farm: FakeFarm, dispatcher: Any, agents: Any, redis_server: RedisServer
) -> None:
    it = await dispatcher()
    agent = await agents(it, slots=2)
    waiting = farm.submit("t", 4)
    await eventually(lambda: len(agent.running) == 2)
    redis_server.kill()
    number = await agent.beat()
    await eventually(lambda: number in agent.acknowledged)
    await agent.finish()
    await eventually(lambda: farm.count("SUCCEEDED") == 2)
    other = await agents(it, "b")
    assert other.welcome.session == 1

    async def told() -> bool:
        word = await it.explain(waiting[2].execution_id)
        return bool(word and "Redis" in word.message)

    await eventually(told)
    problem = await eventually(lambda: problem_of(it, "redis"))
    assert "Redis" in problem.message
    assert problem.HasField("since")
    await asyncio.to_thread(redis_server.start)
    await eventually(lambda: len(agent.running) + len(other.running) == 2)


async def test_releases_of_an_outage_are_told_later(
    farm: FakeFarm, dispatcher: Any, agents: Any, redis_server: RedisServer
) -> None:
    """The server only hangs, and comes back with its counts: they must not stay too high."""
    it = await dispatcher(redis_timeout=0.3, reconcile_interval=60)
    agent = await agents(it, slots=2)
    farm.submit("t", 4)
    await eventually(lambda: len(agent.running) == 2)
    generation = farm.number
    os.kill(redis_server.pid, signal.SIGSTOP)
    await agent.finish()
    await eventually(lambda: farm.count("SUCCEEDED") == 2)
    await eventually(lambda: not_assigning(it))
    os.kill(redis_server.pid, signal.SIGCONT)
    await eventually(lambda: len(agent.started) == 4)
    assert farm.number == generation


async def problem_of(it: Any, subject: str) -> Any:
    """What it says is wrong with that; None if nothing."""
    return next((problem for problem in (await it.matching()).problems if problem.subject == subject), None)


async def not_assigning(it: Any) -> bool:
    return not await it.assigns()


async def test_dispatchers_with_other_rules_do_not_undo_each_other(
    farm: FakeFarm, dispatcher: Any, agents: Any
) -> None:
    old = await dispatcher(limits=["t=1"])
    new = await dispatcher(limits=["t=2"])
    agent = await agents(new, slots=5)
    farm.submit("t", 3)
    await eventually(lambda: len(agent.running) == 2)

    async def told() -> bool:
        problem = await problem_of(old, "redis")
        return bool(problem and "other pools or limits" in problem.message)

    await eventually(told)
    generation = farm.number
    await agent.finish()
    await eventually(lambda: len(agent.started) == 3)
    assert farm.number == generation


# --------------------------------------------------------------------------------------------------------------- store
async def test_a_store_that_is_away_loses_nothing(
    farm: FakeFarm, store: FakeFarmServer, dispatcher: Any, agents: Any
) -> None:
    it = await dispatcher()
    agent = await agents(it, slots=4)
    farm.submit("t", 30)
    await eventually(lambda: len(agent.running) == 4)
    await store.stop()
    await agent.finish()
    await eventually(lambda: any(result.verdict == Said.RETRY for result in agent.results))
    assert farm.count("SUCCEEDED") == 0
    await eventually(lambda: problem_of(it, "store"))
    slow_down(agent)
    await store.start()
    await eventually(lambda: once_each(farm), timeout=20)


async def test_an_agent_is_sent_away_while_the_store_is(store: FakeFarmServer, dispatcher: Any) -> None:
    it = await dispatcher()
    await store.stop()
    agent = ScriptedAgent(it.address)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await agent.connect()
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    await store.start()
    await eventually(agent_connects(agent))
    await agent.close()


async def test_it_says_that_it_waits_for_the_store(store: FakeFarmServer, dispatcher: Any, monkeypatch: Any) -> None:
    """One that hangs as well as one that is away: nothing can be assigned, and whoever comes is told at once."""
    monkeypatch.setattr("easyq_dispatcher.app._STORE_PATIENCE", 2.0)
    it = await dispatcher(call_timeout=30.0)
    readiness = it.app._server.readiness
    assert (readiness.ready, readiness.why) == (True, "")
    store.well.clear()
    await eventually(lambda: not readiness.ready)
    assert readiness.why == "it waits for the store: it did not answer within 2 s"
    agent = ScriptedAgent(it.address)
    with pytest.raises(grpc.aio.AioRpcError, match="takes no agent: it waits for the store: it did not answer"):
        await asyncio.wait_for(agent.connect(), 10)
    store.well.set()
    await eventually(lambda: readiness.ready)
    await store.say(False, "its disk is full")
    await eventually(lambda: readiness.why == "it waits for the store: its disk is full")
    await store.stop()
    await eventually(lambda: "failed to connect" in readiness.why.lower() or "unavailable" in readiness.why.lower())
    assert not readiness.ready
    await agent.close()


async def test_assigns_whose_answers_were_lost(farm: FakeFarm, dispatcher: Any, agents: Any) -> None:
    """armadaproject/armada#101: the agent's next beat brings what was assigned; its places are kept."""
    it = await dispatcher(limits=["t=2"])
    agent = await agents(it, slots=5)
    farm.lose_answers = 2
    await it.notify(farm.submit("t", 3))
    await eventually(lambda: farm.count("ASSIGNED") == 2)
    await eventually(lambda: farm.calls["fence"])
    assert agent.running == {}
    assert (await it.matching()).limits[0].running == 2
    await agent.beat()
    await eventually(lambda: len(agent.running) == 2)
    await agent.finish()
    await eventually(lambda: len(agent.started) == 3)
    await agent.finish()
    await eventually(lambda: once_each(farm))


async def test_refused_assigns_leave_their_places(farm: FakeFarm, dispatcher: Any, agents: Any) -> None:
    it = await dispatcher(limits=["t=1"], feed_interval=60)
    agent = await agents(it, slots=5)
    # From now on it does not look into the store, which knows better than what it is told.
    await eventually(lambda: it.app._feeder._primed)
    gone, moved, fine = farm.submit("t", 3)
    farm.stop(gone.execution_id)
    farm.rows[moved.execution_id].epoch += 5
    await it.notify([gone, moved, fine])
    await eventually(lambda: agent.running)
    assert agent.started == [(moved.execution_id, 7)]
    assert farm.refusals == [Verdict.NOT_QUEUED, Verdict.STALE_EPOCH]
    await agent.finish()
    await eventually(lambda: len(agent.started) == 2)


# ------------------------------------------------------------------------------------------------- takes without owner
async def has_heads(index: RedisMatchIndex, generation: int, task: str, count: int) -> bool:
    survey = await index.survey(generation, Question(tasks=[task]))
    return survey.tasks[task].heads == count


async def test_an_orphaned_take_is_undone(
    farm: FakeFarm, dispatcher: Any, agents: Any, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = await dispatcher(orphan_after=0.3, limits=["t=2"])
    await it.notify(farm.submit("t", 2))
    ghost = RedisMatchIndex(
        connect(redis_server.url, timeout=1),
        farm="easyq",
        dispatcher="ghost",
        matching=build_matching([], ["t=2"], lost_after_ms=1, lost_after_by_pool={}),
    )
    await eventually(lambda: has_heads(ghost, farm.number, "t", 2))
    # Nobody finds it orphaned before the store is as it was left.
    fence, is_left = farm.fence, asyncio.Event()

    async def fence_later(execution_ids: Sequence[str]) -> Sequence[Fenced]:
        await is_left.wait()
        return await fence(execution_ids)

    monkeypatch.setattr(farm, "fence", fence_later)
    taken = await ghost.take(farm.number, [Seat(agent_id="gone", session=1, slots=2, pools=("default",))])
    assert len(taken.items) == 2
    # One of the two reached the store before its dispatcher died, and keeps its place.
    row = farm.rows[taken.items[0].head.execution_id]
    row.state, row.epoch, row.agent_id, row.pool = "ASSIGNED", row.epoch + 1, "gone", "default"
    is_left.set()
    agent = await agents(it, slots=5)
    await eventually(lambda: agent.running)
    assert agent.started == [(taken.items[1].head.execution_id, 3)]
    await agent.finish()
    await eventually(lambda: not agent.running)
    farm.submit("t", 2)
    await eventually(lambda: agent.running)
    assert len(agent.running) == 1
    await ghost.close()


async def test_places_of_lost_agents_are_freed(farm: FakeFarm, dispatcher: Any, agents: Any) -> None:
    it = await dispatcher(limits=["t=2"], reconcile_interval=0.3)
    lost = await agents(it, "lost", slots=2)
    await it.notify(farm.submit("t", 3))
    await eventually(lambda: len(lost.running) == 2)
    lost.vanish()
    farm.lose("lost")
    agent = await agents(it, "b", slots=5)
    await eventually(lambda: len(agent.running) == 1)


async def test_executions_that_do_not_count_are_counted_again(
    farm: FakeFarm, dispatcher: Any, agents: Any, redis_server: RedisServer
) -> None:
    it = await dispatcher(limits=["t=2"], reconcile_interval=0.3)
    agent = await agents(it, slots=5)
    await it.notify(farm.submit("t", 2))
    await eventually(lambda: len(agent.running) == 2)
    with redis_server.client() as client:
        client.delete(
            *client.keys(f"{{easyq}}:v1:{farm.number}:held"), *client.keys("*limit*"), *client.keys("*agent*")
        )

    async def counted() -> bool:
        running: int = (await it.matching()).limits[0].running
        return running == 2

    await eventually(counted)
    await it.notify(farm.submit("t", 2))
    await agent.finish()
    await eventually(lambda: len(agent.started) == 4)
    assert farm.most_held["t"] == 2


# ------------------------------------------------------------------------------------------------------------- crashes
class Killable:
    """A dispatcher as a process of its own."""

    def __init__(self, folder: Path, store: str, redis: str) -> None:
        self.address = f"unix:{folder}/dk"
        self._log = folder / "dispatcher.log"
        self._command = [
            *(sys.executable, "-m", "easyq_dispatcher", "--listen", self.address, "--store", store, "--redis", redis),
            *("--limit", "t=4", "--orphan-after", "0.5"),
        ]
        self.process: Any = None

    def start(self, faults: str = "") -> None:
        self.process = process.spawn(self._command, log=self._log, env={**os.environ, "EASYQ_TEST_FAULTS": faults})

    def died(self) -> bool:
        return bool(self.process.poll() == -signal.SIGKILL)


@pytest.fixture
async def killable(tmp_path: Path, store: FakeFarmServer, redis_server: RedisServer) -> AsyncIterator[Killable]:
    it = Killable(tmp_path, store.address, redis_server.url)
    yield it
    process.end(it.process)


@pytest.mark.parametrize("point", ["after_take", "after_assign", "before_run"])
async def test_a_dispatcher_killed_between_take_assign_and_run(point: str, farm: FakeFarm, killable: Killable) -> None:
    farm.submit("t", 30)
    killable.start(f"dispatcher.{point}=kill@3")
    agent = ScriptedAgent(killable.address, slots=6, reconnect=True)
    slow_down(agent)
    await eventually(agent_connects(agent), timeout=20)
    await eventually(killable.died, timeout=20)
    killable.start()
    await eventually(lambda: once_each(farm), timeout=20)
    assert len({name for name, _ in agent.started}) == len(agent.started) == 30
    assert farm.most_held["t"] <= 4
    await agent.close()


def agent_connects(agent: ScriptedAgent) -> Any:
    async def connects() -> bool:
        try:
            await agent.connect()
        except Exception as error:
            raise AssertionError(str(error)) from error
        return True

    return connects


async def test_a_stopped_dispatcher_ends_in_order(farm: FakeFarm, killable: Killable) -> None:
    killable.start()
    agent = ScriptedAgent(killable.address, slots=2)
    await eventually(agent_connects(agent), timeout=20)
    farm.submit("t", 2)
    await eventually(lambda: len(agent.running) == 2)
    killable.process.send_signal(signal.SIGTERM)
    await eventually(lambda: agent.ended)
    assert agent.ended is not None
    assert agent.ended.name == "UNAVAILABLE"
    await eventually(lambda: killable.process.poll() == 0)
    await agent.close()
