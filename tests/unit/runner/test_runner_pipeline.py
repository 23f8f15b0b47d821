"""The way of one execution through the agent."""

import asyncio

import pytest

from easyq.v1.spec_pb2 import JobSpec, OnLost, Pull
from easyq_internal.store.v1.records_pb2 import Held
from easyq_runner.domain.journal import Settled, StartIntent
from easyq_runner.domain.pulling import LocalImage
from easyq_runner.errors import EngineFailed, EngineUnreachable, NoSuchContainer, PullFailed
from tests.fakes.runner_rig import Rig


async def test_runs_reports_and_clears_away(rig: Rig) -> None:
    await rig.ready()
    one = await rig.farm.ended(rig.run("echo hi; echo oops >&2; exit 3"))
    assert (one.outcome, one.finish.exit_code, one.stdout, one.stderr) == ("EXITED", 3, b"hi\n", b"oops\n")
    assert one.finish.failure.message == "exit code 3"
    assert one.finish.image_digest == "sha256:b0"
    await rig.tidy()
    await rig.until(lambda: rig.agent.agent.inventory() == ())


async def test_a_short_run_costs_few_calls_and_no_append(rig: Rig) -> None:
    await rig.ready()
    rig.engine.calls.clear()
    one = await rig.farm.ended(rig.run("echo hi", pull=Pull.MISSING))
    await rig.tidy()
    # What the agent looks at by the clock, whatever runs.
    regular = {"ping", "list_own", "list_farm"}
    spent = [call for call in rig.engine.calls if call not in regular]
    assert sorted(spent) == ["attach", "create", "inspect", "last_output", "remove", "start"]
    assert not rig.farm.chunks
    assert one.told_start is None
    assert one.stdout == b"hi\n"


async def test_what_runs_longer_is_reported_and_read_live(rig: Rig) -> None:
    await rig.ready()
    one = rig.run("echo first; hold; echo last")
    await rig.farm.is_running(one)
    assert one.started.image_digest == "sha256:b0"
    await rig.until(lambda: one.stdout == b"first\n", "the first line came while it ran")
    assert one.told_end is None
    rig.let_go(one)
    await rig.farm.ended(one)
    assert one.stdout == b"first\nlast\n"


async def test_log_follow_neither_hangs_nor_loses_lines(rig: Rig) -> None:
    """docker/docker-py#3084: first or last lines lost, or the follower hangs."""
    rig.engine.follow_ends_after = 1
    rig.engine.attachments_break = True
    await rig.ready()
    one = await rig.farm.ended(rig.run("echo 1; sleep 0.1; echo 2; echo 3; sleep 0.1; echo 4"))
    assert one.stdout == b"1\n2\n3\n4\n"


@pytest.mark.parametrize("after", [0, 1, 3])
async def test_an_attachment_that_ends_early_loses_nothing(rig: Rig, after: int) -> None:
    rig.engine.attached_ends_after = after
    await rig.ready()
    one = await rig.farm.ended(rig.run("echo 1; sleep 0.1; echo 2; echo 3; sleep 0.1; echo 4"))
    assert one.stdout == b"1\n2\n3\n4\n"


async def test_an_attachment_that_ends_early_in_output_that_looks_all_the_same(rig: Rig) -> None:
    """Nothing to compare would tell the half from the whole; that the program ran on does."""
    rig.engine.attached_ends_after = 100
    rig.engine.follow_ends_after = 150
    await rig.ready()
    one = await rig.farm.ended(rig.run("; ".join(["echo y"] * 100 + ["sleep 0.2"] + ["echo y"] * 100)))
    assert one.stdout == b"y\n" * 200


async def test_without_attachments_the_log_is_read(rig: Rig) -> None:
    """As with `log_driver` json-file, whose log does not keep every byte as it was."""
    rig.settings = rig.settings.model_copy(update={"log_driver": "json-file"})
    await rig.ready()
    one = await rig.farm.ended(rig.run("echo 1; sleep 0.1; echo 2"))
    assert one.stdout == b"1\n2\n"
    assert "attach" not in rig.engine.calls


