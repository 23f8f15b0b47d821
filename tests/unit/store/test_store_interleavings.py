"""Random interleavings of everything that may happen, step by step, with crashes in between.

DESIGN part 4 must hold whatever comes: (3b) an attempt is held only after its predecessor has ended, (4) everything
ends, (7) failures of the infrastructure leave the user's retries alone, (8) nothing is assigned after a stop's answer.
"""

import asyncio
import contextlib
import uuid
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from easyq.v1.spec_pb2 import Backoff, OnLost
from easyq_chassis.errors import EasyQError
from easyq_store.domain.lost import Silent
from easyq_store.domain.records import Execution, Job
from easyq_store.domain.states import ExecutionState, Outcome, Trigger
from easyq_store.domain.transitions import EXECUTION_MOVES
from easyq_store.usecases import assign, retry, sessions, stop, time
from easyq_store.usecases.report import Finished, GivenBack, Started
from easyq_store.usecases.sweep import sweep
from tests.fakes.store import FakePersistence
from tests.support.store_world import World, ended, exited

# Many steps of what others cover.
pytestmark = pytest.mark.no_cover

AGENTS = ("host-a", "host-b")
JOBS = ("one", "two")


@dataclass(frozen=True)
class Hold:
    """What an agent was given, by its own knowledge."""

    agent_id: str
    execution_id: str
    epoch: int


