"""Recurring jobs: their fires, what overlaps, pause, trigger, stop, a newer spec."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from easyq.v1.spec_pb2 import Backoff, Overlap
from easyq_chassis.errors import FailedPrecondition, NotFound
from easyq_store.domain.records import Schedule, Skip
from easyq_store.domain.recurring import Fire, FireDecision, fire_id, rescheduled
from easyq_store.domain.states import ExecutionState, FailureReason, JobState, SkipReason, Trigger
from easyq_store.usecases import look, put, retry, schedules, stop, time, trigger
from tests.fakes.store import FakePersistence, FakeSteps
from tests.support.store_records import T0
from tests.support.store_records import job as a_job
from tests.support.store_world import World, exited

BY_HAND = "00000000-0000-4000-8000-000000000001"
AGAIN = "00000000-0000-4000-8000-000000000002"
NO_WAIT = Backoff(min=Duration())


async def recurring(world: World, overlap: Overlap.Mode.ValueType = Overlap.SKIP, **fields: Any) -> None:
    await world.hello()
    await world.submit(cron="* * * * *", overlap=overlap, **fields)


def nominal(second: int) -> int:
    return T0 + second * 1000


def of(second: int, job_id: str = "job") -> str:
    """The id of a fire's execution."""
    return fire_id(job_id, nominal(second))


