"""Answers: JSON, and errors in their one shape."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

from aiohttp import web

from easyq_chassis.errors import Code, EasyQError
from easyq_gateway.codec.encode import to_tree
from easyq_gateway.convert import error_body

_STATUS = {
    Code.INVALID_ARGUMENT: 400,
    Code.PERMISSION_DENIED: 403,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.FAILED_PRECONDITION: 409,
    Code.ABORTED: 409,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.UNIMPLEMENTED: 501,
    Code.UNAVAILABLE: 503,
    Code.DEADLINE_EXCEEDED: 504,
}

#: On every answer: nothing is guessed from content, nothing is kept on the way, nothing is framed or scripted.
COMMON_HEADERS: Mapping[str, str] = {
    "Server": "EasyQ",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class Refused(Exception):
    """An error that HTTP has a status or headers of its own for."""

    def __init__(self, error: EasyQError, *, status: int, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(error.message)
        self.error = error
        self.status = status
        self.headers = dict(headers or {})


def json_answer(text: str, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Returns JSON text as an answer; a line end makes it kind to terminals."""
    return web.Response(
        body=f"{text}\n".encode(),
        status=status,
        content_type="application/json",
        charset="utf-8",
        headers={**COMMON_HEADERS, **(headers or {})},
    )


def status_of(error: EasyQError | Refused) -> int:
    """Returns the HTTP status of an error."""
    return error.status if isinstance(error, Refused) else _STATUS.get(error.code, 500)


def error_answer(error: EasyQError | Refused) -> web.Response:
    """Returns an error in the one shape: `{"error": {code, reason, message, fields}}`."""
    told = error.error if isinstance(error, Refused) else error
    status = status_of(error)
    headers = error.headers if isinstance(error, Refused) else {}
    if told.retry_after is not None:
        headers = {**headers, "Retry-After": str(max(1, math.ceil(told.retry_after)))}
    text = json.dumps({"error": to_tree(error_body(told))}, ensure_ascii=False)
    return json_answer(text, status=status, headers=headers)
