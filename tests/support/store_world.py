"""The store's use cases over the fake database, with clocks that stand still until they are moved."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from easyq.v1.spec_pb2 import JobSpec
from easyq_chassis.errors import EasyQError
from easyq_internal.store.v1.job_store_pb2 import NewJob
from easyq_store.convert import jobs as convert_jobs
from easyq_store.convert.notices import targets_of
from easyq_store.convert.spec import policy_of, same_request
from easyq_store.domain.clock import StoreClock
from easyq_store.domain.decide import End
from easyq_store.domain.logs import Piece
from easyq_store.domain.lost import LostWatch
from easyq_store.domain.moves import Claim, LogSizes
from easyq_store.domain.reconcile import Item
from easyq_store.domain.records import Agent, Delivery, Execution, Failure, Job, Skip
from easyq_store.domain.recurring import Fire, FireDecision
from easyq_store.domain.sessions import Beat, Hello
from easyq_store.domain.states import Outcome, Phase, Stream
from easyq_store.loops import LostRound
from easyq_store.usecases import assign, put, report, schedules, sessions, submit
from easyq_store.usecases.context import Context
from easyq_store.usecases.news import News
from easyq_store.usecases.submit import NewJob as New
from tests.fakes.store import FakePersistence
from tests.support.store_records import T0


class AgentCounts:
    """`AgentMeter` that remembers."""

    def __init__(self) -> None:
        self.seen: list[str] = []

        self.silent: list[str] = []

    def agents(self, agents: Sequence[Agent], is_silent: Callable[[Agent], bool]) -> None:
        self.seen = [agent.agent_id for agent in agents]
        self.silent = [agent.agent_id for agent in agents if is_silent(agent)]


@dataclass
class Machine:
    """A machine's clocks."""

    wall: int = T0
    steady: float = 1_000.0

    def now_ms(self) -> int:
        return self.wall

    def monotonic(self) -> float:
        return self.steady

    def pass_(self, seconds: float) -> None:
        """Time goes by."""
        self.wall += int(seconds * 1000)
        self.steady += seconds


class Crash(BaseException):
    """The process died here. No error of ours, so that nothing of the code under test can catch it."""


