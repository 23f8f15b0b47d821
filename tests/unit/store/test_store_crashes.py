"""The process dies between any two steps of any plan, on a database without transactions.

Afterwards the sweep, and the same call again, must come to the very state that an undisturbed call comes to.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from easyq.v1.spec_pb2 import Backoff, Overlap
from easyq_chassis.errors import EasyQError
from easyq_store.domain.planning import first_plan
from easyq_store.domain.records import Job, Skip
from easyq_store.domain.states import AgentState, ExecutionState, Outcome, SkipReason
from easyq_store.domain.timing import Timing
from easyq_store.usecases import retry, schedules, stop, time, trigger
from easyq_store.usecases.insert import insert_planned
from easyq_store.usecases.report import GivenBack, Started
from easyq_store.usecases.sweep import sweep
from tests.fakes.store import FakePersistence, FakeSteps
from tests.support.store_records import T0
from tests.support.store_world import Crash, World, ended, exited

NO_WAIT = Backoff(min=Duration())
SECOND = "00000000-0000-4000-8000-000000000002"


@dataclass(frozen=True, kw_only=True)
class Flow:
    """What is there before, and the call that is cut short."""

    name: str
    prepare: Callable[[World], Awaitable[Any]]
    act: Callable[[World], Awaitable[Any]]


def first(world: World) -> str:
    return world.attempts()[0].execution_id


async def nothing(world: World) -> None:
    return None


async def waiting(world: World) -> None:
    await world.hello()
    await world.submit(retries=1, backoff=NO_WAIT)


async def scheduled(world: World) -> None:
    await world.submit(start_in=Duration(seconds=1), expiration=Timestamp(seconds=T0 // 1000 + 60))
    world.machine.pass_(2)


async def delayed(world: World) -> None:
    await world.submit(start_in=Duration(seconds=90))


async def late(world: World) -> None:
    await scheduled(world)
    world.machine.pass_(60)


async def assigned(world: World) -> None:
    await waiting(world)
    await world.assign(first(world))


async def running(world: World) -> None:
    await waiting(world)
    await world.run(first(world))


async def succeeded(world: World) -> None:
    await running(world)
    await world.say(first(world), exited(0))


async def stopping(world: World) -> None:
    await running(world)
    await stop.stop_job(world.ctx, "", "job")


async def dead(world: World) -> None:
    await running(world)
    agents = world.store.tables.agents
    agents["host-a"] = replace(agents["host-a"], state=AgentState.DEAD)


async def fire(world: World) -> None:
    await time.fire_all(world.ctx, [(first(world), 0)])


async def expire(world: World) -> None:
    await time.expire_waiting(world.ctx, 10)


async def lose(world: World) -> None:
    # A store that has just started gives everyone the full time.
    await world.lost.run_once()
    world.machine.pass_(126)
    await world.lost.run_once()


def cron(overlap: Overlap.Mode.ValueType = Overlap.SKIP, **spec: Any) -> Callable[[World], Awaitable[Any]]:
    """A recurring job that has not fired."""

    async def prepare(world: World) -> None:
        await world.hello()
        await world.submit(cron="* * * * *", overlap=overlap, **spec)

    return prepare


def fired(
    overlap: Overlap.Mode.ValueType, *seconds: int, run: bool = True, next_in: int | None = 60, **spec: Any
) -> Callable[[World], Awaitable[Any]]:
    """A recurring job whose first fire runs, or waits for an agent; the others overlap."""

    async def prepare(world: World) -> None:
        await cron(overlap, **spec)(world)
        await world.fire(seconds[0])
        if run:
            await world.run(first(world))
        if seconds[1:]:
            await world.fire(*seconds[1:], next_in=next_in)
        elif next_in is None:
            await world.fire(next_in=None)

    return prepare


async def paused(world: World) -> None:
    await cron()(world)
    await schedules.pause_job(world.ctx, "", "job")


async def over(world: World) -> None:
    await fired(Overlap.SKIP, 60, run=False)(world)
    await stopped(world)


async def fire_with_skips(world: World) -> None:
    skip = Skip(first=T0 + 1, last=T0 + 9, count=3, reason=SkipReason.COALESCED, decided_at=T0)
    await world.fire(60, 120, 180, skips=(skip,))


async def trigger_it(world: World) -> None:
    await trigger.trigger_job(world.ctx, "", "job", SECOND)


def told(code: int) -> Callable[[World], Awaitable[Any]]:
    return lambda world: world.say(first(world), exited(code))


def stopped(world: World) -> Awaitable[Any]:
    return stop.stop_job(world.ctx, "", "job")


RETRIED: dict[str, Any] = {"retries": 1, "backoff": NO_WAIT}
RECURRING = [
    Flow(name="submit cron", prepare=nothing, act=lambda w: w.submit(cron="* * * * *", key="k")),
    Flow(name="put cron", prepare=nothing, act=lambda w: w.put(cron="* * * * *")),
    Flow(name="put cron after the end", prepare=succeeded, act=lambda w: w.put(cron="* * * * *")),
    Flow(
        name="put plain after cron",
        prepare=over,
        act=lambda w: w.put(command=["x"], execution_id=SECOND),
    ),
    Flow(
        name="put cron waiting",
        prepare=fired(Overlap.SKIP, 60, run=False),
        act=lambda w: w.put(cron="* * * * *", priority=4),
    ),
    Flow(name="put other times", prepare=fired(Overlap.SKIP, 60), act=lambda w: w.put(cron="@daily")),
    Flow(
        name="put that lets what waits run",
        prepare=fired(Overlap.QUEUE, 60, 120),
        act=lambda w: w.put(cron="* * * * *", overlap=Overlap.ALLOW),
    ),
    Flow(name="plan", prepare=cron(), act=lambda w: w.fire()),
    Flow(name="fire cron", prepare=cron(), act=lambda w: w.fire(60)),
    Flow(name="fire with skips", prepare=cron(), act=fire_with_skips),
    Flow(name="fire two", prepare=cron(Overlap.ALLOW), act=lambda w: w.fire(60, 120)),
    Flow(name="fire to be skipped", prepare=fired(Overlap.SKIP, 60), act=lambda w: w.fire(120)),
    Flow(name="fire that waits", prepare=fired(Overlap.QUEUE, 60), act=lambda w: w.fire(120, 180)),
    Flow(name="fire that replaces", prepare=fired(Overlap.REPLACE, 60), act=lambda w: w.fire(120)),
    Flow(name="fire that replaces two", prepare=fired(Overlap.REPLACE, 60, 120), act=lambda w: w.fire(180)),
    Flow(name="fire in its place", prepare=fired(Overlap.REPLACE, 60, run=False), act=lambda w: w.fire(120)),
    Flow(name="last fire", prepare=cron(), act=lambda w: w.fire(next_in=None)),
    Flow(name="cron succeeds", prepare=fired(Overlap.SKIP, 60), act=told(0)),
    Flow(name="cron fails and retries", prepare=fired(Overlap.SKIP, 60, **RETRIED), act=told(1)),
    Flow(name="cron fails and one waits", prepare=fired(Overlap.QUEUE, 60, 120), act=told(1)),
    Flow(name="cron retries and one waits", prepare=fired(Overlap.QUEUE, 60, 120, **RETRIED), act=told(1)),
    Flow(name="cron is replaced", prepare=fired(Overlap.REPLACE, 60, 120, **RETRIED), act=told(1)),
    Flow(name="cron runs last", prepare=fired(Overlap.SKIP, 60, next_in=None), act=told(0)),
    Flow(name="stop cron", prepare=cron(), act=stopped),
    Flow(name="stop cron that runs", prepare=fired(Overlap.QUEUE, 60, 120), act=stopped),
    Flow(name="stop cron that waits", prepare=fired(Overlap.QUEUE, 60, 120, run=False), act=stopped),
    Flow(name="pause", prepare=cron(), act=lambda w: schedules.pause_job(w.ctx, "", "job")),
    Flow(name="resume", prepare=paused, act=lambda w: schedules.resume_job(w.ctx, "", "job")),
    Flow(name="trigger", prepare=cron(), act=trigger_it),
    Flow(name="trigger that waits", prepare=fired(Overlap.QUEUE, 60), act=trigger_it),
    Flow(name="trigger that replaces", prepare=fired(Overlap.REPLACE, 60, 120), act=trigger_it),
    Flow(name="trigger plain", prepare=delayed, act=trigger_it),
    Flow(name="lose cron", prepare=fired(Overlap.QUEUE, 60, 120), act=lose),
]
FLOWS = [
    *RECURRING,
    Flow(name="submit", prepare=nothing, act=lambda w: w.submit()),
    Flow(name="submit by key", prepare=nothing, act=lambda w: w.submit(key="k", labels={"a": "1"})),
    Flow(name="submit later", prepare=nothing, act=lambda w: w.submit(start_in=Duration(seconds=60))),
    Flow(name="put new", prepare=nothing, act=lambda w: w.put()),
    Flow(name="put waiting", prepare=waiting, act=lambda w: w.put(command=["x"], priority=3)),
    Flow(name="put running", prepare=running, act=lambda w: w.put(command=["x"])),
    Flow(name="put ended", prepare=succeeded, act=lambda w: w.put(command=["x"], execution_id=SECOND)),
    Flow(name="retry", prepare=succeeded, act=lambda w: retry.retry_job(w.ctx, "", "job", SECOND)),
    Flow(name="stop waiting", prepare=waiting, act=lambda w: stop.stop_job(w.ctx, "", "job")),
    Flow(name="stop running", prepare=running, act=lambda w: stop.stop_job(w.ctx, "", "job")),
    Flow(name="assign", prepare=waiting, act=lambda w: w.assign(first(w), epoch=0)),
    Flow(name="start", prepare=assigned, act=lambda w: w.say(first(w), Started(container_id="c"))),
    Flow(name="give back", prepare=assigned, act=lambda w: w.say(first(w), GivenBack(), epoch=1)),
    Flow(
        name="succeed",
        prepare=running,
        act=lambda w: w.say(first(w), exited(0, b"hi\n", execution_id=first(w))),
    ),
    Flow(name="fail and retry", prepare=running, act=lambda w: w.say(first(w), exited(1))),
    Flow(name="fail while stopping", prepare=stopping, act=lambda w: w.say(first(w), exited(1))),
    Flow(name="lose by report", prepare=running, act=lambda w: w.say(first(w), ended(Outcome.LOST))),
    Flow(name="fire", prepare=scheduled, act=fire),
    Flow(name="fire late", prepare=late, act=fire),
    Flow(name="expire", prepare=late, act=expire),
    Flow(name="lose", prepare=running, act=lose),
    Flow(name="say hello", prepare=running, act=lambda w: w.hello("host-a", (first(w), 1))),
    Flow(name="say hello after death", prepare=dead, act=lambda w: w.hello("host-a", (first(w), 1))),
]


def image(world: World) -> object:
    """All that matters of the database, without when it was written and how often."""
    tables = world.store.tables
    return (
        sorted(
            (
                (j.job_id, j.state, j.revision, j.attempts, j.next_run_at is not None, j.stop_requested_at is not None),
                (j.fire_at is not None, j.failure.reason if j.failure else 0),
                schedule_image(j),
            )
            for j in tables.jobs.values()
        ),
        {job_id: [(s.first, s.last, s.count, s.reason) for s in skips] for job_id, skips in tables.skips.items()},
        sorted(
            (
                (e.job_id, e.attempt, e.execution_id, e.state, e.epoch, e.priority, e.spec_revision, e.agent_id),
                (e.fence, e.stop_requested_at is not None, e.fire_at or 0),
            )
            for e in tables.executions.values()
        ),
        sorted((a.agent_id, a.state) for a in tables.agents.values()),
        {key: b"".join(c.data for c in chunks) for key, chunks in tables.chunks.items()},
    )


def schedule_image(job: Job) -> tuple[object, ...]:
    """How far a recurring job's fires are."""
    schedule = job.schedule
    if schedule is None:
        return ()
    waiting = schedule.waiting.execution_id if schedule.waiting else ""
    return schedule.cursor > 0, schedule.runs, schedule.skipped, waiting, schedule.paused_at is not None


