"""What the dispatcher knows of an agent, and what follows the store's answers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from easyq_dispatcher.domain.agents import Agent, Held, Hello, Phase, hello_problems, protocol_problem
from easyq_dispatcher.domain.assigning import Consequence, Step, Verdict, consequence
from easyq_dispatcher.domain.reconcile import repairs, suspects
from easyq_dispatcher.domain.records import Fenced, Head, HeldExecution, Place, Seat, Taking

HELLO = Hello(
    agent_id="a",
    daemon_id="",
    hostname="h",
    pools=("default",),
    slots=3,
    version="1",
    protocol_min=1,
    protocol_max=2,
    inventory=(Held(execution_id="x", epoch=2, phase=Phase.PULLING),),
    healthy=True,
    message="",
)
AGENT = Agent.from_hello(HELLO, session=4, pools=("default", "mail"))
HEAD = Head(execution_id="x", task_id="t", priority=3, queue_seq=9, epoch=1)
TAKING = Taking(head=HEAD, token="1.1", agent_id="a", session=4, pool="default")
HELD = HeldExecution(execution_id="x", task_id="t", agent_id="a", session=4, pool="default", epoch=2)
PLACE = Place(execution_id="x", token="1.1", agent_id="a", confirmed=True)


# -------------------------------------------------------------------------------------------------------------- agents
def test_a_new_agent_takes_work() -> None:
    assert AGENT.takes_work
    assert AGENT.room == 3
    assert AGENT.phases == {"x": Phase.PULLING}
    assert AGENT.seat() == Seat(agent_id="a", session=4, slots=3, pools=("default", "mail"))


@pytest.mark.parametrize(
    "agent",
    [AGENT.with_health(healthy=False, message="drains"), AGENT.goodbye(), replace(AGENT, slots=0)],
)
def test_agents_that_take_no_work(agent: Agent) -> None:
    assert not agent.takes_work


def test_an_agents_words_replace_those_before() -> None:
    told = AGENT.with_health(healthy=False, message="drains").with_health(healthy=True, message="")
    assert (told.takes_work, told.message) == (True, "")
    assert AGENT.with_inventory(()).phases == {}


@pytest.mark.parametrize(("room", "known"), [(-2, 0), (2, 2), (9, 3)])
def test_room_is_within_the_slots(room: int, known: int) -> None:
    assert AGENT.with_room(room).room == known


def test_the_protocol_has_to_be_common() -> None:
    assert protocol_problem(HELLO) is None
    newer = protocol_problem(replace(HELLO, protocol_min=2, protocol_max=3))
    older = protocol_problem(replace(HELLO, protocol_min=0, protocol_max=0))
    assert newer
    assert "update the dispatcher" in newer
    assert older
    assert "update the agent" in older


def test_wrong_hellos_are_told_by_field() -> None:
    assert hello_problems(HELLO) == []
    fields = [field for field, _ in hello_problems(replace(HELLO, agent_id="a\nb", slots=-1))]
    assert fields == ["agentId", "slots"]
    assert hello_problems(replace(HELLO, agent_id=""))
    assert hello_problems(replace(HELLO, agent_id="a" * 129))


# ------------------------------------------------------------------------------------------------------------- assigns
@pytest.mark.parametrize(
    ("verdict", "ready", "expected"),
    [
        (Verdict.ASSIGNED, None, Consequence(step=Step.RUN)),
        (Verdict.NOT_QUEUED, None, Consequence(step=Step.DROP)),
        (Verdict.EXPIRED, None, Consequence(step=Step.DROP)),
        (Verdict.STALE_EPOCH, replace(HEAD, epoch=5), Consequence(step=Step.REQUEUE, head=replace(HEAD, epoch=5))),
        (Verdict.STALE_EPOCH, None, Consequence(step=Step.DROP)),
        (Verdict.STALE_SESSION, None, Consequence(step=Step.REQUEUE_AND_CLOSE, head=HEAD)),
        (Verdict.STALE_GENERATION, None, Consequence(step=Step.DOUBT)),
        (Verdict.UNANSWERED, None, Consequence(step=Step.FENCE)),
    ],
)
def test_what_follows_each_answer(verdict: Verdict, ready: Head | None, expected: Consequence) -> None:
    assert consequence(TAKING, verdict, ready) == expected


# ----------------------------------------------------------------------------------------------------------- reconcile
def test_equal_sides_have_no_suspects() -> None:
    found = suspects([PLACE], [HELD])
    assert (found.extra, found.missing) == ((), ())


def test_differences_are_suspects_unless_an_assign_may_be_under_way() -> None:
    under_way = replace(PLACE, execution_id="y", confirmed=False)
    found = suspects([PLACE, under_way], [replace(HELD, execution_id="z")])
    assert (found.extra, found.missing) == ((PLACE,), ("z",))


@pytest.mark.parametrize(
    ("place", "answer", "done"),
    [
        # The store holds it: an unconfirmed take is confirmed, a confirmed one stays, one without a place gets it.
        (replace(PLACE, confirmed=False), Fenced(execution_id="x", held=HELD), "confirm"),
        (PLACE, Fenced(execution_id="x", held=HELD), ""),
        (None, Fenced(execution_id="x", held=HELD), "adopt"),
        # It is QUEUED: a place is left, and its head comes in again.
        (PLACE, Fenced(execution_id="x", ready=HEAD), "drop ready"),
        (None, Fenced(execution_id="x", ready=HEAD), "ready"),
        # It has ended.
        (PLACE, Fenced(execution_id="x"), "drop"),
        (None, Fenced(execution_id="x"), ""),
    ],
)
def test_what_follows_a_fence(place: Place | None, answer: Fenced, done: str) -> None:
    todo = repairs([place] if place else [], [answer])
    assert [name for name in ("confirm", "drop", "adopt", "ready") if getattr(todo, name)] == done.split()


# --------------------------------------------------------------------------------------------------------------- heads
@pytest.mark.parametrize("priority", [-100, -1, 0, 100])
@pytest.mark.parametrize("seq", [0, 1, (1 << 45) - 1])
def test_a_head_is_its_score(priority: int, seq: int) -> None:
    head = replace(HEAD, priority=priority, queue_seq=seq)
    assert Head.from_score(head.score, execution_id="x", task_id="t", epoch=1) == head
    assert float(head.score) == head.score
    assert head.score < 2**53


def test_priority_comes_before_place() -> None:
    assert replace(HEAD, priority=1, queue_seq=1 << 44).score < replace(HEAD, priority=0, queue_seq=0).score
