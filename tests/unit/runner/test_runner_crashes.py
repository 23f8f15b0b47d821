"""An agent that is killed at any moment, and its engine that goes down under it."""

import asyncio

import grpc
import pytest

from easyq.v1.spec_pb2 import OnLost
from easyq_runner.domain.journal import StartIntent
from easyq_runner.domain.lease import LeaseNote
from easyq_runner.errors import EngineFailed
from tests.fakes.runner import FarmExecution
from tests.fakes.runner_rig import Rig

POINTS = ("before_create", "after_create", "after_journal", "after_start", "after_exit", "after_finish_ack")


@pytest.mark.parametrize("point", POINTS)
async def test_killed_at_a_crash_point(rig: Rig, point: str) -> None:
    """Whatever the moment: it ends, it never runs twice, and nothing is left over."""
    rig.stops_at.add(f"runner.{point}")
    await rig.ready()
    one = rig.run("echo hi; sleep 0.05; exit 5")
    await rig.at(f"runner.{point}")
    await rig.restart()
    await rig.farm.ended(one)
    if point == "after_journal":
        # Written down, and not sent: nobody can know that afterwards.
        assert (one.outcome, one.finish.failure.reason) == ("LOST", 14)
        assert rig.starts() == 0
    else:
        assert (one.outcome, one.finish.exit_code, one.stdout) == ("EXITED", 5, b"hi\n")
        assert rig.starts() == 1
    assert one.finishes == 1
    await rig.tidy()
    await rig.until(lambda: rig.agent.agent.inventory() == ())


async def test_start_that_was_under_way_when_the_agent_died(rig: Rig) -> None:
    """A start whose client is gone still runs: the removal without force is refused, and it is followed."""
    gate = rig.engine.gates["start"] = asyncio.Event()
    await rig.ready()
    one = rig.run("hold; echo ran; exit 6")
    await rig.until(lambda: rig.starts() == 1)
    container = rig.engine.container_of(one.execution_id)
    await rig.crash()
    gate.set()
    gate = rig.engine.gates["remove"] = asyncio.Event()
    await rig.start()
    await rig.until(lambda: "remove" in rig.engine.calls)
    await rig.engine.start(container.container_id)  # the daemon gets round to it
    gate.set()
    await rig.farm.is_running(one)
    rig.let_go(one)
    await rig.farm.ended(one)
    assert (one.outcome, one.finish.exit_code, one.stdout) == ("EXITED", 6, b"ran\n")


async def test_exit_while_the_agent_was_down(rig: Rig) -> None:
    await rig.ready()
    one = rig.run("echo 1; hold; echo 2; exit 7")
    await rig.farm.is_running(one)
    await rig.crash()
    rig.let_go(one)
    await rig.until(lambda: rig.engine.container_of(one.execution_id).exit_code == 7)
    await rig.start()
    await rig.farm.ended(one)
    assert (one.outcome, one.finish.exit_code, one.stdout) == ("EXITED", 7, b"1\n2\n")


async def test_output_goes_on_from_the_last_stored_byte(rig: Rig) -> None:
    await rig.ready()
    one = rig.run("echo 1; hold; echo 2; hold; echo 3")
    await rig.until(lambda: one.stdout == b"1\n")
    await rig.restart()
    rig.let_go(one)
    await rig.until(lambda: one.stdout == b"1\n2\n")
    rig.let_go(one)
    await rig.farm.ended(one)
    assert one.stdout == b"1\n2\n3\n"
    assert one.finishes == 1


async def runs_with_a_timeout_of_100_s_and_crashes(rig: Rig) -> FarmExecution:
    one = rig.run("sleep 60", timeout={"seconds": 100}, stop_grace={})
    await rig.farm.is_running(one)
    await rig.crash()
    return one


async def times_out_after_99_8_s(rig: Rig, one: FarmExecution) -> None:
    rig.clock.ahead += 99.8
    rig.farm.lost_after = rig.farm.lease = 1000
    rig.notes.note = None
    await rig.start()
    await rig.farm.ended(one, 10)
    assert one.outcome == "TIMED_OUT"