async def settled(world: World) -> None:
    """The sweep has come by, as it does every few seconds; nothing is left for it."""
    world.machine.pass_(6)
    for _ in range(5):
        if not await sweep(world.ctx):
            break
    tables = world.store.tables
    assert [job for job in tables.jobs.values() if job.unsettled_since] == []
    assert [made for made in tables.executions.values() if made.unsettled_since] == []
    assert [job for job in tables.jobs.values() if job.pending != ()] == []
    assert [job for job in tables.jobs.values() if job.schedule and job.schedule.unkept] == []


async def prepared(flow: Flow) -> World:
    world = World(store=FakePersistence(atomic=False))
    await flow.prepare(world)
    return world


async def writes(flow: Flow) -> int:
    """How many writes the call makes."""
    world, count = await prepared(flow), 0

    async def between(_: str) -> None:
        nonlocal count
        count += 1

    world.store.between = between
    await flow.act(world)
    return count


async def again(flow: Flow, world: World) -> None:
    """The caller, who got no answer, calls once more; it may learn that it is done."""
    try:
        await flow.act(world)
    except EasyQError as error:
        assert error.code.name in {"FAILED_PRECONDITION", "ABORTED"}, error  # noqa: PT017 - some calls are no repeats


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: str(flow.name))
async def test_a_crash_between_any_two_steps_is_healed(flow: Flow) -> None:
    undisturbed = await prepared(flow)
    before = image(undisturbed)
    await flow.act(undisturbed)
    await settled(undisturbed)
    after = image(undisturbed)
    total = await writes(flow)
    assert total >= 1
    for number in range(total):
        world = await prepared(flow)
        world.crash_at(number)
        with pytest.raises(Crash):
            await flow.act(world)
        world.recover()
        await settled(world)
        assert number or image(world) == before
        await again(flow, world)
        await settled(world)
        assert image(world) == after, f"after a crash before write {number} of {total}"


