"""Output as it comes: `…/stream` as raw bytes or Server-Sent Events, `…/ws` as WebSocket, and parts of what is stored.

All read at the reader's pace. Whoever is cut off goes on by `?from=<position>`, or by the header Last-Event-ID.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing

from aiohttp import web

from easyq.v1 import job_pb2, log_service_pb2
from easyq_chassis.errors import EasyQError, InvalidArgument, NotFound
from easyq_chassis.logs import get_logger
from easyq_gateway.codec import sse
from easyq_gateway.codec.wellknown import show_timestamp
from easyq_gateway.convert import refusal
from easyq_gateway.domain.output import Lines, Stamper
from easyq_gateway.domain.problems import Problems
from easyq_gateway.rest import log_query, pace
from easyq_gateway.rest.answers import COMMON_HEADERS, Refused
from easyq_gateway.rest.frames import Framing
from easyq_gateway.rest.log_query import PART
from easyq_gateway.rest.requests import target_of
from easyq_gateway.rest.routes import read_query
from easyq_gateway.rest.socket import Socket
from easyq_gateway.usecases.following import Following
from easyq_gateway.usecases.logs import Logs

TEXT = "text/plain; charset=utf-8"
_SSE = "text/event-stream"
_STREAM = (*PART, "from", "format", "download")
_WS = (*PART, "from", "binary")
# Some proxies would else keep back what comes.
_UNBUFFERED = {"X-Accel-Buffering": "no"}

Request = log_service_pb2.FollowLogsRequest
Events = AsyncIterator[log_service_pb2.FollowLogsResponse]


class Live:
    """The handlers."""

    def __init__(self, *, logs: Logs, following: Following) -> None:
        self._logs = logs
        self._following = following
        self._log = get_logger()

    async def stream(self, request: web.BaseRequest, where: dict[str, str]) -> web.StreamResponse:
        """Both streams as they come, until the execution, or the job with all its attempts, has ended."""
        query = read_query(request, _STREAM)
        wanted = self._wanted(request, query)
        execution = await self._find(where, wanted)
        if _is_sse(request, query):
            return await self._events(request, where, wanted)
        headers = {"Content-Type": TEXT, **_UNBUFFERED, **disposition(query, execution, where, "stream")}
        return await self._bytes(request, headers, wanted)

    async def socket(self, request: web.BaseRequest, where: dict[str, str]) -> web.StreamResponse:
        """The same as frames of a WebSocket."""
        query = read_query(request, _WS)
        wanted = self._wanted(request, query)
        framing = Framing(binary=_is_binary(query, wanted))
        await self._find(where, wanted)
        _require_upgrade(request)
        socket = Socket(request, framing)
        async with aclosing(self._following.follow(wanted)) as events:
            return await socket.serve(events)

    async def stored(
        self,
        request: web.BaseRequest,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        execution: job_pb2.Execution,
        streams: tuple[log_service_pb2.LogStream.Name.ValueType, ...],
    ) -> web.StreamResponse:
        """The part of an execution's stored output that `tail`, `since` and `timestamps` say."""
        wanted = Request(execution_id=execution.execution_id, streams=streams, stored_only=True)
        log_query.fill_part(query, wanted)
        return await self._bytes(request, headers, wanted)

    def _wanted(self, request: web.BaseRequest, query: Mapping[str, str]) -> Request:
        wanted = Request()
        log_query.fill_part(query, wanted)
        # A browser that connects again repeats the query, and says by the header how far it was.
        word, name = request.headers.get("Last-Event-ID"), "Last-Event-ID"
        if not word:
            word, name = query.get("from"), "from"
        if word is not None:
            log_query.fill_position(log_query.position_of(word, name), wanted)
        return wanted

    async def _find(self, where: Mapping[str, str], wanted: Request) -> job_pb2.Execution | None:
        """Names what is followed; returns the execution, of a job its newest. Raises `NotFound`, `InvalidArgument`."""
        task_id, job_id, execution_id = (where.get(name, "") for name in ("task_id", "job_id", "execution_id"))
        found: job_pb2.Execution | None = None
        try:
            found = await self._logs.find(task_id, job_id, execution_id)
        except NotFound as error:
            if execution_id or error.reason != "EXECUTION_NOT_FOUND":
                raise
            # A recurring job whose first fire is still to come.
        if execution_id:
            wanted.execution_id = execution_id
        else:
            wanted.job_id = job_id
        self._following.require(wanted)
        if wanted.HasField("position") and wanted.position.execution_id != execution_id:
            await self._logs.find(task_id, job_id, wanted.position.execution_id)
        return found

    async def _bytes(self, request: web.BaseRequest, headers: Mapping[str, str], wanted: Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={**COMMON_HEADERS, **headers})
        async with aclosing(self._following.follow(wanted)) as events:
            first = await anext(events, None) if wanted.stored_only and request.method != "HEAD" else None
            await response.prepare(request)
            if request.method != "HEAD":
                await self._send_bytes(request, response, _from(first, events), timestamps=wanted.timestamps)
        await pace.end(request, response)
        return response

    async def _send_bytes(
        self, request: web.BaseRequest, response: web.StreamResponse, events: Events, *, timestamps: bool
    ) -> None:
        """Once begun, an error can only be told by cutting the connection off."""
        stamper, lines = Stamper() if timestamps else None, Lines()
        try:
            async for event in events:
                chunk = event.chunk
                data = chunk.data
                if not data:
                    continue
                if stamper is not None:
                    data = stamper.stamp((chunk.execution_id, chunk.stream), data, show_timestamp(chunk.at))
                else:
                    data = lines.follow(chunk.execution_id, data)
                await pace.taken(request, response.write(data))
        except (EasyQError, pace.Stalled) as error:
            self._log.warning("output_cut_off", path=target_of(request).path, error=str(error))
            raise ConnectionResetError("the answer was cut off") from error

    async def _events(self, request: web.BaseRequest, where: Mapping[str, str], wanted: Request) -> web.StreamResponse:
        if wanted.HasField("position") and await self._is_over(where, wanted):
            # To an EventSource this means that there is nothing to come back for.
            return web.Response(status=204, headers=COMMON_HEADERS)
        response = web.StreamResponse(headers={**COMMON_HEADERS, **sse.HEADERS})
        await response.prepare(request)
        if request.method != "HEAD":
            async with aclosing(self._following.follow(wanted)) as events:
                await self._send_events(request, response, events)
        await pace.end(request, response)
        return response

    async def _send_events(self, request: web.BaseRequest, response: web.StreamResponse, events: Events) -> None:
        framing = Framing()
        try:
            await pace.taken(request, response.write(sse.BEGIN))
            async with aclosing(pace.with_pauses(events, pace.QUIET)) as paced:
                async for event in paced:
                    if event is None:
                        await pace.taken(request, response.write(sse.ALIVE))
                        continue
                    for frame in framing.frames(event):
                        await pace.taken(request, response.write(frame.sse()))
        except EasyQError as error:
            await pace.taken(request, response.write(framing.cut(error).sse()))
        except pace.Stalled as error:
            self._log.warning("output_cut_off", path=target_of(request).path, error=str(error))
            raise ConnectionResetError("the answer was cut off") from error

    async def _is_over(self, where: Mapping[str, str], wanted: Request) -> bool:
        """Whether a reader at this position has got everything, the end of it all too."""
        position = wanted.position
        if not position.ended:
            return False
        if wanted.execution_id:
            return True
        return await self._logs.is_last(where.get("task_id", ""), where.get("job_id", ""), position.execution_id)


