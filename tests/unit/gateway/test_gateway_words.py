"""Command lines: the same words as `shlex.split`, in linear time."""

import shlex
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from easyq_gateway.domain.words import split_words

TEXT = st.text(alphabet=st.sampled_from("ab \t\n\r'\"\\$|>#*é\0"), max_size=30)


@given(TEXT)
@example("python /app/sendmail.py")
@example("""sh -c "echo \\"$A\\"; echo 'x' >&2" """)
@example("''")
@example('a""b')
@example("\\")
def test_words_are_those_of_shlex(text: str) -> None:
    try:
        expected = shlex.split(text)
    except ValueError:
        with pytest.raises(ValueError, match=r"quote|backslash"):
            split_words(text)
    else:
        assert split_words(text) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        (" \t\r\n", []),
        ("  sh  -c\n", ["sh", "-c"]),
        ("'' a\"\"b", ["", "ab"]),
        ("""'a b'"c d"\\ e\\'""", ["a bc d e'"]),
        (r'"\"\\\$x" $x | > #', [r'"\\$x', "$x", "|", ">", "#"]),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert split_words(text) == shlex.split(text) == words


@pytest.mark.parametrize(
    "text", ["a" * 1_000_000, "'" + "a\\" * 500_000 + "'", '"' + 'a\\"' * 300_000 + '"', "a " * 500_000]
)
def test_long_lines_take_linear_time(text: str) -> None:
    began = time.process_time()
    split_words(text)
    assert time.process_time() - began < 2


def test_the_error_says_what_is_open() -> None:
    with pytest.raises(ValueError, match="quote"):
        split_words("echo 'x")
    with pytest.raises(ValueError, match="backslash"):
        split_words("echo \\")