async def test_timeout_goes_on_over_a_restart(rig: Rig) -> None:
    await rig.ready()
    one = await runs_with_a_timeout_of_100_s_and_crashes(rig)
    await times_out_after_99_8_s(rig, one)


async def test_a_wall_clock_that_jumps_forwards_over_a_restart_times_nothing_out(rig: Rig) -> None:
    await rig.ready()
    one = rig.run("hold; exit 7", timeout={"seconds": 100}, stop_grace={})
    await rig.farm.is_running(one)
    await rig.crash()
    rig.clock.wrong = 3600
    await rig.start()
    await rig.watched(one)
    rig.let_go(one)
    await rig.farm.ended(one)
    assert (one.outcome, one.finish.exit_code) == ("EXITED", 7)


async def test_a_wall_clock_that_jumps_back_over_a_restart_gives_no_more_time(rig: Rig) -> None:
    await rig.ready()
    one = await runs_with_a_timeout_of_100_s_and_crashes(rig)
    rig.clock.wrong = -3600
    await times_out_after_99_8_s(rig, one)


async def test_without_a_note_of_this_run_of_the_kernel_the_engine_tells_how_old_a_container_is(rig: Rig) -> None:
    await rig.ready()
    one = await runs_with_a_timeout_of_100_s_and_crashes(rig)
    rig.clock.boot_id = "another"
    await times_out_after_99_8_s(rig, one)


async def test_killed_while_it_was_stopping_a_container(rig: Rig) -> None:
    await rig.ready()
    one = rig.run("sleep 60", stop_grace={"nanos": 300_000_000})
    await rig.farm.is_running(one)
    rig.farm.stop_execution(one)
    await rig.until(lambda: "kill" in rig.engine.calls)
    await rig.crash()
    one.stop_requested = False  # the agent's own journal must know
    await rig.start()
    await rig.farm.ended(one)
    assert one.outcome == "STOPPED"


async def test_finish_whose_answer_was_lost_is_said_again(rig: Rig) -> None:
    await rig.ready()
    rig.farm.lose_answers = 1
    one = await rig.farm.ended(rig.run("echo hi; exit 2"))
    await rig.restart()
    await rig.tidy()
    assert (one.finishes, one.finish.exit_code, one.stdout) == (1, 2, b"hi\n")


async def test_rejection_whose_answer_was_lost_is_said_again(rig: Rig) -> None:
    await rig.ready()
    rig.farm.lose_answers = rig.farm.retry_reports = 1
    one = rig.run("exit 0", image="nosuch:1")
    await rig.until(lambda: rig.farm.lose_answers == 0)
    await rig.restart()
    await rig.farm.ended(one)
    assert one.outcome == "REJECTED"


async def test_give_back_is_not_started_after_a_crash(rig: Rig) -> None:
    await rig.ready()
    rig.engine.lost_answers["create"] = 1
    rig.engine.gates["remove"] = asyncio.Event()
    one = await rig.farm.ended(rig.run("exit 0"))
    await rig.crash()
    rig.engine.gates.clear()
    await rig.start()
    await rig.tidy()
    assert (one.state, rig.starts()) == ("QUEUED", 0)


async def test_container_of_an_execution_that_was_taken_away_meanwhile(rig: Rig) -> None:
    await rig.ready()
    one = rig.run("sleep 60")
    await rig.farm.is_running(one)
    await rig.crash()
    rig.farm.take_away(one)
    await rig.start()
    await rig.tidy()
    assert one.finishes == 0


async def test_created_container_of_an_execution_that_was_taken_away_never_starts(rig: Rig) -> None:
    rig.stops_at.add("runner.after_create")
    await rig.ready()
    one = rig.run("exit 0")
    await rig.at("runner.after_create")
    await rig.crash()
    rig.farm.take_away(one)
    await rig.start()
    await rig.tidy()
    assert rig.starts() == 0


