"""Events as Server-Sent Events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing

from aiohttp import web

from easyq.v1.event_service_pb2 import WatchRequest
from easyq_chassis.errors import EasyQError, InvalidArgument
from easyq_chassis.logs import get_logger
from easyq_gateway import places
from easyq_gateway.codec import sse
from easyq_gateway.codec.query import BadQuery, fill_from_query, parameters, split_query
from easyq_gateway.codec.scalars import check_text
from easyq_gateway.domain.problems import Problems
from easyq_gateway.rest import pace
from easyq_gateway.rest.answers import COMMON_HEADERS
from easyq_gateway.rest.requests import target_of
from easyq_gateway.rest.routes import Route
from easyq_gateway.usecases.feed import Entry
from easyq_gateway.usecases.watching import Watching

#: Stores that were away when the watch began: with them back, a RESET comes.
AWAY = "EasyQ-Stores-Away"

_JSON_NAMES = {field.name: field.json_name for field in WatchRequest.DESCRIPTOR.fields}


class Events:
    """The handlers."""

    def __init__(self, *, watching: Watching, beat: float = pace.QUIET) -> None:
        self._watching = watching
        self._beat = beat
        self._log = get_logger()

    def routes(self) -> Iterator[Route]:
        """Yields the routes."""
        for place in places.EVENTS:
            yield Route(verb="GET", segments=(*place, "events"), handler=self._watch, streams=True)

    async def _watch(self, request: web.BaseRequest, where: dict[str, str]) -> web.StreamResponse:
        message, problems = _read(request, where)
        async with aclosing(self._watching.watch(message, problems, beat=self._beat)) as events:
            # Until here an error can be told as such.
            first = await anext(events)
            away = {AWAY: ", ".join(self._watching.away)} if self._watching.away else {}
            response = web.StreamResponse(headers={**COMMON_HEADERS, **sse.HEADERS, **away})
            await response.prepare(request)
            if request.method != "HEAD":
                await self._send(request, response, first, events)
        await pace.end(request, response)
        return response

    async def _send(
        self,
        request: web.BaseRequest,
        response: web.StreamResponse,
        first: list[Entry],
        events: AsyncGenerator[list[Entry]],
    ) -> None:
        try:
            await _write(response, sse.BEGIN + b"".join(entry.sse for entry in first))
            async for entries in events:
                await _write(response, b"".join(entry.sse for entry in entries) or sse.ALIVE)
        except (EasyQError, TimeoutError) as error:
            # Whoever reads comes again, with the id of the last event that it got.
            self._log.debug("events_ended", path=target_of(request).path[:200], error=str(error))
            raise ConnectionResetError("the events were cut off") from error


async def _write(response: web.StreamResponse, data: bytes) -> None:
    # Cheaper than `pace.taken`, and enough: what is written at once is small.
    async with asyncio.timeout(pace.STALLED):
        await response.write(data)


def _read(request: web.BaseRequest, where: Mapping[str, str]) -> tuple[WatchRequest, Problems]:
    """The request as gRPC has it, and what is wrong with it. The header Last-Event-ID is newer than the parameter."""
    message, problems = WatchRequest(), Problems()
    for field, value in where.items():
        _set(message, field, value, problems)
    try:
        pairs = split_query(target_of(request).query)
    except BadQuery as error:
        raise InvalidArgument(str(error)) from None
    fill_from_query(pairs, parameters(WatchRequest.DESCRIPTOR, set(where)), message, problems)
    last = request.headers.get("Last-Event-ID")
    if last:
        _set(message, "last_event_id", last, problems)
    return message, problems


def _set(message: WatchRequest, field: str, value: str, problems: Problems) -> None:
    text = check_text(value, _JSON_NAMES[field], problems)
    if text is not None:
        setattr(message, field, text)
