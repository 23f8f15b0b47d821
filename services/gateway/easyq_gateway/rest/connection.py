"""One HTTP connection: a time limit on the head of each request, and answers to what is no HTTP at all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import _ErrInfo

from easyq_chassis.errors import DeadlineExceeded, Internal, InvalidArgument
from easyq_gateway.rest.answers import Refused, error_answer


class Server(web.Server):
    """aiohttp's server with connections of ours. `head_timeout`: seconds from a head's first byte to its last."""

    def __init__(
        self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], *, head_timeout: float, **kwargs: Any
    ) -> None:
        super().__init__(handler, **kwargs)
        self._head_timeout = head_timeout

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, self._head_timeout, loop=self._loop, **self._kwargs)


class _Connection(web.RequestHandler):
    """aiohttp bounds only how long a connection is idle: a head that drips in would keep it as long."""

    __slots__ = ("_body", "_head_timeout", "_head_timer")

    def __init__(self, manager: Server, head_timeout: float, **kwargs: Any) -> None:
        super().__init__(manager, **kwargs)
        self._head_timeout = head_timeout
        self._head_timer: asyncio.TimerHandle | None = None
        self._body: StreamReader = EMPTY_PAYLOAD

    def data_received(self, data: bytes) -> None:
        heads, of_body = self._request_count, not self._body.is_eof()
        super().data_received(data)
        if self._request_count != heads:
            self._body = self._messages[-1][1]
            self._disarm()
        # Some clients send an empty line after a body; it begins no head. Nor does what a WebSocket sends.
        elif not of_body and not self._upgraded and self._head_timer is None and data.strip(b"\r\n"):
            self._arm()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def _arm(self) -> None:
        self._head_timer = self._loop.call_later(self._head_timeout, self._head_is_late)

    def _disarm(self) -> None:
        timer, self._head_timer = self._head_timer, None
        if timer is not None:
            timer.cancel()

    def _head_is_late(self) -> None:
        self._head_timer = None
        waiter = self._waiter
        if self.transport is None or self._force_close or self._close:
            return
        if waiter is None or waiter.done():
            # The request before it is being answered still, and is not to be cut off.
            self._arm()
            return
        # The way that a head which can't be parsed goes: an answer, then the end of the connection.
        late = HttpProcessingError(code=HTTPStatus.REQUEST_TIMEOUT, message="the head is late")
        self._messages.append((_ErrInfo(HTTPStatus.REQUEST_TIMEOUT, late, late.message), EMPTY_PAYLOAD))
        waiter.set_result(None)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,  # noqa: ARG002 - aiohttp's signature
        message: str | None = None,  # noqa: ARG002
    ) -> web.StreamResponse:
        """Answers in the one shape, without aiohttp's text, which echoes the request."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun already")
        answer = error_answer(self._error(status))
        answer.force_close()
        return answer

    def _error(self, status: int) -> Internal | InvalidArgument | Refused:
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return Internal("an internal error")
        if status == HTTPStatus.REQUEST_TIMEOUT:
            text = f"the head of the request did not come within {self._head_timeout:g} s"
            return Refused(DeadlineExceeded(text), status=int(status))
        return InvalidArgument("this is not an HTTP request that can be read", reason="MALFORMED_BODY")
