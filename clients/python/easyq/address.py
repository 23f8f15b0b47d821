"""Addresses of a farm. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from easyq.errors import InvalidArgument

DEFAULT_SERVER = "127.0.0.1:10001"
DEFAULT_PORT = 10001

_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.%]{2,64}\]")
# Names that gRPC resolves in ways of its own.
_OF_GRPC = re.compile(r"(?:(?:dns|xds)://|(?:ipv4|ipv6|unix-abstract|vsock):).+", re.DOTALL)


def checked_address(text: str) -> str:
    """`host:port` (or `unix:/path`); the port may be left out. Raises ValueError, whose text says what to write."""
    if text.startswith("unix:") and len(text) > len("unix:"):
        return text
    if not text:
        raise ValueError("the server's address is empty: write HOST:PORT, or leave it out")
    if "://" in text:
        # Whoever takes it for a URL may have put a password into it.
        bare = text.split("://", 1)[1].strip("/").rpartition("@")[2]
        raise ValueError(
            f"{_without_user(text)!r}: EasyQ's gRPC address has no scheme; write {bare or 'HOST:PORT'!r} "
            "(its port is 10001 by default)"
        )
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(DEFAULT_PORT)
    if not _HOST.fullmatch(host) or not port.isdecimal() or not port.isascii() or not 1 <= int(port) <= 65535:
        raise ValueError(f"{_without_user(text)!r} is no address: write HOST:PORT, [IPv6]:PORT or unix:/PATH")
    return f"{host}:{port}"


def address_of(server: str | None, environ: Mapping[str, str]) -> str:
    """The address that a client talks to: `server`, else EASYQ_SERVER (unless it is empty), else the default. What
    gRPC resolves by itself (`dns:///…`) is passed on. Raises InvalidArgument."""
    text = server if server is not None else environ.get("EASYQ_SERVER") or DEFAULT_SERVER
    if not isinstance(text, str):
        raise InvalidArgument(f"the server's address must be text, not {type(text).__name__}")
    if _OF_GRPC.fullmatch(text):
        return text
    try:
        return checked_address(text)
    except ValueError as error:
        raise InvalidArgument(str(error)) from error


def _without_user(text: str) -> str:
    head, at, host = text.rpartition("@")
    scheme, slashes, _ = head.rpartition("://")
    return f"{scheme}{slashes}…@{host}" if at else text
