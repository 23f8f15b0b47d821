"""All executions of one host: takes orders, adopts, gives the inventory."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Coroutine, Sequence
from typing import Any

from easyq_chassis.logs import get_logger
from easyq_runner.domain import starting
from easyq_runner.domain.adoption import Adoption, adopt
from easyq_runner.domain.journal import ExecutionRecord, JournalState
from easyq_runner.domain.labels import terms_of
from easyq_runner.domain.outcome import Snapshot, classify
from easyq_runner.domain.records import (
    Assignment,
    ExecutionKey,
    FailureReason,
    Held,
    Order,
    OrderKind,
    Phase,
    Terms,
    Upkeep,
    Word,
)
from easyq_runner.domain.starting import Obstacle
from easyq_runner.ports import Health
from easyq_runner.usecases.execution import Execution
from easyq_runner.usecases.tools import Tools
from easyq_runner.usecases.waiting import Changes

# Executions of which is remembered that they were settled here: orders that were under way then may still come.
_REMEMBERED = 10_000


class Agent:
    """The executions that this agent holds.

    Until the containers of the host were looked at once (`surveyed`), what the journal knows stands for them.
    """

    def __init__(self, tools: Tools, journal: JournalState, *, engine_url: str) -> None:
        self._tools = tools
        self._records: dict[ExecutionKey, ExecutionRecord] = dict(journal.executions)
        self._engine_url = engine_url
        self._executions: dict[ExecutionKey, Execution] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        # What was settled here; whether the farm may know of no end of it.
        self._settled: OrderedDict[ExecutionKey, bool] = OrderedDict()
        self._leaving = False
        self._lost = False
        self._upkeep = Upkeep()
        # By CLOCK_BOOTTIME: when a drain's patience ends.
        self._drain_until: float | None = None
        self._log = get_logger()
        self.surveyed = asyncio.Event()
        # An execution was settled.
        self.changes = Changes()
        # An operator's wish has changed.
        self.upkeep_changes = Changes()

    # What others ask ----------------------------------------------------------------------------------------------
    def inventory(self) -> tuple[Held, ...]:
        """All that this host holds."""
        known = [execution.held for execution in self._executions.values()]
        if not self.surveyed.is_set():
            known += [
                Held(key=key, phase=Phase.EXITED if record.finish else Phase.RUNNING)
                for key, record in self._records.items()
                if not record.settled and key not in self._executions
            ]
        return tuple(known)

    def health(self) -> Health:
        """Whether the host takes new executions."""
        if self._leaving:
            return Health(healthy=False, message="the agent is stopping")
        if self._upkeep.draining:
            return Health(healthy=False, message="draining")
        problem = self._unfit()
        if problem:
            since = self._tools.daemon.away_since
            lasts = 0.0 if since is None else max(0.0, self._tools.clock.boot() - since)
            return Health(healthy=False, message=problem, unhealthy_for=lasts)
        # The farm itself keeps work from what is cordoned.
        return Health(healthy=True, message="cordoned" if self._upkeep.cordoned else "")

    @property
    def draining(self) -> bool:
        """Whether an operator wants it to end once it is empty."""
        return self._upkeep.draining

    @property
    def empty(self) -> bool:
        """Whether nothing is held here, and nothing may be found yet."""
        return self.surveyed.is_set() and not self._executions

    def _unfit(self) -> str:
        if not self._tools.daemon.answering:
            said = self._tools.daemon.problem
            text = f"Docker Engine at {self._engine_url} does not answer: start it, or check its address ({said})"
            return self._tools.redactor.show("", text)
        return self._tools.host.problem

    @property
    def _refuses(self) -> bool:
        return self._leaving or self._upkeep.draining

    # Orders -------------------------------------------------------------------------------------------------------
    def begin_session(self) -> None:
        """A hello was answered. What the farm has run from now on it knows no end of: orders that were under way while
        an end was told belong to the stream before."""
        self._settled = OrderedDict.fromkeys(self._settled, True)

    def obey(self, orders: Sequence[Order]) -> None:
        """Takes each order once, however often it comes."""
        for order in orders:
            self._log.debug("order", kind=order.kind.value, execution=order.key.execution_id, epoch=order.key.epoch)
            if order.kind is OrderKind.KILL:
                self._kill(order.key)
            elif order.key in self._executions:
                if order.kind is OrderKind.STOP:
                    self._executions[order.key].commands.stop()
            elif order.key not in self._settled:
                self._obey_unknown(order)
            elif order.kind is OrderKind.RUN and self._settled[order.key]:
                # Only a store that was restored has it run once more under the same epoch. It is never started twice,
                # and must not wait for ever either.
                self._say(order, starting.ended_before())

    def _kill(self, key: ExecutionKey) -> None:
        for held, execution in self._executions.items():
            # An older epoch is not ours either; a newer one is what a belated order does not know of.
            if held.execution_id == key.execution_id and held.epoch <= key.epoch:
                execution.commands.kill()

    def _obey_unknown(self, order: Order) -> None:
        if order.kind is OrderKind.RUN and order.assignment is not None:
            self._run(order.assignment)
        elif not self.surveyed.is_set():
            return  # its container may be here; the next answer to a beat says it again
        elif order.kind is OrderKind.ADOPT:
            self._say(order, classify(None, trusted=False, ending=None, limit=None))
        elif order.kind is OrderKind.STOP:
            word = starting.word_for(Obstacle.STOPPED)
            if word is not None:
                self._say(order, word)

    def _run(self, assignment: Assignment) -> None:
        key = assignment.terms.key
        record = self._records.get(key)
        if record is not None and record.start_intended:
            return  # it was started here, and its container has not been looked at yet
        if any(held.execution_id == key.execution_id and held.epoch > key.epoch for held in self._executions):
            return
        self._kill(key)
        execution = self._add(assignment.terms, start_within=assignment.start_within)
        problem = self._unfit()
        if self._refuses:
            word = starting.word_for(Obstacle.LEAVING)
        else:
            word = starting.give_back(FailureReason.HOST_FAILED, problem) if problem else None
        self._spawn(execution, execution.say(word) if word else execution.run(assignment))

    def _say(self, order: Order, word: Word) -> None:
        terms = order.assignment.terms if order.assignment else _bare_terms(order.key)
        execution = self._add(terms)
        self._spawn(execution, execution.say(word))

    # Adoption -----------------------------------------------------------------------------------------------------
    async def compare(self, listing: Sequence[Snapshot]) -> None:
        """Told all containers of this agent: adopts what it does not know, clears away what is settled."""
        first = not self.surveyed.is_set()
        for one in listing:
            terms = terms_of(one.labels)
            if terms is None:
                self._log.warning("container_with_odd_labels_left_alone", container=one.container_id)
            elif terms.key in self._settled:
                self._tools.janitor.remove(one.container_id, terms.key)
            elif terms.key not in self._executions:
                self._adopt(terms, one)
        if first:
            for record in list(self._records.values()):
                self._adopt_record(record)
            self.surveyed.set()
            self._log.info("surveyed", containers=len(listing), executions=len(self._executions))

    def _adopt(self, terms: Terms, found: Snapshot) -> None:
        record = self._records.pop(terms.key, None)
        how = adopt(found.status, record)
        if how is Adoption.REMOVE:
            self._remember(terms.key, endless=True)
            self._tools.janitor.remove(found.container_id, terms.key)
            return
        execution = self._add(terms)
        container_id = "" if how is Adoption.VANISHED else found.container_id
        self._spawn(execution, execution.adopt(how, container_id, record))

    def _adopt_record(self, record: ExecutionRecord) -> None:
        """What the journal knows and the host has no container of."""
        self._records.pop(record.key)
        if record.key in self._executions:
            return
        how = adopt(None, record)
        if how is Adoption.FORGET:
            self._tools.janitor.forget(record.key)
            return
        execution = self._add(_bare_terms(record.key))
        self._spawn(execution, execution.adopt(how, "", record))

    # Upkeep ---------------------------------------------------------------------------------------------------------
    def take_upkeep(self, upkeep: Upkeep) -> None:
        """An operator's wish, however often it is said; the newest word on the deadline counts."""
        before, self._upkeep = self._upkeep, upkeep
        self._drain_until = None
        if upkeep.draining:
            if upkeep.deadline_in is not None:
                self._drain_until = self._tools.clock.boot() + upkeep.deadline_in
            for execution in self._executions.values():
                execution.commands.leave()
            self.check_drain()
        if (before.cordoned, before.draining) != (upkeep.cordoned, upkeep.draining):
            self._log.info("upkeep", cordoned=upkeep.cordoned, draining=upkeep.draining, deadline=upkeep.deadline_in)
            self.upkeep_changes.announce()

    def check_drain(self) -> None:
        """Ends what runs once the drain's deadline has come."""
        if self._drain_until is None or self._tools.clock.boot() < self._drain_until:
            return
        for execution in self._executions.values():
            execution.commands.drain()

    # The farm's silence, and the agent's end ------------------------------------------------------------------------
    def check_lease(self) -> None:
        """Ends what the farm may run elsewhere by now."""
        lost = self._tools.lease.is_lost()
        if lost and not self._lost:
            self._log.warning(
                "cut_off_from_farm", silence=round(self._tools.lease.silence()), executions=len(self._executions)
            )
        self._lost = lost
        if lost:
            for execution in self._executions.values():
                execution.commands.lose()

    async def leave(self, timeout: float) -> None:
        """Takes nothing new, gives back what has not begun, and waits until that is said, `timeout` seconds at most."""
        self._leaving = True
        for execution in self._executions.values():
            execution.commands.leave()
        try:
            async with asyncio.timeout(timeout):
                while any(not execution.begun for execution in self._executions.values()):
                    await self.changes.wait()
        except TimeoutError:
            waiting = [execution.key.execution_id for execution in self._executions.values() if not execution.begun]
            self._log.warning("left_without_giving_back", executions=waiting)

    async def until_quiet(self) -> None:
        """Returns when nothing is done here any more, not even what is left to do after an execution's end."""
        while self._tasks:
            await asyncio.wait(list(self._tasks))

    async def stop(self) -> None:
        """Stops watching; containers stay."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # Bookkeeping ----------------------------------------------------------------------------------------------------
    def _add(self, terms: Terms, *, start_within: float | None = None) -> Execution:
        execution = Execution(self._tools, terms, self._on_settled, start_within=start_within)
        self._executions[terms.key] = execution
        if self._refuses:
            execution.commands.leave()
        return execution

    def _spawn(self, execution: Execution, way: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(way, name=f"execution:{execution.key.execution_id}")
        self._tasks.add(task)
        task.add_done_callback(self._on_ended)

    def _on_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._log.error("execution_task_failed", task=task.get_name(), exc_info=task.exception())

    def _on_settled(self, execution: Execution) -> None:
        if self._executions.get(execution.key) is execution:
            del self._executions[execution.key]
        self._remember(execution.key, endless=execution.dropped)
        self.changes.announce()

    def _remember(self, key: ExecutionKey, *, endless: bool) -> None:
        self._settled[key] = endless
        if len(self._settled) > _REMEMBERED:
            self._settled.popitem(last=False)


def _bare_terms(key: ExecutionKey) -> Terms:
    """For an execution of which nothing is left but its name."""
    return Terms(key=key, task_id="", job_id="", attempt=0, fence=0, log_limit=0)
