"""E-mails by SMTP."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, formataddr, parseaddr
from typing import Literal

import aiosmtplib

from easyq_chassis.redaction import Redactor
from easyq_internal.store.v1.delivery_store_pb2 import ClaimedDelivery
from easyq_scheduler import convert_notices as convert
from easyq_scheduler.domain.hook import Answer
from easyq_scheduler.domain.mail import mail

#: The usual port of each kind of TLS.
PORTS = {"starttls": 587, "tls": 465, "none": 25}
_PERMANENT = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class MailServer:
    """Where e-mails go. An empty host: nowhere; an empty user: without signing in."""

    host: str
    port: int
    tls: Literal["starttls", "tls", "none"]
    user: str
    password: str
    sender: str


class MailSender:
    """`Sender` of e-mails, each by a connection of its own."""

    def __init__(
        self, server: MailServer, *, timeout: float, tls: ssl.SSLContext, public_url: str, farm: str, redactor: Redactor
    ) -> None:
        self._server = server
        self._timeout = timeout
        self._tls = tls
        self._public_url = public_url
        self._farm = farm
        self._redactor = redactor

    async def send(self, item: ClaimedDelivery) -> Answer:
        if not self._server.host:
            return Answer(error="no mail server is set (smtp_host)")
        message = self._message(item)
        try:
            # The library's own timeout is for each step.
            async with asyncio.timeout(self._timeout):
                await self._hand_over(message, item.address)
        except aiosmtplib.SMTPRecipientsRefused as error:
            return _refused(error.recipients[0])
        except aiosmtplib.SMTPResponseException as error:
            return _refused(error)
        except (aiosmtplib.SMTPTimeoutError, TimeoutError):
            return Answer(error=f"the mail server did not answer within {self._timeout:g} s")
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            return Answer(error=f"the mail server can't be used: {_reason(error)}"[:200])
        return Answer(delivered=True, code=250)

    async def _hand_over(self, message: EmailMessage, address: str) -> None:
        server = self._server
        await aiosmtplib.send(
            message,
            sender=parseaddr(server.sender)[1],
            recipients=[address],
            hostname=server.host,
            port=server.port or PORTS[server.tls],
            username=server.user or None,
            password=server.password if server.user else None,
            use_tls=server.tls == "tls",
            start_tls=server.tls == "starttls",
            tls_context=None if server.tls == "none" else self._tls,
            timeout=self._timeout,
        )

    def _message(self, item: ClaimedDelivery) -> EmailMessage:
        notice = convert.notice_of(item, public_url=self._public_url, redactor=self._redactor)
        stdout, stderr = convert.outputs_of(item, self._redactor)
        words = mail(notice, farm=self._farm, stdout=stdout, stderr=stderr)
        name, address = parseaddr(self._server.sender)
        message = EmailMessage(policy=SMTP)
        message["Subject"] = words.subject
        message["From"] = formataddr((name, address)) if name else address
        message["To"] = item.address
        message["Date"] = format_datetime(datetime.fromtimestamp(notice.ended_ms / 1000, UTC))
        # The same at each attempt, so that mail servers know it again.
        message["Message-ID"] = f"<{notice.delivery_id}@{address.rpartition('@')[2] or 'easyq.invalid'}>"
        message["Auto-Submitted"] = "auto-generated"
        message["X-EasyQ-Delivery"] = notice.delivery_id
        message.set_content(words.text, cte="quoted-printable")
        message.add_alternative(words.html, subtype="html", cte="quoted-printable")
        return message


def _refused(error: aiosmtplib.SMTPResponseException) -> Answer:
    # A sign-in or a sender that is refused may be put right in the settings; a receiver or a message can't be.
    about_this = isinstance(error, aiosmtplib.SMTPRecipientRefused | aiosmtplib.SMTPDataError)
    text = " ".join(str(error.message).split())[:160]
    return Answer(
        code=error.code,
        error=f"the mail server refused: {error.code} {text}",
        final=about_this and error.code >= _PERMANENT,
    )


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
