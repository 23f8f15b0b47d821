"""Where things stand in plots."""

import pytest

from easyq_gateway.domain import plots
from easyq_gateway.domain.plots import Box


@pytest.mark.parametrize(
    ("value", "most"), [(0, 1), (-3, 1), (1, 1), (1.1, 2), (2, 2), (3, 5), (7, 10), (10, 10), (47, 50), (0.03, 0.05)]
)
def test_the_top_of_an_axis(value: float, most: float) -> None:
    assert plots.nice_most(value) == pytest.approx(most)


@pytest.mark.parametrize(
    ("ms", "most"), [(0, 10), (11, 20), (700, 1000), (4001, 10_000), (900_000, 1_200_000), (90_000_000, 172_800_000)]
)
def test_the_top_of_an_axis_of_time(ms: float, most: float) -> None:
    assert plots.nice_duration(ms) == pytest.approx(most)


def test_columns_are_stacked_and_stay_inside() -> None:
    columns = plots.stacked([(5, 5, 0), (0, 0, 0), (0.001, 10, 3)], 10)
    assert [[box.height for box in column] for column in columns] == [[50, 50, 0], [0, 0, 0], [1.5, 98.5, 0]]
    assert columns[0][0].y == 50
    assert all(box.y >= 0 and box.x + box.width <= plots.WIDTH for column in columns for box in column)
    assert plots.stacked([], 1) == []


def test_lines_are_broken_where_nothing_is_known() -> None:
    assert plots.line([0, 10, None, 5], 10) == "M125.0 100.0L375.0 0.0M875.0 50.0h12.0"
    assert plots.line([None, 20], 10) == "M750.0 0.0h12.0"
    assert plots.line([], 1) == ""


def test_powers() -> None:
    assert plots.log_height(10, 1, 100) == 50
    assert plots.log_height(0.1, 1, 100) == 100
    assert plots.log_height(1000, 1, 100) == 0
    assert plots.log_height(5, 5, 5) == 100


def test_stretches_of_time() -> None:
    assert plots.span(0, 50, 0, 100) == Box(0, 0, 500, 100)
    assert plots.span(-50, 200, 0, 100) == Box(0, 0, 1000, 100)
    assert plots.span(100, 100, 0, 100) == Box(997, 0, 3, 100)
    assert plots.span(-2, -1, 0, 100) is None
    assert plots.span(101, 102, 0, 100) is None
    assert plots.span(1, 2, 5, 5) is None
