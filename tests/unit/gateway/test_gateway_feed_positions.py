"""How far somebody has read, as text and back."""

import pytest

from easyq_gateway.domain.feed_positions import read, show, time_of


@pytest.mark.parametrize("position", [{"a1": 0}, {"b2": 17, "a1": 3}, {f"{n:x}" * 12: 10**17 for n in range(9)}])
def test_there_and_back(position: dict[str, int]) -> None:
    assert read(show(position)) == position


def test_the_same_position_is_the_same_text() -> None:
    assert show({"b": 1, "a": 2}) == show({"a": 2, "b": 1}) == "a-2.b-1"


def test_a_position_may_tell_its_time() -> None:
    text = show({"a1": 3, "b2": 4}, 17)
    assert text == "a1-3.b2-4.t-17"
    assert (read(text), time_of(text)) == ({"a1": 3, "b2": 4}, 17)
    assert time_of("a1-3") is None
    assert time_of("none") is None


@pytest.mark.parametrize(
    "text", ["", "a", "a-", "-1", "a-1.", "a-1.a-2", "a-x", "a-1-2", "a-٣", "a" * 33 + "-1", "a-1 "]
)
def test_what_is_none(text: str) -> None:
    assert read(text) is None
