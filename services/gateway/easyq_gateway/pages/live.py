"""When a page has to be read anew, as Server-Sent Events.

A page asks for itself again when it is told `changed`: at once after something has changed, then at most once in
`_PAUSE`; where what it shows is in no feed, also every so many seconds. `after` is how far the feed was when the page
was made: what came between that and its listening is a change, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from aiohttp import web

from easyq_chassis.errors import EasyQError
from easyq_gateway.codec.query import BadQuery, split_query
from easyq_gateway.pages.sources import Sources
from easyq_gateway.rest.answers import COMMON_HEADERS
from easyq_gateway.rest.pace import Stalled, taken
from easyq_gateway.rest.requests import target_of
from easyq_gateway.rest.routes import Route

#: Of a page that was made while nobody listened to the feed: it has to be read anew.
UNKNOWN = "0"
_PAUSE = 1.0
_BEAT = 15.0
_SOONEST, _LATEST = 2.0, 60.0
_HEADERS = {**COMMON_HEADERS, "Content-Type": "text/event-stream; charset=utf-8", "X-Accel-Buffering": "no"}
_BEGIN = b"retry: 2000\nevent: begin\ndata: 1\n\n"
_CHANGED = b"event: changed\ndata: 1\n\n"
_COMMENT = b":\n\n"


class LivePages:
    """The one route."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def routes(self) -> Iterator[Route]:
        """Yields it."""
        yield Route(verb="GET", segments=("admin", "live"), handler=self._watch, streams=True)

    async def _watch(self, request: web.BaseRequest, _: dict[str, str]) -> web.StreamResponse:
        query = read_query(request)
        every = _seconds(query.get("every", ""))
        watching = self._sources.feed.watch(
            task_id=query.get("taskId", ""), job_id=query.get("jobId", ""), after=query.get("after", "")
        )
        with await watching as watcher:
            response = web.StreamResponse(headers=_HEADERS)
            await response.prepare(request)
            if request.method == "HEAD":
                return response
            try:
                await taken(request, response.write(_BEGIN))
                if query.get("after") == UNKNOWN:
                    # Not at once: whoever opens a page may press a button of it just now.
                    await asyncio.sleep(_PAUSE)
                while True:
                    limit = asyncio.timeout(every or _BEAT)
                    word = _CHANGED
                    try:
                        async with limit:
                            await watcher.next()
                    except TimeoutError:
                        if not limit.expired():
                            raise
                        word = _CHANGED if every else _COMMENT
                    await taken(request, response.write(word))
                    await asyncio.sleep(_PAUSE)
            except (EasyQError, Stalled) as error:
                raise ConnectionResetError("the page is let go") from error


def read_query(request: web.BaseRequest) -> dict[str, str]:
    """Returns the first value of each parameter; what can't be read is left out. Those of `job` stand in `jobs`, with
    commas between them, as forms send them on."""
    found: dict[str, str] = {}
    jobs: list[str] = []
    try:
        for name, value in split_query(target_of(request).query):
            found.setdefault(name, value)
            if name == "job":
                jobs.append(value)
    except BadQuery:
        return {}
    return {**found, "jobs": ",".join(jobs)} if jobs else found


def _seconds(text: str) -> float:
    return min(max(float(text), _SOONEST), _LATEST) if text.isascii() and text.isdigit() and len(text) < 4 else 0.0
