"""Which alerts have to come of what was broken. Pure.

A fault has an alert that names it. It has to fire where the fault lasted until it could be seen, and then as long as
the rule wants (its `for`), while the service that shows it was there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.chaos.alerts.series import Broken

# Seconds from a change to the scrape that shows it, and from there to the rule's next evaluation.
_LOOKS = 2.0
# Seconds that a service may take to be there again once it was killed.
_START = 6.0
# Seconds after the fault in which an alert on what happened within some time may still come.
_LATER = 20
_DAEMONS = r"daemon-(?:hang|term|kill)"
_REDIS = r"(?:freeze|redis-restart) redis|(?:partition) dispatcher-redis"
_DISPATCHERS = ("dispatcher-0", "dispatcher-1")


@dataclass(frozen=True, kw_only=True)
class Tells:
    """Of faults whose `kind target` matches `of` wholly, `alert` tells, with these labels.

    `seen_by`: the processes that show it, which its label `instance` names, each an alert of its own; `\\1` is the
    fault's first group. `after`: most seconds until it is seen. `later`: seconds in which the alert may come when it is
    over.
    """

    of: str
    alert: str
    labels: str = ""
    seen_by: tuple[str, ...] = ()
    after: float = 0.0
    later: int = 2


@dataclass(frozen=True, kw_only=True)
class Expected:
    """An alert, with labels as PromQL selects them, that has to fire between two seconds, because of `fault`."""

    alert: str
    labels: str
    begin: int
    end: int
    fault: str


TELLS = (
    # ------------------------------------------------------------------------------- what any nemesis does
    Tells(of=r"freeze (gateway|store|scheduler-.|dispatcher-.|runner-.)", alert="EasyQServiceDown", seen_by=(r"\1",)),
    Tells(of=r"freeze agent-(.)", alert="EasyQServiceDown", seen_by=(r"runner-\1",)),
    Tells(of=_REDIS, alert="EasyQServiceNotReady", seen_by=_DISPATCHERS, after=6),
    Tells(of=r"partition gateway-store .*", alert="EasyQServiceNotReady", seen_by=("gateway",), after=5),
    Tells(of=_DAEMONS + r" dockerd-(.)", alert="EasyQEngineDown", seen_by=(r"runner-\1",), after=5),
    Tells(of=r"isolate agent-(.)", alert="EasyQAgentDisconnected", seen_by=(r"runner-\1",), after=8),
    # After `lost_after` and `lost_margin`, and the store's next look.
    Tells(of=r"freeze runner-.", alert="EasyQAgentLost", seen_by=("store",), after=14, later=_LATER),
    # ---------------------------------------------------------------- what needs an outage as outages.py has
    Tells(of="freeze store", alert="EasyQRequestsFail", after=5, later=_LATER),
    Tells(of="freeze scheduler-.", alert="EasyQSchedulesLate", after=32, later=_LATER),
    Tells(of="jobs held", alert="EasyQQueueWaits", labels='task="outage-held"', after=65),
    Tells(of="jobs bad", alert="EasyQJobsFail", labels='task="outage-bad"', after=20),
    Tells(of="jobs unpullable", alert="EasyQBreakerOpen", labels='kind="IMAGE"', after=10),
    Tells(of="jobs told", alert="EasyQNotificationsGivenUp", labels='channel="webhook"', after=5, later=_LATER),
    Tells(of="jobs long", alert="EasyQExecutionsLost", labels='task="outage-long"', after=30, later=_LATER),
    Tells(of="jobs long", alert="EasyQInfrastructureRetries", after=30, later=_LATER),
    Tells(
        of="host-disk-full (runner-.)",
        alert="EasyQDiskNearlyFull",
        labels='folder=~".*/agent-."',
        seen_by=(r"\1",),
        after=5,
    ),
    Tells(of="wrong-rules rules", alert="EasyQServiceDegraded", seen_by=("gateway", "store", *_DISPATCHERS), after=4),
    Tells(of="overload redis", alert="EasyQDatabaseSlow", labels='db_system_name="redis"', after=10, later=_LATER),
    Tells(of="overload (gateway)", alert="EasyQEventLoopLags", seen_by=(r"\1",), after=10, later=_LATER),
    Tells(of="streams gateway", alert="EasyQRequestsRefused", labels='kind="streams"', after=10),
    Tells(of="descriptors (scheduler-.)", alert="EasyQFileDescriptors", seen_by=(r"\1",), after=2),
    Tells(of="daemon-hang dockerd-.", alert="EasyQNothingRunsJobs", after=15, later=6),
    Tells(of="flushes redis", alert="EasyQRedisLosesData", after=10, later=_LATER),
)


def expected(faults: Sequence[Broken], patience: Mapping[str, float]) -> Iterator[Expected]:
    """The alerts that have to fire. `patience`: for how many seconds the condition of each has to hold."""
    for fault in faults:
        for tells in TELLS:
            match = re.fullmatch(tells.of, f"{fault.kind} {fault.target}")
            if match is None or fault.error:
                continue
            needed = tells.after + patience[tells.alert] + _LOOKS
            for process in (match.expand(one) for one in tells.seen_by or ("",)):
                begin, end = max(_there(fault, process, faults), key=lambda span: span[1] - span[0])
                if end - begin >= needed:
                    labels = [tells.labels] if tells.labels else []
                    labels += [f'instance="{process}"'] if process else []
                    yield Expected(
                        alert=tells.alert,
                        labels=", ".join(labels),
                        begin=math.floor(begin),
                        end=math.ceil(end) + tells.later,
                        fault=f"{fault.kind} {fault.target}",
                    )


def _there(fault: Broken, process: str, faults: Iterable[Broken]) -> list[tuple[float, float]]:
    """The spans of a fault in which nothing else had taken the process that shows it."""
    spans = [(fault.begin, fault.end)]
    for other in faults:
        if other is not fault and _takes(other, process):
            away = (other.begin, other.end + _START)
            spans = [
                piece
                for begin, end in spans
                for piece in ((begin, min(end, away[0])), (max(begin, away[1]), end))
                if piece[0] <= piece[1]
            ]
    return spans or [(fault.begin, fault.begin)]


def _takes(fault: Broken, process: str) -> bool:
    if not process or fault.kind not in {"kill", "kill-all", "freeze", "overload"}:
        return False
    # An agent, and the watchdog that it can't be without, are a runner.
    target = re.sub(r"^(?:agent|watchdog)-", "runner-", fault.target)
    return target in {process, "all"}