async def test_a_program_never_waits_for_a_store_that_is_away(rig: Rig) -> None:
    await rig.ready()
    rig.farm.append_failures = 1_000_000
    one = rig.run("sleep 0.05; " + "; ".join(["echo " + "x" * 99_999] * 50) + "; exit 3")
    container = await rig.until(lambda: rig.engine.container_of(one.execution_id))
    await rig.until(lambda: container.exit_code == 3, "it ended although nobody took its output")
    rig.farm.append_failures = 0
    await rig.farm.ended(one)
    assert one.stdout == (b"x" * 99_999 + b"\n") * 50


async def test_the_start_is_in_the_journal_before_it_is_sent(rig: Rig) -> None:
    rig.engine.gates["start"] = asyncio.Event()
    await rig.ready()
    one = rig.run("exit 0")
    await rig.until(lambda: rig.starts() == 1)
    synced = rig.journal.entries[: rig.journal.synced]
    assert [entry.key.execution_id for entry in synced if isinstance(entry, StartIntent)] == [one.execution_id]
    rig.engine.gates["start"].set()
    await rig.farm.ended(one)


async def test_the_same_assignment_twice_is_one_run(rig: Rig) -> None:
    await rig.ready()
    one = rig.run("sleep 0.1; exit 0")
    rig.farm.send_run(one)
    await rig.farm.ended(one)
    rig.farm.send_run(one)  # belated, after its end
    await rig.tidy()
    await asyncio.sleep(0.1)
    assert rig.starts() == 1


async def test_missing_image_is_pulled_once_for_many(rig: Rig) -> None:
    rig.engine.registry.add("reg:5000/a:1")
    rig.engine.pull_takes = 0.1
    await rig.ready()
    many = [rig.run("exit 0", image="reg:5000/a:1") for _ in range(5)]
    for one in many:
        assert (await rig.farm.ended(one)).outcome == "EXITED"
    assert len(rig.engine.pulls) == 1


async def test_always_asks_the_registry_each_time_and_never_an_older_pull(rig: Rig) -> None:
    rig.engine.images["reg:5000/a"] = LocalImage(image_id="old", known_to_registry=True)
    rig.engine.registry.add("reg:5000/a")
    gate = rig.engine.gates["pull"] = asyncio.Event()
    await rig.ready()
    first = rig.run("exit 0", image="reg:5000/a", pull=Pull.ALWAYS)
    await rig.until(lambda: "pull" in rig.engine.calls)
    later = [rig.run("exit 0", image="reg:5000/a", pull=Pull.ALWAYS) for _ in range(3)]
    await rig.until(lambda: [pull.askers for pull in rig.agent.tools.images._next.values()] == [3])
    gate.set()
    for one in (first, *later):
        await rig.farm.ended(one)
    # The later three may mean an image that was pushed after the first pull began: they share another one.
    assert len(rig.engine.pulls) == 2


async def test_image_that_no_registry_knows_is_rejected(rig: Rig) -> None:
    await rig.ready()
    one = await rig.farm.ended(rig.run("exit 0", image="nosuch:1"))
    assert (one.outcome, one.finish.failure.reason) == ("REJECTED", 6)
    assert "nosuch:1" in one.finish.failure.message


async def test_never_pulls_never(rig: Rig) -> None:
    rig.engine.registry.add("there:1")
    await rig.ready()
    one = await rig.farm.ended(rig.run("exit 0", image="there:1", pull=Pull.NEVER))
    assert one.outcome == "REJECTED"
    assert not rig.engine.pulls


async def test_imported_image_needs_no_registry_even_with_always(rig: Rig) -> None:
    await rig.ready()
    one = await rig.farm.ended(rig.run("exit 0", pull=Pull.ALWAYS))
    assert one.outcome == "EXITED"
    assert not rig.engine.pulls