@pytest.mark.parametrize("flow", [f for f in FLOWS if "retr" in f.name or "lose" in f.name], ids=lambda f: f.name)
async def test_the_sweep_alone_completes_what_an_end_decided(flow: Flow) -> None:
    """Nobody calls again: once the end itself is written, everything that follows comes by itself."""
    undisturbed = await prepared(flow)
    await flow.act(undisturbed)
    await settled(undisturbed)
    for number in range(await writes(flow)):
        world = await prepared(flow)
        before = image(world)
        world.crash_at(number)
        with pytest.raises(Crash):
            await flow.act(world)
        world.recover()
        await world.lost.run_once()
        await settled(world)
        assert image(world) in (before, image(undisturbed)) or "lose" in flow.name


async def test_what_cannot_be_settled_does_not_hold_up_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    world = await prepared(Flow(name="", prepare=nothing, act=nothing))
    await world.submit("other", execution_id=SECOND)
    for name, execution_id in (("stuck", SECOND), ("good", "")):
        world.crash_at(1)
        with pytest.raises(Crash):
            await world.submit(name, execution_id=execution_id)
        world.recover()
    world.machine.pass_(6)
    assert await sweep(world.ctx) == 2
    assert world.states("good") == "QUEUED QUEUED"
    assert world.states("stuck") == "QUEUED"


