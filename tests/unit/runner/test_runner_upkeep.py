"""An agent that is cordoned, drained, stopped; and what it offers."""

import asyncio

import pytest

from easyq.v1.job_pb2 import Failure
from easyq.v1.spec_pb2 import OnLost
from easyq_internal.dispatcher.v1 import dispatcher_pb2 as wire
from easyq_internal.store.v1 import records_pb2 as records
from tests.fakes.runner_rig import Rig

TRAPS = "trap 'exit 0' TERM; echo up; sleep 60"


# ------------------------------------------------------------------------------------------------------------- offers
async def test_offers_what_the_engine_has(rig: Rig) -> None:
    await rig.ready()
    offer = rig.farm.hellos[-1].offer
    assert (offer.cpu_millis, offer.memory, offer.gpus) == (4000, 8 << 30, 0)


async def test_settings_go_before_what_the_engine_has(rig: Rig) -> None:
    rig.settings = rig.settings.model_copy(update={"cpus": 1.5, "memory": 5, "gpus": 2})
    await rig.ready()
    offer = rig.farm.hellos[-1].offer
    assert (offer.cpu_millis, offer.memory, offer.gpus) == (1500, 5, 2)


async def test_offers_nothing_until_the_engine_was_reached_and_what_it_has_later(rig: Rig) -> None:
    rig.engine.up = False
    await rig.ready()
    assert rig.farm.hellos[-1].offer.cpu_millis == 0
    await rig.engine.come_up()
    await rig.until(lambda: rig.farm.hellos[-1].offer.cpu_millis == 4000, "another hello")
    # Not again for what stays as it is.
    rig.engine.break_streams()
    seen = rig.engine.calls.count("events")
    await rig.until(lambda: rig.engine.calls.count("events") > seen)
    rig.engine.cpus = 8
    rig.engine.break_streams()
    await rig.until(lambda: rig.farm.hellos[-1].offer.cpu_millis == 8000)
    assert len(rig.farm.hellos) == 3


# -------------------------------------------------------------------------------------------------------------- upkeep
async def test_cordoned_says_so_and_nothing_more(rig: Rig) -> None:
    await rig.ready()
    one = rig.run("sleep 60")
    await rig.farm.is_running(one)
    rig.farm.tell_upkeep(cordoned=True)
    await rig.until(lambda: rig.farm.healths and rig.farm.healths[-1].message == "cordoned")
    assert rig.farm.healths[-1].healthy
    assert rig.agent.healthy
    assert not rig.agent.drained.is_set()
    rig.farm.tell_upkeep()
    await rig.until(lambda: not rig.farm.healths[-1].message)
    assert one.state == "RUNNING"


async def test_drain_does_not_take_one_more_job(rig: Rig) -> None:
    """buildkite/agent#402: drain takes one more job."""
    rig.engine.registry.add("slow:1")
    rig.engine.pull_takes = 60
    await rig.ready()
    pulling = rig.run("exit 0", image="slow:1")
    await rig.until(lambda: rig.engine.pulls)
    gate = rig.engine.gates["create"] = asyncio.Event()
    creating = rig.run("exit 0")
    await rig.until(lambda: rig.engine.calls.count("create") == 2)
    rig.farm.tell_upkeep(draining=True)
    # What crossed the order on its way.
    crossing = rig.run("exit 0")
    gate.set()
    for one in (pulling, creating, crossing):
        await rig.farm.ended(one)
        assert one.state == "QUEUED"
        assert one.give_back.failure.reason == Failure.Reason.DRAINED
    assert (rig.farm.healths[-1].healthy, rig.farm.healths[-1].message) == (False, "draining")
    assert rig.starts() == 0
    await rig.until(rig.agent.drained.is_set)
    late = await rig.farm.ended(rig.run("exit 0"))
    assert (late.state, rig.starts()) == ("QUEUED", 0)


async def test_drain_lets_what_runs_end_and_then_the_agent_ends(rig: Rig) -> None:
    await rig.ready()
    one = rig.run("echo 1; hold; echo 2; exit 3")
    await rig.farm.is_running(one)
    rig.farm.tell_upkeep(draining=True)
    await rig.until(lambda: rig.farm.healths and rig.farm.healths[-1].message == "draining")
    assert not rig.agent.drained.is_set()
    rig.let_go(one)
    await rig.farm.ended(one)
    assert (one.outcome, one.finish.exit_code, one.stdout) == ("EXITED", 3, b"1\n2\n")
    await rig.until(rig.agent.drained.is_set)
    await rig.agent.stop(5.0)
    assert rig.farm.parked == 1
    assert not rig.engine.containers


async def test_an_empty_agent_ends_at_once_even_if_beats_are_rare(rig: Rig) -> None:
    rig.farm.beat_every = 60
    await rig.ready()
    rig.farm.tell_upkeep(draining=True)
    await rig.until(rig.agent.drained.is_set)


async def test_deadline_of_a_drain_ends_what_runs(rig: Rig) -> None:
    await rig.ready()
    trapping = rig.run(TRAPS)
    stubborn = rig.run("sleep 60", stop_grace={"nanos": 100_000_000}, on_lost=OnLost.WAIT)
    for one in (trapping, stubborn):
        await rig.farm.is_running(one)
    rig.farm.tell_upkeep(draining=True, within=0.2)
    for one in (trapping, stubborn):
        await rig.farm.ended(one)
        assert (one.outcome, one.finish.failure.reason) == ("LOST", Failure.Reason.DRAINED)
        assert not one.finish.HasField("exit_code")
    assert trapping.stdout == b"up\n"
    await rig.until(rig.agent.drained.is_set)