async def test_containers_of_others_are_left_alone(rig: Rig) -> None:
    body = {"Image": "busybox", "HostConfig": {}}
    labelled = {"easyq.farm": "easyq", "easyq.agent": "another", "easyq.execution": "x", "easyq.epoch": "1"}
    theirs = [
        await rig.engine.create("a", {**body, "Labels": {}}, ""),
        await rig.engine.create("b", {**body, "Labels": labelled}, ""),
        # Labelled like ours, and not whole.
        await rig.engine.create("c", {**body, "Labels": {**labelled, "easyq.agent": "agent"}}, ""),
    ]
    await rig.ready()
    await rig.farm.ended(rig.run("exit 0"))
    await rig.until(lambda: len(rig.engine.containers) == 3)
    assert sorted(rig.engine.containers) == sorted(theirs)


async def test_no_trace_of_a_running_one_is_reported(rig: Rig) -> None:
    """Job stuck "running" after its host lost it."""
    one = rig.run("exit 0")
    one.state = "RUNNING"
    await rig.ready()
    await rig.farm.ended(one)
    assert (one.outcome, one.finish.failure.reason) == ("LOST", 13)


async def test_container_that_vanished_while_the_agent_was_down(rig: Rig) -> None:
    await rig.ready()
    one = rig.run("sleep 60")
    await rig.farm.is_running(one)
    await rig.crash()
    await rig.engine.remove(rig.engine.container_of(one.execution_id).container_id, force=True)
    await rig.start()
    await rig.farm.ended(one)
    assert (one.outcome, one.finish.failure.reason) == ("LOST", 13)


# ----------------------------------------------------------------------------------------------------- the engine
@pytest.mark.parametrize("by_kill", [False, True])
async def test_exit_of_a_trapping_program_while_the_engine_goes_down_is_lost(rig: Rig, by_kill: bool) -> None:
    await rig.ready()
    one = rig.run("trap 'exit 0' TERM; echo hi; sleep 60")
    await rig.farm.is_running(one)
    await rig.engine.go_down(by_kill=by_kill)
    await rig.until(lambda: rig.farm.healths and not rig.farm.healths[-1].healthy)
    assert "does not answer: start it" in rig.farm.healths[-1].message
    await rig.engine.come_up()
    await rig.farm.ended(one)
    assert (one.outcome, one.finish.failure.reason, one.stdout) == ("LOST", 12, b"hi\n")
    assert not one.finish.HasField("exit_code")
    await rig.tidy()
    await rig.until(lambda: rig.farm.healths[-1].healthy)


async def test_exit_while_agent_and_engine_were_both_restarted_is_lost(rig: Rig) -> None:
    await rig.ready()
    one = rig.run("trap 'exit 0' TERM; sleep 60")
    await rig.farm.is_running(one)
    await rig.crash()
    await rig.engine.go_down()
    await rig.engine.come_up()
    await rig.start()
    await rig.farm.ended(one)
    assert (one.outcome, one.finish.failure.reason) == ("LOST", 12)


async def test_answer_of_the_next_daemon_is_not_taken_for_the_last_ones(rig: Rig) -> None:
    """The container ends with the daemon, and the question about it is answered by the next one."""
    await rig.ready()
    one = rig.run("trap 'exit 0' TERM; sleep 60")
    await rig.farm.is_running(one)
    gate = rig.engine.gates["inspect"] = asyncio.Event()
    asked = rig.engine.calls.count("inspect")
    rig.engine.end_first(rig.engine.container_of(one.execution_id))
    await rig.until(lambda: rig.engine.calls.count("inspect") > asked)
    await rig.engine.go_down()
    await rig.engine.come_up()
    gate.set()
    await rig.farm.ended(one)
    assert (one.outcome, one.finish.failure.reason) == ("LOST", 12)


