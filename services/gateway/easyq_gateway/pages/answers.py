"""Answers of pages: HTML under a strict policy, and redirects after forms."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from easyq_gateway.rest.answers import COMMON_HEADERS

#: Nothing from elsewhere, nothing inline, nobody's frame; forms only to here. A page's own address goes nowhere else,
#: but to here it does: without it browsers would not say where a form comes from.
PAGE_HEADERS: Mapping[str, str] = {
    **COMMON_HEADERS,
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Referrer-Policy": "same-origin",
    "Vary": "Accept, HX-Request",
    "X-Frame-Options": "DENY",
}


def html_answer(text: str, *, status: int = 200) -> web.Response:
    """Returns a page."""
    return web.Response(text=text, status=status, content_type="text/html", charset="utf-8", headers=PAGE_HEADERS)


def see_other(path: str) -> web.Response:
    """Returns the answer to a form that was carried out: go there, by GET."""
    return web.Response(status=303, headers={**PAGE_HEADERS, "Location": path})


def wants_html(request: web.BaseRequest) -> bool:
    """Whether the reader is a browser, which names HTML, and not behind JSON, or a page of ours that reads itself."""
    if request.headers.get("HX-Request") == "true":
        return True
    kinds = [one.partition(";")[0].strip().lower() for one in request.headers.get("Accept", "").split(",")]
    if "text/html" not in kinds:
        return False
    return "application/json" not in kinds or kinds.index("text/html") < kinds.index("application/json")
