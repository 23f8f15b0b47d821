"""Every wait has words that say what is in the way and what to do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from easyq_dispatcher.domain.agents import Phase
from easyq_dispatcher.domain.breakers import Breaker, Kind
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
from easyq_dispatcher.domain.needs import Needs, Offer

AGENT = AgentView(
    agent_id="host-1", live=True, healthy=True, message="", pools=("mail",), slots=2, silent_for=1.0, running=1
)
POOL = Pool(name="mail", pattern="mail-.*", max_running=5, lost_after_ms=1)
FREE = Situation(task_id="mail-a", pool=POOL, pool_running=1, bounds=(), agents=(AGENT,), position=1)
FULL = Bound(limit=Limit(pattern="mail-.*", max_running=3), running=3)
BIG = Needs(cpu_millis=8_000, gpus=1)
SIZED = replace(AGENT, offer=Offer(cpu_millis=4_000, memory=1 << 30), running=0)
LABELLED = Needs(cpu_millis=1_000, labels=(("gpu", "a100"),))
HOST = Breaker(kind=Kind.HOST, subject="host-1", since_ms=5, until_ms=9, failures=3, cause="disk full")
IMAGE = Breaker(kind=Kind.IMAGE, subject="app:1", since_ms=6, until_ms=8, failures=3, cause="no route")


@pytest.mark.parametrize(
    ("at", "reason", "words"),
    [
        (
            replace(FREE, agents=()),
            Reason.NO_AGENT,
            "tasks matching mail-.*) is connected; start one on a Docker host: easyq runner --pools mail",
        ),
        (replace(FREE, agents=(replace(AGENT, live=False),)), Reason.NO_AGENT, "(not connected: host-1)"),
        (
            replace(FREE, agents=(replace(AGENT, live=False, message="its agent has ended"),)),
            Reason.NO_AGENT,
            "(not connected: host-1: its agent has ended)",
        ),
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
        (
            replace(FREE, agents=(replace(SIZED, agent_id="small", offer=Offer(cpu_millis=1)), SIZED), needs=BIG),
            Reason.NO_FIT,
            "it asks for 8 cpus, 1 GPU, and no agent of pool mail has that; the largest that comes near is host-1 with",
        ),
        (
            replace(FREE, agents=(SIZED, replace(SIZED, live=False, labels=LABELLED.labels)), needs=LABELLED),
            Reason.NO_FIT,
            "no agent of pool mail has the label gpu=a100: it waits for one that has 1 cpu, label gpu=a100",
        ),
        (
            replace(FREE, agents=(replace(SIZED, used=Offer(cpu_millis=3_500)),), needs=Needs(cpu_millis=1_000)),
            Reason.NO_ROOM,
            "it asks for 1 cpu; agents of pool mail have that, and other jobs use it now; 1st in line",
        ),
        (
            replace(FREE, agents=(replace(AGENT, cordoned=True), replace(AGENT, agent_id="host-2", cordoned=True))),
            Reason.CORDONED,
            "every agent of pool mail is cordoned or drains: host-1, host-2; uncordon one",
        ),
        (
            # Another one takes work, and would never do.
            replace(
                FREE,
                agents=(SIZED, replace(SIZED, cordoned=True, labels=LABELLED.labels)),
                needs=LABELLED,
            ),
            Reason.CORDONED,
            "every agent of pool mail that has 1 cpu, label gpu=a100 is cordoned",
        ),
        (
            replace(FREE, breakers=(HOST,)),
            Reason.HOST_BREAKER,
            "hosts of pool mail failed lately, and one job at a time tries them again: host-1: disk full",
        ),
        (
            replace(FREE, image="app:1", breakers=(IMAGE, replace(HOST, subject="elsewhere"))),
            Reason.IMAGE_BREAKER,
            "image app:1 could not be pulled lately; one job at a time tries again: no route",
        ),
        (replace(FREE, image="app:2", breakers=(IMAGE,)), Reason.POSITION, "about to be assigned"),
        (replace(FREE, breakers=(replace(HOST, until_ms=0),)), Reason.POSITION, "about to be assigned"),
        (
            replace(FREE, agents=(AGENT, replace(AGENT, agent_id="host-2")), breakers=(HOST,)),
            Reason.POSITION,
            "about to be assigned",
        ),
    ],
)
def test_queued(at: Situation, reason: Reason, words: str) -> None:
    told = explain_queued(at)
    assert told.reason is reason
    assert words in told.message


def test_what_is_behind_it() -> None:
    both = replace(FREE, agents=(AGENT, replace(AGENT, agent_id="host-2")))
    second = replace(HOST, subject="host-2", since_ms=7, until_ms=20)
    subjects = {
        "": explain_queued(FREE),
        "mail": explain_queued(replace(FREE, agents=())),
        "mail-.*": explain_queued(replace(FREE, bounds=(FULL,))),
        "host-1": explain_queued(replace(FREE, breakers=(HOST,))),
        "app:1": explain_queued(replace(FREE, image="app:1", breakers=(IMAGE,))),
    }
    assert {subject: word.subject for subject, word in subjects.items()} == {name: name for name in subjects}
    assert all(word.position == 1 for word in subjects.values())
    assert explain_queued(replace(FREE, position=None)).position is None
    one, two = subjects["host-1"], explain_queued(replace(both, breakers=(HOST, second)))
    assert (one.since_ms, one.next_look_at_ms) == (5, 9)
    assert (two.subject, two.since_ms, two.next_look_at_ms) == ("mail", 7, 9)
    image = subjects["app:1"]
    assert (image.since_ms, image.next_look_at_ms) == (6, 8)
    cordoned = explain_queued(replace(FREE, agents=(replace(AGENT, cordoned=True, cordoned_since_ms=3),)))
    assert (cordoned.subject, cordoned.since_ms) == ("host-1", 3)
    tight = replace(SIZED, used=SIZED.offer)
    no_room = explain_queued(replace(FREE, agents=(tight,), needs=Needs(memory=1), no_room_since_ms=44))
    assert (no_room.subject, no_room.since_ms) == ("mail", 44)


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
    assert (told.subject, told.since_ms) == ("host-1", 68_600)


def test_nothing_is_assigned() -> None:
    told = explain_unavailable("Redis: connection refused", 5)
    assert told.reason is Reason.DISPATCHER_UNAVAILABLE
    assert "connection refused" in told.message
    assert told.since_ms == 5
