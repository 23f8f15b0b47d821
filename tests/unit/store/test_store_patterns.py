"""Regexes of callers: as Python's own, in bounded time."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from easyq_chassis.errors import InvalidArgument
from easyq_store.domain.patterns import LONGEST, Pattern, whole_name

ATOMS = st.sampled_from(["a", "b", ".", "[ab]", "[^a]", r"\d", r"\w", "-", "^", "$", r"\.", "[a-c1]", r"[^\d]", ""])
REPEATS = ["*", "+", "?", "{2}", "{1,3}", "{2,}", "*?", "??"]
PATTERNS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.builds(lambda x, y: x + y, inner, inner),
        st.builds(lambda x, y: f"(?:{x}|{y})", inner, inner),
        st.builds(
            lambda x, q: f"({x}){q}", inner, st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{2,}", "*?", "??"])
        ),
    ),
    max_leaves=8,
)


@given(pattern=PATTERNS, name=st.text(alphabet="ab1-.", max_size=6))
@example(pattern="(a*)*", name="aa")
@example(pattern="(^a|b$)*", name="ab")
@example(pattern="(?i)AB", name="ab")
def test_it_matches_what_python_matches(pattern: str, name: str) -> None:
    assert Pattern(pattern).matches(name) is (re.fullmatch(pattern, name) is not None)


@pytest.mark.parametrize("pattern", [r"(a+)+b", r"(a|a)*b", r"(.*)(.*)(.*)(.*)(.*)(.*)(.*)(.*)b", r"(a?){100}b"])
def test_no_pattern_takes_ages(pattern: str) -> None:
    assert not Pattern(pattern).matches("a" * 128)
    assert Pattern(pattern).matches("a" * 90 + "b")


def test_case() -> None:
    assert Pattern("(?i)ma[i]L-.*").matches("MAIL-x")
    assert not Pattern("mail").matches("MAIL")


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(", "is not a regex"),
        (r"(a)\1", "refers back"),
        ("(?=a)a", "looks around"),
        ("(?<!a)b", "looks around"),
        (r"\ba", "borders of words"),
        ("(?s)a", "flags other than"),
        ("(?i:a)b", "flags within a group"),
        ("a{501}", "too"),
        ("(a{50}){50}", "too large"),
        ("(?:(?:(?:(?:){500}){500}){500}){500}", "too large"),
        ("a" * (LONGEST + 1), "more than 256 bytes"),
        ("ü" * 129, "more than 256 bytes"),
    ],
)
def test_what_is_refused(pattern: str, why: str) -> None:
    with pytest.raises(InvalidArgument, match=why) as caught:
        whole_name(pattern)
    assert [problem.field for problem in caught.value.fields] == ["taskPattern"]


def test_an_empty_one_matches_all() -> None:
    assert whole_name("")("anything")


@pytest.mark.parametrize("pattern", ["a{4294967296}", "a{100000,}", "a{1,100000}"])
def test_what_repeats_without_reason_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"reasonable size|too often"):
        Pattern(pattern)
