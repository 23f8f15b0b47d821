"""What a spec says about further attempts, and how long they wait."""

import math
from dataclasses import dataclass, field

from easyq_store.domain.records import Needs
from easyq_store.domain.states import OnLost, Overlap
from easyq_store.domain.timing import Timing

# Waits before attempts that follow infrastructure failures: doubled from the first to the longest, all of it random.
INFRA_FIRST_MS = 1_000
INFRA_LONGEST_MS = 60_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Backoff:
    """The wait before a retry. Milliseconds."""

    min_ms: int = 1_000
    factor: float = 2.0
    max_ms: int = 300_000
    # Share of the wait that is random.
    jitter: float = 0.5
    # No retry is due later than this after the first attempt was; None: no bound.
    max_elapsed_ms: int | None = None

    def wait_ms(self, retry: int, share: float) -> int:
        """The wait before retry number `retry` (from 1); `share` in [0, 1) is the random part."""
        return int(growing(retry, self.min_ms, self.factor, self.max_ms) * (1 - self.jitter * share))


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """The part of a spec that decides what an execution needs, and what follows its end."""

    retries: int = 0
    infra_retries: int = 5
    backoff: Backoff = Backoff()
    # Exit codes (`75`), ranges (`100-110`), `oom`, `timeout`; empty: every failure of the program.
    retry_on: tuple[str, ...] = ()
    on_lost: OnLost = OnLost.RERUN
    priority: int = 0
    timing: Timing = field(default_factory=Timing)
    needs: Needs | None = None
    image: str = ""
    overlap: Overlap = Overlap.SKIP
    # What a recurring job's times follow from, as one text; empty: it does not recur.
    times: bytes = b""
    # Fires after which a recurring job is EXPIRED; 0: no bound.
    max_runs: int = 0

    @property
    def recurring(self) -> bool:
        """Whether it is the spec of a recurring job."""
        return bool(self.times)

    def retries_on(self, *, exit_code: int | None, oom: bool, timeout: bool) -> bool:
        """Whether this failure of the program is one that is worth a retry."""
        return not self.retry_on or any(
            (rule == "oom" and oom)
            or (rule == "timeout" and timeout)
            or (exit_code is not None and not timeout and _covers(rule, exit_code))
            for rule in self.retry_on
        )


def infra_wait_ms(retry: int, share: float) -> int:
    """The wait before infrastructure retry number `retry` (from 1)."""
    return int(growing(retry, INFRA_FIRST_MS, 2.0, INFRA_LONGEST_MS) * share)


def growing(retry: int, first: float, factor: float, longest: float) -> float:
    """first × factor^(retry-1), at most `longest`."""
    if first <= 0 or longest <= first:
        return max(0.0, min(first, longest))
    # By logarithms, since a thousandth power of a hundred is no float.
    if (retry - 1) * math.log(factor) >= math.log(longest / first):
        return longest
    return min(longest, first * factor ** (retry - 1))


def _covers(rule: str, exit_code: int) -> bool:
    low, _, high = rule.partition("-")
    return low.isdigit() and int(low) <= exit_code <= int(high or low)
