"""Once per wall-clock match: what LESSONS.md calls "cron floods, skips or stops at the clock change"."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from croniter import CroniterBadDateError  # type: ignore[import-untyped]

from easyq_scheduler.domain.cron import next_fire, next_fires
from easyq_scheduler.domain.cron_walk import CronWalk
from easyq_scheduler.domain.fires import RestOfDay, TimesOfDay
from tests.unit.scheduler.times import fires_between, ms, schedule

LONDON, LORD_HOWE, APIA, SAO_PAULO = "Europe/London", "Australia/Lord_Howe", "Pacific/Apia", "America/Sao_Paulo"


def test_a_fixed_time_in_the_spring_gap_fires_once_at_the_gaps_end() -> None:
    fires = fires_between("30 1 * * *", LONDON, "2024-03-30 00:00", "2024-04-01 12:00")
    assert fires == ["03-30 01:30+00:00", "03-31 02:00+01:00", "04-01 01:30+01:00"]


def test_all_times_in_one_gap_and_the_one_at_its_end_fire_as_one() -> None:
    fires = fires_between("*/10 1,2 * * *", LONDON, "2024-03-31 00:00", "2024-03-31 01:15")
    assert fires == ["03-31 02:00+01:00", "03-31 02:10+01:00"]


def test_a_fixed_time_in_the_autumn_fold_fires_once_and_first() -> None:
    fires = fires_between("30 1 * * *", LONDON, "2024-10-26 12:00", "2024-10-28 12:00")
    assert fires == ["10-27 01:30+01:00", "10-28 01:30+00:00"]


def test_a_fixed_time_is_not_fired_again_by_who_looks_within_the_second_pass() -> None:
    # 01:15 UTC is a quarter past one again.
    assert next_fire(schedule("30 1 * * *", LONDON), ms("2024-10-27 01:15")) == ms("2024-10-28 01:30")


def test_a_pace_is_kept_through_both_passes_of_a_fold() -> None:
    fires = fires_between("*/30 * * * *", LONDON, "2024-10-27 00:00", "2024-10-27 02:00")
    assert fires == ["10-27 01:30+01:00", "10-27 01:00+00:00", "10-27 01:30+00:00", "10-27 02:00+00:00"]


def test_a_pace_is_kept_over_a_gap_without_an_extra_fire() -> None:
    fires = fires_between("*/30 * * * *", LONDON, "2024-03-31 00:00", "2024-03-31 01:30")
    assert fires == ["03-31 00:30+00:00", "03-31 02:00+01:00", "03-31 02:30+01:00"]


@pytest.mark.parametrize("hours", ["*", "*/1", "0-23", "0-11,12-23", "H/1"])
def test_however_every_hour_is_written_it_is_a_pace(hours: str) -> None:
    assert len(fires_between(f"0 {hours} * * *", LONDON, "2024-10-26 22:30", "2024-10-27 02:00")) == 4


def test_with_one_hour_left_out_it_is_a_list_of_times() -> None:
    assert len(fires_between("0 0-22 * * *", LONDON, "2024-10-26 22:30", "2024-10-27 02:00")) == 3


def test_a_change_by_half_an_hour() -> None:
    # On 7 April 2024 it was 2:00 at UTC+11, then 1:30 at UTC+10:30.
    pace = fires_between("45 * * * *", LORD_HOWE, "2024-04-06 14:00", "2024-04-06 16:20")
    assert pace == ["04-07 01:45+11:00", "04-07 01:45+10:30", "04-07 02:45+10:30"]
    fixed = fires_between("45 1,2 * * *", LORD_HOWE, "2024-04-06 14:00", "2024-04-06 16:20")
    assert fixed == ["04-07 01:45+11:00", "04-07 02:45+10:30"]


def test_a_day_that_a_zone_left_out_fires_once_at_its_end() -> None:
    fires = fires_between("0 6,12 30 12 *", APIA, "2011-12-29 00:00", "2012-12-01 00:00")
    assert fires == ["12-31 00:00+14:00"]


def test_midnight_may_be_in_the_gap() -> None:
    fires = fires_between("@daily", SAO_PAULO, "2018-11-03 12:00", "2018-11-05 12:00")
    assert fires == ["11-04 01:00-02:00", "11-05 00:00-02:00"]


def test_every_knows_no_wall_clock() -> None:
    every = schedule("@every 20m", LONDON, anchor_ms=ms("2024-10-26 23:50"))
    assert next_fire(every, ms("2024-10-27 00:50")) == ms("2024-10-27 01:10")
    assert next_fire(every, ms("2024-10-27 01:10")) == ms("2024-10-27 01:30")


# Many steps of what others cover.
@pytest.mark.no_cover
@pytest.mark.parametrize("expression", ["*/7 * * * *", "*/7 0-22 * * *", "* * * * * */15", "5 1 * * *"])
@pytest.mark.parametrize("zone", [LONDON, LORD_HOWE, APIA, SAO_PAULO])
@pytest.mark.parametrize("start", ["2011-12-29 03:00", "2018-11-03 09:00", "2024-03-30 17:00", "2024-10-26 11:00"])
def test_the_next_fires_are_those_that_follow_one_by_one(expression: str, zone: str, start: str) -> None:
    cursor = ms(start)
    for _ in range(4):
        fires = next_fires(schedule(expression, zone), cursor)
        for index in range(len(fires)):
            following = next_fire(schedule(expression, zone), cursor)
            assert following == fires[index]
            cursor = following


class Walk:
    """Matches that are told one after the other, whatever is asked; then there are none."""

    def __init__(self, *matches: datetime) -> None:
        self._matches = list(matches)

    def get_next(self, *_: object, **__: object) -> datetime:
        if not self._matches:
            raise CroniterBadDateError
        return self._matches.pop(0)


@pytest.mark.parametrize("hours", [(1,), tuple(range(24))])
def test_a_walk_that_finds_nothing_further_ends(hours: tuple[int, ...]) -> None:
    gaps_end = ms("2024-03-31 01:00") // 1_000
    times = TimesOfDay(hours=hours, minutes=(30,), seconds=(0,))
    in_the_gap = datetime(2024, 3, 31, 1, 30)  # noqa: DTZ001 - a wall time
    walk = CronWalk(walks=(Walk(in_the_gap),), times=times)
    assert walk.after(ZoneInfo(LONDON), gaps_end) is None


def test_the_rest_of_a_day_ends_with_it() -> None:
    rest = RestOfDay(times=TimesOfDay(hours=(1, 2), minutes=(0,), seconds=(0,)), first=1, midnight_ms=0)
    assert [rest[index] for index in range(len(rest))] == [7_200_000]
    with pytest.raises(IndexError):
        rest[1]