async def test_connection_that_breaks_without_a_restart_changes_nothing(rig: Rig) -> None:
    await rig.ready()
    one = rig.run("hold; exit 3")
    await rig.farm.is_running(one)
    opened = rig.engine.calls.count("events")
    rig.engine.break_streams()
    rig.let_go(one)
    await rig.farm.ended(one)
    assert rig.engine.calls.count("events") > opened
    assert (one.outcome, one.finish.exit_code) == ("EXITED", 3)


async def test_live_restore_keeps_containers(rig: Rig) -> None:
    rig.engine.live_restore = True
    await rig.ready()
    ended_meanwhile, goes_on = rig.run("hold; exit 3"), rig.run("hold; exit 4")
    for one in (ended_meanwhile, goes_on):
        await rig.farm.is_running(one)
    await rig.engine.go_down()
    rig.let_go(ended_meanwhile)
    await rig.until(lambda: rig.engine.container_of(ended_meanwhile.execution_id).exit_code == 3)
    await rig.engine.come_up()
    await rig.farm.ended(ended_meanwhile)
    rig.let_go(goes_on)
    for one, code in ((ended_meanwhile, 3), (goes_on, 4)):
        await rig.farm.ended(one)
        assert (one.outcome, one.finish.exit_code) == ("EXITED", code)


async def test_engine_that_stays_away_takes_its_executions_with_it(rig: Rig) -> None:
    rig.settings = rig.settings.model_copy(update={"engine_lost_after": 0.2})
    await rig.ready()
    one, patient = rig.run("echo hi; sleep 60"), rig.run("sleep 60", on_lost=OnLost.WAIT)
    for each in (one, patient):
        await rig.farm.is_running(each)
    await rig.until(lambda: one.stdout == b"hi\n")
    await rig.engine.go_down(by_kill=True)
    await rig.farm.ended(one)
    assert (one.outcome, one.finish.failure.reason, one.stdout) == ("LOST", 12, b"hi\n")
    assert patient.state == "RUNNING"
    await rig.engine.come_up()
    await rig.farm.ended(patient)
    assert patient.outcome == "LOST"
    await rig.tidy()


async def test_new_work_is_given_back_while_the_engine_is_away(rig: Rig) -> None:
    await rig.ready()
    await rig.engine.go_down()
    await rig.until(lambda: not rig.agent.healthy)
    one = await rig.farm.ended(rig.run("exit 0"))
    assert (one.state, one.failure.startswith("Docker Engine at fake:// does not answer")) == ("QUEUED", True)
    await rig.engine.come_up()
    await rig.until(lambda: rig.agent.healthy)
    rig.farm.assign_again(one)
    assert (await rig.farm.ended(one)).outcome == "EXITED"


async def test_agent_that_starts_without_an_engine_says_so_and_heals(rig: Rig) -> None:
    rig.engine.up = False
    rig.identity = rig.identity.__class__(agent_id="agent")
    await rig.ready()
    assert (rig.farm.hellos[0].daemon_id, rig.farm.hellos[0].health.healthy) == ("", False)
    rig.engine.up = True
    await rig.until(lambda: rig.farm.hellos[-1].daemon_id == "daemon", "it says hello again, with the daemon's id")
    assert rig.identities[-1].daemon_id == "daemon"
    await rig.until(lambda: rig.agent.healthy)
    assert (await rig.farm.ended(rig.run("exit 0"))).outcome == "EXITED"


async def test_what_the_journal_knows_stands_for_containers_until_the_engine_is_back(rig: Rig) -> None:
    await rig.ready()
    one = rig.run("sleep 60")
    await rig.farm.is_running(one)
    await rig.crash()
    rig.engine.up = False
    await rig.start()
    await rig.farm.until_connected()
    assert [held.execution_id for held in rig.farm.hellos[-1].inventory] == [one.execution_id]
    await asyncio.sleep(0.1)
    assert one.state == "RUNNING"


