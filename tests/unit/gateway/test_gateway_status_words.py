"""What the status says is missing."""

from dataclasses import replace

import pytest

from easyq_gateway.domain.gaps import BLIND, Heard, find_gaps
from easyq_gateway.domain.status import (
    AgentFacts,
    BreakerFacts,
    FarmProblem,
    ServiceFacts,
    breaker_problems,
    can_run,
    find_problems,
    is_missed,
    stale_hosts,
    stale_view,
    takes_work,
)

STORE = ServiceFacts(kind="store", address="a:1", healthy=True)
SCHEDULER = ServiceFacts(kind="scheduler", address="a:2", healthy=True)
DISPATCHER = ServiceFacts(kind="dispatcher", address="a:3", healthy=True)
ALL = [STORE, SCHEDULER, DISPATCHER]
NOW = 1_000_000_000
DAY = 24 * 3_600_000
AGENT = AgentFacts(agent_id="h", state="LIVE", healthy=True, message="", running=1, last_beat_ms=9)


def down(service: ServiceFacts, message: str = "refused") -> ServiceFacts:
    return replace(service, healthy=False, message=message)


def told(services: list[ServiceFacts], agents: list[AgentFacts] | None) -> list[FarmProblem]:
    return list(find_problems(services, agents, now_ms=NOW))


def test_all_is_well() -> None:
    assert told(ALL, [AGENT]) == []
    assert can_run(ALL, [AGENT])
    assert takes_work(AGENT)


def test_the_store_is_away() -> None:
    [problem] = told([down(STORE), SCHEDULER, DISPATCHER], None)
    assert problem.subject == "store"
    assert "a:1" in problem.message
    assert "refused" in problem.message
    assert "easyq store" in problem.message
    assert not can_run([down(STORE), SCHEDULER, DISPATCHER], None)


def test_a_service_that_does_not_say_why() -> None:
    [problem] = told([down(STORE, "")], None)
    assert "no reason given" in problem.message


def test_a_service_that_is_degraded() -> None:
    """It works, and still there is something to say; not where the store is the reason."""
    degraded = replace(DISPATCHER, message="feeder fails: too slow")
    [problem] = told([STORE, SCHEDULER, degraded], [AGENT])
    assert (problem.subject, "works, but not all of it (feeder fails: too slow)" in problem.message) == (
        "dispatcher",
        True,
    )
    assert can_run([STORE, SCHEDULER, degraded], [AGENT])
    [problem] = told([down(STORE), SCHEDULER, degraded], None)
    assert problem.subject == "store"


def test_the_scheduler_is_away() -> None:
    [problem] = told([STORE, down(SCHEDULER), DISPATCHER], [AGENT])
    assert "start time" in problem.message
    assert can_run([STORE, down(SCHEDULER), DISPATCHER], [AGENT])


def test_all_dispatchers_are_away() -> None:
    [problem] = told([STORE, down(DISPATCHER)], [AGENT])
    assert "wait" in problem.message
    assert not can_run([STORE, down(DISPATCHER)], [AGENT])


def test_who_answers_needs_no_start() -> None:
    problems = told([STORE, *(replace(down(one, "Redis: Timeout"), answers=True) for one in ALL[1:])], [AGENT])
    assert [problem.message.partition("(Redis: Timeout): ")[2] for problem in problems] == [
        "jobs with a start time are refused, delayed jobs and retries wait; others run. Its log tells more.",
        "jobs are accepted and wait until it can. Its log tells more.",
    ]


def test_one_of_two_dispatchers_is_away() -> None:
    [problem] = told([STORE, down(DISPATCHER), DISPATCHER], [AGENT])
    assert "the others do its work" in problem.message


def test_no_agent_was_ever_there() -> None:
    [problem] = told(ALL, [])
    assert (problem.subject, problem.since_ms) == ("agents", None)
    assert "easyq runner" in problem.message
    assert not can_run(ALL, [])


def test_no_agent_is_there_now() -> None:
    gone = replace(AGENT, state="PARKED", running=0)
    problems = told(ALL, [gone, replace(gone, last_beat_ms=20), replace(gone, last_beat_ms=None)])
    assert [(problem.subject, problem.since_ms) for problem in problems] == [("agents", 20)]


def test_an_agent_without_its_docker() -> None:
    sick = replace(AGENT, healthy=False, message="Docker Engine does not answer.")
    [problem] = told(ALL, [sick])
    assert problem.subject == "h"
    assert "Docker Engine does not answer. See" in problem.message
    assert problem.since_ms is None
    assert "does not say why" in told(ALL, [replace(sick, message="")])[0].message
    assert not can_run(ALL, [sick])


