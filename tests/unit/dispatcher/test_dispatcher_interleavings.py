"""Whatever happens in whatever order: limits and slots hold at every moment, nothing runs twice, everything runs."""

from __future__ import annotations

import asyncio
from collections import Counter

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.dispatcher.rig import Agent, Core, Rig, idle

SLOTS = {"a": 2, "b": 3}
LIMITS = {"t": 2, "u": 3}


class World:
    """Two dispatchers, two agents, three tasks, limits; and everything that may go wrong."""

    def __init__(self) -> None:
        self.rig = Rig(limits=["t=2", "u=3", "[tu]=4"])
        self.cores = [self.rig.dispatcher("d1"), self.rig.dispatcher("d2")]
        self.agents = [Agent(name, slots) for name, slots in SLOTS.items()]
        self.homes = [0, 1]
        self.deaths = 0

    async def do(self, name: str, which: int) -> None:
        core, agent = self.cores[which], self.agents[which]
        match name:
            case "submit":
                self.rig.farm.submit("tuv"[which + len(self.rig.farm.rows) % 2], 2)
            case "notify":
                core.ledger.ready(self.rig.farm.submit("tuv"[len(self.rig.farm.rows) % 3], 2))
            case "keep":
                await core.keeper.run_once()
            case "match":
                await core.matcher.run_once()
            case "feed":
                await core.feeder.run_once()
            case "settle":
                await core.settler.run_once()
            case "finish" if agent.connected and agent.running:
                agent.finish(min(agent.running))
            case "give back" if agent.connected and agent.running:
                agent.give_back(max(agent.running))
            case "beat" if agent.connected:
                agent.beat()
            case "connect":
                self.homes[which] = 1 - self.homes[which]
                await self.connect(which)
            case "vanish":
                agent.disconnect()
            case "flush":
                self.rig.server.flush()
            case "restart":
                self.rig.server.restart()
            case "redis away":
                self.rig.server.away = not self.rig.server.away
            case "store away":
                self.rig.farm.away = not self.rig.farm.away
            case "lose answers":
                self.rig.farm.lose_answers = 2
            case "gate":
                gate = self.rig.farm.gate
                gate.clear() if gate.is_set() else gate.set()
            case "crash":
                self.crash(which)
            case "second":
                self.rig.clock.seconds += 1
            case "minute":
                self.rig.clock.seconds += 31
        await idle()
        self.check()

    def crash(self, which: int) -> None:
        self.deaths += 1
        self.cores[which].crash()
        self.cores[which] = self.rig.dispatcher(f"again-{self.deaths}")
        for agent, home in zip(self.agents, self.homes, strict=True):
            if home == which:
                agent.disconnect()

    async def connect(self, which: int) -> None:
        await self.agents[which].connect(self.cores[self.homes[which]])

    def check(self) -> None:
        farm = self.rig.farm
        held = Counter(row.task_id for row in farm.rows.values() if row.held)
        assert held["t"] <= 2
        assert held["u"] <= 3
        assert held["t"] + held["u"] <= 4
        for agent in self.agents:
            assert farm.held_by(agent.name) <= agent.slots

    async def heal(self) -> None:
        """Nothing goes wrong any more: everything has to end."""
        self.rig.server.away = self.rig.farm.away = False
        self.rig.farm.lose_answers = 0
        self.rig.farm.gate.set()
        await idle()
        for _ in range(40 + 2 * len(self.rig.farm.rows)):
            self.rig.clock.seconds += 1
            for which, agent in enumerate(self.agents):
                if not agent.connected:
                    await self.connect(which)
                agent.beat()
            for core in self.cores:
                await core.step()
            self.check()
            for agent in self.agents:
                agent.finish(*agent.running)
            await idle()
            if self.rig.farm.count("SUCCEEDED") == len(self.rig.farm.rows):
                break
        assert self.rig.farm.count("SUCCEEDED") == len(self.rig.farm.rows)
        await self.places_are_free()

    async def places_are_free(self) -> None:
        for _ in range(12):
            self.rig.clock.seconds += 1
            for core in self.cores:
                await core.step()
        for core in self.cores:
            assert core.keeper.generation is not None
            assert list(await core.index.places(core.keeper.generation)) == []


HARMLESS = ["submit", "notify", "keep", "match", "match", "feed", "settle", "finish", "finish", "beat", "second"]
HARM = [
    "give back",
    "connect",
    "vanish",
    "flush",
    "restart",
    "redis away",
    "store away",
    "lose answers",
    "gate",
    "crash",
    "minute",
]
step = st.tuples(st.sampled_from(HARMLESS * 2 + HARM), st.integers(0, 1))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(step, max_size=60))
def test_limits_hold_and_everything_runs(steps: list[tuple[str, int]]) -> None:
    asyncio.run(play(steps))


async def play(steps: list[tuple[str, int]]) -> None:
    world = World()
    for core in world.cores:
        await core.step()
    await world.connect(0)
    await world.connect(1)
    for name, which in steps:
        await world.do(name, which)
    await world.heal()


def assigned_once(cores: list[Core]) -> bool:
    return all(count == 1 for core in cores for count in core.farm.assigned.values())


async def test_without_harm_nothing_is_assigned_twice() -> None:
    world = World()
    for number in range(60):
        await world.do(HARMLESS[number % len(HARMLESS)], number % 2)
    await world.connect(0)
    await world.connect(1)
    await world.heal()
    assert assigned_once(world.cores)
