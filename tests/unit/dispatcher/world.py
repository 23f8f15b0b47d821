"""Two dispatchers, two agents, three tasks, limits; and everything that may go wrong, in any order."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import Protocol

from easyq.v1.job_pb2 import Failure
from easyq_dispatcher.domain.needs import Needs, Offer
from easyq_dispatcher.domain.records import Seat
from easyq_dispatcher.ports import StaleIndex
from easyq_internal.store.v1.records_pb2 import GiveBack
from tests.unit.dispatcher.rig import Agent, Rig, idle

SLOTS = {"a": 4, "b": 3}
CPUS = 4_000
ASKED = (Needs(), Needs(cpu_millis=1_000), Needs(cpu_millis=3_000))
LIMITS = ("t=2", "u=3", "[tu]=4")


class Trouble(Protocol):
    """What may happen to an index server. `restart`: its data is there again, under another run id."""

    away: bool

    async def flush(self) -> None: ...

    async def restart(self) -> None: ...


class World:
    """`do` lets one thing happen, and checks what has to hold at every moment."""

    def __init__(self, rig: Rig, trouble: Trouble) -> None:
        self.rig = rig
        self.trouble = trouble
        self.cores = [self.rig.dispatcher("d1"), self.rig.dispatcher("d2")]
        self.agents = [Agent(name, slots) for name, slots in SLOTS.items()]
        self.homes = [0, 1]
        self.deaths = 0

    async def do(self, name: str, which: int) -> None:
        core, agent = self.cores[which], self.agents[which]
        match name:
            case "submit":
                needs = ASKED[len(self.rig.farm.rows) // 2 % 3]
                self.rig.farm.submit("tuv"[which + len(self.rig.farm.rows) % 2], 2, needs=needs)
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
            case "fail" if agent.connected and agent.running:
                reason = Failure.HOST_FAILED if which else Failure.PULL_FAILED
                agent.report(max(agent.running), give_back=GiveBack(failure=Failure(reason=reason)))
            case "cordon":
                if agent.name in self.rig.farm.agents:
                    self.rig.farm.cordon(agent.name, cordoned=not self.rig.farm.agents[agent.name].cordoned)
            case "beat" if agent.connected:
                agent.beat()
            case "connect":
                self.homes[which] = 1 - self.homes[which]
                await self.connect(which)
            case "vanish":
                agent.disconnect()
            case "flush":
                await self.trouble.flush()
            case "restart":
                await self.trouble.restart()
            case "redis away":
                self.trouble.away = not self.trouble.away
            case "store away":
                self.rig.farm.away = not self.rig.farm.away
            case "lose answers":
                self.rig.farm.lose_answers = 2
            case "gate":
                gate = self.rig.farm.gate
                gate.clear() if gate.is_set() else gate.set()
            case "crash":
                self.crash(which)
            case "orphan" if core.keeper.generation is not None and not self.trouble.away:
                # A dispatcher that took, and died.
                seat = Seat(agent_id=agent.name, session=0, slots=agent.slots, pools=("default",))
                with suppress(StaleIndex):
                    await core.index.take(core.keeper.generation, [seat])
            case "orphan time":
                self.rig.clock.seconds += 3.1
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
        await self.agents[which].connect(self.cores[self.homes[which]], offer=Offer(cpu_millis=CPUS))

    def check(self) -> None:
        farm = self.rig.farm
        held = Counter(row.task_id for row in farm.rows.values() if row.held)
        assert held["t"] <= 2
        assert held["u"] <= 3
        assert held["t"] + held["u"] <= 4
        for agent in self.agents:
            assert farm.held_by(agent.name) <= agent.slots
            mine = [row for row in farm.rows.values() if row.held and row.agent_id == agent.name]
            assert sum(row.needs.cpu_millis for row in mine) <= CPUS

    async def heal(self) -> None:
        """Nothing goes wrong any more: everything has to end."""
        self.trouble.away = self.rig.farm.away = False
        self.rig.farm.lose_answers = 0
        self.rig.farm.gate.set()
        for name in self.rig.farm.agents:
            self.rig.farm.cordon(name, cordoned=False)
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
    "fail",
    "cordon",
    "connect",
    "vanish",
    "flush",
    "restart",
    "redis away",
    "store away",
    "lose answers",
    "gate",
    "crash",
    "orphan",
    "orphan time",
    "minute",
]


async def play(world: World, steps: list[tuple[str, int]]) -> None:
    """Lets it all happen, and then heal."""
    for task in "tuv":
        world.rig.farm.submit(task, 6)
    for core in world.cores:
        await core.step()
    await world.connect(0)
    await world.connect(1)
    for name, which in steps:
        await world.do(name, which)
    await world.heal()
