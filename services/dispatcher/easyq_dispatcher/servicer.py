"""The dispatcher's two services: decode, call, encode."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import grpc.aio

from easyq_dispatcher.convert import agents as convert_agents
from easyq_dispatcher.convert import people as convert_people
from easyq_dispatcher.convert import store as convert_store
from easyq_dispatcher.domain.records import Head
from easyq_dispatcher.messages import Incoming
from easyq_dispatcher.ports import MatchIndex
from easyq_dispatcher.usecases.conversation import Conversations
from easyq_dispatcher.usecases.roster import Roster
from easyq_dispatcher.usecases.words import Words
from easyq_internal.dispatcher.v1 import dispatcher_pb2 as pb
from easyq_internal.dispatcher.v1 import dispatcher_pb2_grpc
from easyq_internal.store.v1.records_pb2 import Upkeep

Context = grpc.aio.ServicerContext[Any, Any]


class AgentLinkServicer(dispatcher_pb2_grpc.AgentLinkServiceServicer):
    """Agents' streams."""

    def __init__(self, conversations: Conversations) -> None:
        self._conversations = conversations

    async def Connect(
        self, request_iterator: AsyncIterator[pb.ConnectRequest], _context: Context
    ) -> AsyncIterator[pb.ConnectResponse]:
        async for message in self._conversations.talk(_decoded(request_iterator)):
            yield convert_agents.outgoing(message)


class DispatcherServicer(dispatcher_pb2_grpc.DispatcherServiceServicer):
    """News from gateway and scheduler, and words for people. `ready` is told of heads, `wake` looks for work again."""

    def __init__(
        self,
        *,
        ready: Callable[[Sequence[Head]], None],
        wish: Callable[[str, Upkeep], None],
        wake: Callable[[], None],
        index: MatchIndex,
        roster: Roster,
        words: Words,
    ) -> None:
        self._ready = ready
        self._wish = wish
        self._wake = wake
        self._index = index
        self._roster = roster
        self._words = words

    async def Notify(
        self, request_iterator: AsyncIterator[pb.NotifyRequest], _context: Context
    ) -> AsyncIterator[pb.NotifyResponse]:
        async for request in request_iterator:
            self._ready([convert_store.head(item) for item in request.ready])
            for agent_id, orders in convert_agents.stop_orders(request.stops).items():
                if link := self._roster.get(agent_id):
                    link.outbox.orders(orders)
            for news in request.upkeep:
                self._wish(news.agent_id, news.upkeep)
            yield pb.NotifyResponse(batch=request.batch)

    async def Explain(self, request: pb.ExplainRequest, _context: Context) -> pb.ExplainResponse:
        words = await self._words.explain(convert_people.asked(request))
        return pb.ExplainResponse(items=[convert_people.explanation(*pair) for pair in words.items()])

    async def GetMatching(self, _request: pb.GetMatchingRequest, _context: Context) -> pb.GetMatchingResponse:
        return convert_people.matching_response(await self._words.standing())

    async def ExplainTask(self, request: pb.ExplainTaskRequest, _context: Context) -> pb.ExplainTaskResponse:
        return convert_people.task_response(await self._words.explain_task(request.task_id))

    async def ExplainPool(self, request: pb.ExplainPoolRequest, _context: Context) -> pb.ExplainPoolResponse:
        return convert_people.pool_response(await self._words.explain_pool(request.name))

    async def ResetBreaker(self, request: pb.ResetBreakerRequest, _context: Context) -> pb.ResetBreakerResponse:
        await self._index.reset_breaker(convert_people.breaker_kind(request.kind), request.subject)
        self._wake()
        return pb.ResetBreakerResponse()


async def _decoded(messages: AsyncIterator[pb.ConnectRequest]) -> AsyncIterator[Incoming]:
    async for message in messages:
        yield convert_agents.incoming(message)
