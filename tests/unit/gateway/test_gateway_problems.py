"""Problems: collected, merged, cut."""

import json

from hypothesis import given
from hypothesis import strategies as st

from easyq_gateway.domain.problems import (
    MOST_FIELDS,
    Problem,
    Problems,
    bounded,
    common_reason,
    echo,
    key_path,
    member_path,
    merge,
    summary,
)


def problem(path: str, message: str = "is wrong", reason: str = "INVALID_FIELDS") -> Problem:
    return Problem(path=path, message=message, reason=reason)


def test_paths() -> None:
    assert member_path("spec", "image") == "spec.image"
    assert member_path("", "spec") == "spec"
    assert key_path("spec.envs", 'A"B') == 'spec.envs["A\\"B"]'


@given(st.text(max_size=200))
def test_no_value_is_echoed_beyond_64_bytes(text: str) -> None:
    shown = echo(text)
    assert len(shown.encode()) <= 64
    assert shown.isprintable()


def test_short_texts_are_echoed_as_they_are() -> None:
    assert echo("é" * 32) == "é" * 32
    assert echo("é" * 33) == "é" * 30 + "…"
    assert echo("a\nb\ud800") == "a\ufffdb\ufffd"


def test_later_checks_do_not_speak_of_what_could_not_be_read() -> None:
    read = [problem("spec.image"), problem("spec.mounts[0]")]
    checked = [
        problem("spec.image", "late"),
        problem("spec.mounts[0].target"),
        problem("spec.mounts[01]"),
        problem("spec.imagery"),
    ]
    assert [one.path for one in merge(read, checked)] == [
        "spec.image",
        "spec.mounts[0]",
        "spec.mounts[01]",
        "spec.imagery",
    ]
    assert merge(read, checked)[0].message == "is wrong"


def test_one_problem_for_a_path() -> None:
    assert [one.message for one in merge([problem("a", "first"), problem("a", "second")])] == ["first"]


def test_a_problem_of_the_whole_hides_nothing() -> None:
    assert len(merge([problem("")], [problem("spec")])) == 2


def test_the_reason_is_the_one_they_share() -> None:
    assert common_reason([problem("a", reason="TOO_LARGE")]) == "TOO_LARGE"
    assert common_reason([problem("a", reason="TOO_LARGE"), problem("b", reason="NOT_SUPPORTED")]) == "INVALID_FIELDS"


def test_collected() -> None:
    problems = Problems()
    problems.add("a", "is wrong")
    assert problems == [problem("a")]


@given(st.lists(st.builds(problem, st.text(max_size=400), st.text(max_size=600)), min_size=1, max_size=40))
def test_what_is_shown_fits_an_answer(problems: list[Problem]) -> None:
    shown = bounded(problems)
    assert 1 <= len(shown) <= MOST_FIELDS
    fields = [{"field": one.path, "message": one.message} for one in shown]
    assert len(shown) == 1 or len(json.dumps(fields, ensure_ascii=False).encode("utf-8", "replace")) <= 3_500


def test_long_problems_are_cut_and_fewer_shown() -> None:
    shown = bounded([problem("p" * 400, "m" * 600)] * 16)
    assert 1 < len(shown) < 16
    assert (len(shown[0].path), len(shown[0].message), shown[0].path[-1]) == (192, 320, "…")


def test_the_sentence_above() -> None:
    assert summary([problem("spec.image", "is required")], 1) == "spec.image: is required"
    assert summary([problem("", "is empty")], 1) == "the body: is empty"
    assert summary([problem("a"), problem("b")], 2) == "2 fields are wrong"
    assert summary([problem("a")] * 20, 16) == "20 fields are wrong; the first 16 are listed"