async def test_without_journal_and_engine_nothing_is_called_vanished(rig: Rig) -> None:
    """The container may be there, and is known by its labels once the engine is back."""
    await rig.ready()
    one = rig.run("hold; exit 3")
    await rig.farm.is_running(one)
    await rig.crash()
    rig.journal.entries.clear()
    rig.engine.up = False
    await rig.start()
    await rig.farm.until_connected()
    await rig.until(lambda: len(rig.farm.beats) > 2)
    rig.engine.up = True
    await rig.watched(one)
    rig.let_go(one)
    await rig.farm.ended(one)
    assert (one.outcome, one.finish.exit_code) == ("EXITED", 3)


async def test_another_engine_at_the_address_makes_the_agent_give_up(rig: Rig) -> None:
    rig.engine.daemon_id = "another"
    await rig.start()
    await rig.until(rig.agent.failed.is_set)


async def test_engine_that_fails_to_answer_about_an_end_is_asked_again(rig: Rig) -> None:
    await rig.ready()
    one = rig.run("hold; exit 3")
    await rig.farm.is_running(one)
    rig.engine.failures["inspect"] += [EngineFailed("busy")] * 2
    rig.engine.failures["logs"].append(EngineFailed("busy"))
    rig.engine.failures["remove"].append(EngineFailed("device or resource busy"))
    rig.let_go(one)
    await rig.farm.ended(one)
    assert one.finish.exit_code == 3
    await rig.tidy()


async def test_container_restarted_by_others_is_followed_to_its_end(rig: Rig) -> None:
    await rig.ready()
    one = rig.run("hold; exit 0")
    await rig.farm.is_running(one)
    container = rig.engine.container_of(one.execution_id)
    gate = rig.engine.gates["inspect"] = asyncio.Event()
    await rig.engine.kill(container.container_id, "SIGKILL")
    await rig.engine.start(container.container_id)
    gate.set()
    rig.let_go(one)
    await rig.farm.ended(one)
    assert one.finish.exit_code == 0


# ------------------------------------------------------------------------------------------------------- the lease
async def test_nothing_starts_without_a_lease(rig: Rig) -> None:
    await rig.ready()
    rig.farm.go_silent()
    rig.clock.ahead += rig.farm.lease
    one = rig.run("exit 0")
    await rig.until(lambda: "create" in rig.engine.calls)
    await asyncio.sleep(0.05)
    assert rig.starts() == 0
    assert not any(isinstance(entry, StartIntent) for entry in rig.journal.entries)
    rig.farm.speak_again()
    assert (await rig.farm.ended(one)).outcome == "EXITED"


async def test_what_may_run_elsewhere_is_killed_when_the_farm_is_silent(rig: Rig) -> None:
    """hashicorp/nomad#4979: re-run after a partition although the first still runs."""
    await rig.ready()
    one, patient = rig.run("trap 'exit 0' TERM; sleep 60"), rig.run("sleep 60", on_lost=OnLost.WAIT)
    for each in (one, patient):
        await rig.farm.is_running(each)
    rig.link.farm = None
    rig.farm.break_stream()
    rig.clock.ahead += rig.farm.lost_after
    await rig.until(lambda: rig.engine.container_of(one.execution_id).exit_code == 137, "killed without grace")
    assert rig.engine.container_of(patient.execution_id).status.alive
    rig.link.farm = rig.farm
    await rig.farm.ended(one)
    assert (one.outcome, one.finish.failure.reason) == ("LOST", 11)
    assert patient.state == "RUNNING"


async def test_the_lease_outlives_the_agent(rig: Rig) -> None:
    """A restarted agent that does not reach the farm knows since when it has not."""
    await rig.ready()
    one = rig.run("sleep 60")
    await rig.farm.is_running(one)
    await rig.crash()
    rig.link.farm = None
    rig.clock.ahead += rig.farm.lost_after - 0.5
    await rig.start()
    await rig.until(lambda: rig.engine.container_of(one.execution_id).exit_code == 137)


