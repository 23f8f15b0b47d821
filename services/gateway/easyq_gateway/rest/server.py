"""The HTTP server: who may ask, which handler answers, and what holds for all of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any, TypeAlias

from aiohttp import web

from easyq_chassis.error_reports import report_error
from easyq_chassis.errors import EasyQError, Internal, PermissionDenied, Unavailable
from easyq_chassis.logs import get_logger
from easyq_chassis.metrics import REGISTRY
from easyq_chassis.tracing.tracer import OFF, Span, Tracer
from easyq_gateway.deadline import within
from easyq_gateway.domain.hosts import OriginRules
from easyq_gateway.gate import Gate
from easyq_gateway.rest import pace
from easyq_gateway.rest.answers import Refused, error_answer
from easyq_gateway.rest.connection import Server
from easyq_gateway.rest.requests import target_of
from easyq_gateway.rest.router import Router
from easyq_gateway.rest.routes import Route
from easyq_gateway.rest.spans import begin, note_route, note_status

#: An error as a page, or None where the reader is told by JSON.
ErrorPage: TypeAlias = Callable[[web.BaseRequest, EasyQError | Refused], web.Response | None]

# After a refusal the rest of a body is read for so long, or the client would miss the answer.
_LINGER = 2.0
# Methods that change nothing.
_SAFE = frozenset({"GET", "HEAD"})
_METHODS = _SAFE | {"POST", "PUT", "DELETE", "PATCH", "OPTIONS"}
# Where a request keeps the route that it was for.
_ROUTE = web.RequestKey("_ROUTE", str)


class RestServer:
    """Serves routes at `listen` (`host:port`; port 0 picks a free one)."""

    def __init__(
        self,
        listen: str,
        routes: Iterable[Route],
        *,
        rules: OriginRules,
        requests: Gate,
        streams: Gate,
        timeout: float,
        keepalive: float,
        head_timeout: float,
        error_page: ErrorPage | None = None,
        tracer: Tracer = OFF,
    ) -> None:
        self._host, _, port = listen.rpartition(":")
        self._port = int(port)
        self._router: Router[Route] = Router()
        for route in routes:
            self._router.add(route.verb, route.segments, route)
        self._rules = rules
        self._requests = requests
        self._streams = streams
        self._timeout = timeout
        self._keepalive = keepalive
        self._head_timeout = head_timeout
        self._error_page = error_page
        self._tracer = tracer
        self._server: Server | None = None
        self._listener: asyncio.Server | None = None
        self._streaming: set[asyncio.Task[Any]] = set()
        self._durations = REGISTRY.histogram(
            "http.server.request.duration",
            "How long HTTP requests took, streams until their end. Route is empty where there is none.",
            labels=("http.request.method", "url.scheme", "http.route", "http.response.status_code"),
        )
        self._log = get_logger()
        self.address = listen

    async def start(self) -> None:
        """Binds and serves. Raises `Unavailable` naming the address if it can't be bound."""
        self._server = Server(
            self._handle,
            head_timeout=self._head_timeout,
            handler_cancellation=True,
            keepalive_timeout=self._keepalive,
            lingering_time=_LINGER,
            access_log=None,
            auto_decompress=False,
        )
        host = self._host.strip("[]") or None
        try:
            self._listener = await asyncio.get_running_loop().create_server(
                self._server, host, self._port, backlog=1024
            )
        except OSError as error:
            raise Unavailable(f"can't listen on {self.address}: {error}") from error
        port = self._listener.sockets[0].getsockname()[1]
        self.address = f"{self._host}:{port}"
        self._log.info("listening", address=self.address, protocol="http")

    async def stop(self, grace: float) -> None:
        """Takes no new connection, ends streams, lets other requests end for `grace` seconds, then closes all."""
        if self._listener is not None and self._server is not None:
            self._listener.close()
            for task in self._streaming:
                task.cancel()
            self._server.pre_shutdown()
            await self._server.shutdown(grace)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        span = begin(self._tracer, request)
        try:
            with span.active():
                answer = await self._handled(request, span)
            note_status(span, answer.status)
            return answer
        except asyncio.CancelledError:
            span.fail("cancelled")
            raise
        except Exception as error:
            span.fail(type(error).__name__)
            raise
        finally:
            span.end()

    async def _handled(self, request: web.BaseRequest, span: Span) -> web.StreamResponse:
        began = time.monotonic()
        status = 499  # what others call a client that went away
        try:
            answer = await self._told_answer(request, span)
            status = answer.status
        finally:
            seconds = time.monotonic() - began
            method = request.method if request.method in _METHODS else "_OTHER"
            self._durations.record(seconds, method, "http", request.get(_ROUTE, ""), str(status))
        self._log.debug(
            "request",
            method=request.method,
            path=target_of(request).path[:200],
            status=status,
            ms=round(seconds * 1000, 1),
        )
        return answer

    async def _told_answer(self, request: web.BaseRequest, span: Span) -> web.StreamResponse:
        try:
            answer = await self._answer(request, span)
        except (EasyQError, Refused) as error:
            answer = self._told(request, error)
        except ConnectionError:
            # The connection is closed now, for which asyncio would wait as long as its reader takes nothing.
            pace.drop_later(request)
            raise
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a handler raises ends here, and is told
            self._log.error("request_failed", path=target_of(request).path[:200], error=repr(error), exc_info=error)
            place, ids = self._place(request)
            report_error(error, place, ids)
            answer = self._told(request, Internal("an internal error; the gateway's log has the details"))
        if answer.headers.get("Connection") == "close":
            answer.force_close()
        return answer

    def _told(self, request: web.BaseRequest, error: EasyQError | Refused) -> web.Response:
        """An error in the one shape, or as a page to whom that is told. Status and headers are the same."""
        answer = error_answer(error)
        page = self._error_page(request, error) if self._error_page is not None else None
        if page is None:
            return answer
        for name in ("Allow", "Connection", "Retry-After"):
            if name in answer.headers:
                page.headers[name] = answer.headers[name]
        return page

    async def _answer(self, request: web.BaseRequest, span: Span) -> web.StreamResponse:
        told = request.headers
        refusal = self._rules.refusal(
            host=told.get("Host"),
            origin=told.get("Origin"),
            fetch_site=told.get("Sec-Fetch-Site"),
            navigates=request.method in _SAFE and told.get("Sec-Fetch-Dest") == "document",
        )
        if refusal is not None:
            raise PermissionDenied(refusal)
        match = self._router.match(request.method, target_of(request).path)
        route = match.handler
        request[_ROUTE] = route.template
        note_route(span, request.method, route)
        async with AsyncExitStack() as around:
            if route.guarded:
                around.enter_context((self._streams if route.streams else self._requests).entered())
            if route.streams:
                around.enter_context(self._noted())
            else:
                await around.enter_async_context(within(self._timeout))
            return await route.handler(request, match.variables)

    def _place(self, request: web.BaseRequest) -> tuple[str, dict[str, str]]:
        """Which route a request took, and the ids in its path."""
        try:
            match = self._router.match(request.method, target_of(request).path)
        except (EasyQError, Refused):
            return "REST", {}
        ids = {name.removesuffix("_id"): value for name, value in match.variables.items()}
        return match.handler.name, ids

    @contextmanager
    def _noted(self) -> Iterator[None]:
        """Keeps the task of a stream at hand, which would not end by itself when the server stops."""
        task = asyncio.current_task()
        if task is not None:
            self._streaming.add(task)
        try:
            yield
        finally:
            self._streaming.discard(task)