def test_agents_that_hold_executions_and_are_gone() -> None:
    parked = replace(AGENT, agent_id="p", state="PARKED")
    dead = replace(AGENT, agent_id="d", state="DEAD")
    problems = told(ALL, [AGENT, parked, dead])
    texts = {problem.subject: problem.message for problem in problems}
    assert {problem.since_ms for problem in problems} == {9}
    assert "was stopped and holds 1" in texts["p"]
    assert "was declared dead, and 1 execution of it waits for it" in texts["d"]
    assert "2 executions of it wait" in told(ALL, [AGENT, replace(dead, running=2)])[0].message


def test_a_store_that_answers_says_itself_why_it_can_not_work() -> None:
    [problem] = told([replace(down(STORE, "its disk is full"), answers=True), SCHEDULER, DISPATCHER], None)
    assert "runs, but can't do its work (its disk is full)" in problem.message
    assert "easyq store" not in problem.message


def test_agents_that_an_operator_set_aside() -> None:
    aside = replace(AGENT, set_aside=True)
    assert not takes_work(aside)
    # One that drains says that it is not healthy, which nobody has to look after.
    assert told(ALL, [AGENT, replace(aside, agent_id="i", healthy=False, message="draining")]) == []
    [problem] = told(ALL, [aside, replace(AGENT, agent_id="i", state="PARKED", running=0)])
    assert problem.subject == "agents"
    assert "easyq agents uncordon" in problem.message
    assert not can_run(ALL, [aside])


@pytest.mark.parametrize(
    ("services", "effect"),
    [
        ([STORE], "jobs may be refused"),
        ([SCHEDULER], "may be late"),
        ([DISPATCHER], "jobs are accepted, and may wait"),
        ([DISPATCHER, replace(DISPATCHER, address="b:1")], "jobs are accepted, and may wait"),
    ],
)
def test_one_that_is_slow_is_not_to_be_started(services: list[ServiceFacts], effect: str) -> None:
    slow = [replace(down(service, "no answer within 3 s"), slow=True) for service in services]
    for problem in told(slow, [AGENT]):
        assert "is too busy to answer in time, or frozen (no answer within 3 s): " in problem.message
        assert effect in problem.message
        assert "easyq " not in problem.message
    others = [one for one in ALL if one.kind != services[0].kind]
    assert len(told([*slow, *others], [AGENT])) == len(slow)


def test_a_slow_dispatcher_beside_another() -> None:
    [problem] = told([STORE, replace(down(DISPATCHER), slow=True), DISPATCHER], [AGENT])
    assert "the others do its work" in problem.message


@pytest.mark.parametrize(("age", "shown"), [(None, "are left out"), (12.4, "are those of 12 s ago")])
def test_what_is_shown_of_a_slow_dispatcher(age: float | None, shown: str) -> None:
    problem = stale_view("a:3", slow_after=0.5, age=age)
    assert problem.subject == "dispatcher"
    assert problem.message == f"Pools, limits and breakers {shown}: the dispatcher at a:3 did not answer within 0.5 s."


def test_since_when_an_agent_takes_no_work() -> None:
    sick = replace(AGENT, healthy=False, message="Docker Engine at x does not answer", unhealthy_ms=7)
    (problem,) = told(ALL, [sick])
    assert (problem.subject, problem.since_ms) == ("h", 7)


def test_hosts_that_are_told_from_memory_are_told_as_such() -> None:
    assert stale_hosts(7.4) == FarmProblem(
        subject="store", message="Hosts are those of 7 s ago: the store does not tell them now."
    )


SILENT = replace(AGENT, agent_id="s", healthy=False, message="silent since 14:30: is its host up?", silent=True)


def test_a_host_that_is_silent_is_told_long_before_it_is_dead() -> None:
    silent = replace(SILENT, unhealthy_ms=7)
    [problem] = told(ALL, [AGENT, silent])
    assert (problem.subject, problem.since_ms) == ("s", 7)
    assert "Host s is silent since 14:30: is its host up? It is given nothing." in problem.message
    assert "It holds 1 execution, of which nothing is heard." in problem.message
    assert "holds" not in told(ALL, [replace(silent, running=0)])[0].message
    # Nobody wished it to be silent.
    assert len(told(ALL, [AGENT, replace(silent, set_aside=True)])) == 1
    assert not can_run(ALL, [silent])
    assert can_run(ALL, [AGENT, silent])


def test_where_no_dispatcher_works_hosts_are_not_blamed_for_their_silence() -> None:
    [problem] = told([STORE, SCHEDULER, down(DISPATCHER)], [AGENT, SILENT])
    assert problem.subject == "dispatcher"


