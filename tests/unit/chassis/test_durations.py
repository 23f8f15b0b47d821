import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from easyq.durations import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("2h30m50s", 9_050_000),
        ("9050s", 9_050_000),
        ("9050", 9_050_000),
        (9050, 9_050_000),
        (1.5, 1_500),
        ("1.5h", 5_400_000),
        ("250ms", 250),
        ("1w2d", 777_600_000),
        ("1m5ms", 60_005),
        ("0s", 0),
        ("0.0005s", 1),
    ],
)
def test_accepts(text: str | float, milliseconds: int) -> None:
    assert parse_duration(text) == milliseconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "h",
        "2x",
        "2h 30m",
        "30m2h",
        "2h2h",
        "-5s",
        "-5",
        -1,
        "1e3",
        "NaN",
        math.nan,
        math.inf,
        True,
        None,
        "٣s",
    ],
)
def test_refuses(text: object) -> None:
    with pytest.raises(ValueError, match="is "):
        parse_duration(text)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["9" * 19, "1" * 300 + "s", 1e18])
def test_refuses_what_no_duration_holds(text: str | float) -> None:
    with pytest.raises(ValueError, match="is "):
        parse_duration(text)


@given(st.integers(0, 10**13))
def test_what_is_written_reads_back(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds)) == milliseconds


def test_writes_fractions_in_milliseconds() -> None:
    assert [format_duration(n) for n in (0, 1_500, 9_050_000, -20)] == ["0s", "1.500s", "9050s", "-0.020s"]
