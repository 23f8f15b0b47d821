"""An engine that fails in the middle of things, and what crashes leave."""

import asyncio

import pytest

from easyq_runner.domain.journal import Forgotten, Settled, StartIntent
from easyq_runner.domain.records import ExecutionKey
from easyq_runner.errors import EngineError, EngineFailed, EngineUnreachable, NotNow
from tests.fakes.runner_rig import Rig

FAILED, AWAY = EngineFailed("busy"), EngineUnreachable("the connection broke")


@pytest.mark.parametrize("trouble", [FAILED, AWAY])
async def test_signals_are_sent_until_they_arrive(rig: Rig, trouble: EngineError) -> None:
    await rig.ready()
    one = rig.run("trap 'exit 9' TERM; sleep 60")
    await rig.farm.is_running(one)
    rig.engine.failures["kill"].append(trouble)
    rig.farm.stop_execution(one)
    await rig.farm.ended(one)
    assert (one.outcome, one.finish.exit_code) == ("STOPPED", 9)


async def test_a_program_that_ends_by_itself_before_the_signal_was_not_stopped(rig: Rig) -> None:
    await rig.ready()
    one = rig.run("hold; exit 3")
    await rig.farm.is_running(one)
    gate = rig.engine.gates["kill"] = asyncio.Event()
    rig.farm.stop_execution(one)
    await rig.until(lambda: "kill" in rig.engine.calls)
    rig.let_go(one)
    container = rig.engine.container_of(one.execution_id)
    await rig.until(lambda: container.exit_code == 3)
    gate.set()
    await rig.farm.ended(one)
    assert (one.outcome, one.finish.exit_code) == ("EXITED", 3)


async def test_without_attachment_for_once(rig: Rig) -> None:
    await rig.ready()
    rig.engine.failures["attach"].append(FAILED)
    one = await rig.farm.ended(rig.run("echo 1; sleep 0.1; echo 2"))
    assert one.stdout == b"1\n2\n"


async def test_engine_that_breaks_off_before_the_start_gives_the_execution_back(rig: Rig) -> None:
    await rig.ready()
    rig.engine.failures["attach"].append(AWAY)
    one = await rig.farm.ended(rig.run("exit 0"))
    assert (one.state, rig.starts()) == ("QUEUED", 0)
    await rig.tidy()


async def test_start_whose_answer_was_lost_with_an_engine_that_stays_troubled(rig: Rig) -> None:
    await rig.ready()
    rig.engine.failures["start"].append(AWAY)
    rig.engine.failures["inspect"] += [FAILED, AWAY]
    rig.engine.failures["remove"] += [FAILED, AWAY, NotNow("it is being started")]
    one = await rig.farm.ended(rig.run("exit 0"))
    assert (one.outcome, one.finish.failure.reason) == ("LOST", 14)


async def test_start_whose_answer_was_lost_and_whose_container_is_gone(rig: Rig) -> None:
    await rig.ready()
    rig.engine.failures["start"].append(AWAY)
    gate = rig.engine.gates["inspect"] = asyncio.Event()
    one = rig.run("exit 0")
    await rig.until(lambda: "inspect" in rig.engine.calls)
    await rig.engine.remove(rig.engine.container_of(one.execution_id).container_id, force=True)
    gate.set()
    await rig.farm.ended(one)
    assert (one.outcome, one.finish.failure.reason) == ("LOST", 13)


async def test_refused_start_that_ran_all_the_same_is_followed(rig: Rig) -> None:
    await rig.ready()
    gate = rig.engine.gates["start"] = asyncio.Event()
    one = rig.run("exit 3")
    await rig.until(lambda: rig.starts() == 1)
    rig.engine.failures["start"] += [EngineFailed("context deadline exceeded")]
    container = rig.engine.container_of(one.execution_id)
    container.status, container.started_at = container.status.RUNNING, 1
    gate.set()
    await rig.farm.is_running(one)
    rig.engine.end_first(container)
    await rig.farm.ended(one)
    assert one.outcome == "EXITED"


async def test_an_engine_that_is_stuck_with_one_container_loses_that_one_only(rig: Rig) -> None:
    rig.settings = rig.settings.model_copy(update={"engine_lost_after": 0.3})
    await rig.ready()
    one, other = rig.run("echo 1; hold; exit 3"), rig.run("hold; exit 4")
    for each in (one, other):
        await rig.farm.is_running(each)
    rig.engine.stuck.add(rig.engine.container_of(one.execution_id).container_id)
    rig.let_go(one)
    await rig.farm.ended(one)
    assert (one.outcome, one.finish.failure.reason) == ("LOST", 12)
    assert "not answered about its container" in one.finish.failure.message
    assert one.stdout == b"1\n"
    rig.let_go(other)
    await rig.farm.ended(other)
    assert other.finish.exit_code == 4
    rig.engine.stuck.clear()