def disposition(
    query: Mapping[str, str], execution: job_pb2.Execution | None, where: Mapping[str, str], what: str
) -> dict[str, str]:
    """Returns the header by which browsers save the answer as a file, where `download` asks for it."""
    if not log_query.flag(query, "download"):
        return {}
    name = f"{execution.job_id}-{execution.attempt}" if execution is not None else where.get("job_id", "")
    # Ids have no characters that would have to be quoted.
    return {"Content-Disposition": f'attachment; filename="{name}-{what}.log"'}


async def _from(first: log_service_pb2.FollowLogsResponse | None, rest: Events) -> Events:
    if first is not None:
        yield first
    async for event in rest:
        yield event


def _is_binary(query: Mapping[str, str], wanted: Request) -> bool:
    binary = log_query.flag(query, "binary")
    if binary and wanted.timestamps:
        problems = Problems()
        problems.add("timestamps", "goes with text frames only: binary ones have no room for a time")
        raise refusal(problems)
    return binary


def _is_sse(request: web.BaseRequest, query: Mapping[str, str]) -> bool:
    form = query.get("format")
    if form is None:
        return any(_SSE in value for value in request.headers.getall("Accept", ()))
    problems = Problems()
    if form not in {"sse", "text"}:
        problems.add("format", "must be sse or text")
    elif form == "sse" and log_query.flag(query, "download"):
        problems.add("download", "goes with text only")
    if problems:
        raise refusal(problems)
    return form == "sse"


def _require_upgrade(request: web.BaseRequest) -> None:
    if request.method == "GET" and request.headers.get("Upgrade", "").strip().lower() == "websocket":
        return
    error = InvalidArgument("this path speaks WebSocket: the request must ask to upgrade to it")
    raise Refused(error, status=426, headers={"Upgrade": "websocket", "Connection": "upgrade"})
