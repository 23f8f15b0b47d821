"""The farm as an agent sees it, over real sockets: a dispatcher that assigns and a store that takes output.

It keeps to the protocol's rules (epochs, sessions, differences between inventory and what it holds), so that a test
that breaks the agent sees what the farm would see.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from google.protobuf.duration_pb2 import Duration

from easyq.v1.execution_service_pb2 import GetExecutionRequest
from easyq.v1.job_pb2 import Execution
from easyq.v1.log_service_pb2 import FollowLogsResponse, LogStream, ReadLogsResponse
from easyq.v1.spec_pb2 import JobSpec
from easyq_chassis.batching import answer_batches
from easyq_chassis.server import GrpcServer
from easyq_internal.dispatcher.v1 import dispatcher_pb2 as wire
from easyq_internal.dispatcher.v1.dispatcher_pb2_grpc import (
    AgentLinkServiceServicer,
    add_AgentLinkServiceServicer_to_server,
)
from easyq_internal.store.v1 import log_store_pb2 as logs
from easyq_internal.store.v1 import records_pb2 as records
from easyq_internal.store.v1.job_store_pb2_grpc import (
    JobStoreServiceServicer,
    add_JobStoreServiceServicer_to_server,
)
from easyq_internal.store.v1.log_store_pb2_grpc import (
    LogStoreServiceServicer,
    add_LogStoreServiceServicer_to_server,
)
from tests.support.waiting import eventually

Order = records.Directive.Order
Verdict = records.ReportResult.Verdict
Outcome = records.Finish.Outcome
STDOUT, STDERR = LogStream.STDOUT, LogStream.STDERR


@dataclass(kw_only=True)
class FarmExecution:
    """One execution as the store would keep it; `state` is ASSIGNED, RUNNING, QUEUED (given back) or ENDED."""

    execution_id: str
    spec: JobSpec
    epoch: int = 1
    state: str = "ASSIGNED"
    stop_requested: bool = False
    start_within: float | None = None
    trace: str = ""
    # What was told of its start and of its end.
    told_start: records.Started | None = None
    told_end: records.Finish | None = None
    told_back: records.GiveBack | None = None
    finishes: int = 0
    failure: str = ""
    output: dict[int, bytearray] = field(default_factory=lambda: {STDOUT: bytearray(), STDERR: bytearray()})

    @property
    def started(self) -> records.Started:
        assert self.told_start is not None, "no start was reported"
        return self.told_start

    @property
    def finish(self) -> records.Finish:
        assert self.told_end is not None, "no end was reported"
        return self.told_end

    @property
    def give_back(self) -> records.GiveBack:
        assert self.told_back is not None, "it was not given back"
        return self.told_back

    @property
    def stdout(self) -> bytes:
        return bytes(self.output[STDOUT])

    @property
    def stderr(self) -> bytes:
        return bytes(self.output[STDERR])

    @property
    def outcome(self) -> str:
        return Outcome.Kind.Name(self.finish.outcome) if self.told_end else ""

    def append(self, chunk: records.Chunk) -> logs.AppendResult:
        kept = self.output[chunk.stream]
        if chunk.epoch != self.epoch:
            return logs.AppendResult(verdict=logs.AppendResult.Verdict.STALE, stored=len(kept))
        if chunk.offset > len(kept):
            return logs.AppendResult(verdict=logs.AppendResult.Verdict.GAP, stored=len(kept))
        kept += chunk.data[len(kept) - chunk.offset :]
        return logs.AppendResult(verdict=logs.AppendResult.Verdict.OK, stored=len(kept))

    def complete(self) -> bool:
        return (len(self.stdout), len(self.stderr)) == (self.finish.stdout_size, self.finish.stderr_size)


class FakeFarm(AgentLinkServiceServicer, LogStoreServiceServicer):
    """One dispatcher, one store, one agent. Times are seconds."""

    def __init__(self, listen: str = "127.0.0.1:0") -> None:
        self.executions: dict[str, FarmExecution] = {}
        self.beat_every, self.lease, self.lost_after = 0.1, 5.0, 60.0
        self.hellos: list[wire.Hello] = []
        self.beats: list[wire.Beat] = []
        self.healths: list[wire.Health] = []
        self.parked = 0
        # What each connection did last: a status to refuse hellos with, beats that are not answered, and the like.
        self.refuse: grpc.StatusCode | None = None
        self.deaf = False
        self.deaf_to_beats = False
        self.retry_reports = 0
        self.lose_answers = 0
        self.chunks: list[records.Chunk] = []
        self.append_failures = 0
        self.session = 0
        # Executions that other agents hold, and which.
        self.elsewhere: dict[str, str] = {}
        # An operator's wish, told with each answer, and the deadline of a drain by the loop's clock.
        self.upkeep = records.Upkeep()
        self.drain_until: float | None = None
        self._listen = listen
        self._outgoing: asyncio.Queue[wire.ConnectResponse | None] | None = None
        self._server: GrpcServer | None = None

    # Life ---------------------------------------------------------------------------------------------------------
    async def start(self) -> "FakeFarm":
        self._server = GrpcServer(self._listen)
        self._server.add(add_AgentLinkServiceServicer_to_server, self, "easyq_internal.dispatcher.v1.AgentLinkService")
        self._server.add(add_LogStoreServiceServicer_to_server, self, "easyq_internal.store.v1.LogStoreService")
        self._server.add(
            add_JobStoreServiceServicer_to_server,
            FarmJobs(self),  # type: ignore[abstract] # the others stay UNIMPLEMENTED
            "easyq_internal.store.v1.JobStoreService",
        )
        await self._server.start()
        self._listen = self._server.address
        return self

    async def stop(self) -> None:
        """As if the process had died: streams break, the address is kept for another `start`."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(0)
        self._outgoing = None

    async def __aenter__(self) -> "FakeFarm":
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def address(self) -> str:
        return self._listen

    @property
    def connected(self) -> bool:
        return self._outgoing is not None

    @property
    def said_all(self) -> bool:
        """Whether nothing is on its way to the agent, which is connected."""
        return self._outgoing is not None and self._outgoing.empty()

    def go_silent(self) -> None:
        """Beats and reports stay unanswered, and no hello is welcomed."""
        self.deaf, self.refuse = True, grpc.StatusCode.UNAVAILABLE

    def speak_again(self) -> None:
        self.deaf, self.refuse = False, None

    def break_stream(self) -> None:
        """Ends the agent's stream."""
        assert self._outgoing is not None
        self._outgoing.put_nowait(None)

    def lose_last_message(self) -> None:
        """What was sent last never arrives."""
        assert self._outgoing is not None
        waiting = [self._outgoing.get_nowait() for _ in range(self._outgoing.qsize())]
        for message in waiting[:-1]:
            self._outgoing.put_nowait(message)

    # What a test asks ---------------------------------------------------------------------------------------------
    def run(
        self, spec: JobSpec, *, start_within: float | None = None, execution_id: str = "", trace: str = ""
    ) -> FarmExecution:
        """Assigns a new execution: told at once if the agent is connected, else by its hello or a beat."""
        id_ = execution_id or str(uuid.uuid4())
        one = FarmExecution(execution_id=id_, spec=spec, start_within=start_within, trace=trace)
        self.executions[one.execution_id] = one
        self.send_run(one)
        return one

    def send_run(self, one: FarmExecution) -> None:
        self._send(wire.ConnectResponse(runs=wire.Runs(items=[self._assignment(one)])))

    def assign_again(self, one: FarmExecution) -> None:
        """What was given back is assigned once more."""
        assert one.state == "QUEUED"
        one.state, one.epoch = "ASSIGNED", one.epoch + 1
        self.send_run(one)

    def stop_execution(self, one: FarmExecution) -> None:
        one.stop_requested = True
        self._send_order(Order.STOP, one)

    def tell_upkeep(self, *, cordoned: bool = False, draining: bool = False, within: float | None = None) -> None:
        """Told at once, and with each answer from now on; `within` seconds a drain has to be over."""
        self.set_upkeep(cordoned=cordoned, draining=draining, within=within)
        self._send(wire.ConnectResponse(upkeep=self._upkeep()))

    def set_upkeep(self, *, cordoned: bool = False, draining: bool = False, within: float | None = None) -> None:
        """The same, told with the next answer only."""
        self.upkeep = records.Upkeep(cordoned=cordoned, draining=draining)
        self.drain_until = None if within is None else asyncio.get_running_loop().time() + within

    def _upkeep(self) -> records.Upkeep:
        told = records.Upkeep()
        told.CopyFrom(self.upkeep)
        if self.drain_until is not None:
            told.deadline_in.CopyFrom(_duration(max(0.0, self.drain_until - asyncio.get_running_loop().time())))
        return told

    def take_away(self, one: FarmExecution) -> None:
        """It is not the agent's any more: as after LOST."""
        one.epoch += 1
        one.state = "ENDED"

    async def ended(self, one: FarmExecution, timeout: float = 30.0) -> FarmExecution:
        await eventually(lambda: one.state in {"ENDED", "QUEUED"}, timeout, message=f"{one.execution_id} has ended")
        return one

    async def is_running(self, one: FarmExecution, timeout: float = 30.0) -> FarmExecution:
        await eventually(lambda: one.state == "RUNNING", timeout, message=f"{one.execution_id} runs")
        return one

    async def until_connected(self, timeout: float = 20.0) -> None:
        await eventually(lambda: self.connected, timeout, message="the agent is connected")

    # AgentLinkService ---------------------------------------------------------------------------------------------
    async def Connect(
        self, requests: AsyncIterator[wire.ConnectRequest], context: Any
    ) -> AsyncIterator[wire.ConnectResponse]:
        hello = (await anext(aiter(requests))).hello
        if self.refuse is not None:
            await context.abort(self.refuse, "refused by the test")
        self.hellos.append(hello)
        self.session += 1
        outgoing: asyncio.Queue[wire.ConnectResponse | None] = asyncio.Queue()
        if self._outgoing is not None:
            self._outgoing.put_nowait(None)  # fenced by the newer one
        self._outgoing = outgoing
        welcome = wire.Welcome(
            session=self.session,
            protocol=1,
            beat_every=_duration(self.beat_every),
            lease=_duration(self.lease),
            lost_after=_duration(self.lost_after),
            directives=self._reconcile(hello.inventory),
            upkeep=self._upkeep(),
        )
        outgoing.put_nowait(wire.ConnectResponse(welcome=welcome))
        listening = asyncio.create_task(self._listen_to(requests, outgoing))
        try:
            while (message := await outgoing.get()) is not None:
                yield message
        finally:
            listening.cancel()
            if self._outgoing is outgoing:
                self._outgoing = None

    async def _listen_to(
        self, requests: AsyncIterator[wire.ConnectRequest], outgoing: asyncio.Queue[wire.ConnectResponse | None]
    ) -> None:
        with suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
            async for request in requests:
                self._hear(request, outgoing)
        outgoing.put_nowait(None)

    def _hear(self, request: wire.ConnectRequest, outgoing: asyncio.Queue[wire.ConnectResponse | None]) -> None:
        kind = request.WhichOneof("message")
        if self.deaf:
            return
        if kind == "beat":
            self.beats.append(request.beat)
            if self.deaf_to_beats:
                return
            ack = wire.BeatAck(
                number=request.beat.number, directives=self._reconcile(request.beat.inventory), upkeep=self._upkeep()
            )
            outgoing.put_nowait(wire.ConnectResponse(beat_ack=ack))
        elif kind == "reports":
            results = [self._report(item) for item in request.reports.items]
            if self.lose_answers > 0:
                self.lose_answers -= 1
                return
            outgoing.put_nowait(wire.ConnectResponse(results=wire.ReportResults(items=results)))
        elif kind == "health":
            self.healths.append(request.health)
        elif kind == "goodbye":
            self.parked += 1
            outgoing.put_nowait(wire.ConnectResponse(parked=wire.Parked()))

    def _report(self, report: records.Report) -> records.ReportResult:
        result = records.ReportResult(execution_id=report.execution_id, epoch=report.epoch)
        if self.retry_reports > 0:
            self.retry_reports -= 1
            result.verdict = Verdict.RETRY
            return result
        one = self.executions.get(report.execution_id)
        repeated = one is not None and one.state == "ENDED" and one.epoch == report.epoch
        if one is None or one.epoch != report.epoch or (one.state not in {"ASSIGNED", "RUNNING"} and not repeated):
            result.verdict = Verdict.STALE
            return result
        result.verdict = Verdict.OK
        if repeated:
            result.logs_complete = one.complete()
            return result
        self._apply(one, report)
        result.logs_complete = one.state == "ENDED" and one.complete()
        return result

    def _apply(self, one: FarmExecution, report: records.Report) -> None:
        if report.HasField("started"):
            one.state, one.told_start = "RUNNING", report.started
        elif report.HasField("give_back"):
            one.state, one.failure = "QUEUED", report.give_back.failure.message
            one.told_back = report.give_back
        else:
            one.state, one.told_end = "ENDED", report.finish
            one.finishes += 1
            for chunk in report.finish.tail:
                one.append(chunk)

    def _reconcile(self, inventory: Any) -> list[records.Directive]:
        held = {(one.execution_id, one.epoch) for one in inventory}
        orders = []
        for execution_id, epoch in held:
            known = self.executions.get(execution_id)
            mine = known is not None and known.epoch == epoch and known.state in {"ASSIGNED", "RUNNING"}
            if not mine:
                orders.append(records.Directive(kind=Order.KILL, execution_id=execution_id, epoch=epoch))
        for one in self.executions.values():
            if one.state not in {"ASSIGNED", "RUNNING"}:
                continue
            if one.stop_requested:
                orders.append(self._order(Order.STOP, one))
            elif (one.execution_id, one.epoch) not in held:
                orders.append(self._order(Order.RUN if one.state == "ASSIGNED" else Order.ADOPT, one))
        return orders

    def _order(self, kind: Any, one: FarmExecution) -> records.Directive:
        order = records.Directive(kind=kind, execution_id=one.execution_id, epoch=one.epoch)
        if kind in {Order.RUN, Order.ADOPT}:
            order.assignment.CopyFrom(self._assignment(one))
        return order

    def _send_order(self, kind: Any, one: FarmExecution) -> None:
        self._send(wire.ConnectResponse(directives=wire.Directives(items=[self._order(kind, one)])))

    def tell(self, message: wire.ConnectResponse) -> None:
        """Whatever it is."""
        self._send(message)

    def _send(self, message: wire.ConnectResponse) -> None:
        if self._outgoing is not None:
            self._outgoing.put_nowait(message)

    def _assignment(self, one: FarmExecution) -> records.Assignment:
        return records.Assignment(
            execution_id=one.execution_id,
            epoch=one.epoch,
            task_id="task",
            job_id="job-" + one.execution_id[:8],
            attempt=1,
            fence=7,
            spec=one.spec,
            start_within=None if one.start_within is None else _duration(one.start_within),
            stdout_offset=len(one.stdout),
            stderr_offset=len(one.stderr),
            trace=one.trace,
        )

    # LogStoreService ----------------------------------------------------------------------------------------------
    async def Append(
        self, requests: AsyncIterator[logs.AppendRequest], context: Any
    ) -> AsyncIterator[logs.AppendResponse]:
        async for response in answer_batches(requests, self._append_all, logs.AppendResponse):
            if self.append_failures > 0:
                self.append_failures -= 1
                await context.abort(grpc.StatusCode.UNAVAILABLE, "refused by the test")
            yield response

    async def ReadLogs(self, request: Any, context: Any) -> AsyncIterator[ReadLogsResponse]:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "agents do not read")
        yield ReadLogsResponse()

    async def FollowLogs(self, request: Any, context: Any) -> AsyncIterator[FollowLogsResponse]:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "agents do not read")
        yield FollowLogsResponse()

    async def _append_all(self, items: Any) -> list[logs.AppendResult]:
        self.chunks += items
        return [self._append(chunk) for chunk in items]

    def _append(self, chunk: records.Chunk) -> logs.AppendResult:
        one = self.executions.get(chunk.execution_id)
        return one.append(chunk) if one else logs.AppendResult(verdict=logs.AppendResult.Verdict.STALE)


class FarmJobs(JobStoreServiceServicer):
    """What a `FakeFarm` tells of its executions: only where they are."""

    def __init__(self, farm: FakeFarm) -> None:
        self._farm = farm

    async def GetExecution(self, request: GetExecutionRequest, context: Any) -> Execution:
        known = self._farm.elsewhere.get(request.execution_id)
        if known is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such execution")
            raise AssertionError
        return Execution(execution_id=request.execution_id, state=Execution.State.RUNNING, host=known)


def _duration(seconds: float) -> Duration:
    made = Duration()
    made.FromMilliseconds(round(seconds * 1000))
    return made
