"""HTTP to a Docker Engine: over a unix socket, TCP or TLS, one connection a call."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from easyq_chassis.redaction import Redactor
from easyq_runner.errors import EngineError, EngineFailed, EngineSilent, EngineUnreachable, InvalidRequest

# What this client was written for. Every engine since 20.10 speaks it; one that has dropped it says what it speaks.
_API_VERSION = (1, 41)
_PARTS_OF_TCP = {"tcp": "http", "http": "http", "https": "https"}
# Lines of events and of pulls can be long (labels), and log frames come in thousands.
_READ_BUFFER = 256 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class TlsFiles:
    """Certificates for an engine behind TLS: paths of PEM files."""

    ca: str
    cert: str
    key: str

    def context(self) -> ssl.SSLContext:
        """Raises OSError (which ssl.SSLError is) if they can't be used."""
        context = ssl.create_default_context(cafile=self.ca)
        context.load_cert_chain(self.cert, self.key)
        return context


class Answer:
    """The body of an answer, as it comes. Reading raises EngineUnreachable where it is cut off."""

    def __init__(
        self, response: aiohttp.ClientResponse, translated: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._response = response
        self._translated = translated

    async def read(self) -> bytes:
        """All of it."""
        with self._translated():
            return await self._response.read()

    async def pieces(self) -> AsyncGenerator[bytes]:
        """Whatever has come, again and again until the end."""
        while True:
            with self._translated():
                data = await self._response.content.readany()
            if not data:
                return
            yield data

    async def lines(self) -> AsyncGenerator[dict[str, Any]]:
        """Its lines, each a JSON object."""
        rest = b""
        async for data in self.pieces():
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                if line.strip():
                    yield json.loads(line)


class DockerHttp:
    """Calls to the engine at `url`: `unix:///path`, `tcp://host:port` (TLS where `tls` is given) or `http(s)://…`.

    Raises `ValueError` for other URLs. Every call opens its own connection, and closes it.
    """

    def __init__(self, url: str, *, tls: TlsFiles | None = None) -> None:
        self.url = url
        parts = urlsplit(url)
        self.socket_path = parts.path if parts.scheme == "unix" else ""
        if self.socket_path:
            self._base = "http://docker"
        elif parts.scheme in _PARTS_OF_TCP and parts.netloc:
            scheme = "https" if tls else _PARTS_OF_TCP[parts.scheme]
            self._base = f"{scheme}://{parts.netloc}"
        else:
            raise ValueError(
                f"docker host {Redactor().show('', url)}: expected unix:///path, tcp://host:port or https://host:port"
            )
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None
        self._prefix = ""

    async def negotiate(self) -> dict[str, Any]:
        """Asks the engine for its version and speaks the best API both know from now on; returns its answer."""
        told: dict[str, Any] = await self.json("GET", "/version", timeout=10, versioned=False)
        least, most = _version(told.get("MinAPIVersion", "1.41")), _version(told.get("ApiVersion", "1.41"))
        chosen = max(least, min(most, _API_VERSION))
        self._prefix = f"/v{chosen[0]}.{chosen[1]}"
        return told

    async def json(self, method: str, path: str, **options: Any) -> Any:
        """One call with a JSON answer, None where it is empty; `options` as for `stream`."""
        async with self.stream(method, path, **options) as answer:
            body = await answer.read()
        return json.loads(body) if body else None

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        timeout: float | None,
        idle: float | None = None,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        errors: Mapping[int, type[EngineError]] | None = None,
        versioned: bool = True,
    ) -> AsyncIterator[Answer]:
        """One call; the answer's body is read inside the block.

        `timeout` is for the whole call, `idle` between two pieces of the body (None: unlimited). A status from 400 up
        raises what `errors` names for it, else InvalidRequest or EngineFailed; no whole answer: EngineUnreachable.
        """
        with self._translated():
            response = await self._open().request(
                method,
                (self._prefix if versioned else "") + path,
                params=params,
                json=body,
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=timeout, sock_connect=10, sock_read=idle),
            )
        try:
            answer = Answer(response, self._translated)
            if response.status >= HTTPStatus.BAD_REQUEST:
                raise _failure(response, await answer.read(), errors or {})
            yield answer
        finally:
            response.close()

    async def close(self) -> None:
        """Ends all connections."""
        if self._session is not None:
            await self._session.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            silent = isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ConnectionTimeoutError)
            kind = EngineSilent if silent else EngineUnreachable
            # What aiohttp says of an answer that ends in its middle is about HTTP's framing.
            broken = isinstance(error, aiohttp.ClientPayloadError)
            said = "it broke off its answer" if broken else str(error) or type(error).__name__
            raise kind(f"{self.url}: {said}") from error

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector: aiohttp.BaseConnector = (
                aiohttp.UnixConnector(self.socket_path, force_close=True, limit=0)
                if self.socket_path
                else aiohttp.TCPConnector(force_close=True, limit=0, ssl=self._tls.context() if self._tls else True)
            )
            self._session = aiohttp.ClientSession(
                base_url=self._base, connector=connector, read_bufsize=_READ_BUFFER, auto_decompress=False
            )
        return self._session


def _failure(response: aiohttp.ClientResponse, body: bytes, errors: Mapping[int, type[EngineError]]) -> EngineError:
    try:
        message = str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        message = f"{response.status} {response.reason}"
    if response.status in errors:
        return errors[response.status](message)
    return (EngineFailed if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR else InvalidRequest)(message)


def _version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor)
