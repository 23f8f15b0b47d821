"""Agents without Docker: they speak the real protocol, and every program that they are given ends at once."""

import argparse
import asyncio
import contextlib
import sys
import time

import grpc.aio
import uvloop
from google.protobuf.duration_pb2 import Duration

from easyq_internal.dispatcher.v1 import dispatcher_pb2 as link
from easyq_internal.dispatcher.v1.dispatcher_pb2_grpc import AgentLinkServiceStub
from easyq_internal.store.v1 import records_pb2 as records

# Seconds without anything to do after which the wait for more is given up.
PATIENCE = 30.0


class SimulatedAgent:
    """One agent; `finished` counts the executions whose end was acknowledged."""

    def __init__(self, address: str, name: str, *, slots: int) -> None:
        self._address = address
        self._hello = link.Hello(
            agent_id=name,
            daemon_id=f"daemon-of-{name}",
            hostname=name,
            pools=["default"],
            slots=slots,
            version="simulated",
            protocol_min=1,
            protocol_max=1,
            health=link.Health(healthy=True),
        )
        self._pending: dict[str, records.Report] = {}
        self._to_send: asyncio.Queue[link.ConnectRequest] = asyncio.Queue()
        self.connected = asyncio.Event()
        self.finished = 0
        self.last_finish = 0.0

    async def run(self) -> None:
        """Until it is cancelled or the dispatcher ends the stream."""
        async with grpc.aio.insecure_channel(self._address) as channel:
            call = AgentLinkServiceStub(channel).Connect()
            await call.write(link.ConnectRequest(hello=self._hello))
            first = await call.read()
            assert isinstance(first, link.ConnectResponse)
            welcome = first.welcome
            self.connected.set()
            self._run([one.assignment for one in welcome.directives if one.HasField("assignment")])
            beats = asyncio.create_task(self._beat(_seconds(welcome.beat_every)))
            sender = asyncio.create_task(self._send(call))
            try:
                while isinstance(message := await call.read(), link.ConnectResponse):
                    self._take(message)
            finally:
                beats.cancel()
                sender.cancel()

    def _take(self, message: link.ConnectResponse) -> None:
        kind = message.WhichOneof("message")
        if kind == "runs":
            self._run(list(message.runs.items))
        elif kind == "results":
            for result in message.results.items:
                if result.verdict == records.ReportResult.Verdict.RETRY:
                    self._report([self._pending[result.execution_id]])
                elif self._pending.pop(result.execution_id, None):
                    self.finished += 1
                    self.last_finish = time.monotonic()
        elif kind == "beat_ack":
            self._run([one.assignment for one in message.beat_ack.directives if one.HasField("assignment")])

    def _run(self, assignments: list[records.Assignment]) -> None:
        finish = records.Finish(
            outcome=records.Finish.Outcome.EXITED,
            exit_code=0,
            container_id="0" * 64,
            ran_for=Duration(nanos=1_000_000),
        )
        self._report(
            [
                records.Report(execution_id=one.execution_id, epoch=one.epoch, finish=finish)
                for one in assignments
                if one.execution_id not in self._pending
            ]
        )

    def _report(self, reports: list[records.Report]) -> None:
        if reports:
            self._pending.update({report.execution_id: report for report in reports})
            self._to_send.put_nowait(link.ConnectRequest(reports=link.Reports(items=reports)))

    async def _beat(self, every: float) -> None:
        number = 0
        while True:
            await asyncio.sleep(every)
            number += 1
            inventory = [
                records.Held(execution_id=report.execution_id, epoch=report.epoch, phase=records.Held.Phase.EXITED)
                for report in self._pending.values()
            ]
            self._to_send.put_nowait(link.ConnectRequest(beat=link.Beat(number=number, inventory=inventory)))

    async def _send(self, call: "grpc.aio.StreamStreamCall[link.ConnectRequest, link.ConnectResponse]") -> None:
        while True:
            await call.write(await self._to_send.get())


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9


async def _main(addresses: list[str], agents: int, slots: int) -> None:
    """Says `connected`, then answers each line `N` of stdin with the moment at which N executions had ended."""
    all_agents = [
        SimulatedAgent(addresses[number % len(addresses)], f"simulated-{number}", slots=slots)
        for number in range(agents)
    ]
    tasks = [asyncio.create_task(agent.run()) for agent in all_agents]
    await asyncio.gather(*(agent.connected.wait() for agent in all_agents))
    print("connected", flush=True)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        target = int(line)
        asked = time.monotonic()
        while sum(agent.finished for agent in all_agents) < target:
            ended = [task for task in tasks if task.done()]
            if ended:
                await ended[0]
                raise RuntimeError("an agent's stream was closed")
            if time.monotonic() - max(asked, *(agent.last_finish for agent in all_agents)) > PATIENCE:
                raise RuntimeError(f"nothing came for {PATIENCE:g} s")
            await asyncio.sleep(0.005)
        print(max(agent.last_finish for agent in all_agents), flush=True)
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("addresses", help="dispatchers, separated by commas")
    parser.add_argument("--agents", type=int, default=4)
    parser.add_argument("--slots", type=int, default=50)
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(_main(options.addresses.split(","), options.agents, options.slots))
