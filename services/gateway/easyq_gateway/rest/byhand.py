"""What annotations can't say, by hand: raw output, live output, health, the root."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass

from aiohttp import web

from easyq.v1 import job_pb2, log_service_pb2
from easyq_chassis.errors import EasyQError, InvalidArgument
from easyq_chassis.logs import get_logger
from easyq_chassis.metrics.export import Exports
from easyq_chassis.ops.server import metrics_answer
from easyq_gateway import places
from easyq_gateway.convert import refusal, state_name
from easyq_gateway.domain.problems import Problems
from easyq_gateway.domain.ranges import ByteRange, Unsatisfiable, parse_range
from easyq_gateway.rest import pace
from easyq_gateway.rest.answers import COMMON_HEADERS, Refused, json_answer
from easyq_gateway.rest.live import TEXT, Live, disposition
from easyq_gateway.rest.log_query import PART
from easyq_gateway.rest.requests import target_of
from easyq_gateway.rest.routes import Route, read_query
from easyq_gateway.usecases.farm import Farm
from easyq_gateway.usecases.logs import Logs

STDOUT, STDERR = log_service_pb2.LogStream.STDOUT, log_service_pb2.LogStream.STDERR
_LARGEST_OFFSET = 2**63
_NAMES = {STDOUT: "stdout", STDERR: "stderr"}


class ByHand:
    """The handlers."""

    def __init__(self, *, logs: Logs, live: Live, farm: Farm, exports: Exports, version: str) -> None:
        self._logs = logs
        self._live = live
        self._farm = farm
        self._exports = exports
        self._version = version
        self._log = get_logger()

    def routes(self) -> Iterator[Route]:
        """Yields every route that stands by hand."""
        yield Route(verb="GET", segments=("",), handler=self._root)
        yield Route(verb="GET", segments=("healthcheck",), handler=self._healthcheck, guarded=False)
        yield Route(verb="GET", segments=("metrics",), handler=self._metrics, guarded=False)
        for place in places.OUTPUT:
            yield Route(verb="GET", segments=(*place, "stdout"), handler=self._stdout, streams=True)
            yield Route(verb="GET", segments=(*place, "stderr"), handler=self._stderr, streams=True)
            yield Route(verb="GET", segments=(*place, "logs"), handler=self._both, streams=True)
            yield Route(verb="GET", segments=(*place, "stream"), handler=self._live.stream, streams=True)
            yield Route(verb="GET", segments=(*place, "ws"), handler=self._live.socket, streams=True)

    async def _root(self, request: web.BaseRequest, _: dict[str, str]) -> web.StreamResponse:
        read_query(request, ())
        return json_answer(json.dumps({"name": "EasyQ", "version": self._version, "status": "/status"}))

    async def _healthcheck(self, _request: web.BaseRequest, _: dict[str, str]) -> web.StreamResponse:
        """200 while a job posted now would be accepted, else 503."""
        return json_answer(json.dumps(await self._farm.healthcheck()))

    async def _metrics(self, request: web.BaseRequest, _: dict[str, str]) -> web.StreamResponse:
        return await metrics_answer(self._exports, request.headers.get("Accept", ""))

    async def _stdout(self, request: web.BaseRequest, where: dict[str, str]) -> web.StreamResponse:
        return await self._one(request, where, STDOUT)

    async def _stderr(self, request: web.BaseRequest, where: dict[str, str]) -> web.StreamResponse:
        return await self._one(request, where, STDERR)

    async def _one(
        self, request: web.BaseRequest, where: dict[str, str], stream: log_service_pb2.LogStream.Name.ValueType
    ) -> web.StreamResponse:
        """The stored bytes of one stream: all, from `offset`, a Range of them, or the last lines."""
        query = read_query(request, ("offset", *PART, "download"))
        offset = _offset(query)
        execution = await self._find(where)
        saved = disposition(query, execution, where, _NAMES[stream])
        if any(name in query for name in PART):
            if offset is not None:
                raise InvalidArgument("offset goes with none of tail, since and timestamps")
            return await self._live.stored(request, query, _headers(execution, (stream,)) | saved, execution, (stream,))
        size = execution.stderr_bytes if stream == STDERR else execution.stdout_bytes
        wanted = _wanted(request, offset, size)
        headers = _headers(execution, (stream,)) | saved
        headers["Accept-Ranges"] = "bytes"
        headers["Content-Length"] = str(len(wanted))
        partial = wanted.ranged
        if partial:
            headers["Content-Range"] = f"bytes {wanted.first}-{wanted.end - 1}/{size}"
        chunks = self._logs.stored_bytes(execution.execution_id, stream, first=wanted.first, end=wanted.end)
        status = 206 if partial else 200
        return await self._send(request, headers, chunks, status=status, length=len(wanted), begin=True)

    async def _both(self, request: web.BaseRequest, where: dict[str, str]) -> web.StreamResponse:
        """The stored bytes of both streams, chunk by chunk: all, or the last lines."""
        query = read_query(request, (*PART, "download"))
        execution = await self._find(where)
        headers = _headers(execution, (STDOUT, STDERR)) | disposition(query, execution, where, "logs")
        if any(name in query for name in PART):
            return await self._live.stored(request, query, headers, execution, (STDOUT, STDERR))
        asked = log_service_pb2.ReadLogsRequest(execution_id=execution.execution_id)
        chunks = _data(self._logs.read(asked))
        return await self._send(request, headers, chunks, begin=True)

    async def _find(self, where: Mapping[str, str]) -> job_pb2.Execution:
        return await self._logs.find(where.get("task_id", ""), where.get("job_id", ""), where.get("execution_id", ""))

    async def _send(
        self,
        request: web.BaseRequest,
        headers: Mapping[str, str],
        chunks: AsyncGenerator[bytes],
        *,
        status: int = 200,
        length: int | None = None,
        begin: bool = False,
    ) -> web.StreamResponse:
        """Sends chunks as they come. Once begun, an error can only be told by cutting the connection off.

        `begin`: the first is there at once, and the answer waits for it, since an error can be told till then.
        """
        response = web.StreamResponse(status=status, headers={**COMMON_HEADERS, **headers})
        if begin and request.method != "HEAD":
            chunks = await _begun(chunks)
        await response.prepare(request)
        sent = 0
        try:
            if request.method != "HEAD":
                async with aclosing(chunks):
                    async for chunk in chunks:
                        await pace.taken(request, response.write(chunk))
                        sent += len(chunk)
                if length is not None and sent != length:
                    raise ConnectionAbortedError(f"{sent} of {length} bytes were found")
        except (EasyQError, pace.Stalled, ConnectionAbortedError) as error:
            self._log.warning("output_cut_off", path=target_of(request).path, sent=sent, error=str(error))
            raise ConnectionResetError("the answer was cut off") from error
        await pace.end(request, response)
        return response


@dataclass(frozen=True, kw_only=True, slots=True)
class _Wanted:
    """The bytes to send. `ranged`: by a Range header, so that the answer is 206."""

    first: int
    end: int
    ranged: bool

    def __len__(self) -> int:
        return self.end - self.first


def _wanted(request: web.BaseRequest, offset: int | None, size: int) -> _Wanted:
    header = request.headers.get("Range")
    try:
        found = parse_range(header, size) if header and request.method == "GET" else None
        if found is not None and offset is not None:
            raise InvalidArgument("either the header Range or the parameter offset may be given, not both")
        if offset is not None and offset > size:
            raise Unsatisfiable
    except Unsatisfiable:
        error = InvalidArgument(f"the output has {size} bytes, and none where it was asked to begin")
        raise Refused(error, status=416, headers={"Content-Range": f"bytes */{size}"}) from None
    wanted = found or ByteRange(first=offset or 0, end=size)
    return _Wanted(first=wanted.first, end=wanted.end, ranged=found is not None)


def _headers(execution: job_pb2.Execution, streams: tuple[int, ...]) -> dict[str, str]:
    truncated = (STDOUT in streams and execution.stdout_truncated) or (STDERR in streams and execution.stderr_truncated)
    return {
        "Content-Type": TEXT,
        "X-EasyQ-Execution-Id": execution.execution_id,
        "X-EasyQ-State": state_name(execution),
        "X-EasyQ-Logs-Complete": str(execution.logs_complete).lower(),
        "X-EasyQ-Truncated": str(truncated).lower(),
    }


async def _begun(chunks: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """The same chunks; the first has been read when this returns."""
    first = await anext(chunks, b"")

    async def all_of_them() -> AsyncGenerator[bytes]:
        async with aclosing(chunks):
            if first:
                yield first
            async for chunk in chunks:
                yield chunk

    return all_of_them()


async def _data(events: AsyncIterator[log_service_pb2.ReadLogsResponse]) -> AsyncGenerator[bytes]:
    async for event in events:
        if event.HasField("chunk") and event.chunk.data:
            yield event.chunk.data


def _offset(query: Mapping[str, str]) -> int | None:
    text = query.get("offset")
    if text is None:
        return None
    if text.isascii() and text.isdigit() and len(text) < 20 and int(text) < _LARGEST_OFFSET:
        return int(text)
    problems = Problems()
    problems.add("offset", "must be a number of bytes, 0 or more")
    raise refusal(problems)
