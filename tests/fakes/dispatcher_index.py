"""A match index in memory: a server that can be emptied, restarted and cut off, and clients of it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field, replace

from easyq_chassis.clock import Clock, SystemClock
from easyq_chassis.errors import Unavailable
from easyq_dispatcher.domain import needs as room
from easyq_dispatcher.domain.breakers import (
    Breaker,
    Kind,
    Omen,
    Patience,
    Phase,
    Sign,
    after_failure,
    after_success,
    is_over,
)
from easyq_dispatcher.domain.matching import Matching
from easyq_dispatcher.domain.needs import NOTHING, UNKNOWN, Needs, Offer
from easyq_dispatcher.domain.records import Head, HeldExecution, Place, Seat, Taking
from easyq_dispatcher.ports import (
    Changes,
    Filling,
    LowTask,
    Question,
    StaleIndex,
    Survey,
    Takings,
    TaskCount,
    TaskHeads,
    Waiter,
)

MOST_HEADS = 1_000
MOST_TAKINGS = 32
LOW_WATER = 150


@dataclass
class Count:
    """One execution that counts."""

    token: str
    epoch: int
    agent: str
    pool: str
    limits: tuple[int, ...]
    taken_at: float | None
    needs: Needs = NOTHING
    image: str = ""


Lane = tuple[str, Needs]


@dataclass
class Space:
    """One filling."""

    run_id: str
    heads: dict[str, dict[str, Head]] = field(default_factory=dict)
    turns: dict[Lane, int] = field(default_factory=dict)
    bursts: dict[Lane, int] = field(default_factory=dict)
    waits: dict[tuple[str, Needs], int] = field(default_factory=dict)
    reserved: dict[tuple[str, Needs], str] = field(default_factory=dict)
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
        self.version = 0
        self.used_until = float("-inf")
        self.breakers: dict[tuple[Kind, str], Breaker] = {}
        self.rebuilder: tuple[str, float] | None = None
        self.spaces: dict[int, Space] = {}
        self.listeners: list[tuple[str, asyncio.Event]] = []

    def flush(self) -> None:
        self.state, self.rebuilder, self.spaces, self.breakers = None, None, {}, {}
        self.used_until = float("-inf")

    def restart(self) -> None:
        """As with a file on disk: everything is there, under another run id."""
        self.run_id = uuid.uuid4().hex

    def wake(self, origin: str) -> None:
        for name, event in self.listeners:
            if name != origin:
                event.set()


class FakeMatchIndex:
    """`MatchIndex` on a FakeIndexServer."""

    def __init__(
        self,
        server: FakeIndexServer,
        *,
        dispatcher: str,
        matching: Matching,
        version: int = 0,
        reserve_after: float = 30.0,
        patience: Patience | None = None,
    ) -> None:
        self._server = server
        self._me = dispatcher
        self._matching, self._version = matching, version
        self._reserve_ms = int(reserve_after * 1000)
        self._patience = patience or Patience()

    def use(self, matching: Matching, version: int) -> None:
        self._matching, self._version = matching, version

    # ------------------------------------------------------------------------------------------------- fillings
    async def look(self) -> Filling:
        self._reach()
        state, rebuilder = self._server.state, self._rebuilder()
        now = self._server.clock.monotonic()
        if state and state[2] == self._matching.fingerprint:
            self._server.used_until = now + 10
        return Filling(
            generation=state[0] if state and state[1] == self._server.run_id else None,
            ours=bool(state) and state is not None and state[2] == self._matching.fingerprint,
            rebuilder="" if rebuilder in {None, self._me} else str(rebuilder),
            evicts=False,
            version=self._server.version if state else 0,
            in_use=now < self._server.used_until,
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
        self._server.version = self._version
        self._server.used_until = self._server.clock.monotonic() + 10
        self._server.rebuilder = None
        self._server.wake(self._me)

    async def sweep(self, generation: int) -> None:
        self._reach()
        for old in [number for number in self._server.spaces if number < generation]:
            del self._server.spaces[old]

    # -------------------------------------------------------------------------------------------------- changes
    async def take(self, generation: int, seats: Sequence[Seat]) -> Takings:
        space = self._space(generation)
        troubled = bool(self._server.breakers)
        rooms = [self._room(space, seat) for seat in seats]
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
                    self._try(Kind.HOST, seat.agent_id, taking.head.execution_id)
                    self._try(Kind.IMAGE, taking.head.image, taking.head.execution_id)
                    first += 1
                    progress = True
        low = [task for task in {item.head.task_id for item in items} if self._is_low(space, task)]
        return Takings(
            items=items,
            rooms=rooms,
            more=len(items) >= MOST_TAKINGS,
            low=[self._low_task(space, task) for task in low],
            troubled=troubled,
        )

    async def settle(self, generation: int, changes: Changes) -> Sequence[LowTask]:
        space = self._space(generation)
        for omen in changes.omens:
            self._heed(space, omen)
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
        for gone in changes.gone:
            heads = space.heads.get(gone.task_id, {})
            if gone.execution_id in heads and heads[gone.execution_id].epoch == gone.epoch:
                del heads[gone.execution_id]
        refused = {head.task_id for head in changes.ready if not self._push(space, head, window=False)}
        if changes.repair:
            self._close_quiet(space)
        self._server.wake(self._me)
        return [self._low_task(space, task) for task in refused if self._is_low(space, task)]

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
            used={agent: self._used(space, agent) for agent in question.agents},
            positions={
                execution: self._waiter(space, task, execution)
                for execution, task in question.positions
                if execution in space.heads.get(task, {})
            },
            tasks={
                task: TaskCount(
                    heads=len(space.heads.get(task, {})) - self._aside(space, task),
                    aside=self._aside(space, task),
                    version=str(space.truncated.get(task, "")),
                )
                for task in question.tasks
            },
            low=[self._low_task(space, task) for task in space.truncated if question.low and self._is_low(space, task)],
            fronts={pool: found for pool in question.fronts if (found := self._front(space, pool))},
            breakers=list(self._server.breakers.values()) if question.breakers else [],
            heads={
                task: {name: head.epoch for name, head in space.heads.get(task, {}).items()} for task in question.heads
            },
        )

    async def tasks(self, generation: int) -> Sequence[str]:
        self._reach()
        space = self._server.spaces.get(generation)
        return [] if space is None else list(space.heads)

    async def reset_breaker(self, kind: Kind, subject: str) -> None:
        self._reach()
        self._server.breakers.pop((kind, subject), None)
        self._server.wake(self._me)

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

    # --------------------------------------------------------------------------------------------- takes and room
    def _take_one(self, space: Space, generation: int, seat: Seat, first: int) -> Taking | None:
        kept = next((key for key, agent in space.reserved.items() if agent == seat.agent_id), None)
        if kept and not self._takeable(space, kept[0], kept[1]):
            del space.reserved[kept]
            kept = None
        for i in range(len(seat.pools)):
            pool = self._matching.pool_by_name.get(seat.pools[(first + i + 1) % len(seat.pools)])
            if pool is None or (pool.max_running and self._pool(space, pool.name) >= pool.max_running):
                continue
            lane = self._choose(space, pool.name, seat, kept)
            if lane:
                return self._take_of_lane(space, generation, seat, lane)
        return None

    def _choose(self, space: Space, pool: str, seat: Seat, kept: tuple[str, Needs] | None) -> Lane | None:
        now, used = self._now_ms(), self._used(space, seat.agent_id)
        passed: list[Needs] = []
        for lane in self._takeable(space, pool):
            needs = lane[1]
            if kept and (needs != kept[1] if kept[0] == pool else needs != NOTHING):
                continue
            if not room.suits(seat.offer, seat.labels, needs):
                continue
            if room.has_room(seat.offer, used, needs):
                break
            passed.append(needs)
        else:
            lane = None
        for needs in passed:
            since = space.waits.setdefault((pool, needs), now)
            if not kept and now - since >= self._reserve_ms and (pool, needs) not in space.reserved:
                space.reserved[pool, needs] = seat.agent_id
                return None
        return lane

    def _takeable(self, space: Space, pool: str, needs: Needs | None = None) -> list[Lane]:
        """Lanes of a pool that have something to take, by turn."""
        lanes = {
            (task, head.needs)
            for task, heads in space.heads.items()
            if self._matching.route(task).pool == pool and not self._full(space, task)
            for head in heads.values()
            if not self._set_aside(space, head) and needs in {None, head.needs}
        }
        return sorted(lanes, key=lambda lane: space.turns[lane])

    def _full(self, space: Space, task: str) -> bool:
        limits = self._matching.route(task).limits
        return any(self._limit(space, n) >= self._matching.limits[n].max_running for n in limits)

    def _take_of_lane(self, space: Space, generation: int, seat: Seat, lane: Lane) -> Taking | None:
        task, needs = lane
        route = self._matching.route(task)
        heads = [h for h in self._in_order(space, task) if h.needs == needs and not self._set_aside(space, h)]
        head = heads[0]
        del space.heads[task][head.execution_id]
        if not space.heads[task]:
            del space.heads[task]
        self._next_turn(space, lane, route.weight, last=len(heads) == 1)
        for known in (space.waits, space.reserved):
            known.pop((route.pool, needs), None)
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
                needs=needs,
                image=head.image,
            ),
        )
        return Taking(head=head, token=token, agent_id=seat.agent_id, session=seat.session, pool=route.pool)

    @staticmethod
    def _next_turn(space: Space, lane: Lane, weight: int, *, last: bool) -> None:
        space.bursts[lane] = space.bursts.get(lane, 0) + 1
        if last or space.bursts[lane] >= weight:
            space.turn += 1
            space.turns[lane] = space.turn
            del space.bursts[lane]

    def _used(self, space: Space, agent: str) -> Offer:
        used = UNKNOWN
        for count in space.held.values():
            if count.agent == agent:
                used = room.added(used, count.needs)
        return used

    # ------------------------------------------------------------------------------------- what breakers let through
    def _now_ms(self) -> int:
        return self._server.clock.now_ms()

    def _heed(self, space: Space, omen: Omen) -> None:
        count = space.held.get(omen.execution_id)
        if count is None or count.epoch >= omen.epoch:
            return
        host, image = (Kind.HOST, count.agent), (Kind.IMAGE, count.image)
        breakers = self._server.breakers
        if omen.sign is Sign.WORKED:
            for key in (host, image):
                if key in breakers and after_success(breakers[key], omen.execution_id) is None:
                    del breakers[key]
            return
        key = host if omen.sign is Sign.HOST else image
        if key[1]:
            breaker = breakers.get(key) or Breaker(kind=key[0], subject=key[1])
            breakers[key] = after_failure(breaker, omen, self._patience, self._now_ms())

    def _gate(self, space: Space, kind: Kind, subject: str) -> Phase:
        """OPEN also while a probe is under way."""
        breaker = self._server.breakers.get((kind, subject))
        if breaker is None:
            return Phase.CLOSED
        return Phase.OPEN if self._is_tried(space, breaker) else breaker.phase(self._now_ms())

    @staticmethod
    def _is_tried(space: Space, breaker: Breaker) -> bool:
        probing = space.held.get(breaker.probe)
        return probing is not None and (breaker.kind is Kind.IMAGE or probing.agent == breaker.subject)

    def _close_quiet(self, space: Space) -> None:
        for key, breaker in list(self._server.breakers.items()):
            if is_over(breaker, self._patience, self._now_ms()) and not self._is_tried(space, breaker):
                del self._server.breakers[key]

    def _set_aside(self, space: Space, head: Head) -> bool:
        return self._gate(space, Kind.IMAGE, head.image) is Phase.OPEN

    def _aside(self, space: Space, task: str) -> int:
        return sum(self._set_aside(space, head) for head in space.heads.get(task, {}).values())

    def _room(self, space: Space, seat: Seat) -> int:
        free = seat.slots - self._agent(space, seat.agent_id)
        match self._gate(space, Kind.HOST, seat.agent_id):
            case Phase.OPEN:
                return 0
            case Phase.HALF_OPEN:
                return min(free, 1)
        return free

    def _try(self, kind: Kind, subject: str, execution: str) -> None:
        breaker = self._server.breakers.get((kind, subject))
        if breaker and breaker.phase(self._now_ms()) is Phase.HALF_OPEN:
            self._server.breakers[kind, subject] = replace(breaker, probe=execution)

    def _waiter(self, space: Space, task: str, execution: str) -> Waiter:
        head = space.heads[task][execution]
        return Waiter(
            position=[other.execution_id for other in self._in_order(space, task)].index(execution) + 1,
            needs=head.needs,
            image=head.image,
            no_room_since_ms=space.waits.get((self._matching.route(task).pool, head.needs)),
        )

    def _front(self, space: Space, pool: str) -> tuple[str, str] | None:
        lanes = [
            (space.turns[task, head.needs], head.score, head.execution_id, task)
            for task, heads in space.heads.items()
            if self._matching.route(task).pool == pool
            for head in heads.values()
        ]
        takeable = self._takeable(space, pool)
        if takeable:
            task, needs = takeable[0]
            head = next(h for h in self._in_order(space, task) if h.needs == needs and not self._set_aside(space, h))
            return head.execution_id, task
        return min(lanes)[2:] if lanes else None

    def _push(self, space: Space, head: Head, *, window: bool) -> bool:
        """False: refused, since the store has others that come before it."""
        if head.execution_id in space.held:
            return True
        heads = space.heads.get(head.task_id, {})
        known = heads.get(head.execution_id)
        if known and head.epoch < known.epoch:
            return True
        if known:
            heads[head.execution_id] = head
            self._line_up(space, head, [other for other in heads.values() if other is not head])
            return True
        if (
            not window
            and head.task_id in space.truncated
            and (not heads or head.score > max(other.score for other in heads.values()))
        ):
            space.truncated[head.task_id] += 1
            return False
        self._line_up(space, head, heads.values())
        space.heads.setdefault(head.task_id, heads)[head.execution_id] = head
        in_line = [other for other in heads.values() if not self._set_aside(space, other)]
        if len(in_line) > MOST_HEADS:
            worst = max(in_line, key=lambda other: other.score)
            del heads[worst.execution_id]
            space.truncated[head.task_id] = space.truncated.get(head.task_id, 0) + 1
        return True

    @staticmethod
    def _line_up(space: Space, head: Head, others: Iterable[Head]) -> None:
        if all(other.needs != head.needs for other in others):
            space.turn += 1
            space.turns[head.task_id, head.needs] = space.turn

    def _count_held(self, space: Space, generation: int, held: Sequence[HeldExecution], taken_at: float | None) -> None:
        for item in held:
            if item.execution_id not in space.held:
                self._forget(space, item)
                count = Count(
                    token="",
                    epoch=item.epoch - 1,
                    agent=item.agent_id,
                    pool=self._matching.counted_pool(item.pool, item.task_id),
                    limits=self._matching.route(item.task_id).limits,
                    taken_at=taken_at,
                    needs=item.needs,
                )
                self._count(space, generation, item.execution_id, count)

    @staticmethod
    def _forget(space: Space, item: HeldExecution) -> None:
        heads = space.heads.get(item.task_id, {})
        heads.pop(item.execution_id, None)
        if not heads:
            space.heads.pop(item.task_id, None)

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

    def _low_task(self, space: Space, task: str) -> LowTask:
        return LowTask(task_id=task, version=str(space.truncated[task]), aside=self._aside(space, task))

    def _is_low(self, space: Space, task: str) -> bool:
        count = len(space.heads.get(task, {})) - self._aside(space, task)
        return task in space.truncated and count < LOW_WATER

    @staticmethod
    def _pool(space: Space, pool: str) -> int:
        return sum(count.pool == pool for count in space.held.values())

    @staticmethod
    def _limit(space: Space, number: int) -> int:
        return sum(number in count.limits for count in space.held.values())

    @staticmethod
    def _agent(space: Space, agent: str) -> int:
        return sum(count.agent == agent for count in space.held.values())