async def test_registry_out_of_reach_is_the_hosts_fault(rig: Rig) -> None:
    rig.engine.images["reg/a"] = LocalImage(image_id="old", known_to_registry=True)
    rig.engine.failures["pull"].append(PullFailed("connection refused"))
    await rig.ready()
    one = await rig.farm.ended(rig.run("exit 0", image="reg/a", pull=Pull.ALWAYS))
    assert (one.outcome, one.finish.failure.reason) == ("INFRA_FAILED", 7)
    assert "pull_fallback" in one.finish.failure.message


async def test_local_image_by_setting_where_the_registry_is_out_of_reach(rig: Rig) -> None:
    rig.settings = rig.settings.model_copy(update={"pull_fallback": True})
    rig.engine.images["reg/a"] = LocalImage(image_id="old", known_to_registry=True)
    rig.engine.failures["pull"].append(PullFailed("connection refused"))
    await rig.ready()
    assert (await rig.farm.ended(rig.run("exit 0", image="reg/a", pull=Pull.ALWAYS))).outcome == "EXITED"


async def test_invalid_create_is_rejected(rig: Rig) -> None:
    await rig.ready()
    one = await rig.farm.ended(rig.run("exit 0", resources={"memory": 1000}))
    assert (one.outcome, one.finish.failure.reason) == ("REJECTED", 8)


async def test_privileges_are_refused_by_name_of_the_setting(rig: Rig) -> None:
    await rig.ready()
    one = await rig.farm.ended(rig.run("exit 0", privileged=True))
    assert (one.outcome, one.finish.failure.reason) == ("REJECTED", 10)
    assert "allow_privileged" in one.finish.failure.message
    one = await rig.farm.ended(rig.run("exit 0", mounts=[{"source": "/etc", "target": "/e"}]))
    assert "allowed_mounts" in one.finish.failure.message
    assert "create" not in rig.engine.calls


@pytest.mark.parametrize(("program", "code"), [("/no/such", 127), ("/etc/passwd", 126)])
async def test_program_that_is_not_there_is_rejected(rig: Rig, program: str, code: int) -> None:
    await rig.ready()
    one = await rig.farm.ended(rig.farm.run(JobSpec(image="busybox", command=[program])))
    assert (one.outcome, one.finish.failure.reason) == ("REJECTED", 9)
    await rig.tidy()
    assert one.finish.exit_code == code
    assert not one.finish.HasField("ran_for")


async def test_failing_engine_is_infrastructure(rig: Rig) -> None:
    await rig.ready()
    rig.engine.failures["create"].append(EngineFailed("no space left on device"))
    one = await rig.farm.ended(rig.run("exit 0"))
    assert (one.outcome, one.finish.failure.reason) == ("INFRA_FAILED", 15)
    rig.engine.failures["start"].append(EngineFailed("no space left on device"))
    one = await rig.farm.ended(rig.run("exit 0"))
    assert (one.outcome, one.finish.failure.reason) == ("INFRA_FAILED", 15)
    await rig.tidy()


async def test_container_removed_by_others_before_its_start(rig: Rig) -> None:
    await rig.ready()
    rig.engine.failures["start"].append(NoSuchContainer("gone"))
    one = await rig.farm.ended(rig.run("exit 0"))
    assert (one.outcome, one.finish.failure.reason) == ("INFRA_FAILED", 13)


async def test_engine_that_breaks_off_at_create_gives_the_execution_back(rig: Rig) -> None:
    await rig.ready()
    rig.engine.lost_answers["create"] = 1
    one = await rig.farm.ended(rig.run("exit 0"))
    assert one.state == "QUEUED"
    await rig.tidy()  # the container that came of it all the same
    await rig.until(lambda: rig.agent.healthy)
    rig.farm.assign_again(one)
    assert (await rig.farm.ended(one)).outcome == "EXITED"
    assert rig.starts() == 1


async def test_give_back_is_in_the_journal_before_it_is_answered(rig: Rig) -> None:
    """A restarted agent must not start what another may run by now."""
    rig.farm.beat_every = 60  # whose answer would settle it, too
    await rig.ready()
    rig.engine.lost_answers["create"] = rig.farm.lose_answers = 1
    await rig.farm.ended(rig.run("exit 0"))
    assert len([entry for entry in rig.journal.entries if isinstance(entry, Settled)]) == 1


