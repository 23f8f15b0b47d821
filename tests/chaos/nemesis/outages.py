"""One outage after the other, each long enough for its alert: what the recording of tests/chaos/alerts is made of.

Those of a seed are too short for most rules, and come several at once. What a seed has no kind for is a hardship
(`hardships.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.chaos.nemesis.faults import Fault

#: Seconds without a fault before the first one: longer than any rule waits.
CALM = 30.0

# at, for how long, kind, target, detail
_PLAN: tuple[tuple[float, float, str, str, str], ...] = (
    (0, 110, "jobs", "held", ""),
    (0, 70, "jobs", "bad", ""),
    (0, 50, "jobs", "unpullable", ""),
    (0, 50, "jobs", "told", ""),
    (20, 40, "host-disk-full", "runner-b", ""),
    (74, 18, "freeze", "store", ""),
    (96, 64, "jobs", "late", ""),
    (102, 42, "freeze", "scheduler-0", ""),
    (102, 42, "freeze", "scheduler-1", ""),
    (106, 36, "wrong-rules", "rules", ""),
    (154, 18, "redis-restart", "redis", ""),
    (178, 16, "flushes", "redis", ""),
    (204, 32, "overload", "redis", "1.8 0.1"),
    (206, 28, "streams", "gateway", ""),
    (206, 28, "descriptors", "scheduler-0", ""),
    (244, 26, "overload", "gateway", "1.2 0.3"),
    (280, 34, "daemon-hang", "dockerd-a", ""),
    (280, 34, "daemon-hang", "dockerd-b", ""),
    (280, 34, "daemon-hang", "dockerd-c", ""),
    (322, 52, "jobs", "long", ""),
    (340, 24, "freeze", "runner-a", ""),
    (340, 24, "freeze", "runner-b", ""),
    (340, 24, "freeze", "runner-c", ""),
    (376, 28, "isolate", "agent-a", "both resume"),
)


def outages() -> list[Fault]:
    """All of them, by time."""
    return [
        Fault(number=number, kind=kind, target=target, at=at, lasts=lasts, detail=detail)
        for number, (at, lasts, kind, target, detail) in enumerate(_PLAN, 1)
    ]


def seconds(faults: Sequence[Fault]) -> float:
    """When the last one has ended, and what it did can be seen."""
    return CALM + max(fault.until for fault in faults) + 20
