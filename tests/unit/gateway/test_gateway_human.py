"""Numbers and times in words."""

import pytest

from easyq_gateway.domain import human

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (3 * 1024**3, "3.0 GiB"),
        (2**60, "1024.0 PiB"),
        (2**63, "8192.0 PiB"),
    ],
)
def test_sizes(number: int, words: str) -> None:
    assert human.size(number) == words


@pytest.mark.parametrize(
    ("ms", "words"),
    [
        (-5, "< 1 ms"),
        (0, "< 1 ms"),
        (1, "1 ms"),
        (999, "999 ms"),
        (1000, "1.0 s"),
        (9_949, "9.9 s"),
        (9_950, "10 s"),
        (59_499, "59 s"),
        (59_500, "1 min"),
        (200_000, "3 min 20 s"),
        (HOUR, "1 h"),
        (HOUR + 12 * MINUTE, "1 h 12 min"),
        (49 * HOUR, "2 d 1 h"),
        (48 * HOUR, "2 d"),
    ],
)
def test_durations(ms: float, words: str) -> None:
    assert human.duration(ms) == words


@pytest.mark.parametrize(
    ("delta", "words"),
    [
        (0, "now"),
        (-1999, "now"),
        (2 * SECOND, "2 s ago"),
        (59_999, "59 s ago"),
        (MINUTE, "1 min ago"),
        (119 * MINUTE, "119 min ago"),
        (2 * HOUR, "2 h ago"),
        (47 * HOUR, "47 h ago"),
        (2 * DAY, "2 d ago"),
        (-3 * MINUTE, "in 3 min"),
    ],
)
def test_ages(delta: float, words: str) -> None:
    assert human.ago(delta) == words


def test_times() -> None:
    assert human.exact(1_900_000_000_123) == "2030-03-17 17:46:40 UTC"
    assert human.iso(1_900_000_000_123) == "2030-03-17T17:46:40.123Z"
    assert human.clock(1_900_000_000_000, MINUTE) == "17:46:40"
    assert human.clock(1_900_000_000_000, HOUR) == "17:46"
    assert human.clock(1_900_000_000_000, 2 * DAY) == "Mar 17 17:46"


@pytest.mark.parametrize(
    ("part", "whole", "words"),
    [(0, 0, "–"), (0, 5, "0%"), (5, 5, "100%"), (1, 3, "33.3%"), (1, 100_000, "0.1%"), (99_999, 100_000, "99.9%")],
)
def test_shares(part: float, whole: float, words: str) -> None:
    assert human.percent(part, whole) == words


def test_plurals() -> None:
    assert human.plural(1, "job") == "1 job"
    assert human.plural(1200, "job") == "1,200 jobs"
    assert human.plural(2, "box", "boxes") == "2 boxes"
