"""A host that fails: whose fault it is, where its work goes, when it is tried again."""

import pytest

from easyq.v1.job_pb2 import Failure
from easyq_runner.domain.monitoring import Backoff
from easyq_runner.errors import EngineFailed, HostExhausted
from tests.fakes.runner_rig import Rig

FULL = HostExhausted("write /var/lib/docker/x: no space left on device")
SMALL = 1 << 20


@pytest.mark.parametrize("call", ["create", "pull"])
async def test_a_full_disk_gives_back_and_takes_no_more(rig: Rig, call: str) -> None:
    rig.engine.registry.add("reg/a:1")
    await rig.ready()
    rig.engine.failures[call].append(FULL)
    rig.disks.engine = SMALL
    one = await rig.farm.ended(rig.run("exit 0", image="reg/a:1" if call == "pull" else "busybox"))
    assert (one.state, one.give_back.failure.reason) == ("QUEUED", Failure.Reason.HOST_FAILED)
    await rig.until(lambda: rig.farm.healths and not rig.farm.healths[-1].healthy)
    assert "disk full" in rig.farm.healths[-1].message
    assert "/var/lib/docker" in rig.farm.healths[-1].message
    # What crosses that on its way goes back as well, without a try.
    tried = rig.engine.calls.count("create")
    other = await rig.farm.ended(rig.run("exit 0"))
    assert (other.state, rig.engine.calls.count("create")) == ("QUEUED", tried)
    rig.disks.engine = 1 << 40
    await rig.until(lambda: rig.farm.healths[-1].healthy)
    rig.farm.assign_again(one)
    assert (await rig.farm.ended(one)).outcome == "EXITED"


async def test_a_disk_is_watched_before_anything_fails(rig: Rig) -> None:
    await rig.ready()
    await rig.until(lambda: rig.agent.healthy)
    rig.disks.agent = SMALL
    await rig.until(lambda: rig.farm.healths and "/data" in rig.farm.healths[-1].message)
    await rig.until(lambda: not rig.agent.healthy)
    rig.disks.agent = 1 << 40
    await rig.until(lambda: rig.agent.healthy)


async def test_a_job_too_large_for_a_disk_with_room_does_not_go_round_for_ever(rig: Rig) -> None:
    await rig.ready()
    rig.engine.failures["create"].append(FULL)
    one = await rig.farm.ended(rig.run("exit 0"))
    assert (one.outcome, one.finish.failure.reason) == ("INFRA_FAILED", Failure.Reason.HOST_FAILED)
    assert rig.agent.healthy


async def test_a_full_disk_at_the_start_counts_since_a_start_was_sent(rig: Rig) -> None:
    await rig.ready()
    rig.engine.failures["start"].append(FULL)
    rig.disks.engine = SMALL
    one = await rig.farm.ended(rig.run("exit 0"))
    assert (one.outcome, one.finish.failure.reason) == ("INFRA_FAILED", Failure.Reason.HOST_FAILED)
    await rig.until(lambda: not rig.agent.healthy)
    await rig.tidy()


async def test_a_disk_that_is_full_at_the_start_and_cannot_be_looked_at(rig: Rig) -> None:
    rig.disks.engine = None
    await rig.ready()
    rig.engine.failures["start"].append(FULL)
    await rig.farm.ended(rig.run("exit 0"))
    await rig.until(lambda: rig.farm.healths and "no space left" in rig.farm.healths[-1].message)


async def test_a_full_disk_under_the_journal_gives_back(rig: Rig) -> None:
    await rig.ready()
    rig.journal.failure = OSError(28, "No space left on device")
    rig.disks.agent = SMALL
    one = await rig.farm.ended(rig.run("exit 0"))
    assert (one.state, rig.starts()) == ("QUEUED", 0)
    rig.journal.failure = None
    rig.disks.agent = 1 << 40
    await rig.until(lambda: rig.agent.healthy)
    rig.farm.assign_again(one)
    assert (await rig.farm.ended(one)).outcome == "EXITED"


async def test_what_cannot_be_looked_at_is_tried_again_by_a_job(rig: Rig) -> None:
    """An engine on another machine."""
    rig.disks.engine = None
    await rig.ready()
    rig.engine.failures["create"].append(FULL)
    one = await rig.farm.ended(rig.run("exit 0"))
    assert one.state == "QUEUED"
    await rig.until(lambda: rig.farm.healths and "no space left" in rig.farm.healths[-1].message)
    await rig.until(lambda: rig.farm.healths[-1].healthy)
    rig.farm.assign_again(one)
    assert (await rig.farm.ended(one)).outcome == "EXITED"


async def test_want_of_memory_is_the_hosts(rig: Rig) -> None:
    await rig.ready()
    rig.engine.failures["create"].append(HostExhausted("fork/exec: cannot allocate memory"))
    one = await rig.farm.ended(rig.run("exit 0"))
    assert one.state == "QUEUED"
    await rig.until(lambda: rig.farm.healths and "cannot allocate memory" in rig.farm.healths[-1].message)


async def test_a_broken_host_does_not_eat_everyones_retries(rig: Rig) -> None:
    """DataBiosphere/toil#5452: one broken host fails fast and eats everyone's retries."""
    await rig.ready()
    rig.disks.engine = SMALL
    rig.engine.failures["create"] += [FULL] * 100
    many = [rig.run("exit 0") for _ in range(20)]
    for one in many:
        await rig.farm.ended(one)
        # Neither a failure of the job's, nor one that counts among those of the infrastructure.
        assert one.state == "QUEUED"


async def test_nobody_looks_at_disks_where_that_is_switched_off(rig: Rig) -> None:
    rig.settings = rig.settings.model_copy(update={"min_free_disk": 0})
    rig.disks.engine = rig.disks.agent = 0
    await rig.ready()
    assert (await rig.farm.ended(rig.run("exit 0"))).outcome == "EXITED"


# --------------------------------------------------------------------------------------------------------- monitoring
async def test_failed_monitoring_counts_against_nothing(rig: Rig) -> None:
    """The engine answers, and can't show this container: it is asked again, however often it takes."""
    await rig.ready()
    one = rig.run("hold; echo hi; exit 3")
    await rig.farm.is_running(one)
    rig.engine.failures["inspect"] += [EngineFailed("busy")] * 8
    rig.engine.failures["last_output"] += [EngineFailed("busy")]
    rig.let_go(one)
    await rig.farm.ended(one)
    assert (one.outcome, one.finish.exit_code, one.stdout) == ("EXITED", 3, b"hi\n")
    assert not rig.engine.failures["inspect"]
    assert (one.finishes, rig.starts()) == (1, 1)
    assert rig.agent.healthy


async def test_pauses_of_failed_monitoring_grow(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def pause(_: Backoff, failures: int) -> float:
        asked.append(failures)
        return 0.0

    monkeypatch.setattr(Backoff, "pause", pause)
    await rig.ready()
    one = rig.run("hold; exit 3")
    await rig.farm.is_running(one)
    rig.engine.failures["inspect"] += [EngineFailed("busy")] * 4
    rig.let_go(one)
    await rig.farm.ended(one)
    assert asked == [1, 2, 3, 4]


async def test_live_reading_that_fails_is_tried_again(rig: Rig) -> None:
    rig.engine.attachments_break = True
    await rig.ready()
    rig.engine.failures["logs"] += [EngineFailed("busy")]
    one = rig.run("echo 1; hold; echo 2; exit 3")
    await rig.until(lambda: one.stdout == b"1\n", "read while it ran")
    rig.let_go(one)
    await rig.farm.ended(one)
    assert one.stdout == b"1\n2\n"
