"""A match index in memory: a server that can be emptied, restarted and cut off, and clients of it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from easyq_chassis.clock import Clock, SystemClock
from easyq_chassis.errors import Unavailable
from easyq_dispatcher.domain.matching import Matching
from easyq_dispatcher.domain.records import Head, HeldExecution, Place, Seat, Taking
from easyq_dispatcher.ports import (
    Changes,
    Filling,
    LowTask,
    Question,
    StaleIndex,
    Survey,
    Takings,
    TaskHeads,
)

MOST_HEADS = 1_000
MOST_TAKINGS = 200
LOW_WATER = 250


@dataclass
class Count:
    """One execution that counts."""

    token: str
    epoch: int
    agent: str
    pool: str
    limits: tuple[int, ...]
    taken_at: float | None


@dataclass
class Space:
    """One filling."""

    run_id: str
    heads: dict[str, dict[str, Head]] = field(default_factory=dict)
    turns: dict[str, int] = field(default_factory=dict)
    truncated: dict[str, int] = field(default_factory=dict)
    held: dict[str, Count] = field(default_factory=dict)
    turn: int = 0
    tokens: int = 0


class FakeIndexServer:
    """What Redis is to the real index."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or SystemClock()
        self.away = False
        self.run_id = uuid.uuid4().hex
        self.state: tuple[int, str, str] | None = None
        self.rebuilder: tuple[str, float] | None = None
        self.spaces: dict[int, Space] = {}
        self.listeners: list[tuple[str, asyncio.Event]] = []

    def flush(self) -> None:
        self.state, self.rebuilder, self.spaces = None, None, {}

    def restart(self) -> None:
        """As with a file on disk: everything is there, under another run id."""
        self.run_id = uuid.uuid4().hex

    def wake(self, origin: str) -> None:
        for name, event in self.listeners:
            if name != origin:
                event.set()