def skips(world: World, job_id: str = "job") -> list[tuple[int, int, int, str]]:
    """The skips that are kept, oldest first: seconds of the first and the last, count, reason."""
    kept = world.store.tables.skips.get(job_id, [])[::-1]
    return [((s.first - T0) // 1000, (s.last - T0) // 1000, s.count, s.reason.name) for s in kept]


def waits(world: World, job_id: str = "job") -> int | None:
    schedule = world.job(job_id).schedule
    assert schedule is not None
    return None if schedule.waiting is None else (schedule.waiting.nominal - T0) // 1000


def counts(world: World, job_id: str = "job") -> tuple[int, int]:
    schedule = world.job(job_id).schedule
    assert schedule is not None
    return schedule.runs, schedule.skipped


def settled(world: World) -> None:
    job = world.job()
    assert (job.pending, job.unsettled_since, job.schedule and job.schedule.unkept) == ((), None, ())


# -------------------------------------------------------------------------------------------------------- to be planned
async def test_a_recurring_job_begins_without_an_execution_and_is_due_for_planning(world: World) -> None:
    assert await world.submit(cron="* * * * *") == ""
    job = world.job()
    assert (world.states(), job.attempts, job.fire_at, job.next_run_at) == ("ACTIVE", 0, T0, None)
    due = await schedules.list_due_schedules(world.ctx, 10)
    assert (due.items, due.next_in_ms, due.now) == ((job,), None, T0)
    assert (await schedules.list_due_schedules(world.ctx, 1)).next_in_ms == 0


async def test_a_repeated_submit_makes_one_job(world: World) -> None:
    await world.submit(cron="* * * * *", key="k")
    assert await world.submit(cron="* * * * *", key="k") == ""
    assert await world.submit("other", cron="* * * * *", key="k") == ""
    assert list(world.store.tables.jobs) == ["job"]
    assert world.store.tables.executions == {}


async def test_planning_alone_moves_the_next_look(world: World) -> None:
    await recurring(world)
    assert (await world.fire()).recorded == 1
    job = world.job()
    assert (job.fire_at, job.next_run_at, job.attempts) == (nominal(60), nominal(60), 0)
    assert job.schedule is not None
    assert job.schedule.next_fire == nominal(60)
    due = await schedules.list_due_schedules(world.ctx, 10)
    assert (due.items, due.next_in_ms) == ((), 60_000)
    settled(world)


async def test_a_fire_becomes_an_execution_with_an_id_of_its_own(world: World) -> None:
    await recurring(world, priority=5, start_deadline=Duration(seconds=30))
    world.machine.pass_(60)
    fired = await world.fire(60)
    made = world.execution(of(60))
    assert [head.execution_id for head in fired.ready] == [of(60)]
    assert (made.trigger, made.fire_at, made.due_at, made.latest_start) == (
        Trigger.SCHEDULE,
        nominal(60),
        nominal(60),
        nominal(90),
    )
    assert (made.attempt, made.fence, made.priority, made.image) == (1, 1, 5, "echo:1")
    assert (world.states(), counts(world)) == ("ACTIVE QUEUED", (1, 0))
    settled(world)


async def test_a_fire_that_runs_and_a_skip_take_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a round trip on a database without transactions; lateness grows with them."""
    writes: list[str] = []
    reads: list[str] = []

    async def note(name: str) -> None:
        writes.append(name)

    def counting(name: str) -> Callable[..., Awaitable[Any]]:
        read = getattr(FakeSteps, name)

        async def counted(*args: Any) -> Any:
            reads.append(name)
            return await read(*args)

        return counted

    for name in ("get_job", "get_execution", "open_series", "open_executions"):
        monkeypatch.setattr(FakeSteps, name, counting(name))
    world = World(FakePersistence(atomic=False))
    await recurring(world)
    world.machine.pass_(60)
    world.store.between = note
    reads.clear()
    await world.fire(60)
    assert writes == ["change_job", "next_seq", "insert_execution", "change_job"]
    assert reads == ["get_job", "open_series"]
    settled(world)
    writes.clear()
    reads.clear()
    await world.fire(120)
    assert (writes, skips(world)) == (["change_job", "keep_skips", "change_job"], [(120, 120, 1, "OVERLAP")])
    assert reads == ["get_job", "open_series"]
    settled(world)


@pytest.mark.parametrize("earlier", [1, 2, 3])
async def test_a_stop_between_the_writes_of_a_fire_reaches_its_execution(earlier: int) -> None:
    left = earlier
    world = World(FakePersistence(atomic=False))
    await recurring(world)
    world.machine.pass_(60)

    async def stop_first(_: str) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            world.store.between = nothing
            await stop.stop_job(world.ctx, "", "job")

    async def nothing(_: str) -> None:
        pass

    world.store.between = stop_first
    fired = await world.fire(60)
    assert (fired.ready, world.states()) == ((), "STOPPED STOPPED")
    settled(world)


async def test_a_fire_with_jitter_waits_for_its_time(world: World) -> None:
    await recurring(world)
    fires = (Fire(nominal=nominal(60), due_at=nominal(70)),)
    decision = FireDecision(job_id="job", revision=1, cursor=0, fires=fires, new_cursor=nominal(60))
    fired = await schedules.fire_schedules(world.ctx, [decision])
    assert (fired.ready, world.states()) == ((), "ACTIVE SCHEDULED")


async def test_each_fire_is_decided_once(world: World) -> None:
    """Fires doubled by a second scheduler (dkron-io/dkron#1210, hashicorp/nomad#2721)."""
    await recurring(world)
    decision = FireDecision(
        job_id="job",
        revision=1,
        cursor=0,
        fires=(Fire(nominal=nominal(60), due_at=nominal(60)),),
        new_cursor=nominal(60),
        next_at=nominal(120),
    )
    first = await schedules.fire_schedules(world.ctx, [decision, decision])
    again = await schedules.fire_schedules(world.ctx, [decision])
    assert (first.recorded, again.recorded) == (1, 0)
    assert world.job().attempts == len(world.attempts()) == 1


async def test_decisions_on_what_changed_are_left_aside(world: World) -> None:
    await recurring(world)
    fires = (Fire(nominal=nominal(60), due_at=nominal(60)),)
    good = FireDecision(job_id="job", revision=1, cursor=0, fires=fires, new_cursor=nominal(60))
    stale = [
        replace(good, revision=2),
        replace(good, cursor=5),
        replace(good, job_id="nobody"),
        replace(good, fires=(Fire(nominal=0, due_at=nominal(60)),)),
    ]
    assert (await schedules.fire_schedules(world.ctx, stale)).recorded == 0
    await schedules.pause_job(world.ctx, "", "job")
    assert (await schedules.fire_schedules(world.ctx, [good])).recorded == 0
    assert world.states() == "PAUSED"


async def test_skips_are_kept_and_shown_with_their_reason(world: World) -> None:
    await recurring(world)
    for number in range(25):
        at = nominal(60 * number + 60)
        skip = Skip(first=at, last=at + 30_000, count=7, reason=SkipReason.MISFIRED, decided_at=T0)
        assert (await world.fire(skips=(skip,))).recorded == 1
    assert counts(world) == (0, 175)
    assert len(skips(world)) == 25
    view = await look.get_job(world.ctx, "", "job", 20)
    assert [s.first for s in view.skips] == [nominal(60 * number + 60) for number in range(5, 25)]
    settled(world)


# -------------------------------------------------------------------------------------------------------------- overlap
async def test_overlap_is_skipped_while_one_waits_or_runs(world: World) -> None:
    """Overlap despite prohibition (hashicorp/nomad#11052)."""
    await recurring(world)
    await world.fire(60)
    await world.fire(120)
    await world.run(of(60))
    await world.fire(180, 240)
    assert skips(world) == [(120, 120, 1, "OVERLAP"), (180, 240, 2, "OVERLAP")]
    await world.say(of(60), exited(0))
    await world.fire(300)
    assert world.states() == "ACTIVE SUCCEEDED QUEUED"
    assert counts(world) == (2, 3)


async def test_a_retry_that_waits_counts_as_running(world: World) -> None:
    await recurring(world, retries=1, backoff=Backoff(min=Duration(seconds=500)))
    await world.fire(60)
    await world.run(of(60))
    await world.say(of(60), exited(1))
    await world.fire(120)
    assert (world.states(), skips(world)) == ("ACTIVE FAILED SCHEDULED", [(120, 120, 1, "OVERLAP")])
    first, second = world.attempts()
    assert (second.trigger, second.attempt, second.fence, second.fire_at) == (Trigger.RETRY, 2, 2, first.fire_at)
    assert (second.retries_used, second.series_due_at) == (1, first.series_due_at)
    assert world.job().failure == first.failure


async def test_overlap_is_allowed(world: World) -> None:
    await recurring(world, Overlap.ALLOW, retries=1, backoff=NO_WAIT)
    await world.fire(60, 120)
    await world.run(of(60))
    await world.run(of(120))
    await world.say(of(60), exited(1))
    await world.fire(180)
    assert world.states() == "ACTIVE FAILED RUNNING QUEUED QUEUED"
    assert [e.fence for e in world.attempts()] == [1, 2, 3, 4]
    assert world.attempts()[2].fire_at == nominal(60)
    assert (counts(world), skips(world)) == ((3, 0), [])


async def test_one_fire_waits_in_the_queue(world: World) -> None:
    await recurring(world, Overlap.QUEUE)
    await world.fire(60)
    await world.fire(120)
    await world.fire(180)
    assert (waits(world), skips(world), world.states()) == (120, [(180, 180, 1, "ONE_WAITS")], "ACTIVE QUEUED")
    assert counts(world) == (1, 1)
    await world.run(of(60))
    world.machine.pass_(300)
    await world.say(of(60), exited(0))
    assert (waits(world), world.states(), counts(world)) == (None, "ACTIVE SUCCEEDED QUEUED", (2, 1))
    made = world.execution(of(120))
    assert (made.due_at, made.fire_at, made.trigger) == (nominal(120), nominal(120), Trigger.SCHEDULE)
    settled(world)


async def test_what_waits_in_the_queue_waits_for_retries_too(world: World) -> None:
    await recurring(world, Overlap.QUEUE, retries=1, backoff=NO_WAIT)
    await world.fire(60)
    await world.fire(120)
    await world.run(of(60))
    await world.say(of(60), exited(1))
    assert (waits(world), world.states()) == (120, "ACTIVE FAILED QUEUED")
    second = world.attempts()[1].execution_id
    await world.run(second)
    await world.say(second, exited(1))
    assert (waits(world), world.states()) == (None, "ACTIVE FAILED FAILED QUEUED")


async def test_a_fire_takes_the_place_of_what_runs(world: World) -> None:
    await recurring(world, Overlap.REPLACE, retries=3)
    await world.fire(60)
    await world.run(of(60))
    fired = await world.fire(120)
    assert ([e.execution_id for e in fired.stops], waits(world)) == ([of(60)], 120)
    fired = await world.fire(180)
    assert ([e.execution_id for e in fired.stops], waits(world)) == ([of(60)], 180)
    assert skips(world) == [(120, 120, 1, "REPLACED")]
    await world.say(of(60), exited(143))
    assert (world.states(), waits(world)) == ("ACTIVE FAILED QUEUED", None)
    assert world.attempts()[1].execution_id == of(180)
    assert counts(world) == (2, 1)


async def test_a_fire_takes_the_place_of_what_waits_at_once(world: World) -> None:
    await recurring(world, Overlap.REPLACE)
    await world.fire(60)
    fired = await world.fire(120)
    assert world.states() == "ACTIVE STOPPED QUEUED"
    assert [head.execution_id for head in fired.ready] == [of(120)]
    assert fired.stops == ()


async def test_what_waited_and_those_after_a_misfire_are_no_one_range(world: World) -> None:
    await recurring(world, Overlap.REPLACE)
    await world.fire(60)
    await world.run(of(60))
    await world.fire(120)
    missed = Skip(first=nominal(180), last=nominal(300), count=3, reason=SkipReason.MISFIRED, decided_at=T0)
    await world.fire(360, 420, 480, skips=(missed,))
    assert skips(world) == [(120, 120, 1, "REPLACED"), (180, 300, 3, "MISFIRED"), (360, 420, 2, "REPLACED")]
    assert waits(world) == 480


async def test_what_waited_and_those_of_newer_times_are_no_one_range(world: World) -> None:
    """The minute between them was never decided on."""
    await recurring(world, Overlap.REPLACE)
    await world.fire(60)
    await world.run(of(60))
    await world.fire(120)
    world.machine.pass_(200)
    await world.put(cron="* * * * *", time_zone="Asia/Tokyo", overlap=Overlap.REPLACE)
    await world.fire(360, 420)
    assert skips(world) == [(120, 120, 1, "REPLACED"), (360, 360, 1, "REPLACED")]
    assert waits(world) == 420


async def test_of_many_fires_at_once_the_last_takes_the_place(world: World) -> None:
    await recurring(world, Overlap.REPLACE)
    await world.fire(60, 120, 180)
    assert (world.states(), skips(world)) == ("ACTIVE QUEUED", [(60, 120, 2, "REPLACED")])
    assert world.attempts()[0].execution_id == of(180)
    assert counts(world) == (1, 2)


# ------------------------------------------------------------------------------------------------------------- its end
async def test_a_job_ends_with_its_schedule(world: World) -> None:
    await recurring(world)
    await world.fire(60, next_in=None)
    assert (world.states(), world.job().fire_at) == ("ACTIVE QUEUED", None)
    await world.run(of(60))
    await world.say(of(60), exited(0))
    assert world.states() == "EXPIRED SUCCEEDED"
    assert world.job().ended


async def test_a_job_without_further_fires_ends_at_once(world: World) -> None:
    await recurring(world)
    await world.fire(next_in=None)
    assert world.states() == "EXPIRED"


@pytest.mark.parametrize(
    ("overlap", "ran", "decided"),
    [(Overlap.ALLOW, "ACTIVE QUEUED QUEUED", (2, 0)), (Overlap.QUEUE, "ACTIVE QUEUED", (1, 0))],
)
async def test_no_more_runs_than_asked_for(
    world: World, overlap: Overlap.Mode.ValueType, ran: str, decided: tuple[int, int]
) -> None:
    await recurring(world, overlap, max_runs=2)
    await world.fire(60, 120, 180)
    assert (world.states(), counts(world), world.job().fire_at) == (ran, decided, None)


async def test_skipped_fires_are_no_runs(world: World) -> None:
    await recurring(world, max_runs=2)
    # The scheduler takes both for runs, and the second for the last.
    await world.fire(60, 120, next_in=None)
    assert (world.states(), skips(world)) == ("ACTIVE QUEUED", [(120, 120, 1, "OVERLAP")])
    assert world.job().fire_at == nominal(120)
    await world.run(of(60))
    await world.say(of(60), exited(0))
    await world.fire(180)
    await world.run(of(180))
    await world.say(of(180), exited(0))
    assert world.states() == "EXPIRED SUCCEEDED SUCCEEDED"


async def test_what_waits_runs_before_the_job_ends(world: World) -> None:
    await recurring(world, Overlap.QUEUE)
    await world.fire(60, 120, next_in=None)
    await world.run(of(60))
    await world.say(of(60), exited(0))
    assert world.states() == "ACTIVE SUCCEEDED QUEUED"
    await world.run(of(120))
    await world.say(of(120), exited(1))
    assert world.states() == "EXPIRED SUCCEEDED FAILED"


async def test_the_failure_shown_is_that_of_the_newest_that_ended(world: World) -> None:
    await recurring(world, Overlap.ALLOW)
    await world.fire(60, 120, 180)
    for second in (60, 120, 180):
        await world.run(of(second))
    await world.say(of(120), exited(1))
    assert world.job().failure == world.execution(of(120)).failure is not None
    await world.say(of(60), exited(0))
    assert world.job().failure is not None
    await world.say(of(180), exited(0))
    assert world.job().failure is None


async def test_a_fire_that_waited_too_long_expires(world: World) -> None:
    await recurring(world, start_deadline=Duration(seconds=30))
    await world.fire(60)
    world.machine.pass_(100)
    assert (await time.expire_waiting(world.ctx, 10)).expired == 1
    failure = world.job().failure
    assert failure is not None
    assert (world.states(), failure.reason) == ("ACTIVE EXPIRED", FailureReason.START_DEADLINE)


# ---------------------------------------------------------------------------------------------------- pause and resume
async def test_pause_and_resume(world: World) -> None:
    await recurring(world)
    await world.fire(60)
    for _ in range(2):
        await schedules.pause_job(world.ctx, "mail", "job")
    job = world.job()
    assert (world.states(), job.fire_at, job.next_run_at) == ("PAUSED QUEUED", None, None)
    assert job.schedule is not None
    assert (job.schedule.paused_at, job.schedule.next_fire) == (nominal(60), None)
    assert (await schedules.list_due_schedules(world.ctx, 10)).items == ()
    await world.run(of(60))
    await world.say(of(60), exited(0))
    assert world.states() == "PAUSED SUCCEEDED"
    world.machine.pass_(500)
    for _ in range(2):
        await schedules.resume_job(world.ctx, "mail", "job")
    job = world.job()
    assert (job.state, job.fire_at) == (JobState.ACTIVE, nominal(560))
    assert job.schedule is not None
    assert (job.schedule.cursor, job.schedule.paused_at) == (nominal(60), None)


async def test_what_waits_goes_on_while_paused(world: World) -> None:
    await recurring(world, Overlap.QUEUE)
    await world.fire(60, 120)
    await schedules.pause_job(world.ctx, "", "job")
    await world.run(of(60))
    await world.say(of(60), exited(0))
    assert world.states() == "PAUSED SUCCEEDED QUEUED"


@pytest.mark.parametrize("call", [schedules.pause_job, schedules.resume_job])
async def test_only_a_recurring_job_that_goes_on_is_paused_or_resumed(world: World, call: Any) -> None:
    await world.submit()
    with pytest.raises(FailedPrecondition) as caught:
        await call(world.ctx, "", "job")
    assert caught.value.reason == "NOT_RECURRING"
    with pytest.raises(NotFound):
        await call(world.ctx, "", "nobody")
    with pytest.raises(NotFound):
        await call(world.ctx, "elsewhere", "job")
    await world.submit("cron", cron="* * * * *", execution_id=AGAIN)
    await stop.stop_job(world.ctx, "", "cron")
    with pytest.raises(FailedPrecondition) as caught:
        await call(world.ctx, "", "cron")
    assert caught.value.reason == "ILLEGAL_STATE"


# -------------------------------------------------------------------------------------------------------------- trigger
async def test_a_run_by_hand(world: World) -> None:
    await recurring(world, max_runs=1)
    await schedules.pause_job(world.ctx, "", "job")
    for _ in range(2):
        triggered = await trigger.trigger_job(world.ctx, "mail", "job", BY_HAND)
        assert (triggered.execution_id, triggered.ready is not None) == (BY_HAND, True)
    made = world.execution(BY_HAND)
    assert (world.states(), made.trigger, made.fire_at, counts(world)) == (
        "PAUSED QUEUED",
        Trigger.MANUAL,
        None,
        (0, 0),
    )
    settled(world)


@pytest.mark.parametrize("overlap", [Overlap.SKIP, Overlap.QUEUE])
async def test_a_run_by_hand_does_not_overlap(world: World, overlap: Overlap.Mode.ValueType) -> None:
    await recurring(world, overlap)
    await world.fire(60, 120)
    with pytest.raises(FailedPrecondition) as caught:
        await trigger.trigger_job(world.ctx, "", "job", BY_HAND)
    assert caught.value.reason == "OVERLAP"
    assert BY_HAND not in world.store.tables.executions


async def test_a_run_by_hand_waits_in_the_queue(world: World) -> None:
    await recurring(world, Overlap.QUEUE)
    await world.fire(60)
    for _ in range(2):
        triggered = await trigger.trigger_job(world.ctx, "", "job", BY_HAND)
        assert (triggered.execution_id, triggered.ready) == ("", None)
    await world.run(of(60))
    await world.say(of(60), exited(0))
    assert world.execution(BY_HAND).state is ExecutionState.QUEUED
    assert (await trigger.trigger_job(world.ctx, "", "job", BY_HAND)).execution_id == BY_HAND
    assert counts(world) == (1, 0)


async def test_a_run_by_hand_takes_the_place_of_what_runs(world: World) -> None:
    await recurring(world, Overlap.REPLACE)
    await world.fire(60)
    await world.run(of(60))
    await world.fire(120)
    triggered = await trigger.trigger_job(world.ctx, "", "job", BY_HAND)
    assert ([e.execution_id for e in triggered.stops], triggered.execution_id) == ([of(60)], "")
    assert skips(world) == [(120, 120, 1, "REPLACED")]
    await world.say(of(60), exited(143))
    assert [e.execution_id for e in world.attempts()] == [of(60), BY_HAND]


async def test_a_run_by_hand_of_a_job_that_waits_for_its_time(world: World) -> None:
    await world.submit(start_in=Duration(seconds=500), start_deadline=Duration(seconds=9))
    world.machine.pass_(5)
    triggered = await trigger.trigger_job(world.ctx, "", "job", BY_HAND)
    (made,) = world.attempts()
    assert (triggered.execution_id, triggered.ready and triggered.ready.epoch) == (made.execution_id, 1)
    assert (world.states(), made.due_at, made.latest_start) == ("QUEUED QUEUED", nominal(5), nominal(14))
    with pytest.raises(FailedPrecondition) as caught:
        await trigger.trigger_job(world.ctx, "", "job", "another request")
    assert caught.value.reason == "ILLEGAL_STATE"


async def test_a_run_by_hand_of_a_job_that_waits_for_its_retry(world: World) -> None:
    await world.hello()
    first = await world.submit(retries=1, backoff=Backoff(min=Duration(seconds=500)))
    await world.run(first)
    await world.say(first, exited(1))
    triggered = await trigger.trigger_job(world.ctx, "", "job", BY_HAND)
    assert (world.states(), triggered.ready is not None) == ("QUEUED FAILED QUEUED", True)
    assert world.attempts()[1].series_due_at == T0


async def test_a_run_by_hand_that_may_not_start_any_more(world: World) -> None:
    await recurring(world, expiration=Timestamp(seconds=T0 // 1000 + 10))
    await world.submit(
        "plain",
        execution_id=AGAIN,
        start_in=Duration(seconds=99),
        expiration=Timestamp(seconds=T0 // 1000 + 10),
    )
    world.machine.pass_(20)
    for job_id in ("job", "plain"):
        with pytest.raises(FailedPrecondition):
            await trigger.trigger_job(world.ctx, "", job_id, BY_HAND)


async def test_a_recurring_job_is_not_retried(world: World) -> None:
    await recurring(world)
    with pytest.raises(FailedPrecondition, match="recurs"):
        await retry.retry_job(world.ctx, "", "job", AGAIN)


# ----------------------------------------------------------------------------------------------------------------- stop
async def test_a_stop_between_fires_is_final(world: World) -> None:
    await recurring(world)
    await world.fire()
    for _ in range(2):
        assert (await stop.stop_job(world.ctx, "", "job")).held == ()
    assert (world.states(), world.job().fire_at, world.job().next_run_at) == ("STOPPED", None, None)
    assert (await world.fire(60)).recorded == 0
    with pytest.raises(FailedPrecondition):
        await trigger.trigger_job(world.ctx, "", "job", BY_HAND)


async def test_a_stop_ends_what_is_open_and_what_waits(world: World) -> None:
    await recurring(world, Overlap.QUEUE, retries=3)
    await world.fire(60, 120)
    await world.run(of(60))
    stopped = await stop.stop_job(world.ctx, "", "job")
    assert [e.execution_id for e in stopped.held] == [of(60)]
    assert (world.states(), waits(world)) == ("ACTIVE RUNNING", 120)
    await world.say(of(60), exited(143))
    assert world.states() == "STOPPED FAILED STOPPED"


async def test_a_job_that_succeeds_while_it_is_stopped_is_stopped(world: World) -> None:
    await recurring(world)
    await world.fire(60)
    await world.run(of(60))
    await stop.stop_job(world.ctx, "", "job")
    await world.say(of(60), exited(0))
    assert world.states() == "STOPPED SUCCEEDED"


async def test_one_run_is_stopped_and_the_schedule_goes_on(world: World) -> None:
    await recurring(world, Overlap.QUEUE, retries=3)
    await world.fire(60, 120)
    await world.run(of(60))
    for _ in range(2):
        stopped = await stop.stop_job(world.ctx, "", "job", of(60))
        assert [e.execution_id for e in stopped.held] == [of(60)]
    assert (world.states(), world.job().stop_requested_at) == ("ACTIVE RUNNING", None)
    await world.say(of(60), exited(143))
    assert (world.states(), waits(world)) == ("ACTIVE FAILED QUEUED", None)
    assert (await stop.stop_job(world.ctx, "", "job", of(120))).held == ()
    assert world.states() == "ACTIVE FAILED STOPPED"
    assert (await stop.stop_job(world.ctx, "", "job", of(120))).held == ()
    with pytest.raises(FailedPrecondition):
        await stop.stop_job(world.ctx, "", "job", of(60))
    await world.fire(180)
    assert world.states() == "ACTIVE FAILED STOPPED QUEUED"
    settled(world)


# ------------------------------------------------------------------------------------------------------------------ put
async def test_put_makes_a_recurring_job(world: World) -> None:
    made = await world.put(cron="@hourly")
    assert (made.created, made.ready, made.unplanned) == (True, None, world.job())
    again = await world.put(cron="@hourly")
    assert (again.created, again.unplanned) == (False, world.job())
    await world.fire()
    assert (await world.put(cron="@hourly")).unplanned is None


async def test_a_newer_spec_reaches_what_waits_and_leaves_the_schedule(world: World) -> None:
    await recurring(world)
    await world.fire(60)
    before = world.job()
    replaced = await world.put(cron="* * * * *", overlap=Overlap.SKIP, priority=9, command=["x"])
    job, made = world.job(), world.execution(of(60))
    assert (job.revision, job.schedule, job.fire_at, replaced.unplanned) == (2, before.schedule, before.fire_at, None)
    assert (made.priority, made.spec_revision, made.due_at) == (9, 2, nominal(60))
    assert world.states() == "ACTIVE QUEUED"
    settled(world)


async def test_newer_times_are_counted_from_now(world: World) -> None:
    await recurring(world)
    world.machine.pass_(60)
    await world.fire(60)
    world.machine.pass_(5)
    replaced = await world.put(cron="@daily", overlap=Overlap.SKIP)
    schedule = world.job().schedule
    assert replaced.unplanned == world.job()
    assert schedule is not None
    assert (schedule.anchor, schedule.cursor, schedule.next_fire, schedule.runs) == (nominal(65), nominal(65), None, 1)
    assert (world.job().fire_at, world.execution(of(60)).spec_revision) == (nominal(65), 2)
    await schedules.pause_job(world.ctx, "", "job")
    assert (await world.put(cron="@weekly")).unplanned is None
    assert (world.job().state, world.job().fire_at) == (JobState.PAUSED, None)


async def test_an_ended_recurring_job_begins_anew(world: World) -> None:
    await recurring(world)
    await world.fire(60)
    await stop.stop_job(world.ctx, "", "job")
    world.machine.pass_(100)
    await world.put(cron="@daily")
    job = world.job()
    assert (job.state, job.fire_at, job.stop_requested_at, job.attempts) == (JobState.ACTIVE, nominal(160), None, 1)
    assert job.schedule is not None
    assert (job.schedule.cursor, job.schedule.runs) == (nominal(160), 0)
    await world.fire(220)
    assert world.states() == "ACTIVE STOPPED QUEUED"


async def test_a_job_recurs_or_not_only_once_the_other_has_ended(world: World) -> None:
    await world.put(command=["x"])
    with pytest.raises(FailedPrecondition, match="does not recur"):
        await world.put(cron="@daily")
    await stop.stop_job(world.ctx, "", "job")
    assert (await world.put(cron="@daily")).unplanned is not None
    await world.fire(60)
    assert world.states() == "ACTIVE STOPPED QUEUED"
    with pytest.raises(FailedPrecondition, match="recurs"):
        await world.put(command=["y"], execution_id=AGAIN)
    await stop.stop_job(world.ctx, "", "job")
    plain: put.Put = await world.put(command=["y"], execution_id=AGAIN)
    assert plain.ready is not None
    assert (world.states(), world.job().schedule, world.job().fire_at) == ("QUEUED STOPPED STOPPED QUEUED", None, None)
    assert world.attempts()[-1].fence == 3


async def test_waiting_follows_the_newer_overlap(world: World) -> None:
    await recurring(world, Overlap.QUEUE)
    await world.fire(60, 120)
    await world.run(of(60))
    await world.put(cron="* * * * *", overlap=Overlap.ALLOW)
    assert (world.states(), waits(world)) == ("ACTIVE RUNNING QUEUED", None)


# ---------------------------------------------------------------------------------------------------------------- races
@pytest.mark.parametrize(
    ("overlap", "decided"),
    [(Overlap.SKIP, [(120, 120, 1, "OVERLAP")]), (Overlap.QUEUE, []), (Overlap.REPLACE, [])],
)
async def test_a_fire_between_an_end_and_its_retry_overlaps(
    overlap: Overlap.Mode.ValueType, decided: list[tuple[int, int, int, str]]
) -> None:
    """The end is written and what follows it is not: the series goes on."""
    world = World(store=FakePersistence(atomic=False))
    await recurring(world, overlap, retries=1, backoff=NO_WAIT)
    await world.fire(60)
    await world.run(of(60))
    ended, go_on = asyncio.Event(), asyncio.Event()

    async def hold(name: str) -> None:
        if name == "change_job":
            ended.set()
            await go_on.wait()

    async def let_through(_: str) -> None:
        return None

    world.store.between = hold
    ending = asyncio.ensure_future(world.say(of(60), exited(1)))
    await asyncio.wait_for(ended.wait(), 30)
    world.store.between = let_through
    assert world.execution(of(60)).state is ExecutionState.FAILED
    await world.fire(120)
    assert (skips(world), of(120) in world.store.tables.executions) == (decided, overlap == Overlap.REPLACE)
    go_on.set()
    await asyncio.wait_for(ending, 30)
    (retried,) = (e for e in world.attempts() if e.trigger is Trigger.RETRY)
    assert retried.fence == 2
    states = {
        Overlap.SKIP: "ACTIVE FAILED QUEUED",
        Overlap.QUEUE: "ACTIVE FAILED QUEUED",
        Overlap.REPLACE: "ACTIVE FAILED STOPPED QUEUED",
    }
    assert world.states() == states[overlap]
    assert len(world.attempts()) == world.job().attempts


def test_newer_times_leave_decided_what_was_decided_meanwhile() -> None:
    decided = T0 + 5_000
    job = a_job(state=JobState.ACTIVE, schedule=Schedule(anchor=T0, cursor=decided))
    changed = rescheduled(job, now=T0 + 1_000).schedule
    assert changed is not None
    assert (changed.anchor, changed.cursor) == (T0 + 1_000, decided)


def test_a_job_that_does_not_recur_has_no_times_to_count_anew() -> None:
    job = a_job()
    assert rescheduled(job, now=T0) is job
