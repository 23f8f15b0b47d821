"""Ready heads from the store into the index: the guarantee behind every wake-up (DESIGN part 5, step 2)."""

from __future__ import annotations

import asyncio
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence

from easyq_chassis.clock import Clock
from easyq_chassis.outages import OUTAGES
from easyq_dispatcher.domain.records import Head
from easyq_dispatcher.ports import (
    Changes,
    FarmStore,
    Gone,
    LowTask,
    MatchIndex,
    Question,
    StaleIndex,
    TaskHeads,
)
from easyq_dispatcher.usecases.keeper import Keeper
from easyq_dispatcher.usecases.ledger import Ledger

# Several times what an index calls low, and few enough that reading them holds up nobody for long: a task that is
# worked off as fast as it can be is read several times a second.
HEADS_A_TASK = 500
# As many as the store gives at once: heads that are set aside must not hide those behind them.
_MOST_READ = 5_000
_PAGE = 2_000
_AT_ONCE = 500
_READERS = 8
# Places in line are given out before their executions are committed, so the cursor goes back this many seconds.
_OVERLAP = 2.0
# Tasks that have heads already are read again only in part of the passes, so that a pass reads about this many.
_REREAD_A_PASS = 200
_BEYOND_ALL = (1 << 45) - 1


class Feeder:
    """Three ways by which heads come in.

    A cursor over the places in line every `interval` seconds; refills of tasks that run low; and a pass over all tasks
    every `pass_interval` seconds and whenever the index is another one. `fed` is called after heads came in.
    """

    def __init__(
        self,
        *,
        index: MatchIndex,
        store: FarmStore,
        keeper: Keeper,
        ledger: Ledger,
        clock: Clock,
        fed: Callable[[], None],
        interval: float,
        pass_interval: float,
    ) -> None:
        self._index = index
        self._store = store
        self._keeper = keeper
        self._ledger = ledger
        self._clock = clock
        self._fed = fed
        self._interval = interval
        self._pass_interval = pass_interval
        self._low: dict[str, LowTask] = {}
        self._marks: deque[tuple[float, int]] = deque()
        self._next_pass = 0.0
        self._next_cursor = 0.0
        # A pass over all tasks has ended since the index is this one.
        self._primed = False
        self._pass_after: str | None = None
        self._passes, self._parts = 0, 1
        # Tasks that the store has named in this pass.
        self._seen: set[str] = set()
        self.wake: Callable[[], None] = lambda: None

    def refill(self, tasks: Sequence[LowTask]) -> None:
        """These run low: read them now."""
        if tasks:
            self._low.update((task.task_id, task) for task in tasks)
            self.wake()

    def start_over(self) -> None:
        """The index is another one: whatever was fed before is gone."""
        self._marks.clear()
        self._pass_after = None
        self._next_pass = 0.0
        self._primed = False
        self._ledger.divert_heads(self._read_soon)
        self.wake()

    async def run_once(self) -> float | None:
        """Does what is due. Returns the seconds until the next."""
        generation = self._keeper.generation
        if generation is None:
            return self._interval
        try:
            await self._feed(generation)
        except StaleIndex:
            self._keeper.doubt("Redis was emptied, or another dispatcher fills it")
        except OUTAGES:
            # No growing back-off: what is ready waits for this.
            return self._interval
        if self._pass_after is not None:
            return 0
        return max(0.0, min(self._next_cursor, self._next_pass) - self._clock.monotonic())

    async def _feed(self, generation: int) -> None:
        await self._refill_low(generation)
        now = self._clock.monotonic()
        if now >= self._next_cursor:
            self._next_cursor = now + self._interval
            await self._follow_cursor(generation)
            survey = await self._index.survey(generation, Question(low=True))
            self._low.update((task.task_id, task) for task in survey.low)
            await self._refill_low(generation)
        if now >= self._next_pass or (self._ledger.lost_heads and self._pass_after is None):
            self._ledger.lost_heads = False
            self._next_pass = now + self._pass_interval
            await self._begin_pass(generation)
        if self._pass_after is not None:
            self._pass_after = await self._go_on_with_pass(generation, self._pass_after)
            if self._pass_after is None and not self._primed:
                self._primed = True
                self._ledger.let_heads_in()

    async def _refill_low(self, generation: int) -> None:
        low, self._low = self._low, {}
        await self._read(generation, low.values())

    async def _follow_cursor(self, generation: int) -> None:
        now = self._clock.monotonic()
        if not self._marks:
            # What lies below is found by the pass over all tasks that follows.
            _, last = await self._store.list_queued(_BEYOND_ALL, 1)
            self._marks.append((now, last))
            return
        while len(self._marks) > 1 and self._marks[1][0] <= now - _OVERLAP:
            self._marks.popleft()
        after = self._marks[0][1]
        while True:
            heads, last = await self._store.list_queued(after, _PAGE)
            await self._take_in(generation, heads)
            if heads:
                self._fed()
            if len(heads) < _PAGE:
                break
            after = heads[-1].queue_seq
        self._marks.append((now, last))

    async def _take_in(self, generation: int, heads: Sequence[Head]) -> None:
        if not self._primed:
            self._read_soon(head.task_id for head in heads)
            return
        for start in range(0, len(heads), _AT_ONCE):
            low = await self._index.settle(generation, Changes(ready=heads[start : start + _AT_ONCE]))
            self._low.update((task.task_id, task) for task in low)

    def _read_soon(self, tasks: Iterable[str]) -> None:
        """Reads the first heads of these tasks, in their order, instead of taking single ones in."""
        for task in tasks:
            self._low.setdefault(task, LowTask(task_id=task, version=""))
        self.wake()

    async def _begin_pass(self, generation: int) -> None:
        await self._index.settle(generation, Changes(repair=True))
        self._parts = max(1, -(-len(self._seen) // _REREAD_A_PASS))
        self._passes, self._seen = self._passes + 1, set()
        self._pass_after = ""

    async def _go_on_with_pass(self, generation: int, after: str) -> str | None:
        """Reads tasks without heads, and a part of the others, so that a head that was lost is found in the end, and
        one that waits no more is not counted for ever.

        One page of tasks a round, since cursor and refills must not wait for a long pass. Returns the task after which
        to go on; None at the end.
        """
        names = await self._store.list_queued_tasks(after, _AT_ONCE)
        known = (await self._index.survey(generation, Question(tasks=names))).tasks
        due = [
            LowTask(task_id=name, version=count.version, aside=count.aside)
            for name, count in known.items()
            if not count.heads or zlib.crc32(name.encode()) % self._parts == self._passes % self._parts
        ]
        self._seen.update(names)
        await self._read(generation, due, whole=True)
        if len(names) == _AT_ONCE:
            return names[-1]
        # Of these nothing waits any more, as far as the store knows.
        left = [LowTask(task_id=name, version="") for name in await self._index.tasks(generation)]
        await self._read(generation, [task for task in left if task.task_id not in self._seen], whole=True)
        return None

    async def _read(self, generation: int, tasks: Iterable[LowTask], *, whole: bool = False) -> None:
        """Reads the first heads of tasks, several at a time, and takes them in. `whole`: takes out, too, what waits no
        more: whatever it was that ended that, nobody tells the index."""
        waiting = list(tasks)
        while waiting:
            group, waiting = waiting[:_READERS], waiting[_READERS:]
            # Before the store is asked: what comes in meanwhile is none of what it misses there.
            known = await self._known(generation, group) if whole else {}
            pages = await asyncio.gather(*map(self._page, group))
            await self._index.refill(generation, pages)
            gone = [head for page in pages for head in _gone(page, known.get(page.task_id, {}))]
            for start in range(0, len(gone), _AT_ONCE):
                await self._index.settle(generation, Changes(gone=gone[start : start + _AT_ONCE]))
            self._fed()

    async def _known(self, generation: int, tasks: Sequence[LowTask]) -> Mapping[str, Mapping[str, int]]:
        question = Question(heads=[task.task_id for task in tasks])
        return (await self._index.survey(generation, question)).heads

    async def _page(self, task: LowTask) -> TaskHeads:
        count = min(HEADS_A_TASK + task.aside, _MOST_READ)
        heads = await self._store.list_task_queue(task.task_id, count)
        return TaskHeads(task_id=task.task_id, heads=heads, complete=len(heads) < count, version=task.version)


def _gone(page: TaskHeads, known: Mapping[str, int]) -> list[Gone]:
    """What the index had before the page was read, and the store has not. Where the store has more than the page, that
    can't be told."""
    if not page.complete:
        return []
    there = {head.execution_id for head in page.heads}
    return [
        Gone(execution_id=name, task_id=page.task_id, epoch=epoch) for name, epoch in known.items() if name not in there
    ]
