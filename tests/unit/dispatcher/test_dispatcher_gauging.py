"""What the dispatcher shows of the farm: queues, pools, limits, breakers."""

from dataclasses import replace
from typing import Any

import pytest

from easyq_chassis.errors import Unavailable
from easyq_chassis.metrics import Registry, TaskLabels
from easyq_chassis.patterns import Pattern
from easyq_dispatcher.adapters.metrics import DispatcherMetrics
from easyq_dispatcher.domain.breakers import Breaker, Kind
from easyq_dispatcher.ports import Gauged, Queue
from easyq_dispatcher.usecases import gauging
from easyq_dispatcher.usecases.gauging import Gauging
from tests.unit.dispatcher.rig import Agent, Core, Rig, idle


class Shown:
    """`Gauges` that remembers."""

    def __init__(self) -> None:
        self.last: Gauged | None = None

    def show(self, gauged: Gauged | None) -> None:
        self.last = gauged


def gauging_of(rig: Rig, core: Core, shown: Any) -> Gauging:
    return Gauging(
        store=rig.farm,
        index=core.index,
        keeper=core.keeper,
        rules=core.rules,
        roster=core.roster,
        clock=rig.clock,
        gauges=shown,
        interval=10.0,
    )


async def test_a_look_at_the_farm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gauging, "_PAGE", 2)
    rig, shown = Rig(pools=["gpu=gpu-.*"], limits=["gpu-a=1"]), Shown()
    core = rig.dispatcher()
    agent = Agent("h1", 3)
    await agent.connect(core)
    rig.farm.submit("gpu-a", 2)
    rig.farm.submit("mail", 5)
    rig.farm.submit("report", 1)
    rig.farm.oldest = 7.5
    await core.step()
    assert await gauging_of(rig, core, shown).run_once() == 10.0
    seen = shown.last
    assert seen is not None
    # Three slots, of the pool that serves all: two of five wait.
    assert [(queue.task_id, queue.queued, pool) for queue, pool in seen.queues] == [
        ("gpu-a", 2, "gpu"),
        *((name, count, "default") for name, count in (("mail", 3), ("report", 0)) if count),
    ]
    assert {queue.oldest for queue, _ in seen.queues} == {7.5}
    assert seen.slots == {"gpu": 0, "default": 3}
    assert seen.running == {"gpu": 0, "default": 3}
    assert seen.limits == [("gpu-a", 0, 1)]
    assert seen.breakers == []
    await idle()


async def test_what_is_not_known_is_not_shown() -> None:
    rig, shown = Rig(limits=["a=1"]), Shown()
    core = rig.dispatcher()
    rig.farm.submit("mail", 1)
    look = gauging_of(rig, core, shown)
    await look.run_once()
    # No filling of Redis holds yet: the store still tells what waits.
    assert shown.last is not None
    assert (shown.last.running, shown.last.limits, len(shown.last.queues)) == (None, [], 1)
    rig.farm.away = True
    with pytest.raises(Unavailable):
        await look.run_once()
    assert shown.last is None


async def test_a_redis_that_is_away_is_told_to_the_keeper() -> None:
    rig, shown = Rig(), Shown()
    core = rig.dispatcher()
    await core.step()
    rig.server.away = True
    await gauging_of(rig, core, shown).run_once()
    assert core.keeper.generation is None
    assert shown.last is not None
    assert shown.last.running is None


async def test_looking_takes_a_twentieth_of_the_time_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    core = rig.dispatcher()

    async def slow(after: str, limit: int) -> list[Queue]:
        rig.clock.seconds += 3
        return []

    monkeypatch.setattr(rig.farm, "list_queues", slow)
    assert await gauging_of(rig, core, Shown()).run_once() == pytest.approx(60)


def breaker(kind: Kind, subject: str, until_ms: int) -> Breaker:
    return Breaker(kind=kind, subject=subject, failures=3, until_ms=until_ms)


def test_how_it_is_shown() -> None:
    registry = Registry()
    metrics = DispatcherMetrics(TaskLabels(Pattern("mail"), 10), registry)
    queues = [
        (Queue(task_id="mail", queued=3, oldest=4.0), "default"),
        (Queue(task_id="a", queued=1, oldest=9.0), "default"),
        (Queue(task_id="b", queued=2, oldest=8.0), "default"),
    ]
    breakers = [breaker(Kind.HOST, "h1", 2_000), breaker(Kind.IMAGE, "x:1", 500), breaker(Kind.IMAGE, "y:1", 0)]
    known = Gauged(
        queues=queues,
        slots={"default": 4, "gpu": 0},
        running={"default": 4, "gpu": 0},
        limits=[("m.*", 1, 2)],
        breakers=breakers,
        now_ms=1_000,
    )
    metrics.show(known)

    def values(name: str) -> dict[tuple[str, ...], float]:
        (found,) = [one for one in registry.instruments() if one.described.name == name]
        return {labels: value for labels, value in dict(found.values).items() if isinstance(value, float | int)}

    assert values("easyq.queue.depth") == {
        ("mail", "default"): 3, ("other", "default"): 3, ("", "default"): 0, ("", "gpu"): 0,
    }  # fmt: skip
    assert values("easyq.queue.oldest.age")["other", "default"] == 9.0
    assert values("easyq.pool.running") == values("easyq.pool.slots") == {("default",): 4, ("gpu",): 0}
    assert (values("easyq.limit.running"), values("easyq.limit.most")) == ({("m.*",): 1}, {("m.*",): 2})
    phases = values("easyq.breakers")
    assert {phase for phase, count in phases.items() if count} == {
        ("HOST", "OPEN"), ("IMAGE", "HALF_OPEN"), ("IMAGE", "CLOSED"),
    }  # fmt: skip
    assert phases["HOST", "HALF_OPEN"] == 0
    assert values("easyq.breaker.open") == {("HOST", "h1"): 1, ("IMAGE", "x:1"): 1}
    metrics.show(Gauged(queues=[], slots={"default": 4}))
    assert values("easyq.queue.depth") == {("", "default"): 0}
    assert values("easyq.pool.running") == {}
    # Redis is away, and an alert that a breaker raised goes on.
    opened = {("HOST", "h1"): 1, ("IMAGE", "x:1"): 1}
    assert (values("easyq.breakers"), values("easyq.breaker.open")) == (phases, opened)
    metrics.show(None)
    assert {one.described.name for one in registry.instruments() if one.values} == {
        "easyq.breakers", "easyq.breaker.open",
    }  # fmt: skip
    metrics.show(replace(known, breakers=[]))
    assert values("easyq.breaker.open") == {}
