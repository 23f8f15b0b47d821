"""The API's document, for programs and for people."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping

from aiohttp import web

from easyq_gateway.openapi.comments import load_comments
from easyq_gateway.openapi.document import Document
from easyq_gateway.openapi.page import render, style
from easyq_gateway.rest.answers import COMMON_HEADERS, json_answer
from easyq_gateway.rest.routes import Route, read_query

_PAGE_HEADERS: Mapping[str, str] = {
    **COMMON_HEADERS,
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}


class Documentation:
    """Made once: the document at the start, where what can't be described is found; the page when it is asked for."""

    def __init__(self, *, version: str) -> None:
        self._made = Document(load_comments(), version=version).build()
        self._json = json.dumps(self._made, ensure_ascii=False)
        self._page: str | None = None
        self._style = style()

    def routes(self) -> Iterator[Route]:
        """Yields its routes."""
        yield Route(verb="GET", segments=("openapi.json",), handler=self._document)
        yield Route(verb="GET", segments=("docs",), handler=self._docs)
        yield Route(verb="GET", segments=("docs", "style.css"), handler=self._css)

    async def _document(self, request: web.BaseRequest, _: dict[str, str]) -> web.StreamResponse:
        read_query(request, ())
        return json_answer(self._json)

    async def _docs(self, request: web.BaseRequest, _: dict[str, str]) -> web.StreamResponse:
        read_query(request, ())
        if self._page is None:
            # It was nine tenths of the work of a start.
            self._page = await asyncio.to_thread(render, self._made)
        return _text(self._page, "text/html")

    async def _css(self, request: web.BaseRequest, _: dict[str, str]) -> web.StreamResponse:
        read_query(request, ())
        return _text(self._style, "text/css")


def _text(text: str, kind: str) -> web.Response:
    return web.Response(text=text, content_type=kind, charset="utf-8", headers=_PAGE_HEADERS)