async def test_the_next_epoch_waits_for_the_name(rig: Rig) -> None:
    """Given back, and assigned again before the old container is gone."""
    await rig.ready()
    rig.engine.lost_answers["create"] = 1
    rig.engine.gates["remove"] = asyncio.Event()
    one = await rig.farm.ended(rig.run("exit 0"))
    await rig.until(lambda: rig.agent.healthy)
    rig.farm.assign_again(one)
    await rig.until(lambda: rig.engine.calls.count("remove") == 1)
    assert one.state == "ASSIGNED"
    rig.engine.gates["remove"].set()
    assert (await rig.farm.ended(one)).outcome == "EXITED"


async def test_other_peoples_container_of_that_name_is_left_alone(rig: Rig) -> None:
    await rig.ready()
    theirs = await rig.engine.create(
        "easyq-77cfabbb", {"Image": "busybox", "Labels": {"easyq.farm": "other"}, "HostConfig": {}}, ""
    )
    one = rig.farm.run(JobSpec(image="busybox", command=["exit", "0"]), execution_id="77cfabbb")
    assert (await rig.farm.ended(one)).outcome == "INFRA_FAILED"
    assert list(rig.engine.containers) == [theirs]


async def test_start_whose_answer_was_lost_and_that_ran(rig: Rig) -> None:
    await rig.ready()
    rig.engine.lost_answers["start"] = 1
    one = await rig.farm.ended(rig.run("echo hi; sleep 0.1; exit 4"))
    assert (one.outcome, one.finish.exit_code, one.stdout) == ("EXITED", 4, b"hi\n")
    assert rig.starts() == 1


async def test_start_whose_answer_was_lost_and_that_never_ran(rig: Rig) -> None:
    await rig.ready()
    rig.engine.failures["start"].append(EngineUnreachable("the connection broke"))
    one = await rig.farm.ended(rig.run("exit 0"))
    assert (one.outcome, one.finish.failure.reason) == ("LOST", 14)
    assert rig.starts() == 1
    await rig.tidy()


async def test_timeout_ends_it_and_keeps_its_output(rig: Rig) -> None:
    await rig.ready()
    one = rig.run("trap 'exit 0' TERM; echo partial; sleep 60", timeout={"nanos": 200_000_000})
    await rig.farm.ended(one)
    assert (one.outcome, one.finish.exit_code, one.stdout) == ("TIMED_OUT", 0, b"partial\n")


async def test_sigkill_after_the_grace(rig: Rig) -> None:
    await rig.ready()
    tenth = {"nanos": 100_000_000}
    one = await rig.farm.ended(rig.run("sleep 60", timeout=tenth, stop_grace=tenth))
    assert (one.outcome, one.finish.exit_code) == ("TIMED_OUT", 137)
    assert rig.engine.calls.count("kill") == 2


async def test_stop_of_a_running_one(rig: Rig) -> None:
    await rig.ready()
    one = rig.run("trap 'exit 9' TERM; sleep 60")
    await rig.farm.is_running(one)
    rig.farm.stop_execution(one)
    await rig.farm.ended(one)
    assert (one.outcome, one.finish.exit_code) == ("STOPPED", 9)


async def test_stop_while_pulling_starts_nothing_and_ends_the_pull(rig: Rig) -> None:
    rig.engine.registry.add("slow:1")
    rig.engine.pull_takes = 60
    await rig.ready()
    one = rig.run("exit 0", image="slow:1")
    await rig.until(lambda: rig.engine.pulls)
    pulling = Held.Phase.PULLING
    await rig.until(
        lambda: any(held.phase == pulling for beat in rig.farm.beats for held in beat.inventory), "a beat says PULLING"
    )
    rig.farm.stop_execution(one)
    await rig.farm.ended(one)
    assert one.outcome == "STOPPED"
    assert not one.finish.HasField("ran_for")
    assert "start" not in rig.engine.calls
    await rig.until(lambda: rig.engine.pulls_cancelled == 1)