def test_a_host_that_was_found_dead_is_told_until_it_is_back_or_given_up() -> None:
    dead = replace(AGENT, agent_id="d", state="DEAD", running=0, last_beat_ms=NOW - DAY + 1)
    [problem] = told(ALL, [AGENT, dead])
    assert (problem.subject, problem.since_ms) == ("d", dead.last_beat_ms)
    assert "Host d was declared dead" in problem.message
    assert "easyq hosts declare-dead d" in problem.message
    assert is_missed(dead, NOW)
    for other in (
        replace(dead, given_up=True),
        replace(dead, last_beat_ms=NOW - DAY),
        replace(dead, last_beat_ms=None),
        replace(dead, state="LIVE"),
    ):
        assert not is_missed(other, NOW)
        assert told(ALL, [AGENT, other]) == []


def test_of_many_dead_hosts_the_last_ones_are_told() -> None:
    dead = [
        replace(AGENT, agent_id=f"d{n}", state="DEAD", running=0, last_beat_ms=NOW - DAY + 1 + n) for n in range(12)
    ]
    *named, rest = told(ALL, [AGENT, *dead])
    assert [one.subject for one in named] == [f"d{n}" for n in range(11, 1, -1)]
    assert rest.message == "2 further hosts declared dead within a day: see `easyq hosts`."


def test_the_cause_comes_first_and_who_waits_for_it_is_not_to_be_started() -> None:
    waiting = [replace(down(one, "it waits for the store"), answers=True) for one in (DISPATCHER, SCHEDULER)]
    problems = told([*waiting, replace(down(STORE), slow=True)], None)
    assert [one.subject for one in problems] == ["store", "dispatcher", "scheduler"]
    for problem in problems[1:]:
        assert "waits for the store" in problem.message
        assert "once the store is back" in problem.message
        assert "easyq " not in problem.message


@pytest.mark.parametrize("service", [SCHEDULER, DISPATCHER])
def test_one_that_runs_is_not_to_be_started(service: ServiceFacts) -> None:
    others = [one for one in ALL if one is not service]
    [problem] = told([*others, replace(down(service, "Redis: timeout"), answers=True)], [AGENT])
    assert "runs, but can't do its work (Redis: timeout)" in problem.message
    assert "easyq " not in problem.message
    assert "easyq " in told([*others, down(service)], [AGENT])[0].message


def test_since_when_a_service_is_away() -> None:
    [problem] = told([replace(down(STORE), slow=True, since_ms=7), SCHEDULER, DISPATCHER], None)
    assert problem.since_ms == 7


def test_breakers_are_problems() -> None:
    one = BreakerFacts(kind="image", subject="x:1", failures=3, cause="no such image.", since_ms=5)
    [problem] = breaker_problems([one])
    assert (problem.subject, problem.since_ms) == ("breaker", 5)
    assert "breaker of the image x:1 is open after 3 failures in a row: no such image. Mend" in problem.message
    many = list(breaker_problems([replace(one, cause="")] * 11))
    assert len(many) == 11
    assert "no cause was given" in many[0].message
    assert many[-1].message.startswith("11 breakers are open")


# ------------------------------------------------------------------------------------------------ what can't be told
KNOWN = Heard(jobs=True, agents=True, blind="")
LOST = Heard(jobs=False, agents=False, blind="")


def gaps(services: list[ServiceFacts], heard: Heard) -> dict[str, str]:
    return {gap.field: gap.why for gap in find_gaps(services, heard)}


def test_all_is_known() -> None:
    assert gaps(ALL, KNOWN) == {}
    assert gaps([], KNOWN) == {}


@pytest.mark.parametrize("store", [replace(down(STORE), slow=True), down(STORE), STORE])
def test_a_store_that_does_not_answer(store: ServiceFacts) -> None:
    silent = "the store does not answer"
    assert gaps([store, SCHEDULER, DISPATCHER], LOST) == {"jobs": silent, "agents": silent}


def test_a_store_that_only_reads() -> None:
    full = replace(down(STORE, "its disk is full"), answers=True)
    assert gaps([full], KNOWN) == {"agents": "the store can't do its work, and keeps no beats"}
    assert gaps([full], LOST)["jobs"] == "the store can't do its work"


def test_dispatchers_that_do_not_know() -> None:
    assert gaps(ALL, replace(KNOWN, blind=None)) == dict.fromkeys(
        ("pools", "limits", "breakers"), "no dispatcher answers"
    )
    assert gaps(ALL, replace(KNOWN, blind="Redis: Timeout")) == dict.fromkeys(
        BLIND, "Redis can't be asked (Redis: Timeout)"
    )
