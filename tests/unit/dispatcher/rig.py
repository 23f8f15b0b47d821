"""Dispatchers without sockets and loops: their parts over fakes, moved step by step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from easyq_chassis.errors import EasyQError
from easyq_dispatcher.domain.agents import Held, Hello, Phase
from easyq_dispatcher.domain.breakers import Patience
from easyq_dispatcher.domain.matching import Matching
from easyq_dispatcher.domain.rules import build_matching
from easyq_dispatcher.messages import Acknowledged, Beat, Incoming, Orders, Outgoing, Reports, Results, Runs, Welcome
from easyq_dispatcher.ports import MatchIndex
from easyq_dispatcher.usecases.conversation import Conversations
from easyq_dispatcher.usecases.feeder import Feeder
from easyq_dispatcher.usecases.keeper import Keeper
from easyq_dispatcher.usecases.ledger import Ledger
from easyq_dispatcher.usecases.matcher import Matcher
from easyq_dispatcher.usecases.roster import Roster
from easyq_dispatcher.usecases.rulebook import Rulebook
from easyq_dispatcher.usecases.settler import Settler
from easyq_dispatcher.usecases.words import Words
from easyq_internal.store.v1.records_pb2 import Directive, Finish, GiveBack, Report, ReportResult
from tests.fakes.dispatcher import FakeFarm
from tests.fakes.dispatcher_index import FakeIndexServer, FakeMatchIndex

ORPHAN_AFTER = 3.0
Said = ReportResult.Verdict


class ManualClock:
    """Moves when told."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def now_ms(self) -> int:
        return int(self.seconds * 1_000)

    def monotonic(self) -> float:
        return self.seconds


async def idle() -> None:
    """Lets everything that can go on go on."""
    for _ in range(30):
        await asyncio.sleep(0)


class Agent:
    """An agent at one end of a conversation."""

    def __init__(self, name: str, slots: int) -> None:
        self.name = name
        self.slots = slots
        self.running: dict[str, int] = {}
        self.started: list[str] = []
        self.heard: list[Outgoing] = []
        self.results: list[ReportResult] = []
        self._announced: set[str] = set()
        self.ended: EasyQError | None = None
        self.connected = False
        self._said: asyncio.Queue[Incoming | None] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._beats = 0

    async def connect(self, core: Core, **changes: Any) -> None:
        values: dict[str, Any] = {
            "agent_id": self.name,
            "daemon_id": f"daemon-of-{self.name}",
            "hostname": self.name,
            "pools": ("default",),
            "slots": self.slots,
            "version": "test",
            "protocol_min": 1,
            "protocol_max": 1,
            "inventory": self.inventory(),
            "healthy": True,
            "message": "",
            **changes,
        }
        self.disconnect()
        self._said = asyncio.Queue()
        self._said.put_nowait(Hello(**values))
        self.ended, self.connected = None, True
        self._task = asyncio.create_task(self._listen(core))
        await idle()

    def disconnect(self) -> None:
        """Cuts the stream, as a crash of either end does."""
        if self._task is not None:
            self._task.cancel()
        self.connected = False

    def say(self, message: Incoming) -> None:
        self._said.put_nowait(message)

    def hang_up(self) -> None:
        """Ends its own side of the stream."""
        self._said.put_nowait(None)

    def beat(self) -> None:
        self._beats += 1
        self.say(Beat(number=self._beats, inventory=self.inventory()))

    def finish(self, *ids: str) -> None:
        word = Finish(outcome=Finish.Outcome.EXITED, exit_code=0)
        self._report(ids, finish=word)

    def give_back(self, *ids: str) -> None:
        self._report(ids, give_back=GiveBack())

    def report(self, name: str, **word: Any) -> None:
        """Says any word on one execution."""
        if "started" in word:
            self._announced.add(name)
        self._report([name], **word)

    def inventory(self) -> tuple[Held, ...]:
        return tuple(Held(execution_id=name, epoch=epoch, phase=Phase.RUNNING) for name, epoch in self.running.items())

    def _report(self, ids: Sequence[str], **word: Any) -> None:
        items = [Report(execution_id=name, epoch=self.running[name], **word) for name in ids]
        self.say(Reports(items=items))

    async def _listen(self, core: Core) -> None:
        async def incoming() -> AsyncIterator[Incoming]:
            while (message := await self._said.get()) is not None:
                yield message

        try:
            async for message in core.conversations.talk(incoming()):
                self.heard.append(message)
                self._take(message)
        except EasyQError as error:
            self.ended = error
        self.connected = False

    def _take(self, message: Outgoing) -> None:
        match message:
            case Runs():
                for item in message.items:
                    self._run(item.execution_id, item.epoch)
            case Welcome() | Acknowledged():
                self._obey(message.directives)
            case Orders():
                self._obey(message.items)
            case Results():
                self.results += message.items
                for result in message.items:
                    if result.execution_id in self._announced:
                        self._announced.remove(result.execution_id)
                    elif result.verdict != Said.RETRY:
                        self.running.pop(result.execution_id, None)

    def _obey(self, orders: Sequence[Directive]) -> None:
        for order in orders:
            if order.kind == Directive.Order.RUN:
                self._run(order.execution_id, order.epoch)
            elif order.kind == Directive.Order.KILL:
                self.running.pop(order.execution_id, None)

    def _run(self, name: str, epoch: int) -> None:
        if self.running.get(name) != epoch:
            self.running[name] = epoch
            self.started.append(name)


