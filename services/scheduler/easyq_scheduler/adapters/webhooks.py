"""Webhooks over HTTP."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp

from easyq_chassis.clock import Clock
from easyq_chassis.redaction import Redactor
from easyq_internal.store.v1.delivery_store_pb2 import ClaimedDelivery
from easyq_scheduler import convert_notices as convert
from easyq_scheduler.adapters.names import Names
from easyq_scheduler.domain.hook import REDIRECTS, Answer, Hook, headers_of, judged, signature
from easyq_scheduler.domain.networks import Guard
from easyq_scheduler.domain.notice import body

# Of an answer only its head is read.
_MOST_LINE = 8_190
# The secret of hooks that name none.
_DEFAULT = "default"


class AddressRefusedError(OSError):
    """The guard does not let a connection go to this address."""

    def __init__(self, address: str) -> None:
        super().__init__(errno.EACCES, f"the address {address} is not allowed (webhook_guard)")


class WebhookSender:
    """`Sender` of webhooks. Each has a connection of its own, to an address that was looked at just before."""

    def __init__(
        self,
        *,
        guard: Guard,
        redirects: int,
        timeout: float,
        tls: ssl.SSLContext,
        secrets: Callable[[], Mapping[str, str]],
        public_url: str,
        redactor: Redactor,
        clock: Clock,
        agent: str,
    ) -> None:
        """`redirects`: how many are followed; `secrets`: keys of signatures by name; `timeout` for all of a call."""
        self._guard = guard
        self._redirects = redirects
        self._timeout = timeout
        self._tls = tls
        self._secrets = secrets
        self._public_url = public_url
        self._redactor = redactor
        self._clock = clock
        self._agent = agent
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Ends what is under way."""
        if self._session is not None:
            await self._session.close()

    async def send(self, item: ClaimedDelivery) -> Answer:
        hook = convert.hook_of(item)
        notice = convert.notice_of(item, public_url=self._public_url, redactor=self._redactor)
        told = body(notice)
        headers = headers_of(notice, attempt=item.attempt, agent=self._agent)
        key = hook.secret or self._secrets().get(hook.secret_name or _DEFAULT, "")
        if key:
            headers["EasyQ-Signature"] = signature(key, told, self._clock.now_ms() // 1000)
        elif hook.secret_name:
            return Answer(error=f"there is no secret {hook.secret_name} (webhook_secrets)")
        try:
            return await self._call(hook, headers, told)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return Answer(error=self._sentence(error))

    async def _call(self, hook: Hook, headers: Mapping[str, str], told: bytes) -> Answer:
        url, followed = hook.url, 0
        async with asyncio.timeout(self._timeout):
            while True:
                # What the user gave for one server is not for another.
                given = hook.headers if _origin(url) == _origin(hook.url) else {}
                answer, location = await self._post(url, {**given, **headers}, told)
                if answer.code not in REDIRECTS or not self._redirects or not location:
                    return answer
                followed += 1
                if followed > self._redirects:
                    return Answer(code=answer.code, error=f"it redirects more than {self._redirects} times")
                url = urljoin(url, location)
                if _origin(hook.url)[0] == "https" and _origin(url)[0] != "https":
                    return Answer(code=answer.code, error="it redirects from https to another scheme")

    async def _post(self, url: str, headers: Mapping[str, str], told: bytes) -> tuple[Answer, str]:
        """What one server answers, and where it points to."""
        async with self._http().post(url, data=told, headers=headers, allow_redirects=False) as response:
            answer = judged(response.status, response.headers.get("Retry-After", ""))
            location = response.headers.get("Location", "")
            # Nobody reads on, so that a body without an end costs nothing.
            response.close()
        return answer, location

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=0,
                force_close=True,
                use_dns_cache=False,
                resolver=Names(),
                ssl=self._tls,
                # Whatever the name meant when it was asked for: what is looked at is what is connected to.
                socket_factory=self._socket,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                # `_call` has the one for all of it.
                timeout=aiohttp.ClientTimeout(total=None),
                max_line_size=_MOST_LINE,
                max_field_size=_MOST_LINE,
            )
        return self._session

    def _socket(self, info: Any) -> socket.socket:
        family, kind, protocol, _, address = info
        if not self._guard.allows(str(address[0])):
            raise AddressRefusedError(str(address[0]))
        return socket.socket(family=family, type=kind, proto=protocol)

    def _sentence(self, error: Exception) -> str:
        """What went wrong; nothing of the URL, which may hold secrets, but its host."""
        if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
            return f"TLS failed: {_tls_words(error)}"[:200]
        if isinstance(error, aiohttp.ClientConnectorDNSError):
            return "the name of its host can't be resolved"
        if isinstance(error, aiohttp.ClientConnectorError):
            return f"it can't be connected to: {error.os_error.strerror or error.os_error}"[:200]
        if isinstance(error, TimeoutError):
            return f"it did not answer within {self._timeout:g} s"
        if isinstance(error, aiohttp.ServerDisconnectedError):
            return "it closed the connection without an answer"
        if isinstance(error, aiohttp.InvalidURL):
            return "its URL can't be called"
        if isinstance(error, aiohttp.ClientResponseError):
            # Nothing of it is repeated: it may echo what was sent.
            return f"what it answered is no HTTP that can be read (a line of its head has at most {_MOST_LINE} bytes)"
        if isinstance(error, OSError):
            return f"the connection broke: {error.strerror or type(error).__name__}"
        return f"the call failed: {type(error).__name__}"


def _tls_words(error: aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError) -> str:
    """OpenSSL's reason, without the place in the source that Python puts behind it."""
    cause = error.__cause__ or getattr(error, "os_error", None)
    if isinstance(cause, ssl.SSLCertVerificationError) and cause.verify_message:
        return cause.verify_message
    if isinstance(cause, ssl.SSLError) and cause.reason:
        return cause.reason.replace("_", " ").lower()
    return str(cause or type(error).__name__)


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
