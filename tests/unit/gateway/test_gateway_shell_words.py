"""Words into one line, and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from easyq_gateway.domain.shell_words import join_words
from easyq_gateway.domain.words import split_words


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], ""),
        (["echo", "hi"], "echo hi"),
        (["sh", "-c", "echo $X | wc"], "sh -c 'echo $X | wc'"),
        (["it's"], '"it\'s"'),
        (['it\'s "so"'], "'it'\"'\"'s \"so\"'"),
        ([""], "''"),
        (["a\\b"], "'a\\b'"),
    ],
)
def test_lines(words: list[str], line: str) -> None:
    assert join_words(words) == line


@given(st.lists(st.text()))
def test_they_are_read_back(words: list[str]) -> None:
    assert split_words(join_words(words)) == words
