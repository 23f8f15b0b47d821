"""The dispatchers over gRPC: words that may be lost, and questions that may stay without an answer."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

import grpc.aio

from easyq.v1 import job_pb2
from easyq_chassis.clock import Clock, SystemClock
from easyq_chassis.errors import DeadlineExceeded, EasyQError, NotFound, Unavailable
from easyq_chassis.loops import Loop
from easyq_chassis.status import from_rpc_error
from easyq_gateway.adapters.calls import answered
from easyq_gateway.ports import Explained, Matching, none_answers
from easyq_internal.dispatcher.v1 import dispatcher_pb2, dispatcher_pb2_grpc
from easyq_internal.store.v1 import job_store_pb2, records_pb2

# Words that wait for a dispatcher. Beyond that the oldest are dropped: its reconcile finds what they told.
_MOST_WORDS = 2_000
_MOST_EXPLAINED = 1_000
# Seconds between two batches of news: the first of them waits for nothing, and under load fewer carry more.
_PAUSE = 0.002
# Seconds that a batch of news gets. Nobody waits for it, and what isn't told waits for the dispatcher's own reconcile.
_NEWS_TIMEOUT = 5.0
# Seconds after which what a dispatcher said of its pools is not worth repeating.
_REMEMBERED = 300.0


class DispatcherLink:
    """One dispatcher: its stream of news, and its answers.

    `timeout`: seconds that words beside another answer get; `patience`: that what was asked for itself gets.
    """

    def __init__(
        self,
        address: str,
        channel: grpc.aio.Channel,
        *,
        timeout: float,
        patience: float,
        clock: Clock | None = None,
    ) -> None:
        self.address = address
        self._clock = clock or SystemClock()
        # What it said last of its pools, and when (monotonic).
        self._view: tuple[dispatcher_pb2.GetMatchingResponse, float] | None = None
        self._timeout = timeout
        self._patience = patience
        self._stub: Any = dispatcher_pb2_grpc.DispatcherServiceStub(channel)
        self._ready: deque[records_pb2.Head] = deque(maxlen=_MOST_WORDS)
        self._stops: deque[job_store_pb2.StopHint] = deque(maxlen=_MOST_WORDS)
        self._upkeep: deque[dispatcher_pb2.UpkeepNews] = deque(maxlen=_MOST_WORDS)
        self._arrived = asyncio.Event()
        self._call: Any = None
        self._batch = 0
        self._loop = Loop("notify_dispatcher", self._tell, interval=0.0)

    def start(self) -> None:
        self._loop.start()

    async def stop(self) -> None:
        await self._loop.stop()
        self._drop_call()

    def tell(
        self,
        *,
        ready: Sequence[records_pb2.Head] = (),
        stops: Sequence[job_store_pb2.StopHint] = (),
        upkeep: Sequence[dispatcher_pb2.UpkeepNews] = (),
    ) -> None:
        """Takes words for the next batch."""
        self._ready.extend(ready)
        self._stops.extend(stops)
        self._upkeep.extend(upkeep)
        self._arrived.set()

    async def matching(self) -> Matching:
        """Returns its view, or why there is none."""
        view = await self.ask("GetMatching", dispatcher_pb2.GetMatchingRequest())
        if not isinstance(view, EasyQError):
            self._view = view, self._clock.monotonic()
            return Matching(address=self.address, view=view)
        if not isinstance(view, DeadlineExceeded):
            return Matching(address=self.address, view=None, error=view.message)
        last, age = self._last_view()
        return Matching(
            address=self.address,
            view=None,
            error=f"no answer within {self._patience:g} s",
            slow_after=self._patience,
            last=last,
            last_age=age,
        )

    async def ask(self, method: str, request: Any, *, patient: bool = True) -> Any:
        """Returns its answer to a call of its service, or the error that it ended with: `DeadlineExceeded` where it may
        be there, and did not answer in time."""
        asked, timeout = getattr(self._stub, method), self.time_for(patient=patient)
        try:
            return await (await answered(asked, request, address=self.address, timeout=timeout))
        except grpc.aio.AioRpcError as error:
            return from_rpc_error(error)

    def time_for(self, *, patient: bool) -> float:
        """The seconds that it gets for an answer."""
        return self._patience if patient else self._timeout

    def _last_view(self) -> tuple[dispatcher_pb2.GetMatchingResponse | None, float]:
        if self._view is None:
            return None, 0.0
        view, said = self._view
        age = self._clock.monotonic() - said
        return (view, age) if age <= _REMEMBERED else (None, 0.0)

    async def _tell(self) -> float:
        await self._arrived.wait()
        self._arrived.clear()
        request = dispatcher_pb2.NotifyRequest(
            batch=self._batch, ready=self._ready, stops=self._stops, upkeep=self._upkeep
        )
        self._ready.clear()
        self._stops.clear()
        self._upkeep.clear()
        self._batch += 1
        try:
            async with asyncio.timeout(_NEWS_TIMEOUT):
                self._call = self._call or self._stub.Notify()
                await self._call.write(request)
                answer = await self._call.read()
        except (grpc.aio.AioRpcError, grpc.aio.UsageError, asyncio.InvalidStateError, TimeoutError) as error:
            self._drop_call()
            raise Unavailable(f"the dispatcher at {self.address} takes no news: {error!r:.200}") from error
        if answer is grpc.aio.EOF:
            self._drop_call()
            raise Unavailable(f"the dispatcher at {self.address} ended the stream of news")
        return _PAUSE

    def _drop_call(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.cancel()


class GrpcDispatchers:
    """`Dispatchers`: all of them are told and asked at once."""

    def __init__(self, links: Sequence[DispatcherLink]) -> None:
        self._links = links

    def start(self) -> None:
        for link in self._links:
            link.start()

    async def stop(self) -> None:
        for link in self._links:
            await link.stop()

    def tell_ready(self, head: records_pb2.Head) -> None:
        for link in self._links:
            link.tell(ready=(head,))

    def tell_stops(self, hints: Sequence[job_store_pb2.StopHint]) -> None:
        if hints:
            for link in self._links:
                link.tell(stops=hints)

    def tell_upkeep(self, news: dispatcher_pb2.UpkeepNews) -> None:
        for link in self._links:
            link.tell(upkeep=(news,))

    async def explain(self, items: Sequence[dispatcher_pb2.ExplainItem], *, patient: bool = False) -> Explained:
        request = dispatcher_pb2.ExplainRequest(items=items[:_MOST_EXPLAINED])
        answers = await self._ask("Explain", request, patient=patient)
        told = [answer for answer in answers if isinstance(answer, dispatcher_pb2.ExplainResponse)]
        best: dict[str, dispatcher_pb2.Explanation] = {}
        for answer in told:
            for one in answer.items:
                known = best.get(one.execution_id)
                if known is None or _ignorance(one) < _ignorance(known):
                    best[one.execution_id] = one
        waiting = {name: one.waiting for name, one in best.items()}
        slow_after = None if told else self._slow_after(answers, patient=patient)
        return Explained(answered=bool(told), waiting=waiting, slow_after=slow_after)

    async def matching(self) -> Sequence[Matching]:
        return await asyncio.gather(*(link.matching() for link in self._links))

    async def explain_task(self, task_id: str) -> dispatcher_pb2.ExplainTaskResponse | None:
        answers = await self._ask("ExplainTask", dispatcher_pb2.ExplainTaskRequest(task_id=task_id))
        told = [answer for answer in answers if isinstance(answer, dispatcher_pb2.ExplainTaskResponse)]
        return min(told, key=lambda answer: answer.blind, default=None)

    async def explain_pool(self, name: str) -> dispatcher_pb2.ExplainPoolResponse:
        answers = await self._ask("ExplainPool", dispatcher_pb2.ExplainPoolRequest(name=name))
        told = [answer for answer in answers if isinstance(answer, dispatcher_pb2.ExplainPoolResponse)]
        if told:
            return min(told, key=_ignorance)
        if any(isinstance(answer, NotFound) for answer in answers):
            raise NotFound("there is no pool of this name", reason="POOL_NOT_FOUND")
        raise none_answers(self._slow_after(answers))

    async def reset_breaker(self, request: dispatcher_pb2.ResetBreakerRequest) -> None:
        answers = await self._ask("ResetBreaker", request)
        if all(isinstance(answer, EasyQError) for answer in answers):
            raise none_answers(self._slow_after(answers))

    async def _ask(self, method: str, request: Any, *, patient: bool = True) -> list[Any]:
        """All at once, each within its own time."""
        return await asyncio.gather(*(link.ask(method, request, patient=patient) for link in self._links))

    def _slow_after(self, answers: Sequence[Any], *, patient: bool = True) -> float | None:
        """The seconds within which one that may be there did not answer; None where there is none such."""
        slow = [link for link, answer in zip(self._links, answers, strict=True) if isinstance(answer, DeadlineExceeded)]
        return max((link.time_for(patient=patient) for link in slow), default=None)


def _ignorance(told: dispatcher_pb2.Explanation | dispatcher_pb2.ExplainPoolResponse) -> tuple[bool, int]:
    """The lower, the more of it is known: one that can't reach Redis knows nothing, and one that hears the agents
    themselves more than one which only has the store's word on them."""
    return told.waiting.reason == job_pb2.Waiting.DISPATCHER_UNAVAILABLE, -told.agents_here