async def test_an_engine_that_is_stuck_with_one_container_for_a_while_loses_nothing(rig: Rig) -> None:
    await rig.ready()
    one = rig.run("hold; exit 3")
    await rig.farm.is_running(one)
    container_id = rig.engine.container_of(one.execution_id).container_id
    rig.engine.stuck.add(container_id)
    asked = rig.engine.calls.count("inspect")
    rig.let_go(one)
    await rig.until(lambda: rig.engine.calls.count("inspect") > asked + 2)
    rig.engine.stuck.clear()
    await rig.farm.ended(one)
    assert one.finish.exit_code == 3


async def test_log_that_cannot_be_read_keeps_nobody_from_the_end(rig: Rig) -> None:
    rig.engine.attachments_break = True
    await rig.ready()
    rig.engine.failures["logs"] += [FAILED] * 20
    one = await rig.farm.ended(rig.run("echo 1; exit 3"))
    assert (one.finish.exit_code, one.stdout) == (3, b"")


async def test_age_of_an_adopted_container_is_asked_until_it_is_told(rig: Rig) -> None:
    await rig.ready()
    one = rig.run("hold; exit 3")
    await rig.farm.is_running(one)
    await rig.crash()
    rig.clock.boot_id, rig.notes.note = "another", None  # so that the journal can't tell
    rig.engine.failures["inspect"] += [FAILED, AWAY]
    await rig.start()
    await rig.until(lambda: not rig.engine.failures["inspect"])
    rig.let_go(one)
    await rig.farm.ended(one)
    assert one.finish.exit_code == 3


async def test_removal_is_tried_until_the_container_is_gone(rig: Rig) -> None:
    await rig.ready()
    rig.engine.failures["remove"] += [NotNow("removal is already in progress"), AWAY]
    await rig.farm.ended(rig.run("exit 0"))
    await rig.tidy()


async def test_container_that_is_only_to_be_removed_after_a_crash(rig: Rig) -> None:
    await rig.ready()
    gate = rig.engine.gates["remove"] = asyncio.Event()
    one = await rig.farm.ended(rig.run("exit 3"))
    await rig.until(lambda: rig.agent.agent.inventory() == ())
    await rig.crash()
    gate.set()
    await rig.start()
    await rig.tidy()
    assert one.finishes == 1


async def test_journal_forgets_what_has_no_container(rig: Rig) -> None:
    settled, gone = ExecutionKey("a", 1), ExecutionKey("b", 1)
    rig.journal.entries += [
        StartIntent(key=settled, container_id="c", lifetime="l"),
        Settled(key=settled),
        StartIntent(key=gone, container_id="d", lifetime="l"),
    ]
    await rig.ready()
    # Of the other one the farm has never heard: it says so, and is told to forget it.
    await rig.until(lambda: [one.key for one in rig.journal.entries if isinstance(one, Forgotten)] == [settled, gone])
    assert (await rig.journal.load()).executions == {}


async def test_repeated_orders_about_what_is_over_change_nothing(rig: Rig) -> None:
    await rig.ready()
    one = await rig.farm.ended(rig.run("exit 3"))
    await rig.tidy()
    one.state = "RUNNING"  # as a beat that was judged before the end says
    seen = len(rig.farm.beats)
    await rig.until(lambda: len(rig.farm.beats) > seen + 2)
    assert one.finishes == 1


async def test_an_older_assignment_is_dropped_for_a_newer_one(rig: Rig) -> None:
    await rig.ready()
    one = rig.run("sleep 60")
    await rig.farm.is_running(one)
    one.epoch, one.state, one.told_start = 2, "ASSIGNED", None
    rig.farm.send_run(one)
    await rig.until(lambda: rig.starts() == 2)
    await rig.farm.is_running(one)
    assert len(rig.engine.containers) == 1
    # The belated older one does not come back.
    one.epoch = 1
    rig.farm.send_run(one)
    one.epoch = 2
    await asyncio.sleep(0.05)
    assert rig.starts() == 2


async def test_the_farm_hears_at_once_that_an_engine_does_not_answer_and_since_when(rig: Rig) -> None:
    """By the hello, and by a beat of its own when that changes: beats are far apart."""
    rig.farm.beat_every = 60.0
    rig.engine.up = False
    await rig.ready()
    health = rig.farm.hellos[-1].health
    assert (health.healthy, "fake://" in health.message, health.HasField("unhealthy_for")) == (False, True, True)
    # What is wrong with it is told as soon as somebody has tried.
    await rig.until(lambda: "not reached yet" not in (rig.farm.healths or [health])[-1].message)
    rig.engine.up = True
    await rig.until(lambda: rig.farm.hellos[-1].health.healthy)
    before, rig.engine.up = len(rig.farm.beats), False
    await rig.until(lambda: rig.farm.healths and not rig.farm.healths[-1].healthy)
    await rig.until(lambda: len(rig.farm.beats) > before)
