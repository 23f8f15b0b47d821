"""Receivers of notifications on real sockets: HTTP servers of every temper, mail servers."""

import asyncio
import hashlib
import hmac
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

from aiohttp import web
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request that came."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def id(self) -> str:
        return self.headers["EasyQ-Delivery"]

    def signed_with(self, secret: str) -> bool:
        """Whether its signature is that of this key, as a receiver would check it."""
        parts = dict(part.split("=", 1) for part in self.headers["EasyQ-Signature"].split(","))
        mac = hmac.new(secret.encode(), f"{parts['t']}.".encode() + self.body, hashlib.sha256).hexdigest()
        return hmac.compare_digest(mac, parts["v1"])


Answering = Callable[["HttpReceiver", Call], Awaitable[web.StreamResponse]]


@dataclass
class HttpReceiver:
    """Notes calls; answers 204, or as told."""

    calls: list[Call] = field(default_factory=list)
    # Statuses of the next answers; the last one stays.
    statuses: list[int] = field(default_factory=lambda: [204])
    answer: Answering | None = None
    url: str = ""
    answered: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        call = Call(path=request.path_qs, headers=dict(request.headers), body=await request.read())
        self.calls.append(call)
        self.answered.set()
        if self.answer is not None:
            return await self.answer(self, call)
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        return web.Response(status=status)


@asynccontextmanager
async def http_receiver(*, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> AsyncIterator[HttpReceiver]:
    """A receiver on a free port, until the block ends."""
    receiver = HttpReceiver()
    runner = web.ServerRunner(web.Server(receiver.handle), handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, host, 0, ssl_context=tls)
    await site.start()
    _, port = runner.addresses[0][:2]
    receiver.url = f"{'https' if tls else 'http'}://{host}:{port}/hook"
    try:
        yield receiver
    finally:
        await runner.cleanup()


Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def raw_receiver(talk: Talk) -> AsyncIterator[str]:
    """A server that does with each connection as it is told; the URL of it."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    finally:
        server.close()


@dataclass
class MailReceiver:
    """Keeps mails; refuses those to `nobody@…`."""

    mails: list[EmailMessage] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    envelopes: list[tuple[str, list[str]]] = field(default_factory=list)
    port: int = 0
    # Replies to the next messages before one is taken.
    refusals: list[str] = field(default_factory=list)
    encrypted: bool = False

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if address.startswith("nobody@"):
            return "550 no such user here"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        if self.refusals:
            return self.refusals.pop(0)
        self.encrypted = session.ssl is not None or server.transport.get_extra_info("sslcontext") is not None
        self.envelopes.append((envelope.mail_from, envelope.rcpt_tos))
        self.raw.append(envelope.content)
        message = message_from_bytes(envelope.content, policy=default)
        assert isinstance(message, EmailMessage)
        self.mails.append(message)
        return "250 taken"


@asynccontextmanager
async def mail_receiver(
    *, tls: str, context: ssl.SSLContext | None = None, login: str = ""
) -> AsyncIterator[MailReceiver]:
    """A mail server on a free port; `tls` as the scheduler's setting, `login` is `user:password`."""
    receiver = MailReceiver()

    def authenticate(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        right = f"{data.login.decode()}:{data.password.decode()}" == login
        # Not handled: the server itself answers 535.
        return AuthResult(success=right, handled=right)

    def factory() -> SMTP:
        return SMTP(
            receiver,
            hostname="mail.test",
            tls_context=context if tls == "starttls" else None,
            require_starttls=tls == "starttls",
            authenticator=authenticate if login else None,
            auth_required=bool(login),
            auth_require_tls=tls == "starttls",
        )

    ssl_context = context if tls == "tls" else None
    server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0, ssl=ssl_context)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
