"""Lines out of bytes of two streams."""

from easyq_gateway.usecases.excerpts import Line, Lines


def test_lines_of_both_streams() -> None:
    lines = Lines()
    assert list(lines.take(b"one\ntw", stderr=False)) == [Line("one", False, 1)]
    assert list(lines.take(b"oops\n", stderr=True)) == [Line("oops", True, 1)]
    assert list(lines.take(b"o\n\nthree", stderr=False)) == [Line("two", False, 2), Line("", False, 3)]
    assert list(lines.rest()) == [Line("three", False, 4)]
    assert list(Lines().rest()) == []


def test_characters_that_come_in_two_parts_and_bytes_that_are_none() -> None:
    lines = Lines()
    assert list(lines.take("é".encode()[:1], stderr=False)) == []
    assert list(lines.take("é".encode()[1:] + b"\xff\n\xc3", stderr=False)) == [Line("é\ufffd", False, 1)]
    assert list(lines.rest()) == [Line("\ufffd", False, 2)]


def test_a_line_without_an_end_takes_little_memory() -> None:
    lines = Lines()
    for _ in range(100):
        assert list(lines.take(b"x" * 10_000, stderr=False)) == []
    (line,) = lines.take(b"y\n", stderr=False)
    assert (len(line.text), line.dropped) == (8_000, 1_000_001 - 8_000)
