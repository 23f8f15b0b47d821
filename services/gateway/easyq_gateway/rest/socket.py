"""One WebSocket that a live stream is sent over: pings, and an end whose code and reason say why."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import dataclass

from aiohttp import WSCloseCode, WSMsgType, web

from easyq.v1 import log_service_pb2
from easyq_chassis.error_reports import report_error
from easyq_chassis.errors import EasyQError, Internal, InvalidArgument, Unavailable
from easyq_chassis.logs import get_logger
from easyq_gateway.rest import pace
from easyq_gateway.rest.answers import COMMON_HEADERS, Refused, error_answer
from easyq_gateway.rest.frames import Frame, Framing
from easyq_gateway.rest.requests import target_of

# Nothing is expected of the reader but pongs and a close.
_MOST_RECEIVED = 4096
# Seconds that a reader gets to answer a close, and a ping.
_CLOSING = 2.0
_SILENT = 120.0
# What WebSocket has room for, in bytes.
_MOST_REASON = 123
# Close codes of our own are 4000 and the status that HTTP would have.
_OWN_CODES = 4000

# 16 bytes in base64.
_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")
_GONE = frozenset({WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR})


@dataclass(frozen=True, kw_only=True, slots=True)
class Farewell:
    """Why a socket is closed."""

    code: int
    reason: str


class Socket:
    """Sends a live stream's frames."""

    def __init__(self, request: web.BaseRequest, framing: Framing) -> None:
        self._request = request
        self._framing = framing
        self._socket = web.WebSocketResponse(
            timeout=_CLOSING, autoping=False, compress=False, max_msg_size=_MOST_RECEIVED
        )
        self._socket.headers.update(COMMON_HEADERS)
        # When a ping was sent that nothing came after yet.
        self._asked_at: float | None = None
        self._log = get_logger()

    async def serve(self, events: AsyncIterator[log_service_pb2.FollowLogsResponse]) -> web.StreamResponse:
        """Sends all of it, and closes. Raises `Refused` where the handshake is wrong."""
        headers = self._request.headers
        if headers.get("Sec-WebSocket-Version") != "13" or not _KEY.fullmatch(headers.get("Sec-WebSocket-Key", "")):
            raise _wrong()
        try:
            await self._socket.prepare(self._request)
        except web.HTTPException as error:
            raise _wrong() from error
        reading = asyncio.create_task(self._read(), name="socket:read")
        sending = asyncio.create_task(self._send(events), name="socket:send")
        farewell: Farewell | None = Farewell(code=WSCloseCode.GOING_AWAY, reason="the gateway stops")
        try:
            await asyncio.wait({reading, sending}, return_when=asyncio.FIRST_COMPLETED)
            farewell = sending.result() if sending.done() else None
        finally:
            reading.cancel()
            sending.cancel()
            await asyncio.gather(reading, sending, return_exceptions=True)
            if farewell is not None:
                await self._close(farewell)
            pace.drop_later(self._request)
        return self._socket

    async def _read(self) -> None:
        """Answers pings until the reader has gone; what else it sends is for nobody."""
        while True:
            message = await self._socket.receive()
            self._asked_at = None
            if message.type in _GONE:
                return
            if message.type is WSMsgType.PING:
                with suppress(ConnectionError):
                    await self._socket.pong(message.data)

    async def _send(self, events: AsyncIterator[log_service_pb2.FollowLogsResponse]) -> Farewell | None:
        """Sends frames; says how to close, None where nobody is there to be told."""
        try:
            async with aclosing(pace.with_pauses(events, pace.QUIET)) as paced:
                async for event in paced:
                    if event is None:
                        await self._ping()
                        continue
                    for frame in self._framing.frames(event):
                        await pace.taken(self._request, self._write(frame))
        except ConnectionError:
            return None
        except pace.Stalled as error:
            self._log.warning("output_cut_off", path=target_of(self._request).path, error=str(error))
            return Farewell(code=WSCloseCode.POLICY_VIOLATION, reason=str(error))
        except Unavailable as error:
            return Farewell(code=WSCloseCode.TRY_AGAIN_LATER, reason=error.message)
        except EasyQError as error:
            internal = isinstance(error, Internal)
            code = WSCloseCode.INTERNAL_ERROR if internal else _OWN_CODES + error_answer(error).status
            return Farewell(code=code, reason=error.message)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong is told by the close
            self._log.error("socket_failed", path=target_of(self._request).path, error=repr(error), exc_info=error)
            report_error(error, "websocket")
            return Farewell(code=WSCloseCode.INTERNAL_ERROR, reason="an internal error; the gateway's log has it")
        return Farewell(code=WSCloseCode.OK, reason="this is the end of the output")

    async def _write(self, frame: Frame) -> None:
        if frame.binary:
            await self._socket.send_bytes(frame.binary)
        else:
            await self._socket.send_str(frame.text())

    async def _ping(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._asked_at is not None and now - self._asked_at > _SILENT:
            raise pace.Stalled
        self._asked_at = now if self._asked_at is None else self._asked_at
        await pace.taken(self._request, self._socket.ping())

    async def _close(self, farewell: Farewell) -> None:
        reason = farewell.reason.encode()
        position = self._framing.position
        if position is not None and farewell.code != WSCloseCode.OK:
            behind = f"; from={position}".encode()
            reason = _clipped(reason, _MOST_REASON - len(behind)) + behind
        with suppress(ConnectionError, TimeoutError, RuntimeError):
            async with asyncio.timeout(_CLOSING * 2):
                await self._socket.close(code=farewell.code, message=_clipped(reason, _MOST_REASON))


def _wrong() -> Refused:
    told = InvalidArgument("the handshake of WebSocket is wrong: it needs version 13 and a key of 16 bytes")
    return Refused(told, status=400, headers={"Connection": "close"})


def _clipped(text: bytes, most: int) -> bytes:
    return text[:most].decode("utf-8", "ignore").encode()