async def test_a_clean_stop_parks_and_leaves_containers(rig: Rig) -> None:
    await rig.ready()
    one = rig.run("echo 1; hold; echo 2; exit 3")
    await rig.farm.is_running(one)
    await rig.agent.stop(5.0)
    assert rig.farm.parked == 1
    assert isinstance(rig.notes.note, LeaseNote)
    assert rig.notes.note.parked
    rig.clock.ahead += rig.farm.lost_after * 10
    await rig.start()
    await rig.watched(one)
    rig.let_go(one)
    await rig.farm.ended(one)
    assert (one.outcome, one.finish.exit_code, one.stdout) == ("EXITED", 3, b"1\n2\n")


async def test_a_clean_stop_gives_back_what_has_not_begun(rig: Rig) -> None:
    """buildkite/agent#402: drain takes one more job."""
    rig.engine.registry.add("slow:1")
    rig.engine.pull_takes = 60
    await rig.ready()
    one = rig.run("exit 0", image="slow:1")
    await rig.until(lambda: rig.engine.pulls)
    stopping = asyncio.create_task(rig.agent.stop(5.0))
    await rig.farm.ended(one)
    assert one.state == "QUEUED"
    await stopping
    assert rig.starts() == 0


async def test_a_stopping_agent_takes_nothing_new(rig: Rig) -> None:
    await rig.ready()
    await rig.agent.agent.leave(0.1)
    one = await rig.farm.ended(rig.run("exit 0"))
    assert one.state == "QUEUED"
    assert "create" not in rig.engine.calls


# -------------------------------------------------------------------------------------------------------- the link
async def test_broken_stream_is_opened_again_at_another_dispatcher(rig: Rig) -> None:
    await rig.ready()
    rig.farm.break_stream()
    await rig.until(lambda: len(rig.farm.hellos) == 2)
    assert rig.link.opened[0] != rig.link.opened[1]


async def test_why_no_dispatcher_takes_it_is_told(rig: Rig) -> None:
    """One that answers may still wait for the store: its own words say so."""
    await rig.ready()
    assert rig.agent.problem == ""
    rig.farm.refuse = grpc.StatusCode.UNAVAILABLE
    rig.farm.break_stream()
    await rig.until(lambda: rig.agent.problem == "it is connected to no dispatcher: refused by the test")
    rig.farm.refuse = None
    await rig.until(lambda: rig.agent.healthy)


async def test_stream_whose_beats_stay_unanswered_is_left(rig: Rig) -> None:
    rig.farm.lease = 0.1
    await rig.ready()
    rig.farm.deaf = True
    await rig.until(lambda: len(rig.farm.hellos) >= 2)


async def test_reports_are_repeated_until_they_are_decided(rig: Rig) -> None:
    rig.farm.retry_reports = 2
    await rig.ready()
    one = await rig.farm.ended(rig.run("exit 3"))
    assert one.finish.exit_code == 3
    await rig.tidy()


async def test_end_right_after_the_report_of_the_start(rig: Rig) -> None:
    """The answer to the one must not be taken for the answer to the other."""
    await rig.ready()
    rig.farm.deaf = True
    one = rig.run("hold; echo hi; exit 3")
    await rig.until(lambda: "inspect" in rig.engine.calls, "its start is reported")
    rig.let_go(one)
    await rig.until(lambda: rig.engine.container_of(one.execution_id).exit_code == 3)
    rig.farm.deaf = False
    rig.farm.break_stream()
    await rig.farm.ended(one)
    assert (one.finish.exit_code, one.stdout) == (3, b"hi\n")


async def test_an_assignment_whose_answer_was_lost_is_no_limbo(rig: Rig) -> None:
    """armadaproject/armada#101: assignment's answer lost, limbo."""
    await rig.ready()
    one = rig.run("exit 0")
    rig.farm.lose_last_message()  # it never arrives
    assert (await rig.farm.ended(one)).outcome == "EXITED"


async def test_stop_of_what_never_arrived_is_answered(rig: Rig) -> None:
    await rig.ready()
    one = rig.run("exit 0")
    rig.farm.lose_last_message()
    one.stop_requested = True
    assert (await rig.farm.ended(one)).outcome == "STOPPED"
    assert rig.starts() == 0
