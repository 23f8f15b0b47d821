"""Matching: the index takes, the store assigns, the agents run (DESIGN part 5, steps 7 to 10)."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta

from easyq_chassis import faults
from easyq_chassis.clock import Clock
from easyq_chassis.errors import Aborted, EasyQError
from easyq_chassis.logs import get_logger
from easyq_chassis.outages import OUTAGES
from easyq_chassis.tracing.context import parse
from easyq_chassis.tracing.tracer import OFF, Tracer, Value
from easyq_dispatcher.domain.assigning import Step, consequence
from easyq_dispatcher.domain.records import Taking
from easyq_dispatcher.ports import Assigned, FarmStore, LowTask, MatchIndex, StaleIndex
from easyq_dispatcher.usecases.keeper import Keeper
from easyq_dispatcher.usecases.ledger import Ledger
from easyq_dispatcher.usecases.roster import Roster
from easyq_internal.store.v1.records_pb2 import Assignment

log = get_logger()

# Assigns under way at once: what is on its way to the store, and as much to follow. Beyond this the store is the
# bottleneck: whatever is taken would only wait for it, and what becomes ready meanwhile behind that.
MOST_UNDER_WAY = 64


class Matcher:
    """One round tells the index what is new, takes for the agents that have room, and sends off the assigns.

    Rounds do not wait for assigns: the takes already count. `refill` is told of tasks that run low, `suspect` of takes
    whose assign got no answer. `poll`: seconds after which every agent is looked at again, whatever was heard.
    """

    def __init__(
        self,
        *,
        index: MatchIndex,
        store: FarmStore,
        keeper: Keeper,
        ledger: Ledger,
        roster: Roster,
        clock: Clock,
        refill: Callable[[Sequence[LowTask]], None],
        suspect: Callable[[Iterable[Taking]], None],
        poll: float,
        tracer: Tracer = OFF,
    ) -> None:
        self._index = index
        self._store = store
        self._keeper = keeper
        self._ledger = ledger
        self._roster = roster
        self._clock = clock
        self._refill = refill
        self._suspect = suspect
        self._poll = poll
        self._tracer = tracer
        self._looked_at_all = clock.monotonic()
        self._tasks: set[asyncio.Task[None]] = set()
        self._under_way = 0
        self.wake: Callable[[], None] = lambda: None

    def look_at_all(self) -> None:
        """Somebody else made work or freed places: any agent may have room now."""
        self._roster.assume_room()
        self.wake()

    async def run_once(self) -> float | None:
        """One round. Returns 0 if another may find more."""
        generation = self._keeper.generation
        if generation is None:
            return None
        if self._clock.monotonic() - self._looked_at_all >= self._poll:
            self._looked_at_all = self._clock.monotonic()
            self._roster.assume_room()
        try:
            await self._tell(generation)
            more = await self._take(generation)
        except StaleIndex:
            self._keeper.doubt("Redis was emptied, or another dispatcher fills it")
            return None
        except EasyQError as error:
            self._keeper.doubt(error.message, away=isinstance(error, OUTAGES))
            return None
        return 0 if more or self._ledger else None

    async def drain(self, seconds: float) -> None:
        """Waits for the assigns under way, at most so long, and tells the index what came of them, if it can.

        What it can't is found by other dispatchers, as after a crash.
        """
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        for task in self._tasks:
            task.cancel()
        if self._keeper.generation is not None and self._ledger:
            try:
                await self._tell(self._keeper.generation)
            except EasyQError as error:
                log.warning("left_untold", error=error.message)

    async def _tell(self, generation: int) -> None:
        changes = self._ledger.take()
        if not changes:
            return
        try:
            low = await self._index.settle(generation, changes)
        except BaseException:
            self._ledger.put_back(changes)
            raise
        self._refill(low)

    async def _take(self, generation: int) -> bool:
        seats = self._roster.seats()
        if not seats or self._under_way >= MOST_UNDER_WAY:
            return False
        takings = await self._index.take(generation, seats)
        self._roster.set_rooms(seats, takings.rooms)
        self._refill(takings.low)
        self._ledger.troubled = takings.troubled
        if takings.items:
            self._count(takings.items, +1)
            task = asyncio.create_task(self._assign(generation, takings.items), name="assign")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return takings.more

    async def _assign(self, generation: int, takings: Sequence[Taking]) -> None:
        try:
            await faults.point("dispatcher.after_take")
            asked_at, began = self._clock.monotonic(), time.time_ns()
            answers = await self._store.assign(generation, takings)
            await faults.point("dispatcher.after_assign")
            runs = self._follow_up(answers)
            await faults.point("dispatcher.before_run")
            for (agent_id, session), items in runs.items():
                # An agent that has gone meanwhile gets them as directives of its next hello.
                if link := self._roster.get(agent_id, session):
                    link.outbox.runs([_aged(item, self._clock.monotonic() - asked_at) for item in items])
                    self._trace(agent_id, items, began)
        finally:
            self._count(takings, -1)

    def _trace(self, agent_id: str, items: Sequence[Assignment], began: int) -> None:
        """From the take to its way to the agent."""
        if not self._tracer.enabled:
            return
        ended = time.time_ns()
        for item in items:
            attributes: dict[str, Value] = {
                "easyq.execution": item.execution_id,
                "easyq.agent": agent_id,
                "easyq.epoch": item.epoch,
            }
            self._tracer.write_child("assign", parse(item.trace), began=began, ended=ended, attributes=attributes)

    def _count(self, takings: Sequence[Taking], sign: int) -> None:
        self._under_way += sign * len(takings)
        for taking in takings:
            if link := self._roster.get(taking.agent_id, taking.session):
                link.count_assigns(sign)
        if sign < 0 and self._under_way + len(takings) >= MOST_UNDER_WAY:
            self.wake()

    def _follow_up(self, answers: Sequence[Assigned]) -> dict[tuple[str, int], list[Assignment]]:
        """Does what follows each answer; returns what is to be run, by agent and session."""
        runs: dict[tuple[str, int], list[Assignment]] = defaultdict(list)
        held: list[Taking] = []
        for answer in answers:
            taking = answer.taking
            after = consequence(taking, answer.verdict, answer.ready)
            match after.step:
                case Step.RUN:
                    held.append(taking)
                    if answer.assignment is not None:
                        runs[taking.agent_id, taking.session].append(answer.assignment)
                case Step.DROP | Step.REQUEUE | Step.REQUEUE_AND_CLOSE | Step.REQUEUE_AND_CORDON:
                    self._ledger.dropped([taking])
                    self._ledger.ready([after.head] if after.head else [])
                    if after.step is Step.REQUEUE_AND_CLOSE:
                        self._close(taking)
                    if after.step is Step.REQUEUE_AND_CORDON:
                        self._roster.cordon(taking.agent_id, taking.session)
                case Step.DOUBT:
                    self._keeper.doubt("the generation in the store moved on")
                case Step.FENCE:
                    self._suspect([taking])
            if after.step is not Step.RUN:
                log.info(
                    "assign_refused",
                    execution=taking.head.execution_id,
                    task=taking.head.task_id,
                    agent=taking.agent_id,
                    verdict=answer.verdict.value,
                )
        self._ledger.confirmed(held)
        return runs

    def _close(self, taking: Taking) -> None:
        if link := self._roster.get(taking.agent_id, taking.session):
            link.outbox.close(Aborted("the session is not the agent's newest, or has ended: say hello again"))


def _aged(assignment: Assignment, seconds: float) -> Assignment:
    """The assignment with what is left of its time to start, so long after the store was asked for it."""
    if not assignment.HasField("start_within"):
        return assignment
    aged = Assignment()
    aged.CopyFrom(assignment)
    left = assignment.start_within.ToTimedelta() - timedelta(seconds=seconds)
    aged.start_within.FromTimedelta(max(left, timedelta()))
    return aged