class FakeMatchIndex:
    """`MatchIndex` on a FakeIndexServer."""

    def __init__(self, server: FakeIndexServer, *, dispatcher: str, matching: Matching) -> None:
        self._server = server
        self._me = dispatcher
        self._matching = matching

    # ------------------------------------------------------------------------------------------------- fillings
    async def look(self) -> Filling:
        self._reach()
        state, rebuilder = self._server.state, self._rebuilder()
        return Filling(
            generation=state[0] if state and state[1] == self._server.run_id else None,
            ours=bool(state) and state is not None and state[2] == self._matching.fingerprint,
            rebuilder="" if rebuilder in {None, self._me} else str(rebuilder),
            evicts=False,
        )

    async def claim_rebuild(self, seconds: float) -> bool:
        self._reach()
        if self._rebuilder() not in {None, self._me}:
            return False
        self._server.rebuilder = (self._me, self._server.clock.monotonic() + seconds)
        return True

    async def begin(self, generation: int) -> None:
        self._reach()
        if self._server.state and self._server.state[0] <= generation:
            self._server.state = None
        self._server.spaces[generation] = Space(run_id=self._server.run_id)

    async def load(self, generation: int, held: Sequence[HeldExecution]) -> None:
        self._reach()
        self._count_held(self._begun(generation), generation, held, taken_at=None)

    async def publish(self, generation: int) -> None:
        self._reach()
        self._begun(generation)
        self._server.state = (generation, self._server.run_id, self._matching.fingerprint)
        self._server.rebuilder = None
        self._server.wake(self._me)

    async def sweep(self, generation: int) -> None:
        self._reach()
        for old in [number for number in self._server.spaces if number < generation]:
            del self._server.spaces[old]

    # -------------------------------------------------------------------------------------------------- changes
    async def take(self, generation: int, seats: Sequence[Seat]) -> Takings:
        space = self._space(generation)
        rooms = [seat.slots - self._agent(space, seat.agent_id) for seat in seats]
        items: list[Taking] = []
        first = space.turn
        progress = True
        while progress and len(items) < MOST_TAKINGS:
            progress = False
            for index, seat in enumerate(seats):
                taking = self._take_one(space, generation, seat, first) if rooms[index] > 0 else None
                if taking and len(items) < MOST_TAKINGS:
                    items.append(taking)
                    rooms[index] -= 1
                    first += 1
                    progress = True
        low = [task for task in {item.head.task_id for item in items} if self._is_low(space, task)]
        return Takings(
            items=items,
            rooms=rooms,
            more=len(items) >= MOST_TAKINGS,
            low=[LowTask(task_id=task, version=str(space.truncated[task])) for task in low],
        )

    async def settle(self, generation: int, changes: Changes) -> Sequence[LowTask]:
        space = self._space(generation)
        for execution, token in changes.dropped:
            count = space.held.get(execution)
            if count and count.token == token:
                del space.held[execution]
        for item in changes.released:
            count = space.held.get(item.execution_id)
            if count and count.epoch < item.epoch:
                del space.held[item.execution_id]
        for execution, token in changes.confirmed:
            count = space.held.get(execution)
            if count and count.token == token:
                count.taken_at = None
        refused = {head.task_id for head in changes.ready if not self._push(space, head, window=False)}
        self._server.wake(self._me)
        return [
            LowTask(task_id=task, version=str(space.truncated[task])) for task in refused if self._is_low(space, task)
        ]

    async def refill(self, generation: int, tasks: Sequence[TaskHeads]) -> None:
        space = self._space(generation)
        for task in tasks:
            for head in task.heads:
                self._push(space, head, window=True)
            if not task.complete:
                space.truncated.setdefault(task.task_id, 1)
            elif str(space.truncated.get(task.task_id, "")) == task.version:
                space.truncated.pop(task.task_id, None)
        self._server.wake(self._me)

    async def adopt(self, generation: int, held: Sequence[HeldExecution]) -> None:
        self._count_held(self._space(generation), generation, held, taken_at=self._server.clock.monotonic())

    # -------------------------------------------------------------------------------------------------- reading
    async def places(self, generation: int) -> Sequence[Place]:
        return [self._place(name, count) for name, count in self._space(generation).held.items()]

    async def overdue(self, generation: int, older_than_ms: int) -> Sequence[Place]:
        before = self._server.clock.monotonic() - older_than_ms / 1000
        found = [
            (count.taken_at, self._place(name, count))
            for name, count in self._space(generation).held.items()
            if count.taken_at is not None and count.taken_at <= before
        ]
        return [place for _, place in sorted(found, key=lambda pair: pair[0])][:500]

    async def survey(self, generation: int, question: Question) -> Survey:
        space = self._space(generation)
        return Survey(
            running={p.name: self._pool(space, p.name) for p in self._matching.pools},
            ready={
                p.name: sum(
                    len(heads) for task, heads in space.heads.items() if self._matching.route(task).pool == p.name
                )
                for p in self._matching.pools
            },
            limits=[self._limit(space, number) for number in range(len(self._matching.limits))],
            agents={agent: self._agent(space, agent) for agent in question.agents},
            positions={
                execution: [head.execution_id for head in self._in_order(space, task)].index(execution) + 1
                for execution, task in question.positions
                if execution in space.heads.get(task, {})
            },
            tasks={
                task: (len(space.heads.get(task, {})), str(space.truncated.get(task, ""))) for task in question.tasks
            },
            low=[
                LowTask(task_id=task, version=str(version))
                for task, version in space.truncated.items()
                if question.low and self._is_low(space, task)
            ],
        )

    async def wakes(self) -> AsyncIterator[None]:
        self._reach()
        event = asyncio.Event()
        entry = (self._me, event)
        self._server.listeners.append(entry)
        try:
            while True:
                await event.wait()
                event.clear()
                yield
        finally:
            self._server.listeners.remove(entry)

    # ------------------------------------------------------------------------------------------------- the rest
    def _reach(self) -> None:
        if self._server.away:
            raise Unavailable("Redis: connection refused")

    def _rebuilder(self) -> str | None:
        claim = self._server.rebuilder
        return claim[0] if claim and claim[1] > self._server.clock.monotonic() else None

    def _begun(self, generation: int) -> Space:
        space = self._server.spaces.get(generation)
        if space is None or space.run_id != self._server.run_id:
            raise StaleIndex("not begun")
        return space

    def _space(self, generation: int) -> Space:
        self._reach()
        if self._server.state != (generation, self._server.run_id, self._matching.fingerprint):
            raise StaleIndex("does not hold")
        return self._server.spaces[generation]

    def _take_one(self, space: Space, generation: int, seat: Seat, first: int) -> Taking | None:
        for i in range(len(seat.pools)):
            pool = self._matching.pool_by_name.get(seat.pools[(first + i + 1) % len(seat.pools)])
            if pool is None or (pool.max_running and self._pool(space, pool.name) >= pool.max_running):
                continue
            tasks = [task for task in space.heads if self._matching.route(task).pool == pool.name]
            for task in sorted(tasks, key=space.turns.__getitem__):
                taking = self._take_of_task(space, generation, seat, task)
                if taking:
                    return taking
        return None

    def _take_of_task(self, space: Space, generation: int, seat: Seat, task: str) -> Taking | None:
        route = self._matching.route(task)
        if any(self._limit(space, n) >= self._matching.limits[n].max_running for n in route.limits):
            return None
        while space.heads.get(task):
            head = self._in_order(space, task)[0]
            del space.heads[task][head.execution_id]
            if not space.heads[task]:
                del space.heads[task]
            space.turn += 1
            space.turns[task] = space.turn
            if head.execution_id in space.held:
                continue
            token = self._count(
                space,
                generation,
                head.execution_id,
                Count(
                    token="",
                    epoch=head.epoch,
                    agent=seat.agent_id,
                    pool=route.pool,
                    limits=route.limits,
                    taken_at=self._server.clock.monotonic(),
                ),
            )
            return Taking(head=head, token=token, agent_id=seat.agent_id, session=seat.session, pool=route.pool)
        return None

    def _push(self, space: Space, head: Head, *, window: bool) -> bool:
        """False: refused, since the store has others that come before it."""
        if head.execution_id in space.held:
            return True
        heads = space.heads.get(head.task_id, {})
        known = heads.get(head.execution_id)
        if known:
            if head.epoch >= known.epoch:
                heads[head.execution_id] = head
            return True
        if (
            not window
            and head.task_id in space.truncated
            and (not heads or head.score > max(other.score for other in heads.values()))
        ):
            space.truncated[head.task_id] += 1
            return False
        if not heads:
            space.turn += 1
            space.turns[head.task_id] = space.turn
        space.heads.setdefault(head.task_id, heads)[head.execution_id] = head
        if len(heads) > MOST_HEADS:
            worst = max(heads.values(), key=lambda other: other.score)
            del heads[worst.execution_id]
            space.truncated[head.task_id] = space.truncated.get(head.task_id, 0) + 1
        return True

    def _count_held(self, space: Space, generation: int, held: Sequence[HeldExecution], taken_at: float | None) -> None:
        for item in held:
            if item.execution_id not in space.held:
                count = Count(
                    token="",
                    epoch=item.epoch - 1,
                    agent=item.agent_id,
                    pool=self._matching.counted_pool(item.pool, item.task_id),
                    limits=self._matching.route(item.task_id).limits,
                    taken_at=taken_at,
                )
                self._count(space, generation, item.execution_id, count)

    @staticmethod
    def _count(space: Space, generation: int, execution: str, count: Count) -> str:
        space.tokens += 1
        count.token = f"{generation}.{space.tokens}"
        space.held[execution] = count
        return count.token

    @staticmethod
    def _place(name: str, count: Count) -> Place:
        return Place(execution_id=name, token=count.token, agent_id=count.agent, confirmed=count.taken_at is None)

    @staticmethod
    def _in_order(space: Space, task: str) -> list[Head]:
        return sorted(space.heads.get(task, {}).values(), key=lambda head: head.score)

    @staticmethod
    def _is_low(space: Space, task: str) -> bool:
        return task in space.truncated and len(space.heads.get(task, {})) < LOW_WATER

    @staticmethod
    def _pool(space: Space, pool: str) -> int:
        return sum(count.pool == pool for count in space.held.values())

    @staticmethod
    def _limit(space: Space, number: int) -> int:
        return sum(number in count.limits for count in space.held.values())

    @staticmethod
    def _agent(space: Space, agent: str) -> int:
        return sum(count.agent == agent for count in space.held.values())