async def test_the_sweep_leaves_plans_that_are_under_way_alone() -> None:
    world = await prepared(Flow(name="", prepare=nothing, act=nothing))
    world.crash_at(1)
    with pytest.raises(Crash):
        await world.submit()
    world.recover()
    assert await sweep(world.ctx) == 0
    world.machine.pass_(6)
    assert await sweep(world.ctx) == 1


async def test_an_execution_that_is_inserted_after_the_stop_is_stopped_at_once() -> None:
    world = await prepared(Flow(name="", prepare=running, act=nothing))
    made = world.attempts()[0]
    await stop.stop_job(world.ctx, "", "job")
    planned = replace(first_plan(SECOND, Timing(), 0, now=T0), attempt=2)
    inserted = await insert_planned(FakeSteps.of(world.store), world.ctx, planned, "job", "mail", now=T0)
    assert inserted.state is ExecutionState.STOPPED
    assert made.attempt == 1


async def test_an_execution_that_is_inserted_after_a_put_has_the_newer_spec() -> None:
    world = await prepared(Flow(name="", prepare=running, act=nothing))
    await world.put(command=["x"], priority=7)
    planned = replace(first_plan(SECOND, Timing(), 0, now=T0), attempt=2)
    inserted = await insert_planned(FakeSteps.of(world.store), world.ctx, planned, "job", "mail", now=T0)
    assert (inserted.spec_revision, inserted.priority) == (2, 7)


