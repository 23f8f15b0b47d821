"""The store as dispatchers see it, in memory: `FakeFarm` is the port, `FakeFarmServer` serves it over a real socket."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc.aio

from easyq.v1 import farm_service_pb2
from easyq_chassis.batching import answer_batches
from easyq_chassis.errors import FailedPrecondition, Unavailable
from easyq_chassis.server import GrpcServer
from easyq_dispatcher.convert import agents as convert_agents
from easyq_dispatcher.convert import people as convert_people
from easyq_dispatcher.convert import store as convert_store
from easyq_dispatcher.domain.agents import Hello
from easyq_dispatcher.domain.assigning import Verdict
from easyq_dispatcher.domain.explain import AgentView
from easyq_dispatcher.domain.needs import NOTHING, UNKNOWN, Needs, Offer
from easyq_dispatcher.domain.records import Fenced, Head, HeldExecution, Taking
from easyq_dispatcher.ports import Assigned, Beat, BeatAnswer, Queue, Reported, Session
from easyq_internal.store.v1 import farm_store_pb2 as pb
from easyq_internal.store.v1 import records_pb2
from easyq_internal.store.v1.farm_store_pb2_grpc import (
    FarmStoreServiceServicer,
    add_FarmStoreServiceServicer_to_server,
)
from easyq_internal.store.v1.records_pb2 import Assignment, Directive, Report, ReportResult

Order = Directive.Order
Said = ReportResult.Verdict


@dataclass
class Row:
    """One execution."""

    execution_id: str
    task_id: str
    priority: int
    queue_seq: int
    epoch: int = 1
    state: str = "QUEUED"
    agent_id: str = ""
    session: int = 0
    pool: str = ""
    needs: Needs = NOTHING
    image: str = "image:1"

    @property
    def held(self) -> bool:
        return self.state in {"ASSIGNED", "RUNNING"}


@dataclass
class AgentRow:
    """One agent."""

    agent_id: str
    daemon_id: str
    pools: tuple[str, ...]
    slots: int
    session: int = 0
    state: str = "LIVE"
    healthy: bool = True
    message: str = ""
    lost_after_ms: int = 0
    offer: Offer = UNKNOWN
    labels: tuple[tuple[str, str], ...] = ()
    upkeep: records_pb2.Upkeep | None = None

    @property
    def cordoned(self) -> bool:
        return self.upkeep is not None and (self.upkeep.cordoned or self.upkeep.draining)


class FakeFarm:
    """`FarmStore`. `away` makes every call fail; `lose_answers` lets that many assigns take effect and then fail;
    `gate` holds assigns back while it is shut. `most_held` is the most that was held at once, by task."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.agents: dict[str, AgentRow] = {}
        self.number = 1
        self.seq = 0
        self.away = False
        # Seconds for which the oldest of each queue waits.
        self.oldest = 0.0
        self.lose_answers = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.assigning = asyncio.Event()
        self.assigned: Counter[str] = Counter()
        self.most_held: Counter[str] = Counter()
        self.refusals: list[Verdict] = []
        self.calls: Counter[str] = Counter()
        self.silent_for: dict[str, float] = {}

    # ------------------------------------------------------------------------------------------ what tests do to it
    def submit(
        self, task: str, count: int = 1, *, priority: int = 0, needs: Needs = NOTHING, image: str = "image:1"
    ) -> list[Head]:
        """Queues executions; their heads."""
        heads = []
        for _ in range(count):
            self.seq += 1
            name = f"{task}#{self.seq:06d}"
            row = Row(execution_id=name, task_id=task, priority=priority, queue_seq=self.seq, needs=needs, image=image)
            self.rows[row.execution_id] = row
            heads.append(self.head(row))
        return heads

    def stop(self, execution_id: str) -> None:
        """A stop before it was assigned."""
        self.rows[execution_id].state = "STOPPED"

    def lose(self, agent_id: str) -> None:
        """Marks an agent DEAD and what it held LOST."""
        self.agents[agent_id].state = "DEAD"
        for row in self.rows.values():
            if row.held and row.agent_id == agent_id:
                row.state = "LOST"

    def ids(self, *states: str) -> list[str]:
        return sorted(row.execution_id for row in self.rows.values() if row.state in states)

    def held_by(self, agent_id: str) -> int:
        return sum(row.held and row.agent_id == agent_id for row in self.rows.values())

    def count(self, *states: str) -> int:
        return sum(row.state in states for row in self.rows.values())

    @staticmethod
    def head(row: Row) -> Head:
        return Head(
            execution_id=row.execution_id,
            task_id=row.task_id,
            priority=row.priority,
            queue_seq=row.queue_seq,
            epoch=row.epoch,
            needs=row.needs,
            image=row.image,
        )

    def cordon(self, agent_id: str, *, cordoned: bool = True) -> None:
        """An operator's wish; `upkeep` of an agent has others."""
        self.wish(agent_id, records_pb2.Upkeep(cordoned=cordoned))

    def wish(self, agent_id: str, upkeep: records_pb2.Upkeep) -> records_pb2.Upkeep:
        """Any wish; as it holds then."""
        known = self.agents[agent_id].upkeep
        told = records_pb2.Upkeep(version=known.version + 1 if known is not None else 1)
        told.MergeFrom(upkeep)
        self.agents[agent_id].upkeep = told
        return told

    # -------------------------------------------------------------------------------------------------------- agents
    async def open_session(self, hello: Hello, *, pools: tuple[str, ...], lost_after_ms: int, lease_ms: int) -> Session:
        self._reach("open_session")
        agent = self.agents.setdefault(
            hello.agent_id,
            AgentRow(agent_id=hello.agent_id, daemon_id=hello.daemon_id, pools=pools, slots=hello.slots),
        )
        if agent.daemon_id != hello.daemon_id:
            raise FailedPrecondition(f"agent {hello.agent_id} is bound to another daemon")
        agent.pools, agent.slots, agent.lost_after_ms = pools, hello.slots, lost_after_ms
        agent.offer, agent.labels = hello.offer, tuple(sorted(hello.labels.items()))
        agent.session += 1
        agent.state = "LIVE"
        agent.healthy, agent.message = hello.healthy, hello.message
        for row in self.rows.values():
            if row.held and row.agent_id == hello.agent_id:
                row.session = agent.session
        held = {item.execution_id: item.epoch for item in hello.inventory}
        return Session(number=agent.session, directives=self._directives(hello.agent_id, held), upkeep=agent.upkeep)

    async def beat(self, beat: Beat) -> BeatAnswer:
        self._reach("beat")
        agent = self.agents[beat.agent_id]
        if beat.session != agent.session or agent.state != "LIVE":
            return BeatAnswer(fenced=True, directives=())
        agent.healthy, agent.message = beat.healthy, beat.message
        held = {item.execution_id: item.epoch for item in beat.inventory}
        return BeatAnswer(fenced=False, directives=self._directives(beat.agent_id, held), upkeep=agent.upkeep)

    async def park_session(self, agent_id: str, session: int) -> None:
        self._reach("park_session")
        if self.agents[agent_id].session == session:
            self.agents[agent_id].state = "PARKED"

    async def list_agents(self) -> Sequence[AgentView]:
        self._reach("list_agents")
        return [
            AgentView(
                agent_id=agent.agent_id,
                live=agent.state == "LIVE",
                healthy=agent.healthy,
                message=agent.message,
                pools=agent.pools,
                slots=agent.slots,
                silent_for=self.silent_for.get(agent.agent_id, 0.0),
                cordoned=agent.cordoned,
                cordoned_since_ms=7_000 if agent.cordoned else None,
                offer=agent.offer,
                labels=agent.labels,
                session=agent.session,
            )
            for agent in self.agents.values()
        ]

    # ---------------------------------------------------------------------------------------------------- generation
    async def generation(self) -> int:
        self._reach("generation")
        return self.number

    async def raise_generation(self, since: int) -> tuple[int, bool]:
        self._reach("raise_generation")
        raised = since == self.number
        self.number += raised
        return self.number, raised

    async def list_held(self, after: str, limit: int) -> Sequence[HeldExecution]:
        self._reach("list_held")
        ids = sorted(row.execution_id for row in self.rows.values() if row.held and row.execution_id > after)
        return [self._held(self.rows[name]) for name in ids[:limit]]

    async def list_queued(self, after_seq: int, limit: int) -> tuple[Sequence[Head], int]:
        self._reach("list_queued")
        rows = [row for row in self.rows.values() if row.state == "QUEUED" and row.queue_seq > after_seq]
        rows.sort(key=lambda row: row.queue_seq)
        return [self.head(row) for row in rows[:limit]], self.seq

    async def list_task_queue(self, task_id: str, limit: int) -> Sequence[Head]:
        self._reach("list_task_queue")
        rows = [row for row in self.rows.values() if row.state == "QUEUED" and row.task_id == task_id]
        return sorted((self.head(row) for row in rows), key=lambda head: head.score)[:limit]

    async def list_queued_tasks(self, after: str, limit: int) -> Sequence[str]:
        self._reach("list_queued_tasks")
        return sorted({r.task_id for r in self.rows.values() if r.state == "QUEUED" and r.task_id > after})[:limit]

    async def list_queues(self, after: str, limit: int) -> Sequence[Queue]:
        self._reach("list_queues")
        tasks = [row.task_id for row in self.rows.values() if row.state == "QUEUED" and row.task_id > after]
        counted = sorted(Counter(tasks).items())[:limit]
        return [Queue(task_id=task_id, queued=queued, oldest=self.oldest) for task_id, queued in counted]

    # ------------------------------------------------------------------------------------------------------- changes
    async def assign(self, generation: int, takings: Sequence[Taking]) -> Sequence[Assigned]:
        self.assigning.set()
        await self.gate.wait()
        try:
            self._reach("assign")
        except Unavailable:
            return [Assigned(taking=taking, verdict=Verdict.UNANSWERED) for taking in takings]
        answers = [self._assign(generation, taking) for taking in takings]
        if self.lose_answers > 0:
            self.lose_answers -= len(takings)
            return [Assigned(taking=taking, verdict=Verdict.UNANSWERED) for taking in takings]
        return answers

    def _assign(self, generation: int, taking: Taking) -> Assigned:
        row = self.rows.get(taking.head.execution_id)
        agent = self.agents.get(taking.agent_id)
        verdict = Verdict.ASSIGNED
        if generation != self.number:
            verdict = Verdict.STALE_GENERATION
        elif row is None or row.state != "QUEUED":
            verdict = Verdict.NOT_QUEUED
        elif agent is None or agent.session != taking.session or agent.state != "LIVE":
            verdict = Verdict.STALE_SESSION
        elif agent.cordoned:
            verdict = Verdict.CORDONED
        elif row.epoch != taking.head.epoch:
            verdict = Verdict.STALE_EPOCH
        if verdict is not Verdict.ASSIGNED or row is None:
            self.refusals.append(verdict)
            ready = self.head(row) if row and verdict is Verdict.STALE_EPOCH else None
            return Assigned(taking=taking, verdict=verdict, ready=ready)
        row.state, row.epoch = "ASSIGNED", row.epoch + 1
        row.agent_id, row.session, row.pool = taking.agent_id, taking.session, taking.pool
        self.assigned[row.execution_id] += 1
        self._note_held()
        return Assigned(taking=taking, verdict=verdict, assignment=self._assignment(row))

    async def fence(self, execution_ids: Sequence[str]) -> Sequence[Fenced]:
        self._reach("fence")
        return [self._fence(name) for name in execution_ids]

    def _fence(self, name: str) -> Fenced:
        row = self.rows.get(name)
        if row and row.state == "QUEUED":
            row.epoch += 1
            return Fenced(execution_id=name, ready=self.head(row))
        return Fenced(execution_id=name, held=self._held(row) if row and row.held else None)

    async def report(self, agent_id: str, session: int, reports: Sequence[Report]) -> Sequence[Reported]:
        del agent_id, session
        try:
            self._reach("report")
        except Unavailable:
            return [convert_store.retry_later(report) for report in reports]
        return [convert_store.reported(report, self._report(report)) for report in reports]

    def _report(self, report: Report) -> ReportResult:
        row = self.rows.get(report.execution_id)
        said = ReportResult(execution_id=report.execution_id, epoch=report.epoch, verdict=Said.STALE)
        word = report.WhichOneof("word")
        if row is None or row.epoch != report.epoch:
            return said
        if word == "started" and row.held:
            row.state = "RUNNING"
            said.verdict = Said.OK
        elif word == "finish" and row.state != "QUEUED":
            row.state = "SUCCEEDED" if row.held else row.state
            said.verdict, said.released, said.logs_complete = Said.OK, True, True
        elif word == "give_back" and row.state in {"ASSIGNED", "QUEUED"}:
            row.state = "QUEUED"
            said.verdict, said.released = Said.OK, True
            said.ready.CopyFrom(head_message(self.head(row)))
        return said

    # ------------------------------------------------------------------------------------------------------- the rest
    def _reach(self, call: str) -> None:
        self.calls[call] += 1
        if self.away:
            raise Unavailable("the store is away")

    def _note_held(self) -> None:
        held = Counter(row.task_id for row in self.rows.values() if row.held)
        self.most_held |= held

    def _directives(self, agent_id: str, inventory: dict[str, int]) -> list[Directive]:
        orders = []
        for row in self.rows.values():
            if row.held and row.agent_id == agent_id and row.execution_id not in inventory:
                kind = Order.RUN if row.state == "ASSIGNED" else Order.ADOPT
                assignment = self._assignment(row)
                orders.append(
                    Directive(kind=kind, execution_id=row.execution_id, epoch=row.epoch, assignment=assignment)
                )
        for name, epoch in inventory.items():
            found = self.rows.get(name)
            if not (found and found.held and found.agent_id == agent_id and found.epoch == epoch):
                orders.append(Directive(kind=Order.KILL, execution_id=name, epoch=epoch))
        return orders

    @staticmethod
    def _assignment(row: Row) -> Assignment:
        return Assignment(
            execution_id=row.execution_id, epoch=row.epoch, task_id=row.task_id, job_id="j", attempt=1, fence=1
        )

    @staticmethod
    def _held(row: Row) -> HeldExecution:
        return HeldExecution(
            execution_id=row.execution_id,
            task_id=row.task_id,
            agent_id=row.agent_id,
            session=row.session,
            pool=row.pool,
            epoch=row.epoch,
            needs=row.needs,
        )


