"""Regexes over task names: what Python's own would match, in bounded time."""

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from easyq_chassis.patterns import LONGEST, Pattern

ATOMS = st.sampled_from(
    ["a", "b", ".", "[ab]", "[^a]", r"\d", r"\w", r"\b", "-", "^", "$", r"\.", "[a-c1]", r"[^\d]", "[]a]", r"\{,3}", ""]
)
REPEATS = ["*", "+", "?", "{2}", "{1,3}", "{2,}", "{0,2}", "*?", "??"]
PATTERNS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.builds(lambda x, y: x + y, inner, inner),
        st.builds(lambda x, y: f"(?:{x}|{y})", inner, inner),
        st.builds(lambda x, q: f"({x}){q}", inner, st.sampled_from(REPEATS)),
    ),
    max_leaves=8,
)
#: On which a matcher that goes back and tries again spends more steps than there is time for.
NASTY = [r"([a-z]+-?)+", r"(a+)+b", r"(a|a)*b", r"(.*)(.*)(.*)(.*)(.*)(.*)(.*)(.*)b", r"(a?){100}a{100}b"]


@settings(deadline=None)
@given(pattern=PATTERNS, name=st.text(alphabet="ab1-.", min_size=1, max_size=6))
@example(pattern="(a*)*", name="aa")
@example(pattern="(^a|b$)*", name="ab")
@example(pattern="(?i)AB", name="ab")
@example(pattern="a|ab", name="ab")
@example(pattern="a$|ab$", name="ab")
@example(pattern="[{,3}]+", name="{3,}")
def test_it_matches_what_python_matches(pattern: str, name: str) -> None:
    assert Pattern(pattern).matches(name) is (re.fullmatch(pattern, name) is not None)


@pytest.mark.parametrize("pattern", NASTY)
def test_no_pattern_takes_ages(pattern: str) -> None:
    assert not Pattern(pattern).matches("a" * 127 + "!")


@pytest.mark.parametrize("pattern", [".*a" * 300, r"(?:.*a.{150}){6}", r"(?:.?){1000}x", r"(?:(?:a?){31}){32}b"])
def test_the_largest_are_matched_too(pattern: str) -> None:
    assert not Pattern(pattern).matches("ab" * 64)


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("mail", "mail", True),
        ("mail", "mail-1", False),
        ("mail", "xmail", False),
        ("mail", "MAIL", False),
        ("(?i)ma[i]L-.*", "MAIL-x", True),
        ("", "", True),
        ("", "a", False),
        (".*", "", True),
        ("ü{2}", "üü", True),
        (r"\Q{,3}(?=\E", "{,3}(?=", True),
        (r"[(?=\\1{,3}]+", "(1{", True),
        (r"\\1", r"\1", True),
        ("a{}{x}", "a{}{x}", True),
        (r"\(?=", "=", True),
        ("a", "\ud800", False),
    ],
)
def test_the_whole_name_has_to_match(pattern: str, name: str, expected: bool) -> None:
    assert Pattern(pattern).matches(name) is expected


BEYOND = "which can't be matched in bounded time"


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("(?=a)a", f"looks around or refers back ((?=), {BEYOND}"),
        ("(?!a)b", f"looks around or refers back ((?!), {BEYOND}"),
        ("a(?<=a)", f"looks around or refers back ((?<=), {BEYOND}"),
        ("[a](?<!a)b", f"looks around or refers back ((?<!), {BEYOND}"),
        (r"(a)\1", rf"looks around or refers back (\1), {BEYOND}"),
        ("(?P<a>x)(?P=a)", f"looks around or refers back ((?P=), {BEYOND}"),
        ("a{,3}", "has {,3}, which has to be written {0,3}"),
        ("a{,}", "has {,}, which has to be written {0,}"),
        ("(", "is no regex that RE2 takes: missing ): ("),
        ("a{2,1}", "is no regex that RE2 takes: invalid repetition size: {2,1}"),
        ("a*+", "is no regex that RE2 takes: bad repetition operator: *+"),
        (r"a\Z", r"is no regex that RE2 takes: invalid escape sequence: \Z"),
        ("(?x)a", "is no regex that RE2 takes: invalid perl operator: (?x"),
        ("(\n\x00\u202e", "is no regex that RE2 takes: missing ): (???"),
        (r"\pL{1000}", "is no regex that RE2 takes: pattern too large"),
        ("a{1001}", "is no regex that RE2 takes: invalid repetition size: {1001}"),
        ("a{4294967296}", "has {4294967296}, which repeats too often"),
        ("a{1,99999999999999999999}", "has {1,99999999999999999999}, which repeats too often"),
        (f"a{{{'9' * 1000}}}", f"has {{{'9' * 39}, which repeats too often"),
        ("(?:(?:(?:(?:){500}){500}){500}){500}", "is no regex that RE2 takes: invalid repetition size"),
        ("\udc80", "has characters that are none of Unicode's"),
        ("a" * (LONGEST + 1), "has more than 1024 characters"),
    ],
)
def test_what_is_refused(pattern: str, told: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(told)}") as refused:
        Pattern(pattern)
    assert len(str(refused.value)) < 150


def test_patterns_of_one_text_are_equal() -> None:
    assert Pattern("a") == Pattern("a")
    assert Pattern("a") != Pattern("b")
    assert repr(Pattern("a")) == "Pattern(text='a')"


def test_nothing_is_written_to_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    """The library would write of a pattern that is wrong, or whose automaton outgrows its memory."""
    with pytest.raises(ValueError, match="RE2"):
        Pattern("(")
    Pattern(r"(?:.?){1000}x").matches("ab" * 64)
    assert capfd.readouterr() == ("", "")
