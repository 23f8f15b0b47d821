"""A neighbour that is away is a line at the beginning, one a minute with a count, and one when it has answered."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from easyq_chassis import outages
from easyq_chassis.errors import DeadlineExceeded, EasyQError, NotFound, Unavailable
from easyq_chassis.outages import Neighbour, asking


class Now:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
def redis(now: Now) -> Neighbour:
    """One that has answered for a while."""
    it = Neighbour("redis", now=now)
    it.answered()
    now.seconds = 20.0
    return it


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    with capture_logs() as lines:
        yield lines


def fails_until(one: Neighbour, now: Now, until: float, *, every: float = 0.5) -> None:
    while now.seconds < until:
        one.failed("Redis: refused")
        one.tell()
        now.seconds += every


def test_ten_minutes_are_a_line_a_minute_with_a_count(redis: Neighbour, now: Now, lines: list[Any]) -> None:
    fails_until(redis, now, 620.0)
    began, *lasts = lines
    assert (began["event"], began["log_level"], began["neighbour"]) == ("outage_began", "warning", "redis")
    assert began["error"] == "Redis: refused"
    assert [line["event"] for line in lasts] == ["outage_lasts"] * 9
    assert [line["seconds"] for line in lasts] == [60 * n for n in range(1, 10)]
    assert {line["attempts"] for line in lasts} == {120}
    redis.answered()
    now.seconds += 10
    redis.tell()
    ended = lines[-1]
    assert (ended["event"], ended["log_level"], ended["seconds"], ended["attempts"]) == (
        "outage_ended",
        "info",
        600.0,
        1200,
    )


def test_it_ends_only_where_it_has_answered(redis: Neighbour, now: Now, lines: list[Any]) -> None:
    redis.failed("away")
    for _ in range(5):
        now.seconds += 10
        redis.tell()
    assert [line["event"] for line in lines] == ["outage_began"]


def test_what_works_for_some_and_fails_for_others_goes_on(redis: Neighbour, now: Now, lines: list[Any]) -> None:
    for _ in range(100):
        redis.failed("the disk is full")
        now.seconds += 1
        redis.answered()
        redis.tell()
    assert [line["event"] for line in lines] == ["outage_began", "outage_lasts"]
    now.seconds += 6
    redis.tell()
    assert lines[-1]["event"] == "outage_ended"


def test_minutes_in_which_nobody_asks_say_nothing(redis: Neighbour, now: Now, lines: list[Any]) -> None:
    fails_until(redis, now, 81.0)
    begin = len(lines)
    fails_until(redis, now, 82.0)
    now.seconds = 500
    redis.tell()
    now.seconds = 600
    redis.tell()
    assert [line["attempts"] for line in lines[begin:]] == [3]


def test_one_that_comes_and_goes_is_told_some_times_and_counted(now: Now, lines: list[Any]) -> None:
    engine = Neighbour("engine", began="engine_away", ended="engine_answers", settled=0.0, starting=0.0, now=now)
    engine.answered()
    for _ in range(20):
        engine.failed("reset")
        now.seconds += 1
        engine.answered()
    assert [line["event"] for line in lines] == ["engine_away", "engine_answers"] * 3
    now.seconds = 100
    engine.tell()
    assert (lines[-1]["event"], lines[-1]["outages"]) == ("engine_answers", 17)
    engine.failed("reset")
    assert (lines[-1]["event"], lines[-1].get("outages")) == ("engine_away", None)


def test_the_next_that_is_told_says_how_many_were_not(now: Now, lines: list[Any]) -> None:
    engine = Neighbour("engine", settled=0.0, starting=0.0, now=now)
    engine.answered()
    for _ in range(5):
        engine.failed("reset")
        engine.answered()
    now.seconds = 59
    engine.failed("reset")
    now.seconds = 61
    engine.tell()
    assert (lines[-1]["event"], lines[-1]["seconds"], lines[-1]["outages"]) == ("outage_began", 2, 2)


def test_one_may_be_starting(now: Now, lines: list[Any]) -> None:
    """Also where one connection has found it, and another is still to try again."""
    store = Neighbour("store", now=now)
    fails_until(store, now, 4.0)
    store.answered()
    fails_until(store, now, 9.0)
    store.answered()
    now.seconds = 20
    store.tell()
    assert lines == []
    other = Neighbour("other", now=now)
    fails_until(other, now, 31.0)
    assert [(line["event"], line["seconds"]) for line in lines] == [("outage_began", 10)]


def test_a_failure_beside_answers_is_no_outage(redis: Neighbour, now: Now, lines: list[Any]) -> None:
    """One call takes too long, while others are answered: whoever made it has to tell."""
    asked = now.seconds
    now.seconds += 1.0
    redis.answered()
    redis.failed("too slow", asked=asked)
    assert (redis.away, lines) == (False, [])
    redis.failed("too slow", asked=now.seconds)
    assert redis.away


@pytest.mark.parametrize(
    ("error", "least", "away"),
    [
        (None, 0.0, False),
        (NotFound("no such job"), 0.0, False),
        (Unavailable("refused"), 1e9, True),
        (DeadlineExceeded("late"), 0.0, True),
        (DeadlineExceeded("late"), 1e9, False),
    ],
)
def test_a_call_says_whether_it_was_answered(error: Exception | None, least: float, away: bool) -> None:
    one = Neighbour("store")
    with contextlib.suppress(EasyQError), asking(one, least=least):
        if error is not None:
            raise error
    assert one.away is away


def test_all_of_a_process_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "_neighbours", {})
    store = outages.neighbour("store")
    assert outages.neighbour("store") is store
    assert not outages.any_away()
    other = Neighbour("store")
    outages.watch_over(other)
    other.failed("away")
    assert outages.any_away()


def test_what_was_held_back_comes_before_the_end(redis: Neighbour, now: Now, monkeypatch: pytest.MonkeyPatch) -> None:
    """After it, it would look like another outage."""
    told: list[str] = []
    monkeypatch.setattr("easyq_chassis.logs.tell_held_back", lambda: told.append("held back"))
    monkeypatch.setattr(redis._log, "info", lambda event, **_: told.append(event))
    redis.failed("away")
    now.seconds += 7
    redis.answered()
    assert told == ["held back", "outage_ended"]
