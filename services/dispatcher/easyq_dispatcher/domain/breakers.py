"""Breakers keep work away from hosts and images that fail: closed, open, and half-open by one probe at a time.

The index in Redis does the same in `settle.lua` and `take.lua`, since several dispatchers share it; one suite holds for
both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

# No registry closes an image for longer than this, whatever it says.
LONGEST_RETRY_AFTER_MS = 3_600_000


class Kind(Enum):
    """What a breaker is for, by the names of `easyq.v1.Breaker.Kind`."""

    HOST = "HOST"
    IMAGE = "IMAGE"


class Sign(Enum):
    """What an execution told of its host and its image."""

    # It got as far as to show that both work.
    WORKED = "WORKED"
    # The fault is the host's.
    HOST = "HOST"
    # The image can't be pulled.
    IMAGE = "IMAGE"
    # The registry wants to be left alone for a while.
    BUSY = "BUSY"


@dataclass(frozen=True, kw_only=True, slots=True)
class Omen:
    """A sign of an execution that had `epoch`. `ms`: how long the registry wants to wait; 0: it did not say."""

    execution_id: str
    epoch: int
    sign: Sign
    cause: str = ""
    ms: int = 0


class Phase(Enum):
    """By the names of `easyq.v1.Breaker.Phase`."""

    CLOSED = "CLOSED"
    OPEN = "OPEN"
    HALF_OPEN = "HALF_OPEN"


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """Failures in a row that open a breaker, and how long it stays open: at first, and at most.

    `quiet_ms`: one that may be tried for so long (and as long as it was open last), and is not, closes.
    """

    failures: int = 3
    wait_ms: int = 5_000
    longest_ms: int = 300_000
    quiet_ms: int = 60_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Breaker:
    """One breaker. `until_ms` 0: closed, and failures are counted. Else it is open, and from then on half-open.

    `probe`: the execution that tries now, or tried last.
    """

    kind: Kind
    subject: str
    failures: int = 0
    since_ms: int = 0
    wait_ms: int = 0
    until_ms: int = 0
    probe: str = ""
    cause: str = ""

    def phase(self, now_ms: int) -> Phase:
        """How far it is."""
        if not self.until_ms:
            return Phase.CLOSED
        return Phase.OPEN if now_ms < self.until_ms else Phase.HALF_OPEN


def after_success(breaker: Breaker, execution_id: str) -> Breaker | None:
    """None: closed, and nothing is counted. An open one believes its probe only."""
    return None if not breaker.until_ms or breaker.probe == execution_id else breaker


def after_failure(breaker: Breaker, omen: Omen, patience: Patience, now_ms: int) -> Breaker:
    """Counts a failure; opens it, for twice as long where it was the probe that failed."""
    failed = replace(breaker, failures=breaker.failures + 1, cause=omen.cause)
    if not failed.until_ms:
        if omen.sign is not Sign.BUSY and failed.failures < patience.failures:
            return failed
        wait = patience.wait_ms
        return replace(failed, since_ms=now_ms, wait_ms=wait, until_ms=now_ms + max(wait, omen.ms))
    if failed.probe == omen.execution_id:
        wait = min(2 * failed.wait_ms, patience.longest_ms)
        return replace(failed, wait_ms=wait, until_ms=now_ms + max(wait, omen.ms), probe="")
    return replace(failed, until_ms=max(failed.until_ms, now_ms + omen.ms)) if omen.ms else failed


def is_over(breaker: Breaker, patience: Patience, now_ms: int) -> bool:
    """Whether nobody has tried it for so long that nobody waits for it. Its probe is not under way."""
    return bool(breaker.until_ms) and now_ms - breaker.until_ms > max(patience.quiet_ms, breaker.wait_ms)
