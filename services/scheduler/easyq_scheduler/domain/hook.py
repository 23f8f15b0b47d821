"""A webhook's headers and signature, and what an answer to it means. Pure."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

from easyq_scheduler.domain.notice import Notice

REDIRECTS = frozenset({301, 302, 307, 308})
_GONE = 410
_BUSY = frozenset({429, 503})
#: More than that a receiver can't ask for.
_LONGEST_ASKED = 86_400


@dataclass(frozen=True, kw_only=True, slots=True)
class Hook:
    """A receiver, as the spec names it."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    secret: str = ""
    secret_name: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What became of one attempt. `code` is an HTTP status or an SMTP reply, 0 where there was none."""

    delivered: bool = False
    code: int = 0
    error: str = ""
    # No further attempt would fare better.
    final: bool = False
    # Seconds that the receiver asked for.
    wait: float = 0.0


def signature(secret: str, body: bytes, at: int) -> str:
    """The value of `EasyQ-Signature` for a body that is sent at `at` (unix seconds)."""
    mac = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256)
    return f"t={at},v1={mac.hexdigest()}"


def headers_of(notice: Notice, *, attempt: int, agent: str) -> dict[str, str]:
    """The headers that are EasyQ's own."""
    return {
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": agent,
        "EasyQ-Delivery": notice.delivery_id,
        "EasyQ-Event": notice.event,
        "EasyQ-Attempt": str(attempt),
    }


def judged(status: int, retry_after: str = "") -> Answer:
    """What an answer means: any 2xx takes it, 410 says that nobody will."""
    if 200 <= status < 300:
        return Answer(delivered=True, code=status)
    if status in REDIRECTS:
        return Answer(code=status, error=f"it answered {status}: redirects are not followed (webhook_redirects)")
    if status == _GONE:
        return Answer(code=status, error="it answered 410: nobody is there any more", final=True)
    wait = float(retry_after) if status in _BUSY and retry_after.isascii() and retry_after.isdigit() else 0.0
    return Answer(code=status, error=f"it answered {status}", wait=min(wait, _LONGEST_ASKED))
