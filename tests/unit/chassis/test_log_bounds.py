"""What goes wrong a thousand times is told some times, then once a minute with a count."""

from typing import Any

import pytest

from easyq_chassis.log_bounds import RateBound, cause_of, kind_of


class Now:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def now() -> Now:
    return Now()


def said(bound: RateBound, count: int, event: str = "e", cause: str = "c", **more: Any) -> list[int]:
    """How many were held back before each line that came."""
    admitted = (bound.admit(event, cause, n, **more) for n in range(count))
    return [held for held in admitted if held is not None]


def test_some_come_at_once_and_then_one_a_minute_with_a_count(now: Now) -> None:
    bound = RateBound(burst=3, every=60, now=now)
    assert said(bound, 100) == [0, 0, 0]
    now.seconds = 59.9
    assert said(bound, 100) == []
    now.seconds = 60
    assert said(bound, 100) == [197]
    now.seconds = 120
    assert said(bound, 1) == [99]


def test_a_long_storm_is_a_line_a_minute(now: Now) -> None:
    bound = RateBound(burst=10, every=60, now=now)
    lines = 0
    for tenth in range(36_000):
        now.seconds = tenth / 10
        lines += bound.admit("e", "c", tenth) is not None
    assert lines == 10 + 59


def test_a_quiet_time_gives_the_burst_back(now: Now) -> None:
    bound = RateBound(burst=3, every=60, now=now)
    said(bound, 3)
    now.seconds = 180
    assert said(bound, 5) == [0, 0, 0]


def test_one_line_where_the_first_says_all(now: Now) -> None:
    bound = RateBound(burst=10, every=60, now=now)
    assert said(bound, 50, burst=1) == [0]
    now.seconds = 600
    assert said(bound, 50, burst=1) == [49]


def test_causes_are_kept_apart(now: Now) -> None:
    bound = RateBound(burst=1, now=now)
    assert [bound.admit("e", cause, "") for cause in ("a", "b", "a")] == [0, 0, None]
    assert bound.admit("other", "a", "") == 0


def test_many_causes_share_a_bound_at_last(now: Now) -> None:
    bound = RateBound(burst=1, most_causes=3, now=now)
    assert sum(bound.admit("e", f"cause {n}", "") is not None for n in range(100)) == 4


def test_many_events_share_a_bound_at_last(now: Now) -> None:
    bound = RateBound(burst=1, most_kinds=5, now=now)
    assert sum(bound.admit(f"event {n}", "", "") is not None for n in range(100)) == 6


def test_the_last_of_a_storm_is_told_though_none_follows(now: Now) -> None:
    bound = RateBound(burst=1, every=60, now=now)
    said(bound, 5)
    now.seconds = 59
    assert bound.overdue() == []
    now.seconds = 60
    assert bound.overdue() == [(4, 3)]
    # That was the line of this minute.
    assert bound.overdue() == []
    assert said(bound, 2) == []
    assert bound.overdue(all_of_them=True) == [(1, 1)]


def test_what_is_quiet_for_long_is_forgotten(now: Now) -> None:
    bound = RateBound(burst=2, every=60, most_kinds=2, now=now)
    assert said(bound, 1, "a") + said(bound, 1, "b") == [0, 0]
    now.seconds = 120
    assert bound.overdue() == []
    assert [bound.admit(event, "", "") for event in ("c", "c", "d", "d")] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("connect to 127.0.0.1:6379 failed: 111", "connect to 127.0.0.1:6380 failed: 113"),
        (
            "run 1d09bef7-8eec-5bde-b418-f2ca175c6eff: gone",
            "run 24851e98-f594-4463-8799-c40d672fc492: gone",
        ),
        ("no such image 'a/b:1'", "no such image 'c'"),
    ],
)
def test_ids_and_numbers_make_no_other_cause(one: str, other: str) -> None:
    assert cause_of(one) == cause_of(other)


def test_what_makes_a_kind() -> None:
    line = {"event": "loop_failed", "level": "warning", "error": "away"}
    assert kind_of(line) == kind_of({**line, "execution": "x", "loop": "due"})
    assert kind_of(line) != kind_of({**line, "error": "too slow"})
    assert kind_of(line) != kind_of({**line, "level": "error"})
    trace = "Traceback\n" + 1000 * "  File x\n" + "{}: what went wrong"
    traced = [{"event": "e", "exception": trace.format(name)} for name in ("ValueError", "ValueError", "KeyError")]
    assert kind_of(traced[0]) == kind_of(traced[1]) != kind_of(traced[2])