async def test_a_stop_finds_the_successor_that_is_decided_on_while_it_looks() -> None:
    """An end that was decided before the stop is written between the stop's looks, and its successor only later."""
    world = await prepared(Flow(name="", prepare=running, act=nothing))
    decided, marked, written, answered = (asyncio.Event() for _ in range(4))

    async def end_between(name: str) -> None:
        if name == "change_execution":
            decided.set()
            await marked.wait()
        if name == "insert_execution":
            written.set()
            await answered.wait()

    async def stop_between(name: str) -> None:
        if name == "change_execution" and not marked.is_set():
            marked.set()
            await written.wait()

    world.store.between = end_between
    ending = asyncio.ensure_future(world.say(first(world), exited(1)))
    await asyncio.wait_for(decided.wait(), 30)
    world.store.between = stop_between
    stopped = await asyncio.wait_for(stop.stop_job(world.ctx, "", "job"), 30)
    assert stopped.held == ()
    assert world.states() == "STOPPED FAILED STOPPED"
    answered.set()
    await asyncio.wait_for(ending, 30)
    assert world.states() == "STOPPED FAILED STOPPED"


async def test_who_is_cut_off_again_and_again_while_much_is_pending_comes_to_an_end_all_the_same() -> None:
    """As on a database that is too slow for all of it within one call's time."""
    world = await prepared(Flow(name="", prepare=nothing, act=nothing))
    await world.submit(cron="* * * * *", overlap=Overlap.ALLOW)
    world.crash_at(1)
    with pytest.raises(Crash):
        await world.fire(*range(1, 61))
    assert len(world.job().pending) == 60
    for _ in range(5):
        world.recover()
        world.machine.pass_(6)
        world.crash_at(25)
        with pytest.raises(Crash):
            await sweep(world.ctx)
    assert len(world.job().pending) <= 10
    world.recover()
    await settled(world)
    assert [made.attempt for made in world.attempts()] == list(range(1, 61))


async def test_a_job_that_goes_on_firing_is_swept_all_the_same() -> None:
    world = await prepared(Flow(name="", prepare=nothing, act=nothing))
    await world.submit(cron="* * * * *", overlap=Overlap.ALLOW)
    for second in (4, 8, 12):
        # Dies as soon as it is decided; less than the sweep's grace goes by between two of them.
        world.crash_at(1)
        with pytest.raises(Crash):
            await world.fire(second)
        world.recover()
    assert await sweep(world.ctx) == 1
    assert [made.attempt for made in world.attempts()] == [1, 2, 3]