MakeIndex = Callable[[str, Matching], MatchIndex]


class Core:
    """One dispatcher. `step` does one round of everything."""

    def __init__(
        self,
        *,
        name: str,
        farm: FakeFarm,
        index: MatchIndex,
        rules: Rulebook,
        clock: ManualClock,
        orphan_after: float,
    ) -> None:
        self.name = name
        self.farm = farm
        self.wakes = 0
        self.index = index
        self.ledger = Ledger(wake=self._wake)
        self.roster = Roster(wake=self._wake)
        self.rules = rules
        self.keeper = Keeper(index=index, store=farm, rules=rules, clock=clock, on_adopt=self._start_over, interval=0.5)
        common: dict[str, Any] = {
            "index": index,
            "store": farm,
            "keeper": self.keeper,
            "ledger": self.ledger,
            "clock": clock,
        }
        self.feeder = Feeder(fed=self._wake, interval=1.0, pass_interval=30.0, **common)
        self.settler = Settler(interval=1.0, orphan_after=orphan_after, reconcile_interval=5.0, **common)
        self.matcher = Matcher(
            roster=self.roster, refill=self.feeder.refill, suspect=self.settler.suspect, poll=0.25, **common
        )
        self.words = Words(
            index=index,
            store=farm,
            keeper=self.keeper,
            roster=self.roster,
            rules=rules,
            clock=clock,
            silent_after=15.0,
        )
        self.conversations = Conversations(
            store=farm,
            roster=self.roster,
            ledger=self.ledger,
            rules=rules,
            beat_every_ms=5_000,
            lease_ms=15_000,
            park_patience=0.1,
        )

    async def step(self) -> None:
        await self.keeper.run_once()
        while await self.feeder.run_once() == 0:
            await idle()
        await self.match()
        await self.settler.run_once()
        await self.match()

    async def match(self) -> None:
        while await self.matcher.run_once() == 0:
            await idle()
        await idle()

    def crash(self) -> None:
        """Nothing that it had under way goes on."""
        for task in (*self.matcher._tasks, *self.conversations._heard):
            task.cancel()

    def _wake(self) -> None:
        self.wakes += 1

    def _start_over(self) -> None:
        self.feeder.start_over()
        self.matcher.look_at_all()


class Rig:
    """A farm with dispatchers, by default over the fake index."""

    def __init__(
        self,
        *,
        pools: Sequence[str] = (),
        limits: Sequence[str] = (),
        make_index: MakeIndex | None = None,
        orphan_after: float = ORPHAN_AFTER,
        patience: Patience | None = None,
    ) -> None:
        self.clock = ManualClock()
        self.server = FakeIndexServer(self.clock)
        self.farm = FakeFarm()
        self.matching = rules(pools, limits)
        self._make_index = make_index or self._fake_index
        self._orphan_after = orphan_after
        self._patience = patience

    def dispatcher(self, name: str = "d1", matching: Matching | None = None, *, rules: Rulebook | None = None) -> Core:
        fixed = matching or self.matching
        rules = rules or Rulebook(build=lambda _: (fixed, ""), clock=self.clock)
        index = self._make_index(name, rules.matching)
        index.use(rules.matching, rules.version)
        return Core(
            name=name,
            farm=self.farm,
            index=index,
            rules=rules,
            clock=self.clock,
            orphan_after=self._orphan_after,
        )

    def _fake_index(self, name: str, matching: Matching) -> MatchIndex:
        return FakeMatchIndex(self.server, dispatcher=name, matching=matching, patience=self._patience)


def rules(pools: Sequence[str] = (), limits: Sequence[str] = ()) -> Matching:
    return build_matching(pools, limits, lost_after_ms=120_000, lost_after_by_pool={})
