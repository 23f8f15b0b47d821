"""Colours of terminals."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from easyq_gateway.domain.ansi import PLAIN, Ansi, Style, changed, nearest


def runs(text: str) -> list[tuple[str, str]]:
    return [(run.text, run.style.classes) for run in Ansi().line(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", [("plain", "")]),
        ("\x1b[31mred\x1b[0m.", [("red", "ansi-ink1"), (".", "")]),
        ("\x1b[1;4;97;44mx", [("x", "ansi-bold ansi-underline ansi-ink15 ansi-ground4")]),
        ("\x1b[7mx", [("x", "ansi-inverse")]),
        ("\x1b[31;7mx", [("x", "ansi-ground1")]),
        ("\x1b[38;5;196mx", [("x", "ansi-ink9")]),
        ("\x1b[38;5;3mx", [("x", "ansi-ink3")]),
        ("\x1b[48;5;244mx", [("x", "ansi-ground8")]),
        ("\x1b[38;5;999mx", [("x", "")]),
        ("\x1b[38;2;0;200;10mx", [("x", "ansi-ink2")]),
        ("\x1b[38mx", [("x", "")]),
        ("\x1b[1m\x1b[22mx", [("x", "")]),
        ("\x1b[mx", [("x", "")]),
        ("\x1b[31;6mx", [("x", "ansi-ink1")]),
        ("\x1b[2J\x1b[10;5Hx\x1b[K", [("x", "")]),
        ("\x1b]0;title\x07x\x1b]8;;http://evil\x1b\\y", [("x", ""), ("y", "")]),
        ("\x1b]0;never ends", []),
        ("\x1b(Bx\x1b7y\x1b", [("x", ""), ("y", "")]),
        ("10%\r20%\r\x1b[32m30%", [("30%", "ansi-ink2")]),
        ("\x1b[31m10%\r20%\r\r", [("20%", "ansi-ink1")]),
    ],
)
def test_runs(text: str, expected: list[tuple[str, str]]) -> None:
    assert runs(text) == expected


def test_a_style_holds_over_lines() -> None:
    ansi = Ansi()
    assert [run.style for run in ansi.line("\x1b[35ma")] == [Style(ink=5)]
    assert [run.style for run in ansi.line("b\x1b[39m")] == [Style(ink=5)]
    assert [run.style for run in ansi.line("c")] == [PLAIN]


@pytest.mark.parametrize("number", range(16))
def test_each_of_the_sixteen_is_its_own(number: int) -> None:
    first = 30 if number < 8 else 82
    assert changed(PLAIN, str(first + number)).ink == number
    assert changed(PLAIN, str(first + 10 + number)).ground == number


def test_every_other_colour_is_one_of_them() -> None:
    assert nearest(250, 10, 10) == 9
    for number in range(256):
        assert changed(PLAIN, f"38;5;{number}").ink in range(16)


@given(st.text(alphabet="\x1b[]0123456789;:m\rxAK\x07\\", max_size=200))
def test_nothing_of_a_sequence_is_left(text: str) -> None:
    for run in Ansi().line(text):
        assert "\x1b" not in run.text
        assert run.text


def test_a_megabyte_of_sequences_is_no_work() -> None:
    assert runs("\x1b[" * 500_000) == []
    assert runs("\x1b[" + "1;" * 500_000 + "m!")[-1][0] == "!"
