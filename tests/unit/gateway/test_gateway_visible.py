"""Characters that hide, or turn a text around."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from easyq_gateway.domain import visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("a\u202egnp.exe", "a⟨RLO⟩gnp.exe"),
        ("\x1b[31m", "⟨ESC⟩[31m"),
        ("\x00", "⟨NUL⟩"),
        ("\x7f", "⟨DEL⟩"),
        ("\x85", "⟨U+0085⟩"),
        ("x\u200by", "x⟨ZWSP⟩y"),
        ("\U000e0041", "⟨U+E0041⟩"),
        ("שלום", "שלום"),
    ],
)
def test_they_are_shown(text: str, shown: str) -> None:
    assert visible.plain(text) == shown
    assert "".join(piece.text for piece in visible.pieces(text)) == shown


def test_each_has_a_name() -> None:
    hidden = [piece for piece in visible.pieces("a\u202e\x07b") if piece.hidden]
    assert [piece.name for piece in hidden] == ["U+202E right-to-left override", "U+0007 control character"]


@given(st.text())
def test_nothing_hidden_is_left_and_nothing_else_is_changed(text: str) -> None:
    shown = visible.plain(text)
    assert visible.plain(shown) == shown
    assert "".join(piece.text for piece in visible.pieces(text)) == shown
    kept = [piece.text for piece in visible.pieces(text) if not piece.hidden]
    assert all(part in text for part in kept)
