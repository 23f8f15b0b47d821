"""Ten years of fires in eight zones, against an oracle that walks minute by minute."""

from datetime import date, timedelta
from itertools import pairwise

import pytest

from easyq_scheduler.domain.cron import next_fire, next_fires
from easyq_scheduler.domain.schedule import Schedule
from tests.unit.scheduler.minutes_oracle import END_MINUTE, FIRST_MINUTE, Case, Minutes

ZONES = [
    "America/Sao_Paulo",  # changed at midnight, gave it up in 2019
    "America/New_York",
    "Europe/London",
    "Australia/Lord_Howe",  # by half an hour
    "Asia/Tehran",  # at midnight, half an hour off
    "Pacific/Apia",  # had no 30 December 2011
    "Africa/Casablanca",  # four changes a year, for Ramadan
    "UTC",
]
MON, WED, FRI, SUN = 0, 2, 4, 6  # as date.weekday() counts
EVERY_HOUR = range(24)


def any_day(day: date) -> bool:
    return True


def last_of_month(day: date) -> bool:
    return (day + timedelta(days=1)).day == 1


def nth(day: date, weekday: int, n: int) -> bool:
    return day.weekday() == weekday and (day.day - 1) // 7 + 1 == n


def last(day: date, weekday: int) -> bool:
    return day.weekday() == weekday and (day + timedelta(days=7)).month != day.month


CASES = [
    Case("*/30 * * * *", {0, 30}, EVERY_HOUR, any_day),
    Case("0 * * * *", {0}, EVERY_HOUR, any_day),
    Case("45 0-23 * * sun", {45}, EVERY_HOUR, lambda day: day.weekday() == SUN),
    Case("10 */1 30 dec *", {10}, EVERY_HOUR, lambda day: (day.month, day.day) == (12, 30)),
    Case("0 0-22 * * *", {0}, range(23), any_day),
    Case("15,45 1-3 * * *", {15, 45}, {1, 2, 3}, any_day),
    Case("30 2 * * *", {30}, {2}, any_day),
    Case("0 0 * * *", {0}, {0}, any_day),
    Case("10/25 22-1 * * *", {10, 35}, {22, 23, 0, 1}, any_day),
    Case("59 23 * * mon-fri", {59}, {23}, lambda day: day.weekday() <= FRI),
    Case("0 12 L * *", {0}, {12}, last_of_month),
    Case("0 0 15,L * *", {0}, {0}, lambda day: day.day == 15 or last_of_month(day)),
    Case("0 9 * * 5#3", {0}, {9}, lambda day: nth(day, FRI, 3)),
    Case("5 4 * * L5", {5}, {4}, lambda day: last(day, FRI)),
    Case("0 6 * * mon#1,wed#5,sunL", {0}, {6}, lambda day: nth(day, MON, 1) or nth(day, WED, 5) or last(day, SUN)),
    Case("10 1 13 * fri", {10}, {1}, lambda day: day.day == 13 or day.weekday() == FRI),
    Case("10 1 13 * fri#1", {10}, {1}, lambda day: day.day == 13 or nth(day, FRI, 1)),
    Case("10 1 30 2 7", {10}, {1}, lambda day: day.month == 2 and day.weekday() == SUN),
    Case("0 3 31 * *", {0}, {3}, lambda day: day.day == 31),
    Case("0 0 29 2 *", {0}, {0}, lambda day: (day.month, day.day) == (2, 29)),
    Case("0 12 30 12 *", {0}, {12}, lambda day: (day.month, day.day) == (12, 30)),
    Case("*/30 0 1,15 oct-mar *", {0, 30}, {0}, lambda day: day.day in {1, 15} and day.month in {10, 11, 12, 1, 2, 3}),
]


# Many steps of what others cover.
@pytest.mark.no_cover
@pytest.mark.parametrize("zone", ZONES)
def test_ten_years_are_as_a_walk_minute_by_minute_finds_them(zone: str) -> None:
    minutes = Minutes(zone)
    for case in CASES:
        schedule = Schedule(expression=case.expression, job_id="j", zone=zone)
        expected = minutes.fires(case)
        assert expected
        assert walked(schedule) == expected, case.expression
        assert asked_one_by_one(schedule, minutes, expected) == [], case.expression


def walked(schedule: Schedule) -> list[int]:
    """All fires of the ten years as the next ones of the next ones."""
    found: list[int] = []
    cursor = FIRST_MINUTE * 60_000 - 1
    while cursor < END_MINUTE * 60_000:
        fires = next_fires(schedule, cursor)
        found += [fires[index] // 60_000 for index in range(len(fires))]
        cursor = fires[len(fires) - 1]
    return [minute for minute in found if minute < END_MINUTE]


def asked_one_by_one(schedule: Schedule, minutes: Minutes, expected: list[int]) -> list[tuple[int, int | None, int]]:
    """Where `next_fire` says something else: around clock changes, and in a sample of the rest."""
    near = {around // 2_880 + days for around, _, _ in minutes.changes for days in (-1, 0, 1)}
    return [
        (before, found, after)
        for index, (before, after) in enumerate(pairwise(expected))
        if (before // 2_880 in near and index % 3 == 0) or index % 199 == 0
        for asked in {before * 60_000, before * 60_000 + 30_001, (before + after) * 30_000, after * 60_000 - 1}
        if (found := next_fire(schedule, asked)) != after * 60_000
    ]
