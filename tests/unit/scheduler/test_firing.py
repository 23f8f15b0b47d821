"""Which fires run, which are skipped and why, by example."""

from collections import Counter
from dataclasses import replace

import pytest

from easyq_scheduler.domain.admission import LATEST_MS
from easyq_scheduler.domain.due_times import share_out, upcoming
from easyq_scheduler.domain.firing import plan_fires, preview
from easyq_scheduler.domain.plan import Fire, Misfire, Plan, Reason, Rules, Skip, State
from tests.unit.scheduler.times import ms, schedule

MINUTE = 60_000
DAY = 1_440 * MINUTE
NOON = ms("2024-05-15 12:00")
MINUTELY = Rules(schedule=schedule("* * * * *", anchor_ms=NOON), misfire_deadline_ms=30_000)
NEW = State(cursor_ms=NOON)


def minute(n: int) -> int:
    return NOON + n * MINUTE


def fire(n: int) -> Fire:
    return Fire(nominal_ms=minute(n), due_ms=minute(n))


def skip(first: int, last: int, reason: Reason) -> Skip:
    return Skip(first_ms=minute(first), last_ms=minute(last), count=last - first + 1, reason=reason)


def test_before_its_time_nothing_is_decided() -> None:
    assert plan_fires(NEW, MINUTELY, minute(1) - 1) == Plan(state=NEW, next=fire(1))


def test_at_its_time_a_fire_runs() -> None:
    after = State(cursor_ms=minute(1), runs=1)
    assert plan_fires(NEW, MINUTELY, minute(1)) == Plan(fires=(fire(1),), state=after, next=fire(2))


def test_what_does_not_run_for_its_number_is_the_next() -> None:
    """Three late ones and three on time are more than are decided at once."""
    rules = replace(MINUTELY, misfire=Misfire.ALL, misfire_deadline_ms=2 * MINUTE)
    plan = plan_fires(NEW, rules, minute(60), limit=4)
    assert plan.fires == tuple(fire(n) for n in range(55, 59))
    assert (plan.next, plan.more) == (fire(59), True)


def test_up_to_the_deadline_it_is_not_late() -> None:
    rules = replace(MINUTELY, misfire=Misfire.SKIP)
    assert plan_fires(NEW, rules, minute(1) + 30_000).fires == (fire(1),)
    late = plan_fires(NEW, rules, minute(1) + 30_001)
    assert (late.fires, late.skips) == ((), (skip(1, 1, Reason.MISFIRED),))
    assert late.state == State(cursor_ms=minute(1))


def test_skip_runs_only_what_is_on_time() -> None:
    plan = plan_fires(NEW, replace(MINUTELY, misfire=Misfire.SKIP), minute(10))
    assert (plan.fires, plan.skips) == ((fire(10),), (skip(1, 9, Reason.MISFIRED),))


def test_once_runs_the_newest_missed() -> None:
    plan = plan_fires(NEW, MINUTELY, minute(10) + 40_000)
    assert (plan.fires, plan.skips) == ((fire(10),), (skip(1, 9, Reason.COALESCED),))
    assert plan.state == State(cursor_ms=minute(10), runs=1)


def test_once_is_coalesced_into_a_fire_that_is_on_time() -> None:
    plan = plan_fires(NEW, MINUTELY, minute(10) + 20_000)
    assert (plan.fires, plan.skips) == ((fire(10),), (skip(1, 9, Reason.COALESCED),))


def test_one_missed_alone_runs_without_a_skip() -> None:
    plan = plan_fires(NEW, MINUTELY, minute(1) + 40_000)
    assert (plan.fires, plan.skips) == ((fire(1),), ())


@pytest.mark.parametrize(
    ("missed", "bound", "skipped"), [(5, 100, 0), (100, 100, 0), (101, 100, 1), (10, 3, 7), (4, 0, 4)]
)
def test_all_runs_the_newest_up_to_a_bound(missed: int, bound: int, skipped: int) -> None:
    plan = plan_fires(NEW, replace(MINUTELY, misfire=Misfire.ALL, all_bound=bound), minute(missed) + 40_000)
    assert plan.fires == tuple(fire(n) for n in range(skipped + 1, missed + 1))
    assert plan.skips == ((skip(1, skipped, Reason.MISFIRE_BOUND),) if skipped else ())
    assert plan.state.cursor_ms == minute(missed)


