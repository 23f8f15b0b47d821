"""Every wait has words that say what is in the way and what to do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from easyq_dispatcher.domain.agents import Phase
from easyq_dispatcher.domain.explain import (
    AgentView,
    Bound,
    Reason,
    Situation,
    explain_assigned,
    explain_queued,
    explain_silent,
    explain_unavailable,
)
from easyq_dispatcher.domain.matching import Limit, Pool

AGENT = AgentView(
    agent_id="host-1", live=True, healthy=True, message="", pools=("mail",), slots=2, silent_for=1.0, running=1
)
POOL = Pool(name="mail", pattern="mail-.*", max_running=5, lost_after_ms=1)
FREE = Situation(task_id="mail-a", pool=POOL, pool_running=1, bounds=(), agents=(AGENT,), position=1)
FULL = Bound(limit=Limit(pattern="mail-.*", max_running=3), running=3)


@pytest.mark.parametrize(
    ("at", "reason", "words"),
    [
        (
            replace(FREE, agents=()),
            Reason.NO_AGENT,
            "tasks matching mail-.*) is connected; start one on a Docker host: easyq runner --pools mail",
        ),
        (replace(FREE, agents=(replace(AGENT, live=False),)), Reason.NO_AGENT, "not connected: host-1"),
        (
            replace(FREE, agents=(replace(AGENT, healthy=False, message="Docker Engine does not answer"),)),
            Reason.NO_HEALTHY_AGENT,
            "no agent of pool mail takes new work: host-1: Docker Engine does not answer",
        ),
        (replace(FREE, agents=(replace(AGENT, healthy=False),)), Reason.NO_HEALTHY_AGENT, "takes no new work"),
        (
            replace(FREE, bounds=(Bound(limit=Limit(pattern=".*", max_running=9), running=8), FULL), position=2),
            Reason.LIMIT_FULL,
            "limit mail-.*: 3 of 3 are running; 2nd in line of task mail-a",
        ),
        (replace(FREE, pool_running=5), Reason.LIMIT_FULL, "pool mail: 5 of at most 5 are running"),
        (
            replace(FREE, agents=(replace(AGENT, running=3), replace(AGENT, healthy=False)), position=None),
            Reason.NO_FREE_SLOT,
            "pool mail: 2 of 2 slots are taken; behind the first ones of task mail-a",
        ),
        (
            replace(FREE, pool=replace(POOL, max_running=0), position=3),
            Reason.POSITION,
            "about to be assigned; 3rd in line",
        ),
        (replace(FREE, position=12), Reason.POSITION, "12th in line"),
    ],
)
def test_queued(at: Situation, reason: Reason, words: str) -> None:
    told = explain_queued(at)
    assert told.reason is reason
    assert words in told.message


def test_assigned() -> None:
    assert explain_assigned("host-1", Phase.PULLING).reason is Reason.PULLING
    for phase in (None, Phase.ACCEPTED, Phase.CREATED):
        told = explain_assigned("host-1", phase)
        assert told.reason is Reason.STARTING
        assert "host-1" in told.message


def test_a_silent_host() -> None:
    told = explain_silent(replace(AGENT, silent_for=31.4), now_ms=100_000)
    assert told.reason is Reason.HOST_SILENT
    assert "host-1" in told.message
    assert "31 s" in told.message


def test_nothing_is_assigned() -> None:
    told = explain_unavailable("Redis: connection refused", 5)
    assert told.reason is Reason.DISPATCHER_UNAVAILABLE
    assert "connection refused" in told.message