@dataclass
class World:
    """One store process, its database, and what a test wants to do with them."""

    store: FakePersistence
    machine: Machine = field(default_factory=Machine)
    share: Callable[[], float] = lambda: 0.0
    sessions: dict[str, int] = field(default_factory=dict)
    # What all specs have besides.
    extra: dict[str, Any] = field(default_factory=dict)
    puts: int = 0
    meter: AgentCounts = field(default_factory=AgentCounts)
    ctx: Context = field(init=False)
    lost: LostRound = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Another process takes over the database: what was only in memory is gone."""
        self.ctx = Context(
            store=self.store,
            clock=StoreClock(self.machine, self.store.tables.clock),
            share=self._share,
            policy_of=policy_of,
            targets_of=targets_of,
            same_request=same_request,
            news=News(),
        )
        self.lost = LostRound(self.ctx, LostWatch(5.0), self.meter)

    def _share(self) -> float:
        return self.share()

    def crash_at(self, number: int) -> None:
        """The process dies before its `number`-th write from now."""
        left = number

        async def between(_: str) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Crash

        self.store.between = between

    def recover(self) -> None:
        """No more crashes; a new process."""
        self.store.between = _nothing
        self.restart()

    # ------------------------------------------------------------------------------------------------------- asking
    def new(
        self,
        job_id: str = "job",
        *,
        task: str = "mail",
        key: str = "",
        execution_id: str = "",
        asked: bytes = b"",
        trace: str = "",
        **spec: Any,
    ) -> New:
        """A new job as the edge makes it."""
        made = JobSpec(**{"image": "echo:1", **self.extra, **spec})
        return convert_jobs.new_job(
            NewJob(
                task_id=task,
                job_id=job_id,
                execution_id=execution_id or str(uuid.uuid5(uuid.NAMESPACE_OID, job_id)),
                spec=made,
                idempotency_key=key,
                asked=asked,
                trace=trace,
            )
        )

    async def submit(self, job_id: str = "job", **fields: Any) -> str:
        """Enqueues; returns the id of its execution."""
        (result,) = await submit.submit(self.ctx, [self.new(job_id, **fields)])
        if isinstance(result, EasyQError):
            raise result
        return result.execution_id

    async def put(self, job_id: str = "job", *, revision: int = 0, only_same: bool = False, **fields: Any) -> put.Put:
        """Creates or replaces: another request each time, unless its execution's id says that it is the same."""
        if job_id in self.store.tables.jobs:
            self.puts += 1
            fields.setdefault("execution_id", str(uuid.uuid5(uuid.NAMESPACE_OID, f"{job_id} {self.puts}")))
        return await put.put_job(self.ctx, self.new(job_id, **fields), revision, only_same=only_same)

    async def hello(self, agent_id: str = "host-a", *inventory: tuple[str, int]) -> list[tuple[str, str, int]]:
        """An agent comes; returns what it is told as (order, execution, epoch)."""
        items = [Item(execution_id=id_, epoch=epoch, phase=Phase.RUNNING) for id_, epoch in inventory]
        said = Hello(agent_id=agent_id, daemon_id=f"daemon-of-{agent_id}", slots=4)
        opened = await sessions.open_session(self.ctx, said, items)
        self.sessions[agent_id] = opened.session
        return [told(order) for order in opened.orders]

    async def beat(self, agent_id: str = "host-a", *inventory: tuple[str, int]) -> list[tuple[str, str, int]] | None:
        """An agent beats; None: it is fenced."""
        items = [Item(execution_id=id_, epoch=epoch) for id_, epoch in inventory]
        said = Beat(agent_id=agent_id, session=self.sessions[agent_id])
        (result,) = await sessions.beat_all(self.ctx, [(said, items)])
        if isinstance(result, EasyQError):
            raise result
        return None if result is None else [told(order) for order in result.orders]

    async def assign(
        self, execution_id: str, agent_id: str = "host-a", *, epoch: int | None = None
    ) -> assign.Assignment | assign.Refused:
        """A dispatcher assigns."""
        claim = Claim(
            execution_id=execution_id,
            epoch=self.execution(execution_id).epoch if epoch is None else epoch,
            generation=self.store.tables.generation,
            agent_id=agent_id,
            session=self.sessions[agent_id],
            pool="default",
        )
        (result,) = await assign.assign_all(self.ctx, [claim])
        if isinstance(result, EasyQError):
            raise result
        return result

    async def run(self, execution_id: str, agent_id: str = "host-a") -> int:
        """Assigns and starts; returns the epoch."""
        assigned = await self.assign(execution_id, agent_id)
        assert isinstance(assigned, assign.Assignment), assigned
        epoch = assigned.execution.epoch
        taken = await self.say(execution_id, report.Started(container_id="c"), agent_id)
        assert taken.verdict is report.Verdict.OK
        return epoch

    async def say(
        self,
        execution_id: str,
        said: report.Started | report.Finished | report.GivenBack,
        agent_id: str = "host-a",
        *,
        epoch: int | None = None,
    ) -> report.Taken:
        """An agent reports; in the present epoch unless told."""
        word = report.Word(
            agent_id=agent_id,
            execution_id=execution_id,
            epoch=self.execution(execution_id).epoch if epoch is None else epoch,
            said=said,
        )
        (taken,) = await report.report(self.ctx, [word])
        return taken

    async def fire(
        self, *seconds: int, job_id: str = "job", next_in: int | None = 60, skips: tuple[Skip, ...] = ()
    ) -> schedules.Fired:
        """Once these seconds after T0 have come, a scheduler fires; the next fire is so many seconds after the last."""
        known = self.job(job_id)
        assert known.schedule is not None
        nominal = [T0 + second * 1000 for second in seconds]
        self.machine.pass_(max(0, max(nominal, default=0) - self.machine.wall) / 1000)
        cursor = max([known.schedule.cursor, *nominal, *(skip.last for skip in skips)])
        following = None if next_in is None else max(cursor, T0) + next_in * 1000
        decision = FireDecision(
            job_id=job_id,
            revision=known.revision,
            cursor=known.schedule.cursor,
            fires=tuple(Fire(nominal=at, due_at=at) for at in nominal),
            skips=skips,
            new_cursor=cursor,
            next_at=following,
            next_fire=following,
        )
        return await schedules.fire_schedules(self.ctx, [decision])

    # ------------------------------------------------------------------------------------------------------- looking
    def job(self, job_id: str = "job") -> Job:
        return self.store.tables.jobs[job_id]

    def execution(self, execution_id: str) -> Execution:
        return self.store.tables.executions[execution_id]

    def attempts(self, job_id: str = "job") -> list[Execution]:
        """Its executions by attempt."""
        found = [e for e in self.store.tables.executions.values() if e.job_id == job_id]
        return sorted(found, key=lambda e: e.attempt)

    def deliveries(self, job_id: str = "job") -> list[Delivery]:
        """Notifications of its ends: by their executions' attempts, then by event and kind."""
        order = {e.execution_id: e.attempt for e in self.attempts(job_id)}
        found = [d for d in self.store.tables.deliveries.values() if d.job_id == job_id]
        return sorted(found, key=lambda d: (order.get(d.execution_id, 0), d.event, d.channel, d.delivery_id))

    def states(self, job_id: str = "job") -> str:
        """The job's state, then those of its attempts."""
        return " ".join([self.job(job_id).state.name, *(e.state.name for e in self.attempts(job_id))])


def told(order: sessions.Ordered) -> tuple[str, str, int]:
    """An order in short."""
    directive = order.directive
    assert (order.assignment is None) is (directive.order.name == "KILL")
    return directive.order.name, directive.execution_id, directive.epoch


def exited(code: int, stdout: bytes = b"", *, execution_id: str = "", epoch: int = 1) -> report.Finished:
    """The container exited; `stdout` comes as the tail."""
    tail = (Piece(execution_id=execution_id, epoch=epoch, stream=Stream.STDOUT, offset=0, data=stdout),)
    return ended(Outcome.EXITED, exit_code=code, stdout=len(stdout), tail=tail if stdout else ())


def ended(
    outcome: Outcome,
    *,
    exit_code: int | None = None,
    failure: Failure | None = None,
    stdout: int = 0,
    tail: tuple[Piece, ...] = (),
) -> report.Finished:
    """It ended so."""
    end = End(outcome=outcome, exit_code=exit_code, failure=failure)
    return report.Finished(end=end, sizes=LogSizes(stdout=stdout, stderr=0), tail=tail, ran_ms=5)


async def _nothing(_: str) -> None:
    return None