def test_max_runs_counts_runs_and_not_skips() -> None:
    rules = replace(MINUTELY, misfire=Misfire.ALL, all_bound=5, max_runs=7)
    plan = plan_fires(State(cursor_ms=NOON, runs=4), rules, minute(10) + 40_000)
    assert (plan.fires, plan.skips) == (tuple(fire(n) for n in (6, 7, 8)), (skip(1, 5, Reason.MISFIRE_BOUND),))
    assert (plan.state, plan.next, plan.more) == (State(cursor_ms=minute(8), runs=7), None, False)
    assert plan_fires(plan.state, rules, minute(20)) == Plan(state=plan.state, next=None)


def test_the_first_fire_may_be_at_start_after_and_the_last_at_end_at() -> None:
    rules = replace(MINUTELY, start_after_ms=minute(3), end_at_ms=minute(4))
    assert upcoming(NEW, rules) == fire(3)
    assert plan_fires(NEW, rules, minute(3) - 1) == Plan(state=NEW, next=fire(3))
    first = plan_fires(NEW, rules, minute(3))
    assert (first.fires, first.next) == ((fire(3),), fire(4))
    last = plan_fires(first.state, rules, minute(4))
    assert (last.fires, last.next, last.more) == ((fire(4),), None, False)
    assert plan_fires(last.state, rules, minute(60)).fires == ()


def test_what_was_missed_before_the_end_is_made_up_for_after_it() -> None:
    plan = plan_fires(NEW, replace(MINUTELY, end_at_ms=minute(4)), minute(600))
    assert (plan.fires, plan.skips, plan.next) == ((fire(4),), (skip(1, 3, Reason.COALESCED),), None)


def test_a_clock_that_is_put_back_fires_nothing_twice() -> None:
    state = plan_fires(NEW, MINUTELY, minute(5)).state
    for now in (minute(5), minute(4), minute(0), 0):
        assert plan_fires(state, MINUTELY, now) == Plan(state=state, next=fire(6))


def test_fires_doubled_by_a_second_scheduler_both_decide_the_same() -> None:
    rules = replace(MINUTELY, jitter_ms=5 * MINUTE)
    assert plan_fires(NEW, rules, minute(90)) == plan_fires(State(cursor_ms=NOON), rules, minute(90))


def pieces(state: State, rules: Rules, now_ms: int, *, limit: int = 1_000) -> list[Plan]:
    plans = [plan_fires(state, rules, now_ms, limit=limit)]
    while plans[-1].more:
        plans.append(plan_fires(plans[-1].state, rules, now_ms, limit=limit))
        assert plans[-1].state.cursor_ms > plans[-2].state.cursor_ms
    return plans


@pytest.mark.parametrize("expression", ["* * * * * *", "@every 1s"])
def test_too_many_misses_and_it_never_runs_again_a_year_of_seconds(expression: str) -> None:
    rules = Rules(schedule=schedule(expression, "Europe/London"), misfire_deadline_ms=0)
    plans = pieces(State(cursor_ms=NOON), rules, NOON + 365 * DAY + 500)
    assert len(plans) < 20  # a day without a clock change is one step
    assert sum(skip.count for plan in plans for skip in plan.skips) == 365 * 86_400 - 1
    assert [fire.nominal_ms for plan in plans for fire in plan.fires] == [NOON + 365 * DAY]


def test_catch_up_flood_a_year_of_seconds_runs_the_newest_hundred() -> None:
    rules = Rules(schedule=schedule("* * * * * *"), misfire_deadline_ms=0, misfire=Misfire.ALL)
    plans = pieces(State(cursor_ms=NOON), rules, NOON + 365 * DAY + 500, limit=200)
    assert len(plans) > 1
    assert sum(skip.count for plan in plans for skip in plan.skips) == 365 * 86_400 - 100
    expected = [NOON + 365 * DAY - back * 1_000 for back in reversed(range(100))]
    assert [fire.nominal_ms for plan in plans for fire in plan.fires] == expected


