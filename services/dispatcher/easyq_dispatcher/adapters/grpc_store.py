"""The store over gRPC: what is frequent in micro-batches on three streams, the rest as calls."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import grpc.aio

from easyq.v1.farm_service_pb2 import ListAgentsRequest
from easyq_chassis.batching import MicroBatcher
from easyq_chassis.clock import Clock
from easyq_chassis.errors import EasyQError
from easyq_chassis.logs import get_logger
from easyq_chassis.outages import OUTAGES, asking, neighbour
from easyq_chassis.status import from_rpc_error
from easyq_dispatcher.convert import store as convert_store
from easyq_dispatcher.domain.agents import Hello
from easyq_dispatcher.domain.assigning import Verdict
from easyq_dispatcher.domain.explain import AgentView
from easyq_dispatcher.domain.records import Fenced, Head, HeldExecution, Taking
from easyq_dispatcher.ports import Assigned, Beat, BeatAnswer, Queue, Reported, Session
from easyq_internal.store.v1 import farm_store_pb2 as pb
from easyq_internal.store.v1.farm_store_pb2_grpc import FarmStoreServiceStub
from easyq_internal.store.v1.records_pb2 import Report, ReportResult

Answer = TypeVar("Answer")

log = get_logger()
_STORE = neighbour("store")

# Assigns and reports in one batch. The store works a batch off in one go, some 0.1 ms an item: while a flood is worked
# off, that is what a single job waits for. Larger ones gain nothing (bench: `flood`, `executions`).
_MOST_ITEMS = 32
_SERVICE = "easyq_internal.store.v1.FarmStoreService"
#: Calls that may be repeated while the store is UNAVAILABLE: questions, and those that are harmless twice.
IDEMPOTENT = tuple(
    f"{_SERVICE}/{method}"
    for method in (
        "ListAgents",
        "GetGeneration",
        "ListHeld",
        "ListQueued",
        "ListTaskQueue",
        "ListQueuedTasks",
        "ListQueues",
        "ParkSession",
    )
)


class GrpcFarmStore:
    """`FarmStore` over a channel. `timeout`: seconds for any call."""

    def __init__(self, channel: grpc.aio.Channel, *, clock: Clock, timeout: float) -> None:
        self._stub = FarmStoreServiceStub(channel)
        self._clock = clock
        self._timeout = timeout
        self._beats: MicroBatcher[pb.AgentBeat, pb.BeatResult] = MicroBatcher(
            self._stub.Beat, pb.BeatRequest, size=pb.AgentBeat.ByteSize, timeout=timeout, neighbour=_STORE
        )
        self._assigns: MicroBatcher[pb.AssignItem, pb.AssignResult] = MicroBatcher(
            self._stub.Assign, pb.AssignRequest, most_items=_MOST_ITEMS, timeout=timeout, neighbour=_STORE
        )
        self._reports: MicroBatcher[pb.AgentReport, ReportResult] = MicroBatcher(
            self._stub.Report,
            pb.ReportRequest,
            most_items=_MOST_ITEMS,
            size=pb.AgentReport.ByteSize,
            timeout=timeout,
            neighbour=_STORE,
        )

    async def open_session(self, hello: Hello, *, pools: tuple[str, ...], lost_after_ms: int, lease_ms: int) -> Session:
        request = convert_store.open_session_request(hello, pools, lost_after_ms=lost_after_ms, lease_ms=lease_ms)
        response = await _answer(self._stub.OpenSession(request, timeout=self._timeout))
        upkeep = response.upkeep if response.HasField("upkeep") else None
        return Session(number=response.session, directives=response.directives, upkeep=upkeep)

    async def beat(self, beat: Beat) -> BeatAnswer:
        result = await self._beats.call(convert_store.beat_message(beat))
        upkeep = result.upkeep if result.HasField("upkeep") else None
        return BeatAnswer(fenced=result.fenced, directives=result.directives, upkeep=upkeep)

    async def park_session(self, agent_id: str, session: int) -> None:
        request = pb.ParkSessionRequest(agent_id=agent_id, session=session)
        await _answer(self._stub.ParkSession(request, timeout=self._timeout))

    async def list_agents(self) -> Sequence[AgentView]:
        response = await _answer(self._stub.ListAgents(ListAgentsRequest(), timeout=self._timeout))
        now = self._clock.now_ms()
        return [convert_store.agent_view(agent, now) for agent in response.items]

    async def generation(self) -> int:
        response = await _answer(self._stub.GetGeneration(pb.GetGenerationRequest(), timeout=self._timeout))
        return response.generation

    async def raise_generation(self, since: int) -> tuple[int, bool]:
        request = pb.RaiseGenerationRequest(**{"from": since})
        response = await _answer(self._stub.RaiseGeneration(request, timeout=self._timeout))
        return response.generation, response.raised

    async def list_held(self, after: str, limit: int) -> Sequence[HeldExecution]:
        request = pb.ListHeldRequest(after=after, limit=limit)
        response = await _answer(self._stub.ListHeld(request, timeout=self._timeout))
        return [convert_store.held_execution(item) for item in response.items]

    async def list_queued(self, after_seq: int, limit: int) -> tuple[Sequence[Head], int]:
        request = pb.ListQueuedRequest(after_seq=after_seq, limit=limit)
        response = await _answer(self._stub.ListQueued(request, timeout=self._timeout))
        return [convert_store.head(item) for item in response.items], response.last_seq

    async def list_task_queue(self, task_id: str, limit: int) -> Sequence[Head]:
        request = pb.ListTaskQueueRequest(task_id=task_id, limit=limit)
        response = await _answer(self._stub.ListTaskQueue(request, timeout=self._timeout))
        return [convert_store.head(item) for item in response.items]

    async def list_queued_tasks(self, after: str, limit: int) -> Sequence[str]:
        request = pb.ListQueuedTasksRequest(after=after, limit=limit)
        response = await _answer(self._stub.ListQueuedTasks(request, timeout=self._timeout))
        return tuple(response.task_ids)

    async def list_queues(self, after: str, limit: int) -> Sequence[Queue]:
        request = pb.ListQueuesRequest(after=after, limit=limit)
        response = await _answer(self._stub.ListQueues(request, timeout=self._timeout))
        return [convert_store.queue(item) for item in response.items]

    async def assign(self, generation: int, takings: Sequence[Taking]) -> Sequence[Assigned]:
        async def one(taking: Taking) -> Assigned:
            try:
                result = await self._assigns.call(convert_store.assign_item(taking, generation))
            except EasyQError as error:
                _tell_unanswered(error)("assign_unanswered", execution=taking.head.execution_id, error=str(error))
                return Assigned(taking=taking, verdict=Verdict.UNANSWERED)
            return convert_store.assigned(taking, result)

        return await asyncio.gather(*(one(taking) for taking in takings))

    async def fence(self, execution_ids: Sequence[str]) -> Sequence[Fenced]:
        request = pb.FenceRequest(execution_ids=execution_ids)
        response = await _answer(self._stub.Fence(request, timeout=self._timeout))
        return [convert_store.fenced(*pair) for pair in zip(execution_ids, response.results, strict=True)]

    async def report(self, agent_id: str, session: int, reports: Sequence[Report]) -> Sequence[Reported]:
        async def one(report: Report) -> Reported:
            try:
                item = pb.AgentReport(agent_id=agent_id, session=session, report=report)
                return convert_store.reported(report, await self._reports.call(item))
            except EasyQError as error:
                _tell_unanswered(error)(
                    "report_unanswered", execution=report.execution_id, agent=agent_id, error=str(error)
                )
                return convert_store.retry_later(report)

        return await asyncio.gather(*(one(report) for report in reports))

    async def close(self) -> None:
        """Ends the streams; calls that still wait get no answer."""
        await asyncio.gather(self._beats.close(), self._assigns.close(), self._reports.close())


def _tell_unanswered(error: EasyQError) -> Callable[..., None]:
    """Of a store that is away, its neighbour's lines tell with a count."""
    tell: Callable[..., None] = log.debug if isinstance(error, OUTAGES) else log.warning
    return tell


async def _answer(call: Awaitable[Answer]) -> Answer:
    with asking(_STORE):
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
