"""Statistics: what counts, how times are put in buckets, what is written, what points say."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from easyq_chassis.errors import Aborted, InvalidArgument, Unavailable
from easyq_store.adapters.observed import ObservedPersistence
from easyq_store.domain import stats
from easyq_store.domain.changes import Note
from easyq_store.domain.records import Execution, Failure
from easyq_store.domain.states import ExecutionState, FailureReason
from easyq_store.domain.stats import HOUR, MINUTE, Cell
from easyq_store.ports import Steps
from easyq_store.usecases import stats as usecase
from easyq_store.usecases.feed import Feed
from easyq_store.usecases.stats import Statistics, forget_old, query
from tests.fakes.store import FakePersistence
from tests.support.store_records import T0, agent, execution, job
from tests.support.store_world import World, exited

RUNNING = execution(
    state=ExecutionState.RUNNING, queued_at=T0 - 500, assigned_at=T0 + 40, started_at=T0 + 100, agent_id="host-a"
)


def ended(state: ExecutionState = ExecutionState.SUCCEEDED, **fields: Any) -> Execution:
    return replace(RUNNING, **{"state": state, "finished_at": T0 + 350, "write_no": 3, **fields})


@pytest.mark.parametrize(
    ("note", "counts"),
    [
        ((None, job()), {"j": 1}),
        ((job(), job(attempts=2)), None),
        ((job(), None), None),
        ((None, agent()), None),
        ((agent(), agent(beats=2)), None),
        ((None, execution()), {"c": 1}),
        ((None, ended(ExecutionState.EXPIRED, started_at=None)), {"c": 1, "e10": 1}),
        ((execution(), execution(priority=5)), None),
        ((execution(), None), None),
        ((execution(state=ExecutionState.SCHEDULED), execution()), None),
        # Due after it was queued: it waited since then.
        (
            (execution(), replace(RUNNING, state=ExecutionState.ASSIGNED, due_at=T0)),
            {"w17": 1, "ws": 40, "wm": 40},
        ),
        (
            (execution(), replace(RUNNING, state=ExecutionState.ASSIGNED, queued_at=None, due_at=T0 + 50)),
            {"w0": 1, "ws": 0, "wm": 0},
        ),
        ((RUNNING, ended(exit_code=0, ran_ms=7)), {"e5_0": 1, "r7": 1, "rs": 7, "rm": 7}),
        ((RUNNING, ended(exit_code=0)), {"e5_0": 1, "r27": 1, "rs": 250, "rm": 250}),
        (
            (
                RUNNING,
                ended(
                    ExecutionState.FAILED,
                    exit_code=-1,
                    ran_ms=0,
                    failure=Failure(reason=FailureReason.NONZERO_EXIT),
                ),
            ),
            {"e6_0": 1, "f1": 1, "r0": 1, "rs": 0, "rm": 0},
        ),
        ((RUNNING, ended(ExecutionState.FAILED, exit_code=70_000, ran_ms=0)), {"e6_255": 1, "r0": 1, "rs": 0, "rm": 0}),
        ((RUNNING, ended(ExecutionState.LOST, finished_at=None)), {"e9": 1}),
        # It ended while it was assigned, as the store heard.
        ((execution(), ended(exit_code=0, ran_ms=1, assigned_at=None)), {"e5_0": 1, "r1": 1, "rs": 1, "rm": 1}),
    ],
)
def test_what_a_write_counts_for(note: Note, counts: dict[str, int] | None) -> None:
    assert stats.of_note(note) == (None if counts is None else ("mail", counts))


@given(st.integers(0, 2**40 - 1))
def test_a_bucket_holds_its_times_and_is_narrow(ms: int) -> None:
    low, high = stats.bounds(stats.bucket(ms))
    assert low <= ms < high
    assert high - low <= max(1, low / 4)


@given(st.integers(0, 2**39))
def test_buckets_follow_each_other(ms: int) -> None:
    assert stats.bucket(ms + 1) - stats.bucket(ms) in {0, 1}
    assert stats.bounds(stats.bucket(ms))[1] == stats.bounds(stats.bucket(ms) + 1)[0]


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=60))
def test_percentiles_are_about_right(times: Sequence[int]) -> None:
    counts: dict[str, int] = {}
    for ms in times:
        name = stats.of_note((RUNNING, ended(ran_ms=ms)))
        assert name
        stats.add(counts, name[1])
    made = stats.summary([Cell(span=MINUTE, at=0, task_id="", counts=counts)], start=0, end=MINUTE, step=MINUTE)
    run = made.total.run
    assert run
    assert (run.count, run.longest, run.mean) == (len(times), max(times), sum(times) // len(times))
    for found, share in ((run.p50, 0.5), (run.p95, 0.95)):
        exact = sorted(times)[max(0, -(-len(times) * share // 1).__int__() - 1)]
        assert exact * 0.75 - 1 <= found <= exact * 1.25 + 1


def test_a_percentile_of_nothing_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="fewer"):
        stats.percentile([(1, 1)], 3, 0.95)


def test_points_are_the_steps_and_their_sum() -> None:
    cells = [
        Cell(span=MINUTE, at=at * MINUTE, task_id="", counts=counts)
        for at, counts in [
            (4, {"j": 1, "c": 2, "e5_0": 2, "rm": 5, "rs": 5, "r5": 1}),
            (5, {"j": 2, "e6_3": 1, "e6": 1, "f1": 1, "rm": 3, "rs": 3, "r3": 1}),
            (9, {"c": 1, "e6_3": 1, "f1": 2}),
        ]
    ]
    made = stats.summary(cells, start=4 * MINUTE, end=10 * MINUTE, step=2 * MINUTE)
    assert [(p.at // MINUTE, p.jobs, p.executions) for p in made.points] == [(4, 3, 2), (6, 0, 0), (8, 0, 1)]
    assert made.points[0].ended == {ExecutionState.SUCCEEDED: 2, ExecutionState.FAILED: 2}
    assert made.points[1] == stats.Point(at=6 * MINUTE)
    assert made.points[2].run is None
    assert made.total.run
    assert (made.total.run.longest, made.total.run.count, made.total.ended[ExecutionState.FAILED]) == (5, 2, 3)
    failed = ExecutionState.FAILED
    assert made.exits == {(ExecutionState.SUCCEEDED, 0): 2, (failed, 3): 2, (failed, None): 1}
    assert made.reasons == {FailureReason.NONZERO_EXIT: 3}


# ------------------------------------------------------------------------------------------------ counted and written


class Counted:
    """A fake database whose writes are counted."""

    def __init__(self, *, atomic: bool = True) -> None:
        self.now = T0
        self.fake = FakePersistence(atomic=atomic)
        self.statistics = Statistics(lambda: self.now)
        self.feed = Feed(now=lambda: self.now, new_boot=lambda: "boot")
        self.store = ObservedPersistence(self.fake, self.feed, count=self.statistics.take)

    async def cells(self) -> dict[tuple[int, str, int], dict[str, int]]:
        await self.statistics.flush(self.store)
        return self.fake.tables.stats


async def enqueue(steps: Steps) -> None:
    await steps.insert_job(job())
    await steps.insert_execution(execution())


@pytest.mark.parametrize("watched", [False, True])
async def test_what_is_written_is_counted_by_minute_and_hour_for_task_and_farm(*, watched: bool) -> None:
    counted = Counted()
    await counted.fake.open()
    reader = counted.feed.read()
    if watched:
        reader.__enter__()
    else:
        counted.feed.wanted = False
    await counted.store.run(enqueue)
    counted.now = T0 + MINUTE
    await counted.store.run_all([lambda steps: steps.change_execution("job-1-1", lambda old: ended(exit_code=0))])
    minute, hour = T0 - T0 % MINUTE, T0 - T0 % HOUR
    cells = await counted.cells()
    assert cells.keys() == {
        *((MINUTE, task, at) for task in ("", "mail") for at in (minute, minute + MINUTE)),
        (HOUR, "", hour),
        (HOUR, "mail", hour),
    }
    assert cells[MINUTE, "mail", minute] == {"j": 1, "c": 1}
    assert cells[HOUR, "", hour] == {"j": 1, "c": 1, "e5_0": 1, "r27": 1, "rs": 250, "rm": 250}
    await counted.cells()
    assert cells[MINUTE, "", minute] == {"j": 1, "c": 1}
    counted.feed.close()


@pytest.mark.parametrize("atomic", [False, True])
async def test_what_is_not_kept_is_not_counted(*, atomic: bool) -> None:
    counted = Counted(atomic=atomic)
    await counted.fake.open()

    async def fails(steps: Steps) -> None:
        await enqueue(steps)
        raise Aborted("no")

    with pytest.raises(Aborted):
        await counted.store.run(fails)
    assert bool(await counted.cells()) is bool(await counted.store.reads.get_job("job-1"))


async def test_only_the_first_tasks_of_a_minute_have_cells_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usecase, "MOST_TASKS", {MINUTE: 2, HOUR: 3})
    counted = Counted()
    await counted.fake.open()
    for number in range(5):
        counted.statistics.take([(None, job(task_id=f"task-{number}"))])
        await counted.cells()
    cells = counted.fake.tables.stats
    own = {span: {task for s, task, _ in cells if s == span and task} for span in (MINUTE, HOUR)}
    assert own == {MINUTE: {"task-0", "task-1"}, HOUR: {"task-0", "task-1", "task-2"}}
    assert cells[MINUTE, "", T0 - T0 % MINUTE] == {"j": 5}
    counted.now += MINUTE
    counted.statistics.take([(None, job(task_id="task-4"))])
    assert (MINUTE, "task-4", counted.now - counted.now % MINUTE) in await counted.cells()


async def test_what_can_not_be_written_is_lost_and_holds_up_nothing() -> None:
    counted = Counted()
    await counted.fake.open()
    counted.statistics.take([(None, job())])
    counted.fake.away = True
    with pytest.raises(Unavailable):
        await counted.statistics.flush(counted.store)
    counted.fake.away = False
    assert await counted.cells() == {}


# --------------------------------------------------------------------------------------------------------------- read


async def test_a_query_is_widened_to_whole_steps(world: World) -> None:
    counts = {"j": 1}
    cells = [Cell(span=MINUTE, at=at * MINUTE, task_id="mail", counts=counts) for at in (9, 10, 11, 19, 20)]
    cells += [Cell(span=HOUR, at=0, task_id="mail", counts={"j": 50})]
    await world.store.run(lambda steps: steps.add_stats(cells))
    found = await query(world.ctx, "mail", start=11 * MINUTE, end=15 * MINUTE + 1, step=5 * MINUTE)
    assert [(p.at // MINUTE, p.jobs) for p in found.points] == [(10, 2), (15, 1)]
    assert (await query(world.ctx, "mail", start=0, end=1, step=HOUR)).total.jobs == 50
    assert (await query(world.ctx, "", start=0, end=1, step=HOUR)).total.jobs == 0


@pytest.mark.parametrize(
    ("start", "end", "step"),
    [(0, MINUTE, 0), (0, MINUTE, 90_000), (0, 0, MINUTE), (-1, MINUTE, MINUTE), (0, 1_501 * MINUTE, MINUTE)],
)
async def test_a_query_that_makes_no_sense(world: World, start: int, end: int, step: int) -> None:
    with pytest.raises(InvalidArgument):
        await query(world.ctx, "", start=start, end=end, step=step)


async def test_old_cells_go(world: World) -> None:
    now = world.ctx.clock.now()
    ages = {MINUTE: 48 * HOUR, HOUR: 90 * 24 * HOUR}
    cells = [
        Cell(span=span, at=now - age - late, task_id=f"task-{n}", counts={"j": 1})
        for span, age in ages.items()
        for late in (0, 1)
        for n in range(300)
    ]
    await world.store.run(lambda steps: steps.add_stats(cells))
    assert await forget_old(world.ctx) == 600
    for span, age in ages.items():
        assert len(await world.store.reads.stats(span, "task-7", 0, now)) == 1
        assert (await world.store.reads.stats(span, "task-7", 0, now))[0].at == now - age


async def test_the_way_of_a_job(world: World) -> None:
    """What the use cases really write."""
    counted = Statistics(world.ctx.clock.now)
    world.ctx = replace(
        world.ctx, store=ObservedPersistence(world.store, Feed(now=lambda: 0, new_boot=str), count=counted.take)
    )
    await world.hello()
    execution_id = await world.submit()
    world.machine.pass_(2)
    await world.run(execution_id)
    await world.say(execution_id, exited(7))
    await counted.flush(world.store)
    now = world.ctx.clock.now()
    found = (await query(world.ctx, "mail", start=now - HOUR, end=now + 1, step=MINUTE)).total
    assert (found.jobs, found.executions, found.ended) == (1, 1, {ExecutionState.FAILED: 1})
    assert found.wait
    assert found.wait.longest == 2_000
