"""The watchdog's decisions: what it guards, what it kills, and when it starts its agent again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from easyq_runner.domain.labels import is_own, terms_of
from easyq_runner.domain.records import OnLost

# Status of a process whose settings can't work: trying again would not help.
BAD_SETTINGS = 2

_FIRST_DELAY = 0.1
_FACTOR = 2.0
_LONGEST_DELAY = 5.0
# An agent that lived for so many seconds had started well: its next crash is a new story.
_STEADY = 5.0
# A trace as it travels (W3C's traceparent).
_TRACE = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-")


@dataclass(frozen=True, kw_only=True, slots=True)
class Ward:
    """Whose containers are guarded, and where: what an agent tells its watchdog."""

    farm: str
    agent_id: str
    # Docker Engine, as DockerHttp knows it, and the paths of ca, certificate and key where it is behind TLS.
    engine: str
    tls: tuple[str, str, str] | None
    # Path of the lease's note.
    lease: str
    # Whether people read the log; else programs do.
    console: bool


def is_doomed(labels: Mapping[str, str], ward: Ward) -> bool:
    """Whether a container has to die with the lease: it is this agent's, and its job does not wait for its host."""
    if not is_own(labels, farm=ward.farm, agent_id=ward.agent_id):
        return False
    terms = terms_of(labels)
    return terms is not None and terms.on_lost is not OnLost.WAIT


def names_of(labels: Mapping[str, str], ward: Ward) -> dict[str, str]:
    """What a line of the log says of a container of the agent, by the names that its own lines have."""
    names = {"agent": ward.agent_id}
    terms = terms_of(labels)
    if terms is None:
        return names
    names |= {"task": terms.task_id, "job": terms.job_id, "execution": terms.key.execution_id}
    names["epoch"] = str(terms.key.epoch)
    trace = _TRACE.match(terms.trace)
    return {**names, "trace_id": trace[1]} if trace else names


def final_status(status: int, *, stopping: bool, guarding: bool) -> int | None:
    """The status to end with after an agent that ended with `status` (negative: by that signal); None: start another.

    An agent that ends by itself before it has a lease to guard could not start: that is passed on, as a clean stop is.
    """
    if stopping or status in {0, BAD_SETTINGS}:
        return status
    return status if status > 0 and not guarding else None


def next_delay(previous: float | None, *, lived: float) -> float:
    """Seconds until the next agent, after a life of `lived` seconds; `previous` is the wait before that life."""
    if previous is None or lived >= _STEADY:
        return _FIRST_DELAY
    return min(previous * _FACTOR, _LONGEST_DELAY)