async def test_stop_between_create_and_start(rig: Rig) -> None:
    rig.engine.gates["create"] = asyncio.Event()
    await rig.ready()
    one = rig.run("exit 0")
    await rig.until(lambda: "create" in rig.engine.calls)
    rig.farm.stop_execution(one)
    await rig.heard()
    rig.engine.gates["create"].set()
    assert (await rig.farm.ended(one)).outcome == "STOPPED"
    assert rig.starts() == 0
    await rig.tidy()


async def test_stop_and_lapsed_lease_between_journal_and_start(rig: Rig) -> None:
    """The disk takes long; meanwhile things change."""
    gate = rig.journal.gate = asyncio.Event()
    await rig.ready()
    stopped, late = rig.run("exit 0"), rig.run("exit 3")
    await rig.until(lambda: sum(isinstance(entry, StartIntent) for entry in rig.journal.entries) == 2)
    rig.farm.stop_execution(stopped)
    await rig.heard()
    rig.farm.go_silent()
    rig.clock.ahead += rig.farm.lease
    gate.set()
    await asyncio.sleep(0.05)
    assert rig.starts() == 0
    rig.farm.speak_again()
    for one, outcome in ((stopped, "STOPPED"), (late, "EXITED")):
        assert (await rig.farm.ended(one)).outcome == outcome
    assert rig.starts() == 1


async def test_start_deadline_that_passes_while_pulling(rig: Rig) -> None:
    rig.engine.registry.add("slow:1")
    rig.engine.pull_takes = 60
    await rig.ready()
    one = await rig.farm.ended(rig.run("exit 0", image="slow:1", start_within=0.1))
    assert (one.outcome, one.finish.failure.reason) == ("EXPIRED", 5)


async def test_an_out_of_memory_kill_is_not_success(rig: Rig) -> None:
    """hashicorp/nomad#2203: out-of-memory kill shown as success."""
    await rig.ready()
    for told in (True, False):
        one = rig.run("sleep 60", resources={"memory": 64 * 1024 * 1024})
        await rig.farm.is_running(one)
        rig.engine.kill_by_kernel(rig.engine.container_of(one.execution_id), told=told)
        await rig.farm.ended(one)
        assert (one.outcome, one.finish.failure.reason, one.finish.oom_killed) == ("EXITED", 2, True)


async def test_container_removed_by_others_is_lost(rig: Rig) -> None:
    await rig.ready()
    one = rig.run("sleep 60")
    await rig.farm.is_running(one)
    await rig.engine.remove(rig.engine.container_of(one.execution_id).container_id, force=True)
    await rig.farm.ended(one)
    assert (one.outcome, one.finish.failure.reason) == ("LOST", 13)


async def test_log_limit_cuts_and_marks(rig: Rig) -> None:
    await rig.ready()
    one = await rig.farm.ended(rig.run("echo 123456789; echo 1 >&2", log_limit=5))
    assert (one.stdout, one.finish.stdout_truncated) == (b"12345", True)
    assert (one.stderr, one.finish.stderr_truncated) == (b"1\n", False)


async def test_output_beyond_the_limit_costs_no_more_reading(rig: Rig) -> None:
    await rig.ready()
    one = rig.run("echo 123; echo 123 >&2; sleep 0.3; echo 456", log_limit=2)
    await rig.farm.ended(one)
    assert (one.stdout, one.stderr) == (b"12", b"12")
    assert {"logs", "last_output"}.isdisjoint(rig.engine.calls)


async def test_full_disk_does_not_blind_the_agent(rig: Rig) -> None:
    await rig.ready()
    one = rig.run("hold; exit 3")
    await rig.farm.is_running(one)
    rig.journal.failure = OSError(28, "No space left on device")
    rig.engine.break_streams()
    rig.let_go(one)
    assert (await rig.farm.ended(one)).finish.exit_code == 3
    await rig.tidy()