@dataclass
class Farm:
    """The store, two agents, and everything that is under way."""

    world: World
    draw: Callable[[st.SearchStrategy[Any]], Any]
    jobs: tuple[str, ...] = JOBS
    holds: set[Hold] = field(default_factory=set)
    begun: set[Hold] = field(default_factory=set)
    given: set[tuple[str, int]] = field(default_factory=set)
    # Jobs whose stop was answered, and the step at which it was.
    stopped: dict[str, int] = field(default_factory=dict)
    taken_at: dict[tuple[str, int], int] = field(default_factory=dict)
    step: int = 0
    under_way: list[asyncio.Task[Any]] = field(default_factory=list)
    gates: list[asyncio.Future[None]] = field(default_factory=list)
    numbers: int = 0
    revivals: Counter[str] = field(default_factory=Counter)
    revivals_now: Counter[str] = field(default_factory=Counter)

    # ----------------------------------------------------------------------------------------------------- driving
    async def between(self, _: str) -> None:
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.gates.append(gate)
        await gate

    async def start(self, call: Coroutine[Any, Any, Any]) -> None:
        """Begins a call; it goes on up to its first write."""
        self.under_way.append(asyncio.ensure_future(quietly(call)))
        await self.rest()

    async def advance(self, index: int) -> None:
        """One of the calls takes its next step."""
        gate = self.gates.pop(index % len(self.gates))
        if not gate.done():
            gate.set_result(None)
        await self.rest()

    async def rest(self) -> None:
        """Until every call waits for its next step, or is done."""
        for _ in range(12):
            await asyncio.sleep(0)
        self.step += 1

    async def crash(self) -> None:
        """The process is killed; whoever called gets no answer."""
        for call in self.under_way:
            call.cancel()
        for outcome in await asyncio.gather(*self.under_way, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome
        self.under_way.clear()
        self.gates.clear()
        self.world.restart()

    # ----------------------------------------------------------------------------------------------------- looking
    def watch(self, old: Job | Execution | None, new: Job | Execution) -> None:
        """Every write must be one that is allowed."""
        if isinstance(new, Execution):
            assert old is None or isinstance(old, Execution)
            self.check_execution(old, new)
        elif isinstance(old, Job) and old.ended and new.state is not old.state:
            assert new.attempts > old.attempts, (old, new)

    def check_execution(self, old: Execution | None, new: Execution) -> None:
        attempts = self.world.attempts(new.job_id)
        assert [e.attempt for e in attempts] == list(range(1, len(attempts) + 1))
        if new.held:
            assert all(e.ended for e in attempts if e.attempt < new.attempt), "3b"
        if old is None:
            if new.attempt > 1:
                self.check_counters(attempts[new.attempt - 2], new)
            return
        assert new.epoch >= old.epoch
        if old.state is not new.state:
            assert new.state in EXECUTION_MOVES[old.state], (old.state, new.state)
        if old.ended:
            kept = {"logs_complete": False, "unsettled_since": None, "write_no": 0}
            assert replace(old, **kept) == replace(new, **kept), "an ended execution was changed"  # type: ignore[arg-type]
        if new.state is ExecutionState.ASSIGNED and old.state is ExecutionState.QUEUED:
            assert new.epoch == old.epoch + 1
            self.taken_at[new.execution_id, new.epoch] = self.step
        if new.state is ExecutionState.QUEUED and old.state is ExecutionState.ASSIGNED:
            assert new.queue_seq == old.queue_seq, "a give-back keeps its place"

    def check_counters(self, before: Execution, new: Execution) -> None:
        assert before.ended, "3b"
        used = (new.retries_used - before.retries_used, new.infra_used - before.infra_used)
        match new.trigger:
            case Trigger.RETRY:
                assert used == (1, 0), "7"
                assert before.outcome in {Outcome.EXITED, Outcome.TIMED_OUT}, "7"
            case Trigger.INFRA_RETRY:
                assert used == (0, 1), "7"
                assert before.state in {ExecutionState.LOST, ExecutionState.FAILED}
            case _:
                assert (new.retries_used, new.infra_used) == (0, 0)
        assert new.fence > before.fence

    # ------------------------------------------------------------------------------------------------------- calls
    async def submit(self, job_id: str) -> None:
        """Again and again the same call, as an edge does that got no answer."""
        number = JOBS.index(job_id)
        await self.world.submit(
            job_id,
            retries=number + 1,
            infra_retries=2,
            backoff=Backoff(min=Duration(seconds=number)),
            on_lost=[OnLost.RERUN, OnLost.WAIT][number],
            start_in=Duration(seconds=number * 3),
        )

    async def put(self, job_id: str) -> None:
        if job_id in self.world.store.tables.jobs:
            with self.reviving(job_id) as number:
                execution_id = str(uuid.UUID(int=number))
                await self.world.put(job_id, command=[str(number)], retries=1, execution_id=execution_id)

    async def retry(self, job_id: str) -> None:
        with self.reviving(job_id) as number:
            await retry.retry_job(self.world.ctx, "", job_id, str(uuid.UUID(int=number)))

    @contextlib.contextmanager
    def reviving(self, job_id: str) -> Iterator[int]:
        """A call that may make a stopped job run again; while it is under way a stop may come before it or after."""
        self.stopped.pop(job_id, None)
        self.numbers += 1
        self.revivals[job_id] += 1
        self.revivals_now[job_id] += 1
        try:
            yield self.numbers
        finally:
            self.revivals_now[job_id] -= 1

    async def stop(self, job_id: str) -> None:
        alone, revivals = not self.revivals_now[job_id], self.revivals[job_id]
        answer = await stop.stop_job(self.world.ctx, "", job_id)
        if not alone or revivals != self.revivals[job_id]:
            return
        if not answer.held:
            assert not [e for e in self.world.attempts(job_id) if not e.ended], "8"
        self.stopped[job_id] = self.step

    async def assign(self, index: int, agent_id: str) -> None:
        waiting = [e.execution_id for e in self.world.store.tables.executions.values() if not e.ended]
        if not waiting or agent_id not in self.world.sessions:
            return
        execution_id = waiting[index % len(waiting)]
        answer = await self.world.assign(execution_id, agent_id)
        if isinstance(answer, assign.Assignment):
            self.received(agent_id, execution_id, answer.execution.epoch)
            key = (execution_id, answer.execution.epoch)
            assert key not in self.given, "one epoch was given out twice"
            self.given.add(key)
            stopped = self.stopped.get(answer.execution.job_id)
            assert stopped is None or self.taken_at[key] <= stopped, "8"

    def received(self, agent_id: str, execution_id: str, epoch: int) -> None:
        self.holds.add(Hold(agent_id, execution_id, epoch))

    async def report(self, hold: Hold, kind: str) -> None:
        words: dict[str, Started | Finished | GivenBack] = {
            "start": Started(),
            "succeed": exited(0),
            "fail": exited(1),
            "lose": ended(Outcome.LOST),
            "break": ended(Outcome.INFRA_FAILED),
            "stop": ended(Outcome.STOPPED),
            "give back": GivenBack(),
        }
        if kind == "give back":
            if hold in self.begun:
                return
            self.holds.discard(hold)  # and never says another word on it
        self.begun.add(hold)
        await self.world.say(hold.execution_id, words[kind], hold.agent_id, epoch=hold.epoch)

    async def hello(self, agent_id: str) -> None:
        mine = [(h.execution_id, h.epoch) for h in self.holds if h.agent_id == agent_id]
        self.obey(agent_id, await self.world.hello(agent_id, *mine))

    async def beat(self, agent_id: str) -> None:
        if agent_id not in self.world.sessions:
            return
        mine = [(h.execution_id, h.epoch) for h in self.holds if h.agent_id == agent_id]
        self.obey(agent_id, await self.world.beat(agent_id, *mine) or [])

    def obey(self, agent_id: str, orders: list[tuple[str, str, int]]) -> None:
        for order, execution_id, epoch in orders:
            hold = Hold(agent_id, execution_id, epoch)
            if order == "KILL":
                self.holds.discard(hold)
            elif hold not in self.begun:
                self.received(agent_id, execution_id, epoch)

    async def bury(self, agent_id: str) -> None:
        agent = self.world.store.tables.agents.get(agent_id)
        if agent is not None:
            self.holds = {h for h in self.holds if h.agent_id != agent_id}
            await sessions.bury(self.world.ctx, Silent(agent_id=agent_id, session=agent.session, beats=agent.beats))
            await sessions.lose_all(self.world.ctx, agent_id)

    async def tick(self, seconds: int) -> None:
        self.world.machine.pass_(seconds)
        due = await time.list_due(self.world.ctx, 10)
        await time.fire_all(self.world.ctx, [(d.execution_id, d.epoch) for d in due.items])

    # --------------------------------------------------------------------------------------------------- to the end
    async def play(self) -> None:
        """Some random moves."""
        for agent_id in AGENTS:
            await self.start(self.hello(agent_id))
        for job_id in self.jobs:
            await self.start(self.submit(job_id))
        for _ in range(self.draw(st.integers(30, 90))):
            move = self.draw(st.integers(0, 19))
            if move == 0:
                await self.crash()
            elif self.gates and move < 14:
                await self.advance(self.draw(st.integers(0, 7)))
            else:
                await self.start(self.any_call())

    def any_call(self) -> Coroutine[Any, Any, Any]:
        job_id, agent_id = self.draw(st.sampled_from(self.jobs)), self.draw(st.sampled_from(AGENTS))
        calls: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
            "submit": lambda: self.submit(job_id),
            "put": lambda: self.put(job_id),
            "retry": lambda: self.retry(job_id),
            "stop": lambda: self.stop(job_id),
            "hello": lambda: self.hello(agent_id),
            "beat": lambda: self.beat(agent_id),
            "bury": lambda: self.bury(agent_id),
            "assign": lambda: self.assign(self.draw(st.integers(0, 5)), agent_id),
            "tick": lambda: self.tick(self.draw(st.integers(0, 9))),
            "sweep": lambda: sweep(self.world.ctx, grace_ms=0),
            **self.more_calls(job_id),
        }
        names = [*calls, "assign", "tick"]
        if any(e.state is ExecutionState.QUEUED for e in self.world.store.tables.executions.values()):
            names += ["assign"] * 6
        if self.holds:
            names += ["report"] * 9
        name = self.draw(st.sampled_from(names))
        if name != "report":
            return calls[name]()
        hold = self.draw(st.sampled_from(sorted(self.holds, key=str)))
        kinds = ["start", "start", "succeed", "fail", "lose", "break", "stop", "give back"]
        return self.report(hold, self.draw(st.sampled_from(kinds)))

    def more_calls(self, _: str) -> dict[str, Callable[[], Coroutine[Any, Any, Any]]]:
        """Calls of kinds of jobs that this farm does not have."""
        return {}

    async def drain(self) -> None:
        """From here on nothing breaks any more: everything must end."""
        await self.crash()
        self.world.store.between = self.let_through
        for agent_id in AGENTS:
            await self.hello(agent_id)
        for _ in range(30):
            await self.undisturbed_round()

    async def undisturbed_round(self) -> None:
        """A minute passes; whatever can go on does."""
        self.world.machine.pass_(61)
        await sweep(self.world.ctx)
        await self.tick(0)
        for agent_id in AGENTS:
            await self.beat(agent_id)
        for execution_id in sorted(self.world.store.tables.executions):
            if self.world.execution(execution_id).state is ExecutionState.QUEUED:
                assigned = await self.world.assign(execution_id, AGENTS[0])
                if isinstance(assigned, assign.Assignment):
                    self.received(AGENTS[0], execution_id, assigned.execution.epoch)
        for hold in list(self.holds):
            await self.report(hold, "succeed")
            self.holds.discard(hold)
        # What an agent is told to adopt and has no trace of, it reports as lost.
        for execution in list(self.world.store.tables.executions.values()):
            if execution.held:
                hold = Hold(execution.agent_id, execution.execution_id, execution.epoch)
                await self.report(hold, "lose")

    async def let_through(self, _: str) -> None:
        return None

    def check_end(self) -> None:
        for job in self.world.store.tables.jobs.values():
            assert job.ended, ("4", self.world.states(job.job_id))
            assert (job.pending, job.unsettled_since) == ((), None)
            assert job.attempts == len(self.world.attempts(job.job_id))
        for execution in self.world.store.tables.executions.values():
            assert execution.ended, "4"
            assert execution.next is None or execution.next.execution_id in self.world.store.tables.executions


async def quietly(call: Coroutine[Any, Any, Any]) -> Any:
    """A refusal is an answer like any other."""
    with contextlib.suppress(EasyQError, KeyError):
        return await call


async def play(farm: Farm) -> None:
    farm.world.store.between = farm.between
    farm.world.store.watch = farm.watch
    await farm.play()
    await farm.drain()
    farm.check_end()


@pytest.mark.parametrize("atomic", [True, False], ids=["atomic", "in-steps"])
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_random_interleavings(atomic: bool, data: st.DataObject) -> None:
    farm = Farm(world=World(store=FakePersistence(atomic=atomic)), draw=data.draw)
    asyncio.run(play(farm))
