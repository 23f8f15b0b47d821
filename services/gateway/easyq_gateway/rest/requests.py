"""Reading a request: its target, and its body within bounds."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from easyq_chassis.errors import InvalidArgument, ResourceExhausted
from easyq_gateway.rest.answers import Refused

_JSON = "application/json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """What a request line names, not decoded yet."""

    path: str
    query: str


def target_of(request: web.BaseRequest) -> Target:
    """Returns the raw path and query; of an absolute target without its scheme and host."""
    raw = request.raw_path
    if not raw.startswith("/"):
        raw = "/" + raw.partition("://")[2].partition("/")[2]
    path, _, query = raw.partition("?")
    return Target(path=path, query=query.partition("#")[0])


async def read_body(request: web.BaseRequest, most: int) -> bytes:
    """Returns the body. Raises `Refused` with 413 as soon as it is known to be larger than `most` bytes."""
    if request.content_length is not None and request.content_length > most:
        raise _too_large(most)
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > most:
            raise _too_large(most)
    return bytes(body)


def require_json(request: web.BaseRequest) -> None:
    """Raises `Refused` with 415 unless the body says that it is JSON in UTF-8, not compressed."""
    encoding = request.headers.get("Content-Encoding", "identity").lower()
    charset = (request.charset or "utf-8").lower()
    if request.content_type == _JSON and encoding == "identity" and charset in {"utf-8", "utf8", "us-ascii"}:
        return
    if request.content_type != _JSON:
        text = f"the body must be {_JSON}; say so by the header Content-Type"
    else:
        text = "the body must be UTF-8, and not compressed"
    raise Refused(InvalidArgument(text, reason="UNSUPPORTED_MEDIA_TYPE"), status=415)


def _too_large(most: int) -> Refused:
    error = ResourceExhausted(f"the body is larger than {most} bytes", reason="TOO_LARGE")
    return Refused(error, status=413, headers={"Connection": "close"})