def test_one_call_runs_a_bounded_number() -> None:
    rules = replace(MINUTELY, misfire_deadline_ms=10**12)
    plans = pieces(NEW, rules, minute(250), limit=100)
    assert [len(plan.fires) for plan in plans] == [100, 100, 50]
    assert [fire for plan in plans for fire in plan.fires] == [fire(n) for n in range(1, 251)]


@pytest.mark.parametrize("misfire", Misfire)
def test_a_cut_between_late_fires_and_those_on_time_loses_none(misfire: Misfire) -> None:
    rules = replace(MINUTELY, misfire=misfire, misfire_deadline_ms=11 * MINUTE)
    plans = pieces(NEW, rules, minute(20), limit=10)
    first = 1 if misfire is Misfire.ALL else 9
    assert [fire for plan in plans for fire in plan.fires] == [fire(n) for n in range(first, 21)]
    assert sum(skip.count for plan in plans for skip in plan.skips) == first - 1


def test_jitter_spreads_evenly_and_every_scheduler_agrees() -> None:
    rules = replace(MINUTELY, jitter_ms=9)
    shares = Counter(share_out(rules, minute(n)) - minute(n) for n in range(10_000))
    assert set(shares) == set(range(10))
    assert all(850 < count < 1_150 for count in shares.values())
    other = replace(rules, schedule=schedule("* * * * *", job_id="another"))
    assert [share_out(rules, minute(n)) for n in range(50)] != [share_out(other, minute(n)) for n in range(50)]
    assert share_out(replace(rules, jitter_ms=MINUTE), minute(1)) == minute(1) + 27_413


def test_a_jitter_longer_than_the_period_makes_no_fire_late() -> None:
    rules = replace(MINUTELY, jitter_ms=60 * MINUTE, misfire=Misfire.SKIP, misfire_deadline_ms=0)
    state, ran, now = NEW, 0, NOON
    while ran < 300:
        plan = plan_fires(state, rules, now)
        assert plan.skips == ()
        assert all(fire.nominal_ms <= fire.due_ms <= fire.nominal_ms + 60 * MINUTE for fire in plan.fires)
        assert plan.next is not None
        ran, state, now = ran + len(plan.fires), plan.state, plan.next.due_ms


def test_a_fire_is_late_from_its_own_share_of_the_jitter_on() -> None:
    rules = replace(MINUTELY, jitter_ms=60 * MINUTE, misfire=Misfire.SKIP, end_at_ms=minute(1))
    due = share_out(rules, minute(1))
    assert minute(1) < due < minute(61) - 30_001
    assert plan_fires(NEW, rules, due + 30_000).fires == (Fire(nominal_ms=minute(1), due_ms=due),)
    late = plan_fires(NEW, rules, due + 30_001)
    assert (late.fires, late.skips) == ((), (skip(1, 1, Reason.MISFIRED),))


def test_the_preview_keeps_to_the_rules() -> None:
    assert preview(NEW, MINUTELY, 3) == [minute(1), minute(2), minute(3)]
    assert preview(NEW, replace(MINUTELY, start_after_ms=minute(5)), 2) == [minute(5), minute(6)]
    assert preview(NEW, replace(MINUTELY, end_at_ms=minute(2)), 5) == [minute(1), minute(2)]
    assert preview(State(cursor_ms=NOON, runs=8), replace(MINUTELY, max_runs=10), 5) == [minute(1), minute(2)]
    assert preview(State(cursor_ms=NOON, runs=11), replace(MINUTELY, max_runs=10), 5) == []
    assert preview(NEW, MINUTELY, 0) == []


def test_after_the_calendars_last_fire_there_is_none() -> None:
    end = State(cursor_ms=LATEST_MS)
    assert plan_fires(end, MINUTELY, LATEST_MS + MINUTE) == Plan(state=end, next=None)