async def test_what_is_not_ours_any_more_is_killed_and_not_reported(rig: Rig) -> None:
    await rig.ready()
    one = rig.run("sleep 60")
    await rig.farm.is_running(one)
    rig.farm.take_away(one)
    await rig.tidy()
    assert one.finishes == 0
    await rig.until(lambda: rig.agent.agent.inventory() == ())


async def test_what_was_killed_and_is_assigned_again_under_the_same_epoch_has_an_end(rig: Rig) -> None:
    """As a store does that was restored from a backup: it knows neither of the first run nor of its epoch."""
    await rig.ready()
    one = rig.run("sleep 60")
    await rig.farm.is_running(one)
    rig.farm.take_away(one)
    await rig.tidy()
    await rig.until(lambda: rig.agent.agent.inventory() == ())
    one.epoch, one.state = one.epoch - 1, "ASSIGNED"
    rig.farm.send_run(one)
    await rig.farm.ended(one)
    assert (one.outcome, one.finish.failure.message[:25]) == ("LOST", "its host had given it up ")
    assert rig.starts() == 1


async def test_what_has_ended_and_is_assigned_again_in_a_later_session_has_another_end(rig: Rig) -> None:
    await rig.ready()
    one = rig.run("exit 0")
    await rig.farm.ended(one)
    await rig.tidy()
    one.state = "ASSIGNED"
    rig.farm.break_stream()
    await rig.farm.ended(one)
    assert (one.outcome, rig.starts()) == ("LOST", 1)


async def test_output_that_the_store_calls_stale_ends_the_container(rig: Rig) -> None:
    await rig.ready()
    rig.farm.beat_every = 60
    one = rig.run("hold; echo more; sleep 60", on_lost=OnLost.WAIT)
    await rig.farm.is_running(one)
    one.epoch += 1
    rig.let_go(one)
    await rig.tidy()


async def test_store_that_is_away_loses_no_output(rig: Rig) -> None:
    rig.farm.append_failures = 1
    await rig.ready()
    one = rig.run("echo 1; hold; echo 2; sleep 0.1; echo 3")
    await rig.until(lambda: rig.farm.append_failures == 0)
    rig.let_go(one)
    await rig.farm.ended(one)
    assert one.stdout == b"1\n2\n3\n"


async def test_store_that_has_lost_output_gets_it_again(rig: Rig) -> None:
    """A store restored from a backup answers with a gap."""
    await rig.ready()
    one = rig.run("echo 111; hold; echo 222; sleep 0.1; echo 333")
    await rig.until(lambda: one.stdout == b"111\n")
    del one.output[1][2:]
    rig.let_go(one)
    await rig.farm.ended(one)
    assert one.stdout == b"111\n222\n333\n"


async def test_store_that_has_lost_output_when_the_end_comes(rig: Rig) -> None:
    await rig.ready()
    one = rig.run("echo 111; hold; echo " + "x" * 99_999)
    await rig.until(lambda: one.stdout == b"111\n")
    del one.output[1][2:]
    rig.let_go(one)
    await rig.farm.ended(one)
    assert one.stdout == b"111\n" + b"x" * 99_999 + b"\n"


async def test_output_that_is_missing_after_the_end_is_sent_again(rig: Rig) -> None:
    await rig.ready()
    one = rig.run("echo 111; sleep 0.1; echo 222; hold")
    await rig.until(lambda: one.stdout == b"111\n222\n")
    rig.engine.gates["remove"] = asyncio.Event()
    del one.output[1][:]
    rig.let_go(one)
    await rig.farm.ended(one)
    await rig.until(lambda: one.stdout == b"111\n222\n", "the log was sent again")
    rig.engine.gates["remove"].set()
    await rig.tidy()


async def test_a_journal_that_cannot_be_written_starts_nothing(rig: Rig) -> None:
    await rig.ready()
    rig.journal.failure = OSError(28, "No space left on device")
    one = await rig.farm.ended(rig.run("exit 0"))
    assert (one.outcome, one.finish.failure.reason) == ("INFRA_FAILED", 15)
    assert rig.starts() == 0
