"""Times, sizes and commands in the words of tables. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration
    from google.protobuf.timestamp_pb2 import Timestamp

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))

NONE = "-"


def seconds_of(time: Timestamp) -> float:
    """Seconds since the epoch."""
    return time.seconds + time.nanos / 1e9


def span(seconds: float) -> str:
    """`350ms`, `12s`, `4m5s`, `3h20m`, `12d4h`: the two largest units that count."""
    seconds = max(seconds, 0)
    if seconds < 1:
        # Nothing takes no time, whatever an engine's stamps of start and end say.
        return f"{round(seconds * 1000) or '<1'}ms"
    left = int(seconds)
    for (size, unit), (below, smaller) in pairwise(_UNITS):
        if left >= size:
            rest = left % size // below
            # Beyond ten of a unit nobody asks for the smaller one.
            return f"{left // size}{unit}{rest}{smaller}" if rest and left // size < 10 else f"{left // size}{unit}"
    return f"{left}s"


def ago(time: Timestamp, now: float) -> str:
    """`4m5s ago`, `in 3h20m`."""
    passed = now - seconds_of(time)
    if abs(passed) < 1:
        return "now"
    return f"{span(passed)} ago" if passed > 0 else f"in {span(-passed)}"


def exact(time: Timestamp) -> str:
    """RFC 3339 in UTC, to the second."""
    return time.ToDatetime().strftime("%Y-%m-%dT%H:%M:%SZ")


def to_the_millisecond(time: Timestamp) -> str:
    """RFC 3339 in UTC, to the millisecond."""
    return time.ToDatetime().isoformat(timespec="milliseconds") + "Z"


def both(time: Timestamp, now: float) -> str:
    """The exact time, and how far away it is."""
    return f"{exact(time)}  ({ago(time, now)})"


def lasting(duration: Duration) -> str:
    """A duration as `span`."""
    return span(duration.ToMilliseconds() / 1000)


def size(count: int) -> str:
    """Bytes: `512 B`, `1.5 KiB`, `3 GiB`."""
    amount, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{amount:.0f} {unit}" if unit == "B" or amount >= 10 or amount == int(amount) else f"{amount:.1f} {unit}"


def command_line(words: Sequence[str]) -> str:
    """A command as a shell would take it."""
    return shlex.join(words) or NONE


def count(number: int, one: str, many: str = "") -> str:
    """`1 job`, `2 jobs`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
