"""When breakers open and close, and which reports speak of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from easyq.v1.job_pb2 import Failure
from easyq_dispatcher.convert import store as convert_store
from easyq_dispatcher.domain.breakers import (
    Breaker,
    Kind,
    Omen,
    Patience,
    Phase,
    Sign,
    after_failure,
    after_success,
    is_over,
)
from easyq_dispatcher.domain.records import Released
from easyq_dispatcher.messages import Beat
from easyq_dispatcher.usecases import ledger as ledger_module
from easyq_dispatcher.usecases.ledger import Ledger
from easyq_internal.store.v1.records_pb2 import Finish, GiveBack, Report, ReportResult, Started
from tests.unit.dispatcher.rig import Agent, Core, Rig, idle

PATIENCE = Patience(failures=2, wait_ms=100, longest_ms=300)
FRESH = Breaker(kind=Kind.HOST, subject="a")
Outcome = Finish.Outcome
Reason = Failure.Reason


def failed(name: str = "x", sign: Sign = Sign.HOST, ms: int = 0) -> Omen:
    return Omen(execution_id=name, epoch=2, sign=sign, cause="why", ms=ms)


def opened() -> Breaker:
    return after_failure(after_failure(FRESH, failed(), PATIENCE, 1_000), failed(), PATIENCE, 2_000)


# -------------------------------------------------------------------------------------------------------------- domain
def test_failures_in_a_row_open_it() -> None:
    once = after_failure(FRESH, failed(), PATIENCE, 1_000)
    assert (once.failures, once.phase(1_000)) == (1, Phase.CLOSED)
    assert after_success(once, "any") is None
    twice = opened()
    assert (twice.failures, twice.since_ms, twice.until_ms, twice.cause) == (2, 2_000, 2_100, "why")
    assert [twice.phase(now) for now in (2_099, 2_100)] == [Phase.OPEN, Phase.HALF_OPEN]


def test_only_its_probe_moves_an_open_one() -> None:
    trying = replace(opened(), probe="p")
    assert after_success(trying, "other") is trying
    assert after_success(trying, "p") is None
    assert after_failure(trying, failed("other"), PATIENCE, 5_000).until_ms == trying.until_ms
    waits = []
    for now in (5_000, 6_000, 7_000):
        trying = replace(after_failure(replace(trying, probe="p"), failed("p"), PATIENCE, now), probe="p")
        waits.append(trying.until_ms - now)
    assert waits == [200, 300, 300]


def test_one_that_nobody_tries_is_over_after_a_while() -> None:
    short, long = replace(PATIENCE, quiet_ms=50), replace(PATIENCE, quiet_ms=500)
    assert not is_over(FRESH, short, 1_000_000)
    # Not before it was quiet for as long as it was open.
    assert [is_over(opened(), short, 2_100 + after) for after in (100, 101)] == [False, True]
    assert [is_over(opened(), long, 2_100 + after) for after in (500, 501)] == [False, True]


def test_a_busy_registry_opens_at_once() -> None:
    busy = after_failure(FRESH, failed(sign=Sign.BUSY, ms=5_000), PATIENCE, 1_000)
    assert busy.until_ms == 6_000
    longer = after_failure(busy, failed("y", Sign.BUSY, ms=9_000), PATIENCE, 1_000)
    assert longer.until_ms == 10_000
    assert after_failure(longer, failed("z", Sign.BUSY), PATIENCE, 1_000).until_ms == 10_000


# ------------------------------------------------------------------------------------------------------------- reports
def finish(outcome: int, reason: int = 0) -> dict[str, Any]:
    kind = Outcome.Kind.ValueType(outcome)
    failure = Failure(reason=Reason.ValueType(reason), message="m") if reason else None
    return {"finish": Finish(outcome=kind, failure=failure)}


def give_back(reason: int, retry_after: int | None = None) -> dict[str, Any]:
    word = GiveBack(failure=Failure(reason=Reason.ValueType(reason), message="m"))
    if retry_after is not None:
        word.retry_after.FromMilliseconds(retry_after)
    return {"give_back": word}


@pytest.mark.parametrize(
    ("word", "sign", "ms"),
    [
        ({"started": Started(container_id="c")}, Sign.WORKED, 0),
        (finish(Outcome.EXITED), Sign.WORKED, 0),
        (finish(Outcome.EXITED, Failure.NONZERO_EXIT), Sign.WORKED, 0),
        (finish(Outcome.TIMED_OUT, Failure.TIMEOUT), Sign.WORKED, 0),
        # Docker and the registry were well enough to say no.
        (finish(Outcome.REJECTED, Failure.IMAGE_NOT_FOUND), Sign.WORKED, 0),
        (finish(Outcome.INFRA_FAILED, Failure.HOST_FAILED), Sign.HOST, 0),
        (finish(Outcome.INFRA_FAILED, Failure.PULL_FAILED), Sign.IMAGE, 0),
        (finish(Outcome.LOST, Failure.DAEMON_LOST), Sign.HOST, 0),
        (finish(Outcome.LOST, Failure.START_UNKNOWN), Sign.HOST, 0),
        (finish(Outcome.LOST, Failure.CONTAINER_VANISHED), None, 0),
        (finish(Outcome.LOST, Failure.DRAINED), None, 0),
        (finish(Outcome.STOPPED, Failure.STOP_REQUESTED), None, 0),
        (finish(Outcome.EXPIRED, Failure.START_DEADLINE), None, 0),
        (give_back(Failure.HOST_FAILED), Sign.HOST, 0),
        (give_back(Failure.PULL_FAILED), Sign.IMAGE, 0),
        (give_back(Failure.PULL_FAILED, 7_000), Sign.BUSY, 7_000),
        (give_back(Failure.REGISTRY_BUSY), Sign.BUSY, 0),
        (give_back(Failure.REGISTRY_BUSY, 10**12), Sign.BUSY, 3_600_000),
        ({"give_back": GiveBack()}, None, 0),
        ({}, None, 0),
    ],
)
def test_what_a_report_says_of_host_and_image(word: dict[str, Any], sign: Sign | None, ms: int) -> None:
    told = convert_store.omen(Report(execution_id="x", epoch=3, **word))
    assert (told.sign if told else None) is sign
    if told:
        assert (told.execution_id, told.epoch, told.ms) == ("x", 3, ms)


def test_only_what_the_store_took_counts() -> None:
    report = Report(execution_id="x", epoch=3, **give_back(Failure.HOST_FAILED))
    for verdict in (ReportResult.Verdict.STALE, ReportResult.Verdict.RETRY):
        assert convert_store.reported(report, ReportResult(execution_id="x", epoch=3, verdict=verdict)).omen is None
    assert convert_store.reported(report, ReportResult(verdict=ReportResult.Verdict.OK)).omen


# --------------------------------------------------------------------------------------------- the parts that relay it
async def begun(rig: Rig, *agents: Agent) -> Core:
    core = rig.dispatcher()
    await core.step()
    for agent in agents:
        await agent.connect(core)
    return core


async def fail(core: Core, agent: Agent, reason: int, count: int = 3) -> None:
    """What it is given it gives back, so many times."""
    for _ in range(count):
        await core.match()
        name = agent.started[-1]
        agent.report(name, **give_back(reason))
        await idle()
    await core.match()


async def test_a_host_that_fails_stops_eating_jobs() -> None:
    rig = Rig()
    broken, sound = Agent("broken", 1), Agent("sound", 1)
    core = await begun(rig, broken)
    core.ledger.ready(rig.farm.submit("t"))
    await fail(core, broken, Failure.HOST_FAILED)
    assert len(broken.started) == 3
    assert not broken.running
    await sound.connect(core)
    await core.match()
    assert len(sound.running) == 1
    (breaker,) = (await core.words.standing()).breakers
    assert (breaker.kind, breaker.subject, breaker.failures) == (Kind.HOST, "broken", 3)
    # After a while one job tries; it works, and the host is used as before.
    rig.clock.seconds += 5.1
    broken.slots = 3
    await broken.connect(core)
    core.ledger.ready(rig.farm.submit("t", 3))
    await core.match()
    assert len(broken.running) == 1
    (name,) = broken.running
    broken.report(name, started=Started(container_id="c"))
    await idle()
    rig.clock.seconds += 0.3
    await core.match()
    assert len(broken.running) == 3
    assert (await core.words.standing()).breakers == []


async def test_an_image_that_fails_holds_up_no_other() -> None:
    rig = Rig()
    agent = Agent("a", 1)
    core = await begun(rig, agent)
    core.ledger.ready(rig.farm.submit("t", image="bad"))
    await fail(core, agent, Failure.PULL_FAILED)
    core.ledger.ready(rig.farm.submit("t", 2, image="good"))
    await core.match()
    assert len(agent.running) == 1
    assert len(agent.started) == 4


async def test_what_works_is_told_only_where_it_matters() -> None:
    rig = Rig()
    agent = Agent("a", 9)
    core = await begun(rig, agent)
    core.ledger.ready(rig.farm.submit("t", 2))
    await core.match()
    one, two = sorted(agent.running)
    agent.report(one, started=Started())
    await idle()
    assert core.ledger.take().omens == []
    agent.report(two, **give_back(Failure.HOST_FAILED))
    agent.report(one, finish=Finish(outcome=Outcome.EXITED))
    await idle()
    assert [item.sign for item in core.ledger.take().omens] == [Sign.HOST, Sign.WORKED]


async def test_omens_go_before_releases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "MOST_AT_ONCE", 2)
    ledger = Ledger(wake=lambda: None)
    ledger.omens(failed(f"x{number}") for number in range(3))
    ledger.released([Released(execution_id="x2", epoch=2)])
    first = ledger.take()
    assert (len(first.omens), first.released) == (2, [])
    ledger.put_back(first)
    assert len(ledger.take().omens) == 2
    last = ledger.take()
    assert (len(last.omens), len(last.released)) == (1, 1)
    assert not ledger


async def test_a_beat_is_no_word_on_hosts() -> None:
    rig = Rig()
    agent = Agent("a", 1)
    core = await begun(rig, agent)
    agent.say(Beat(number=1, inventory=()))
    await idle()
    assert not core.ledger
