"""What the scheduler admits, and how long it sleeps."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from easyq_scheduler.domain.admission import EARLIEST_MS, LATEST_MS, TEN_YEARS_MS, Timing, check
from easyq_scheduler.domain.checking import schedule_problems, window_problems
from easyq_scheduler.domain.pacing import due_before_next_poll, seconds_until_next
from easyq_scheduler.domain.plan import Rules, State
from easyq_scheduler.domain.schedule import Schedule


@pytest.mark.parametrize(
    "timing",
    [
        Timing(start_in_ms=0),
        Timing(start_in_ms=TEN_YEARS_MS),
        Timing(start_at_ms=0),
        Timing(start_at_ms=EARLIEST_MS),
        Timing(start_at_ms=LATEST_MS),
        Timing(start_at_ms=1_000, expiration_ms=1_001),
        Timing(start_in_ms=5_000, expiration_ms=1),
    ],
)
def test_sane_times_are_admitted(timing: Timing) -> None:
    assert check(timing) is None


@pytest.mark.parametrize(
    ("timing", "field"),
    [
        (Timing(), "startAt"),
        (Timing(expiration_ms=1_000), "startAt"),
        (Timing(start_in_ms=-1), "startIn"),
        (Timing(start_in_ms=TEN_YEARS_MS + 1), "startIn"),
        (Timing(start_at_ms=EARLIEST_MS - 1), "startAt"),
        (Timing(start_at_ms=LATEST_MS + 1), "startAt"),
        (Timing(start_at_ms=1_000, expiration_ms=1_000), "expiration"),
    ],
)
def test_other_times_are_refused_by_field(timing: Timing, field: str) -> None:
    refusal = check(timing)
    assert refusal is not None
    assert refusal.field == field


@pytest.mark.parametrize(
    ("rules", "fields"),
    [
        ({"expression": "0 3 * * *"}, []),
        ({"expression": "0 3 * * *", "zone": "Nowhere"}, ["timeZone"]),
        ({"expression": "3 * *"}, ["cron"]),
        ({"expression": "3 * *", "zone": "Nowhere"}, ["cron", "timeZone"]),
    ],
)
def test_everything_that_is_wrong_with_a_schedule_is_told(rules: dict[str, str], fields: list[str]) -> None:
    schedule = replace(Schedule(expression="", job_id="j"), **rules)  # type: ignore[arg-type] # texts only
    found = schedule_problems(Rules(schedule=schedule, misfire_deadline_ms=60_000))
    assert [one.field for one in found] == fields


def test_a_window_that_ends_before_it_begins_is_refused() -> None:
    rules = Rules(
        schedule=Schedule(expression="@hourly", job_id="j"),
        start_after_ms=2_000,
        end_at_ms=2_000,
        misfire_deadline_ms=60_000,
    )
    assert [one.field for one in schedule_problems(rules)] == ["endAt"]


HOUR = 3_600_000
NIGHT = 20_000 * 24 * HOUR  # a midnight, UTC


@pytest.mark.parametrize(
    ("expression", "start_after", "end_at", "fields"),
    [
        ("0 3 * * *", None, None, []),
        ("0 3 * * *", None, NIGHT + 3 * HOUR, []),
        ("0 3 * * *", None, NIGHT + 3 * HOUR - 1, ["endAt"]),
        ("0 3 * * *", NIGHT + 3 * HOUR, NIGHT + 3 * HOUR, []),
        ("0 3 * * *", NIGHT + 3 * HOUR + 1, NIGHT + 27 * HOUR - 1, ["endAt", "startAfter"]),
        ("0 3 * * *", NIGHT + 3 * HOUR + 1, NIGHT + 27 * HOUR, []),
        # It began in the past: only the end is to blame.
        ("0 3 * * *", NIGHT - HOUR, NIGHT + HOUR, ["endAt"]),
        ("@every 2h", None, NIGHT + 2 * HOUR, []),
        ("@every 2h", None, NIGHT + 2 * HOUR - 1, ["endAt"]),
        ("@hourly", None, NIGHT + HOUR, []),
        ("@hourly", None, NIGHT + HOUR - 1, ["endAt"]),
        # No such day in that window.
        ("0 0 29 2 *", 1_893_456_000_000, 1_924_905_600_000, ["endAt", "startAfter"]),
    ],
)
def test_a_window_without_a_fire_is_refused_by_its_fields(
    expression: str, start_after: int | None, end_at: int | None, fields: list[str]
) -> None:
    rules = Rules(
        schedule=Schedule(expression=expression, job_id="", anchor_ms=NIGHT),
        start_after_ms=start_after,
        end_at_ms=end_at,
        misfire_deadline_ms=60_000,
    )
    found = window_problems(State(cursor_ms=NIGHT), rules, end_at)
    assert [one.field for one in found] == fields


def test_a_window_without_a_fire_tells_when_the_first_would_be() -> None:
    rules = Rules(schedule=Schedule(expression="0 3 * * *", job_id="j"), end_at_ms=NIGHT, misfire_deadline_ms=1)
    (refusal,) = window_problems(State(cursor_ms=NIGHT), rules, NIGHT)
    assert refusal.problem == "is before the next fire (2024-10-04 03:00:00 UTC), so that none is left"
    last_day = Rules(schedule=Schedule(expression="@yearly", job_id="j"), misfire_deadline_ms=1)
    (refusal,) = window_problems(State(cursor_ms=LATEST_MS), last_day, LATEST_MS)
    assert refusal.problem == "is before the next fire, so that none is left"


def test_hashed_times_are_judged_once_the_id_is_known() -> None:
    rules = Rules(schedule=Schedule(expression="H H * * *", job_id=""), end_at_ms=NIGHT + 1, misfire_deadline_ms=1)
    assert window_problems(State(cursor_ms=NIGHT), rules, NIGHT + 1) == []
    known = replace(rules, schedule=replace(rules.schedule, job_id="j"))
    assert [one.field for one in window_problems(State(cursor_ms=NIGHT), known, NIGHT + 1)] == ["endAt"]


@given(
    next_in=st.none() | st.floats(-1, 1e9, allow_nan=False),
    progressed=st.booleans(),
    longest=st.floats(0.1, 60),
)
def test_the_sleep_is_bounded_and_never_late(next_in: float | None, progressed: bool, longest: float) -> None:
    pause = seconds_until_next(next_in=next_in, progressed=progressed, longest=longest, shortest=0.02)
    assert 0 <= pause <= longest
    if next_in is not None:
        assert pause <= max(next_in, 0.02)


def test_more_work_follows_at_once_but_a_vain_round_pauses() -> None:
    assert seconds_until_next(next_in=0.0, progressed=True, longest=1, shortest=0.02) == 0
    assert seconds_until_next(next_in=0.0, progressed=False, longest=1, shortest=0.02) == 0.02
    assert seconds_until_next(next_in=None, progressed=True, longest=1, shortest=0.02) == 1


def test_the_time_that_a_round_took_is_not_slept_again() -> None:
    assert seconds_until_next(next_in=0.5, worked=0.25, progressed=True, longest=1, shortest=0.02) == 0.25
    assert seconds_until_next(next_in=0.5, worked=0.75, progressed=True, longest=1, shortest=0.02) == 0
    # Nothing was due then, and now something is: no vain round.
    assert seconds_until_next(next_in=0.01, worked=0.02, progressed=False, longest=1, shortest=0.02) == 0


@pytest.mark.parametrize(
    ("timing", "hurries"),
    [
        (Timing(start_in_ms=499), True),
        (Timing(start_in_ms=500), False),
        (Timing(start_at_ms=10_499), True),
        (Timing(start_at_ms=10_500), False),
        (Timing(start_at_ms=3), True),
        (Timing(), False),
    ],
)
def test_only_what_is_due_before_the_next_poll_hurries(timing: Timing, hurries: bool) -> None:
    assert due_before_next_poll(timing, now_ms=10_000, longest=0.5) is hurries