async def test_uncordoned_while_draining_goes_on(rig: Rig) -> None:
    rig.farm.lease = rig.farm.lost_after = 1000
    await rig.ready()
    one = rig.run("hold; exit 3")
    await rig.farm.is_running(one)
    rig.farm.tell_upkeep(draining=True, within=100)
    await rig.until(lambda: rig.farm.healths and rig.farm.healths[-1].message == "draining")
    rig.farm.tell_upkeep()
    await rig.heard()
    rig.clock.ahead += 200
    await rig.until(lambda: rig.farm.healths[-1].healthy)
    other = await rig.farm.ended(rig.run("exit 4"))
    assert other.finish.exit_code == 4
    await rig.agent._check_lease()  # as each second
    await rig.watched(one)
    rig.let_go(one)
    assert (await rig.farm.ended(one)).finish.exit_code == 3
    assert not rig.agent.drained.is_set()


async def test_an_old_word_on_a_drain_does_not_end_an_agent_that_goes_on(rig: Rig) -> None:
    """The wish is taken back while an answer to a beat that still holds it is under way."""
    await rig.ready()
    one = rig.run("sleep 60")
    await rig.farm.is_running(one)
    rig.farm.tell_upkeep(draining=True)
    await rig.until(lambda: rig.agent.agent.draining)
    rig.farm.deaf_to_beats = True
    seen = len(rig.farm.beats)
    await rig.until(lambda: len(rig.farm.beats) > seen)
    old = wire.BeatAck(number=rig.farm.beats[-1].number, upkeep=records.Upkeep(draining=True))
    rig.farm.tell_upkeep()
    await rig.until(lambda: not rig.agent.agent.draining)
    rig.engine.kill_by_kernel(rig.engine.container_of(one.execution_id))
    await rig.until(lambda: rig.agent.agent.empty)
    rig.farm.tell(wire.ConnectResponse(beat_ack=old))
    await rig.until(lambda: rig.agent.agent.draining, "the old word has arrived")
    rig.farm.deaf_to_beats = False
    await rig.until(lambda: rig.agent.healthy)
    assert not rig.agent.drained.is_set()


async def test_deadline_of_a_drain_needs_no_other_word(rig: Rig) -> None:
    rig.farm.beat_every = 60
    await rig.ready()
    one = rig.run(TRAPS)
    await rig.farm.is_running(one)
    rig.farm.tell_upkeep(draining=True, within=0.2)
    await rig.farm.ended(one)
    assert (one.outcome, one.finish.failure.reason) == ("LOST", Failure.Reason.DRAINED)
    await rig.until(rig.agent.drained.is_set)


async def test_draining_by_the_welcome_and_what_an_earlier_agent_has_left(rig: Rig) -> None:
    rig.stops_at.add("runner.after_create")
    await rig.ready()
    created = rig.run("exit 0")
    await rig.at("runner.after_create")
    rig.farm.set_upkeep(draining=True)
    await rig.restart()
    await rig.farm.ended(created)
    assert (created.state, rig.starts()) == ("QUEUED", 0)
    await rig.until(rig.agent.drained.is_set)
    await rig.tidy()


async def test_a_restarted_agent_goes_on_draining(rig: Rig) -> None:
    await rig.ready()
    one = rig.run(TRAPS)
    await rig.farm.is_running(one)
    rig.farm.tell_upkeep(draining=True, within=0.5)
    await rig.until(lambda: rig.agent.agent.draining)
    await rig.restart()
    await rig.farm.ended(one)
    assert (one.outcome, one.finish.failure.reason) == ("LOST", Failure.Reason.DRAINED)
    await rig.until(rig.agent.drained.is_set)


async def test_drain_that_is_under_way_when_the_agent_dies_is_remembered(rig: Rig) -> None:
    await rig.ready()
    one = rig.run("trap 'exit 0' TERM; sleep 60")
    await rig.farm.is_running(one)
    rig.stops_at.add("runner.after_exit")
    rig.farm.tell_upkeep(draining=True, within=0.0)
    await rig.at("runner.after_exit")
    rig.farm.set_upkeep()
    await rig.restart()
    await rig.farm.ended(one)
    assert (one.outcome, one.finish.failure.reason) == ("LOST", Failure.Reason.DRAINED)


async def test_cancel_does_not_leave_the_container_running(rig: Rig) -> None:
    """hashicorp/nomad#6325: cancel leaves the container running."""
    await rig.ready()
    polite, stubborn = rig.run(TRAPS), rig.run("sleep 60", stop_grace={"nanos": 50_000_000})
    for one in (polite, stubborn):
        await rig.farm.is_running(one)
        rig.farm.stop_execution(one)
    for one in (polite, stubborn):
        assert (await rig.farm.ended(one)).outcome == "STOPPED"
    await rig.tidy()


@pytest.mark.parametrize("trouble", ["full", "away"])
async def test_stop_of_what_runs_on_an_unfit_host(rig: Rig, trouble: str) -> None:
    """Unfit for new work is not unfit for the end of what runs."""
    await rig.ready()
    one = rig.run(TRAPS)
    await rig.farm.is_running(one)
    if trouble == "full":
        rig.disks.engine = 0
    else:
        rig.engine.up = False
        rig.engine.break_streams()
    await rig.until(lambda: rig.farm.healths and not rig.farm.healths[-1].healthy)
    rig.farm.stop_execution(one)
    rig.engine.up = True
    assert (await rig.farm.ended(one)).outcome == "STOPPED"