def needs_message(needs: Needs) -> records_pb2.Needs | None:
    """Needs as the store sends them."""
    if needs == NOTHING:
        return None
    return records_pb2.Needs(
        cpu_millis=needs.cpu_millis, memory=needs.memory, gpus=needs.gpus, labels=dict(needs.labels)
    )


def head_message(head: Head) -> records_pb2.Head:
    """A head as the store sends it."""
    return records_pb2.Head(
        execution_id=head.execution_id,
        task_id=head.task_id,
        priority=head.priority,
        queue_seq=head.queue_seq,
        epoch=head.epoch,
        needs=needs_message(head.needs),
        image=head.image,
    )


def held_message(held: HeldExecution) -> pb.HeldExecution:
    """A held execution as the store sends it."""
    return pb.HeldExecution(
        execution_id=held.execution_id,
        task_id=held.task_id,
        agent_id=held.agent_id,
        session=held.session,
        pool=held.pool,
        epoch=held.epoch,
        needs=needs_message(held.needs),
    )


_REFUSALS = {verdict: kind for kind, verdict in convert_store._REFUSALS.items()}


class FakeFarmServicer(FarmStoreServiceServicer):
    """A FakeFarm as a service."""

    def __init__(self, farm: FakeFarm) -> None:
        self.farm = farm

    async def OpenSession(self, request: pb.OpenSessionRequest, _context: Any) -> pb.OpenSessionResponse:
        hello = Hello(
            agent_id=request.agent_id,
            daemon_id=request.daemon_id,
            hostname=request.hostname,
            pools=tuple(request.pools),
            slots=request.slots,
            labels=dict(request.labels),
            offer=convert_agents.offer(request.offer),
            version=request.version,
            protocol_min=1,
            protocol_max=1,
            inventory=convert_agents.inventory(request.inventory),
            healthy=not request.unhealthy,
            message=request.message,
            unhealthy_ms=request.unhealthy_for.ToMilliseconds(),
        )
        session = await self.farm.open_session(
            hello,
            pools=tuple(request.pools),
            lost_after_ms=request.lost_after.ToMilliseconds(),
            lease_ms=request.lease.ToMilliseconds(),
        )
        return pb.OpenSessionResponse(session=session.number, directives=session.directives, upkeep=session.upkeep)

    async def Beat(self, request_iterator: AsyncIterator[Any], _context: Any) -> AsyncIterator[Any]:
        async for response in answer_batches(request_iterator, self._beat, pb.BeatResponse):
            yield response

    async def _beat(self, items: Sequence[pb.AgentBeat]) -> list[pb.BeatResult]:
        answers = [
            await self.farm.beat(
                Beat(
                    agent_id=item.agent_id,
                    session=item.session,
                    inventory=convert_agents.inventory(item.inventory),
                    healthy=item.healthy,
                    message=item.message,
                    slots=item.slots,
                )
            )
            for item in items
        ]
        return [
            pb.BeatResult(fenced=answer.fenced, directives=answer.directives, upkeep=answer.upkeep)
            for answer in answers
        ]

    async def ParkSession(self, request: pb.ParkSessionRequest, _context: Any) -> pb.ParkSessionResponse:
        await self.farm.park_session(request.agent_id, request.session)
        return pb.ParkSessionResponse()

    async def SetUpkeep(self, request: pb.SetUpkeepRequest, _context: Any) -> pb.SetUpkeepResponse:
        return pb.SetUpkeepResponse(upkeep=self.farm.wish(request.agent_id, request.upkeep))

    async def DeclareDead(self, request: pb.DeclareDeadRequest, _context: Any) -> pb.DeclareDeadResponse:
        self.farm.lose(request.agent_id)
        return pb.DeclareDeadResponse()

    async def ListAgents(self, _request: Any, _context: Any) -> farm_service_pb2.ListAgentsResponse:
        await self.farm.list_agents()
        items = [
            farm_service_pb2.Agent(
                agent_id=agent.agent_id,
                state=farm_service_pb2.Agent.State.Value(agent.state),
                pools=agent.pools,
                slots=agent.slots,
                healthy=agent.healthy,
                message=agent.message,
                labels=dict(agent.labels),
                capacity=convert_people.capacity(agent.offer),
                session=agent.session,
            )
            for agent in self.farm.agents.values()
        ]
        for item, agent in zip(items, self.farm.agents.values(), strict=True):
            if agent.cordoned:
                item.cordoned_at.FromMilliseconds(7_000)
        return farm_service_pb2.ListAgentsResponse(items=items)

    async def GetGeneration(self, _request: Any, _context: Any) -> pb.GetGenerationResponse:
        return pb.GetGenerationResponse(generation=await self.farm.generation())

    async def RaiseGeneration(self, request: pb.RaiseGenerationRequest, _context: Any) -> pb.RaiseGenerationResponse:
        generation, raised = await self.farm.raise_generation(getattr(request, "from"))
        return pb.RaiseGenerationResponse(generation=generation, raised=raised)

    async def ListHeld(self, request: pb.ListHeldRequest, _context: Any) -> pb.ListHeldResponse:
        items = await self.farm.list_held(request.after, request.limit)
        return pb.ListHeldResponse(items=[held_message(item) for item in items])

    async def ListQueued(self, request: pb.ListQueuedRequest, _context: Any) -> pb.ListQueuedResponse:
        items, last = await self.farm.list_queued(request.after_seq, request.limit)
        return pb.ListQueuedResponse(items=[head_message(item) for item in items], last_seq=last)

    async def ListTaskQueue(self, request: pb.ListTaskQueueRequest, _context: Any) -> pb.ListTaskQueueResponse:
        items = await self.farm.list_task_queue(request.task_id, request.limit)
        return pb.ListTaskQueueResponse(items=[head_message(item) for item in items])

    async def ListQueuedTasks(self, request: pb.ListQueuedTasksRequest, _context: Any) -> pb.ListQueuedTasksResponse:
        return pb.ListQueuedTasksResponse(task_ids=await self.farm.list_queued_tasks(request.after, request.limit))

    async def ListQueues(self, request: pb.ListQueuesRequest, _context: Any) -> pb.ListQueuesResponse:
        items = []
        for queue in await self.farm.list_queues(request.after, request.limit):
            items.append(pb.TaskQueue(task_id=queue.task_id, queued=queue.queued))
            items[-1].oldest.FromMilliseconds(int(queue.oldest * 1000))
        return pb.ListQueuesResponse(items=items)

    async def Assign(self, request_iterator: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for request in request_iterator:
            generation = request.items[0].generation
            takings = [
                Taking(
                    head=Head(execution_id=item.execution_id, task_id="", priority=0, queue_seq=0, epoch=item.epoch),
                    token="",
                    agent_id=item.agent_id,
                    session=item.session,
                    pool=item.pool,
                )
                for item in request.items
            ]
            answers = await self.farm.assign(generation, takings)
            if any(answer.verdict is Verdict.UNANSWERED for answer in answers):
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the store is away")
            yield pb.AssignResponse(batch=request.batch, results=[_assign_result(answer) for answer in answers])

    async def Fence(self, request: pb.FenceRequest, _context: Any) -> pb.FenceResponse:
        answers = await self.farm.fence(request.execution_ids)
        return pb.FenceResponse(
            results=[
                pb.FenceResult(
                    ready=head_message(answer.ready) if answer.ready else None,
                    held=held_message(answer.held) if answer.held else None,
                )
                for answer in answers
            ]
        )

    async def Report(self, request_iterator: AsyncIterator[Any], _context: Any) -> AsyncIterator[Any]:
        async for response in answer_batches(request_iterator, self._report, pb.ReportResponse):
            yield response

    async def _report(self, items: Sequence[pb.AgentReport]) -> list[ReportResult]:
        if self.farm.away:
            raise Unavailable("the store is away")
        return [(await self.farm.report(i.agent_id, i.session, [i.report]))[0].result for i in items]


def _assign_result(answer: Assigned) -> pb.AssignResult:
    if answer.assignment is not None:
        return pb.AssignResult(assignment=answer.assignment)
    ready = head_message(answer.ready) if answer.ready else None
    return pb.AssignResult(refusal=_REFUSALS[answer.verdict], ready=ready)


class FakeFarmServer:
    """A FakeFarm at an address, which can go away and come back; how it is, is told while `well` is set."""

    def __init__(self, farm: FakeFarm, listen: str) -> None:
        self.farm = farm
        self.address = listen
        self.well = asyncio.Event()
        self.well.set()
        self._server: GrpcServer | None = None

    async def start(self) -> None:
        self._server = GrpcServer(self.address)
        check = self._server._health.Check

        async def late(request: Any, context: Any) -> Any:
            await self.well.wait()
            return await check(request, context)

        self._server._health.Check = late  # type: ignore[method-assign]
        self._server.add(
            add_FarmStoreServiceServicer_to_server,
            FakeFarmServicer(self.farm),
            "easyq_internal.store.v1.FarmStoreService",
        )
        await self._server.start()
        await self._server.set_serving(True)
        self.address = self._server.address

    async def say(self, serving: bool, why: str = "") -> None:
        """What its health is."""
        assert self._server is not None
        await self._server.set_serving(serving, why)

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(0)
            self._server = None
