"""An agent that a test leads: the real protocol over a real socket, and no containers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Self

import grpc.aio

from easyq.v1.job_pb2 import Failure
from easyq_chassis.channel import open_channel
from easyq_internal.dispatcher.v1 import dispatcher_pb2 as pb
from easyq_internal.dispatcher.v1.dispatcher_pb2_grpc import AgentLinkServiceStub
from easyq_internal.store.v1.records_pb2 import (
    Assignment,
    Directive,
    Finish,
    GiveBack,
    Held,
    Offer,
    Report,
    ReportResult,
    Upkeep,
)

Phase = Held.Phase


class ScriptedAgent:
    """Runs what it is given until `finish` or, if `at_once`, for no time; connects again by itself if `reconnect`.

    `started` has every (execution, epoch) that it began, in order; `results` every answer to its reports.
    """

    def __init__(
        self,
        address: str,
        name: str = "a",
        *,
        slots: int = 2,
        pools: tuple[str, ...] = ("default",),
        at_once: bool = False,
        reconnect: bool = False,
        daemon: str = "",
        protocol: tuple[int, int] = (1, 1),
        healthy: bool = True,
        offer: tuple[int, int, int] = (0, 0, 0),
        labels: dict[str, str] | None = None,
    ) -> None:
        self.name = name
        self.slots = slots
        self._address = address
        self._pools = pools
        self._daemon = daemon or f"daemon-of-{name}"
        self._protocol = protocol
        self._at_once = at_once
        self._reconnect = reconnect
        self._healthy = healthy
        self._offer = Offer(cpu_millis=offer[0], memory=offer[1], gpus=offer[2])
        self._labels = labels or {}
        self._channel = open_channel(address)
        self._call: Any = None
        self._task: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()
        self._number = 0
        self._unanswered: dict[str, Report] = {}
        self.running: dict[str, int] = {}
        self.phases: dict[str, Phase.Name.ValueType] = {}
        self.started: list[tuple[str, int]] = []
        self.directives: list[Directive] = []
        self.results: list[ReportResult] = []
        self.acknowledged: list[int] = []
        self.most_running = 0
        self.welcome: pb.Welcome | None = None
        self.parked = False
        self.upkeep: list[Upkeep] = []
        self.ended: grpc.StatusCode | None = None
        self.details = ""
        self.on_start: Callable[[str], None] = lambda _: None

    async def connect(self) -> Self:
        """Says hello and waits for the welcome. Raises AioRpcError if the stream is refused."""
        self._call = AgentLinkServiceStub(self._channel).Connect()
        hello = pb.Hello(
            agent_id=self.name,
            daemon_id=self._daemon,
            hostname=self.name,
            pools=self._pools,
            slots=self.slots,
            labels=self._labels,
            offer=self._offer,
            version="test",
            protocol_min=self._protocol[0],
            protocol_max=self._protocol[1],
            inventory=self._inventory(),
            health=pb.Health(healthy=self._healthy, message="" if self._healthy else "Docker Engine does not answer"),
        )
        await self._send(hello=hello)
        first = await self._call.read()
        if first is grpc.aio.EOF:
            initial, trailing = await self._call.initial_metadata(), await self._call.trailing_metadata()
            code, details = await self._call.code(), await self._call.details()
            raise grpc.aio.AioRpcError(code, initial, trailing, details=details)
        self.welcome = first.welcome
        self.ended = None
        await self._obey(first.welcome.directives)
        await self._resend()
        if self._task is None:
            self._task = asyncio.create_task(self._live(), name=f"agent {self.name}")
        return self

    async def finish(self, *ids: str) -> None:
        """Reports that these ended; all that runs if none is named."""
        await self._report([self._finished(name) for name in ids or list(self.running)])

    async def start(self, *ids: str) -> None:
        """Reports that these run."""
        await self._report([self._word(name, started={"container_id": "c"}) for name in ids])

    async def give_back(self, *ids: str, reason: Failure.Reason.ValueType = Failure.UNSPECIFIED) -> None:
        """Reports that these never started."""
        word = GiveBack(failure=Failure(reason=reason, message="so it is"))
        await self._report([self._word(name, give_back=word) for name in ids])
        for name in ids:
            del self.running[name]

    async def beat(self) -> int:
        """Sends a beat with all that it has; its number."""
        self._number += 1
        await self._send(beat=pb.Beat(number=self._number, inventory=self._inventory()))
        return self._number

    async def health(self, healthy: bool, message: str = "") -> None:
        await self._send(health=pb.Health(healthy=healthy, message=message))

    async def goodbye(self) -> None:
        await self._send(goodbye=pb.Goodbye())

    async def send_hello_again(self) -> None:
        await self._send(hello=pb.Hello(agent_id=self.name))

    def vanish(self) -> None:
        """Cuts the stream, as a crash does."""
        self._reconnect = False
        if self._call is not None:
            self._call.cancel()

    async def close(self) -> None:
        self.vanish()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return await self.connect()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # -------------------------------------------------------------------------------------------------------- the rest
    async def _live(self) -> None:
        while True:
            await self._hear_all()
            while self._reconnect:
                try:
                    await self.connect()
                    break
                except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                    await asyncio.sleep(0.05)
            if not self._reconnect:
                return

    async def _hear_all(self) -> None:
        try:
            while (message := await self._call.read()) is not grpc.aio.EOF:
                await self._hear(message)
            self.ended, self.details = await self._call.code(), await self._call.details()
        except grpc.aio.AioRpcError as error:
            self.ended, self.details = error.code(), error.details() or ""
        except (asyncio.InvalidStateError, asyncio.CancelledError):
            if not self._call.cancelled():
                raise
            self.ended = grpc.StatusCode.CANCELLED

    async def _hear(self, message: pb.ConnectResponse) -> None:
        match message.WhichOneof("message"):
            case "runs":
                await self._run(list(message.runs.items))
            case "results":
                await self._answered(list(message.results.items))
            case "beat_ack":
                self.upkeep.append(message.beat_ack.upkeep)
                self.acknowledged.append(message.beat_ack.number)
                await self._obey(message.beat_ack.directives)
            case "directives":
                await self._obey(message.directives.items)
            case "upkeep":
                self.upkeep.append(message.upkeep)
            case "parked":
                self.parked = True

    async def _run(self, assignments: list[Assignment]) -> None:
        new = [item for item in assignments if self.running.get(item.execution_id) != item.epoch]
        for item in new:
            self.running[item.execution_id] = item.epoch
            self.started.append((item.execution_id, item.epoch))
            self.on_start(item.execution_id)
        self.most_running = max(self.most_running, len(self.running) - self._said_ended())
        if self._at_once:
            await self.finish(*(item.execution_id for item in new))

    async def _obey(self, directives: Any) -> None:
        self.directives += directives
        for order in directives:
            if order.kind == Directive.Order.RUN:
                await self._run([order.assignment])
            elif order.kind == Directive.Order.KILL:
                self.running.pop(order.execution_id, None)

    async def _answered(self, results: list[ReportResult]) -> None:
        self.results += results
        again = []
        for result in results:
            report = self._unanswered.pop(result.execution_id, None)
            if report and result.verdict == ReportResult.Verdict.RETRY:
                again.append(report)
            elif report and report.WhichOneof("word") == "finish":
                self.running.pop(result.execution_id, None)
        if again:
            await asyncio.sleep(0.05)
            await self._report(again)

    def _said_ended(self) -> int:
        """How many gave their place back: new work may come before the answer to the report of their end."""
        return sum(report.WhichOneof("word") == "finish" for report in self._unanswered.values())

    async def _resend(self) -> None:
        if self._unanswered:
            await self._report(list(self._unanswered.values()))

    async def _report(self, reports: list[Report]) -> None:
        if reports:
            self._unanswered.update({report.execution_id: report for report in reports})
            await self._send(reports=pb.Reports(items=reports))

    def _finished(self, name: str) -> Report:
        return self._word(name, finish=Finish(outcome=Finish.Outcome.EXITED, exit_code=0))

    def _word(self, name: str, **word: Any) -> Report:
        return Report(execution_id=name, epoch=self.running[name], **word)

    def _inventory(self) -> list[Held]:
        return [
            Held(execution_id=name, epoch=epoch, phase=self.phases.get(name, Phase.RUNNING))
            for name, epoch in self.running.items()
        ]

    async def _send(self, **message: Any) -> None:
        try:
            async with self._writing:
                await self._call.write(pb.ConnectRequest(**message))
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, grpc.aio.UsageError):
            if not self._reconnect:
                raise
