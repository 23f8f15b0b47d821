"""Files of the pages: their own, and those of others, whose versions and hashes stand in `static/manifest.json`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from importlib import resources

from aiohttp import web

from easyq_gateway.rest.answers import COMMON_HEADERS
from easyq_gateway.rest.routes import Handler, Route

#: Below this path; each file's address carries its hash, so that browsers keep it until it changes.
BASE = ("admin", "static")
_KINDS = {
    "app.css": "text/css",
    "app.js": "text/javascript",
    "ansi.js": "text/javascript",
    "htmx.min.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
_HEADERS = {
    **COMMON_HEADERS,
    "Cache-Control": "public, max-age=31536000, immutable",
    "Content-Security-Policy": "default-src 'none'; style-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class StaticFiles:
    """All of them, read once."""

    def __init__(self) -> None:
        folder = resources.files("easyq_gateway.pages").joinpath("static")
        self._files = {name: folder.joinpath(name).read_bytes() for name in _KINDS}
        self._hashes = {name: hashlib.sha256(data).hexdigest()[:16] for name, data in self._files.items()}

    def url(self, name: str) -> str:
        """Returns the address of a file."""
        return f"/{'/'.join(BASE)}/{name}?v={self._hashes[name]}"

    def routes(self) -> Iterator[Route]:
        """Yields a route for each file."""
        for name in self._files:
            yield Route(verb="GET", segments=(*BASE, name), handler=self._handler(name), guarded=False)

    def _handler(self, name: str) -> Handler:
        data, kind = self._files[name], _KINDS[name]

        async def serve(_request: web.BaseRequest, _: dict[str, str]) -> web.StreamResponse:
            return web.Response(body=data, content_type=kind, charset="utf-8", headers=_HEADERS)

        return serve
