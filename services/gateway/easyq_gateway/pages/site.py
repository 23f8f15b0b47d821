"""Routes of the pages."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Concatenate, ParamSpec, TypeAlias
from urllib.parse import urlencode

from aiohttp import web

from easyq_chassis.errors import EasyQError
from easyq_gateway.domain import human
from easyq_gateway.http_rules import Variable
from easyq_gateway.pages.actions import Actions
from easyq_gateway.pages.answers import html_answer, see_other, wants_html
from easyq_gateway.pages.leading import leading
from easyq_gateway.pages.live import UNKNOWN, LivePages, read_query
from easyq_gateway.pages.rendering import Renderer
from easyq_gateway.pages.sources import Sources
from easyq_gateway.pages.static_files import StaticFiles
from easyq_gateway.pages.views import again, errors, hosts, jobs, overview, queues, schedules, search, tasks
from easyq_gateway.pages.views.page import Page, Query
from easyq_gateway.pages.words import DONE
from easyq_gateway.places import Place
from easyq_gateway.rest.answers import Refused, status_of
from easyq_gateway.rest.requests import target_of
from easyq_gateway.rest.routes import Handler, Route

P = ParamSpec("P")
View: TypeAlias = Callable[Concatenate[Sources, Query, P], Awaitable[Page]]

_JOB, _TASK, _HOST = Variable("job_id"), Variable("task_id"), Variable("agent_id")
_PLACES: tuple[tuple[Place, Callable[..., Awaitable[Page]], str], ...] = (
    (("tasks",), tasks.tasks, "tasks"),
    (("tasks", _TASK), tasks.task, "tasks"),
    (("jobs",), jobs.jobs, "jobs"),
    (("jobs", _JOB), jobs.job, "jobs"),
    (("jobs", _JOB, "again"), again.form, "jobs"),
    (("hosts",), hosts.hosts, "hosts"),
    (("hosts", _HOST), hosts.host, "hosts"),
    (("queues",), queues.queues, "queues"),
    (("schedules",), schedules.schedules, "schedules"),
    (("errors",), errors.errors, "errors"),
    (("search",), search.search, ""),
)
# Seconds after which any page is read anew: what it shows may change without a word; a store that is away says none.
_EVERY = "20"
_TITLES = {404: "Not found", 403: "Refused", 503: "Not there now", 504: "It took too long", 429: "Too much at once"}


class Site:
    """All pages. `negotiated` are shown to browsers at addresses that programs get JSON at."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._files = StaticFiles()
        self._renderer = Renderer(files=self._files, redactor=sources.redactor, version=sources.version)
        self._actions = Actions(sources, show=self._show)
        self._live = LivePages(sources)

    async def warm(self) -> None:
        """Makes the templates ready, beside whatever else there is to do at a start: the first reader need not wait."""
        await asyncio.to_thread(self._renderer.warm)

    def routes(self) -> Iterator[Route]:
        """Yields the routes below /admin."""
        yield Route(verb="GET", segments=("admin",), handler=self._to_overview)
        for segments, view, section in _PLACES:
            yield Route(verb="GET", segments=("admin", *segments), handler=self._handler(view, section))
        for deed in errors.DEEDS:
            yield Route(verb="GET", segments=("admin", "errors", deed), handler=self._confirm(deed))
        yield from self._actions.routes()
        yield from self._live.routes()
        yield from self._files.routes()

    def for_browsers(self, route: Route) -> Route:
        """Returns a route as browsers see it: `/` and `/status` are pages, what has a page elsewhere leads there."""
        view: Handler | None = None
        if route.verb == "GET" and route.segments == ("",):
            view = self._handler(overview.overview, "overview")
        elif route.verb == "GET" and route.segments == ("status",):
            view = self._handler(overview.health, "status")
        elif route.verb == "GET":
            view = leading(self._sources, route.segments)
        if view is None:
            return route
        return Route(
            verb=route.verb,
            segments=route.segments,
            handler=_negotiated(view, route.handler),
            streams=route.streams,
            guarded=route.guarded,
        )

    def error(self, request: web.BaseRequest, error: EasyQError | Refused) -> web.Response | None:
        """Returns an error as a page, where a browser asked for one; else None."""
        if not wants_html(request):
            return None
        told = error.error if isinstance(error, Refused) else error
        status = status_of(error)
        page = Page(
            template="error",
            context={"title": _TITLES.get(status, "That did not work"), "error": told, "back": _back(request)},
            live=None,
            status=status,
        )
        return self._show(request, page, "")

    def _handler(self, view: Callable[..., Awaitable[Page]], section: str) -> Handler:
        async def handle(request: web.BaseRequest, variables: dict[str, str]) -> web.StreamResponse:
            # Before it looks: what changes from here on is told to the page, though it listens some time later.
            seen = self._sources.feed.position
            page = await view(self._sources, read_query(request), **variables)
            return self._show(request, page, section, {"after": seen or UNKNOWN})

        return handle

    def _confirm(self, deed: str) -> Handler:
        async def handle(request: web.BaseRequest, _: dict[str, str]) -> web.StreamResponse:
            page = await errors.confirm(self._sources, read_query(request), deed)
            return self._show(request, page, "errors")

        return handle

    def _show(
        self, request: web.BaseRequest, page: Page, section: str, seen: Mapping[str, str] = MappingProxyType({})
    ) -> web.Response:
        query = read_query(request)
        target = target_of(request)
        done = DONE.get(query.get("done", ""), "")
        text = self._renderer.render(
            page.template,
            now_ms=self._sources.clock.now_ms(),
            section=section,
            live=None if page.live is None else f"/admin/live?{urlencode({'every': _EVERY, **page.live, **seen})}",
            here=f"{target.path}?{target.query}" if target.query else target.path,
            done=done.format(jobs=_number(query, "job"), executions=_number(query, "execution")),
            searched=query.get("query", "") if page.template == "search" else "",
            **page.context,
        )
        return html_answer(text, status=page.status)

    async def _to_overview(self, _request: web.BaseRequest, _: dict[str, str]) -> web.StreamResponse:
        return see_other("/")


def _negotiated(page: Handler, otherwise: Handler) -> Handler:
    async def handle(request: web.BaseRequest, variables: dict[str, str]) -> web.StreamResponse:
        return await (page if wants_html(request) else otherwise)(request, variables)

    return handle


def _back(request: web.BaseRequest) -> str:
    """Where a reader came from, if that is a page of ours."""
    referer = request.headers.get("Referer", "")
    _, found, rest = referer.partition(f"://{request.headers.get('Host', '')}/")
    return f"/{rest}" if found and not rest.startswith("/") else "/"


def _number(query: Query, what: str) -> str:
    text = query.get("n", "")
    return human.plural(int(text), what) if text.isascii() and text.isdigit() and len(text) < 16 else f"some {what}s"
