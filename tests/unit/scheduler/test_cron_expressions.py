"""Which expressions and zones are taken, and what they mean."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from easyq_scheduler.domain.admission import LATEST_MS
from easyq_scheduler.domain.cron import next_fire, next_fires, validate
from easyq_scheduler.domain.cron_fields import parse_fields
from easyq_scheduler.domain.schedule import InvalidSchedule
from tests.unit.scheduler.times import ms, schedule

HOUR = 3_600_000


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("* * * * *", "2024-05-15 10:31"),
        ("*/20 * * * *", "2024-05-15 10:40"),
        ("59/15 * * * *", "2024-05-15 10:59"),
        ("5/25 * * * *", "2024-05-15 10:55"),
        ("10-50/15 11 * * *", "2024-05-15 11:10"),
        ("5,1,3 9 * * *", "2024-05-16 09:01"),
        ("0 0 1 JAN *", "2025-01-01 00:00"),
        ("0 0 * * Sun", "2024-05-19 00:00"),
        ("0 0 * * 0", "2024-05-19 00:00"),
        ("0 0 * * 7", "2024-05-19 00:00"),
        ("0 0 * * 6-7", "2024-05-18 00:00"),
        ("0 0 * * sat-mon", "2024-05-18 00:00"),
        ("0 0 * * 5-5", "2024-05-17 00:00"),
        ("0 0 * * 0-7", "2024-05-16 00:00"),
        ("0 0 1 nov-feb *", "2024-11-01 00:00"),
        ("0 22-2 * * *", "2024-05-15 22:00"),
        ("0 0 L * *", "2024-05-31 00:00"),
        ("0 0 l feb *", "2025-02-28 00:00"),
        ("0 0 * * L5", "2024-05-31 00:00"),
        ("0 0 * * friL", "2024-05-31 00:00"),
        ("0 0 * * tue#3", "2024-05-21 00:00"),
        ("0 0 * * 2#5,4#3", "2024-05-16 00:00"),
        ("0 0 * 2 mon#5", "2044-02-29 00:00"),
        ("0 0 29 2 *", "2028-02-29 00:00"),
        ("0 0 30 2 wed", "2025-02-05 00:00"),
        ("0 0 20 * fri", "2024-05-17 00:00"),
        ("0 0 17 * tue#4", "2024-05-17 00:00"),
        ("0 0 30 * tue#4", "2024-05-28 00:00"),
        ("0 0 * * fri,tue#4", "2024-05-17 00:00"),
        ("0 0 1-31 * fri", "2024-05-16 00:00"),
        ("0 0 */1 * fri", "2024-05-17 00:00"),
        ("* * * * * 15", "2024-05-15 10:30:15"),
        ("* * * * * */10", "2024-05-15 10:30:10"),
        ("0 * * * * 0", "2024-05-15 11:00"),
        ("\t0  11 * *   * ", "2024-05-15 11:00"),
        ("@yearly", "2025-01-01 00:00"),
        ("@annually", "2025-01-01 00:00"),
        ("@monthly", "2024-06-01 00:00"),
        ("@weekly", "2024-05-19 00:00"),
        ("@daily", "2024-05-16 00:00"),
        ("@midnight", "2024-05-16 00:00"),
        ("@hourly", "2024-05-15 11:00"),
        ("@Daily", "2024-05-16 00:00"),
        ("@every 90s", "2024-05-15 10:31:30"),
        ("@every 1h30m", "2024-05-15 12:00"),
        ("@every 45", "2024-05-15 10:30:45"),
    ],
)
def test_what_an_expression_means(expression: str, expected: str) -> None:
    now = ms("2024-05-15 10:30")  # a Wednesday
    job = schedule(expression, anchor_ms=now)
    validate(job)
    assert next_fire(job, now) == ms(expected)
    assert next_fire(job, ms(expected) - 1) == ms(expected)


@pytest.mark.parametrize(
    "expression",
    [
        *("", " ", "* * * *", "* * * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * 32 * *", "* * * 13 *"),
        *("* * * 0 *", "* * * * 8", "* * * * * 60", "-5 * * * *", "5- * * * *", "1,,2 * * * *", ", * * * *"),
        *("*/0 * * * *", "*/90 * * * *", "* * * * */8", "1-5/ * * * *", "0-999999999 * * * *", "1/2/3 * * * *"),
        *("R * * * *", "r/15 * * * *", "R(0-9) * * * *", "* * ? * *", "* * 15W * *", "* * LW * *", "L * * * *"),
        *("* * * L *", "* * * * L", "* * * * fri#6", "* * * * fri#0", "* * * * mon-fri#1", "* * * * fri#L"),
        *("mon * * * *", "* * mon * *", "* * * mon *", "* * * * jan", "* * * * mond", "H(30-10) * * * *"),
        *("H(0-99) * * * *", "H() * * * *", "H/0 * * * *", "H/61 * * * *", "HH * * * *", "* * H(0-9) * *"),
        *("@reboot", "@", "@hourly 5", "@every", "@every ", "@every 0s", "@every 999ms", "@every -5s", "@every soon"),
        *("@every 3651d", "@every nan", "@secondly", "0 0 30 2 *", "0 0 31 2,4,6,9,11 *", "0 0 31 feb */1"),
        *("٣ * * * *", "５ * * * *", "*\u00a0* * * *", "* * * * *\n", "*\n* * * *", "* * * * *\0", "\x1b[0m * * * *"),
        *("* " * 5_000, "9" * 10_000 + " * * * *", "1," * 5_000 + "1 * * * *", "H" * 300, "@every " + "9" * 10_000),
    ],
)
def test_what_is_refused_is_refused_with_a_sentence_about_cron(expression: str) -> None:
    with pytest.raises(InvalidSchedule) as refused:
        validate(schedule(expression))
    assert refused.value.field == "cron"
    assert 10 < len(refused.value.problem) < 200
    assert refused.value.problem.isprintable()


@pytest.mark.parametrize(
    "zone",
    [
        *(
            "",
            "Mars/Olympus",
            "europe/london/x",
            "America",
            "../../etc/passwd",
            "/etc/localtime",
            "localtime",
            "Factory",
        ),
        *("posix/Europe/London", "right/Europe/London", "tzdata.zi", "Europe/London\0", "Europe/\u212aiev", "+01:00"),
        *("Factory", "A" * 10_000, "Europe/London ", ".", "zone1970.tab", "Europe//London"),
    ],
)
def test_an_unknown_zone_is_refused(zone: str) -> None:
    with pytest.raises(InvalidSchedule) as refused:
        validate(schedule("@daily", zone))
    assert refused.value.field == "timeZone"
    assert refused.value.problem.isprintable()
    assert len(refused.value.problem) < 200


@given(st.text(max_size=300) | st.text(alphabet="0123456789*/-,LHRW#@() monfrieyv", max_size=60))
def test_any_text_is_refused_or_fires(expression: str) -> None:
    job = schedule(expression)
    try:
        validate(job)
    except InvalidSchedule:
        return
    assert next_fire(job, 0) is not None


def test_everything_fires_at_00_wanted_a_hash_a_thousand_hourly_jobs_spread_over_the_hour() -> None:
    fires = Counter(next_fire(schedule("H * * * *", job_id=f"job-{n}"), -1) for n in range(1_000))
    assert len(fires) == 60
    # 16.7 are expected a minute, and chi-squared with 59 degrees of freedom is beyond 100 once in two thousand times.
    assert sum((count - 1_000 / 60) ** 2 for count in fires.values()) / (1_000 / 60) < 100


def test_a_hash_is_the_same_for_ever() -> None:
    # Were one of these to change, every hashed job in every store would move.
    fields = parse_fields("H H H H H H", "01JZX5")
    hashed = (fields.seconds, fields.minutes, fields.hours, fields.days, fields.months, fields.weekdays)
    assert hashed == ((31,), (59,), (16,), (2,), (6,), (6,))
    assert parse_fields("H/15 * * * *", "01JZX5").minutes == (14, 29, 44, 59)
    ranged = parse_fields("H(10-19) H(6-20)/5 * * H(1-5)", "01JZX5")
    assert (ranged.minutes, ranged.hours, ranged.weekdays) == ((19,), (10, 15, 20), (3,))


@given(st.text(max_size=40))
def test_hashes_stay_in_their_ranges(job_id: str) -> None:
    fields = parse_fields("H(10-19) H/6 H H H(1-5)", job_id)
    assert 10 <= fields.minutes[0] <= 19
    assert len(fields.minutes) == 1
    assert fields.hours == tuple(range(fields.hours[0], 24, 6))
    assert fields.hours[0] < 6
    assert fields.days
    assert 1 <= fields.days[0] <= 28
    assert fields.weekdays
    assert 1 <= fields.weekdays[0] <= 5
    assert all(30 <= minute <= 49 for minute in parse_fields("H(30-49)/7 * * * *", job_id).minutes)


def test_every_counts_from_its_anchor_which_is_a_fire_itself() -> None:
    job = schedule("@every 90s", anchor_ms=1_000_000)
    assert next_fire(job, -5) == next_fire(job, 999_999) == 1_000_000
    assert next_fire(job, 1_000_000) == next_fire(job, 1_089_999) == 1_090_000
    fires = next_fires(job, 1_000_000)
    assert (fires[0], fires[1], fires[2]) == (1_090_000, 1_180_000, 1_270_000)


@pytest.mark.parametrize("expression", ["* * * * *", "0 0 29 2 *", "@every 1s"])
def test_the_calendars_end_is_the_end(expression: str) -> None:
    assert next_fire(schedule(expression), LATEST_MS) is None
    assert len(next_fires(schedule(expression), LATEST_MS)) == 0
    assert next_fire(schedule(expression), 10**18) is None


def test_times_before_1970_are_times() -> None:
    assert next_fire(schedule("@hourly"), -HOUR - 1) == -HOUR
    assert next_fire(schedule("@hourly"), -1) == 0
    assert next_fire(schedule("@yearly"), -(10**18)) is not None
