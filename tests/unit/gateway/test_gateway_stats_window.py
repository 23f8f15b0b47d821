"""Which points of statistics a request asks for."""

import pytest

from easyq_gateway.domain.problems import Problems
from easyq_gateway.domain.stats import HOUR, MINUTE, Window, window

NOW = 1_000_000 * HOUR + 12_345
DAY = 24 * HOUR


@pytest.mark.parametrize(
    ("start", "end", "step", "expected"),
    [
        (None, None, None, Window(start=NOW - HOUR, end=NOW, step=MINUTE)),
        (NOW - 2 * HOUR, None, None, Window(start=NOW - 2 * HOUR, end=NOW, step=MINUTE)),
        (NOW - 3 * HOUR, None, None, Window(start=NOW - 3 * HOUR, end=NOW, step=5 * MINUTE)),
        (NOW - DAY, None, None, Window(start=NOW - DAY, end=NOW, step=15 * MINUTE)),
        (NOW - 2 * DAY, None, None, Window(start=NOW - 2 * DAY, end=NOW, step=HOUR)),
        (NOW - 3 * DAY, NOW - 3 * DAY + 1, None, Window(start=NOW - 3 * DAY, end=NOW - 3 * DAY + 1, step=HOUR)),
        (NOW - 30 * DAY, None, None, Window(start=NOW - 30 * DAY, end=NOW, step=6 * HOUR)),
        (NOW - 400 * DAY, None, None, Window(start=NOW - 400 * DAY, end=NOW, step=DAY)),
        (NOW - 3 * DAY, None, 2 * HOUR, Window(start=NOW - 3 * DAY, end=NOW, step=2 * HOUR)),
        (NOW - HOUR, None, 7 * MINUTE, Window(start=NOW - HOUR, end=NOW, step=7 * MINUTE)),
        (None, HOUR // 2, HOUR, Window(start=0, end=HOUR // 2, step=HOUR)),
    ],
)
def test_what_is_asked_for(start: int | None, end: int | None, step: int | None, expected: Window) -> None:
    problems = Problems()
    assert window(start=start, end=end, step=step, now=NOW, problems=problems) == expected
    assert not problems


@pytest.mark.parametrize(
    ("start", "end", "step", "path", "word"),
    [
        (NOW, None, None, "from", "before"),
        (NOW - HOUR, NOW - HOUR, None, "from", "before"),
        (None, None, 90_000, "step", "whole minutes"),
        (NOW - 3 * DAY, None, 30 * MINUTE, "step", "whole hours"),
        (NOW - 2 * DAY, None, MINUTE, "step", "1,500 points"),
        (NOW - 3_000 * DAY, None, None, "step", "1,500 points"),
        (None, 0, None, "from", "before `to`"),
    ],
)
def test_what_is_refused(start: int | None, end: int | None, step: int | None, path: str, word: str) -> None:
    problems = Problems()
    window(start=start, end=end, step=step, now=NOW, problems=problems)
    assert [problem.path for problem in problems] == [path]
    assert word in problems[0].message
