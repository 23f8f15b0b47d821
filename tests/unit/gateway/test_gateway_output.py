"""Output as text pieces, with times before lines, and positions as words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from easyq_gateway.domain.log_positions import Position, parse_position
from easyq_gateway.domain.output import PIECE, Lines, Piece, Stamper, TextPieces

T1, T2 = "2030-01-31T08:00:00.000Z", "2030-01-31T08:00:01.500Z"


def pieces_of(*chunks: bytes) -> list[Piece]:
    pieces, offset = TextPieces(), 0
    found: list[Piece] = []
    for data in chunks:
        found += pieces.take(offset, data, T1)
        offset += len(data)
    return [*found, *pieces.flush()]


@given(st.lists(st.binary(min_size=1, max_size=12), max_size=12))
def test_pieces_are_the_bytes_without_loss_or_doubling(chunks: list[bytes]) -> None:
    at = 0
    for piece in pieces_of(*chunks):
        assert piece.offset == at
        assert piece.text is None or piece.text.encode() == piece.data
        at = piece.end
    assert b"".join(piece.data for piece in pieces_of(*chunks)) == b"".join(chunks)


@given(st.text(min_size=1, max_size=40), st.integers(1, 5))
def test_text_stays_text_wherever_it_is_cut(text: str, size: int) -> None:
    data = text.encode()
    found = pieces_of(*(data[at : at + size] for at in range(0, len(data), size)))
    assert "".join(piece.text or "" for piece in found) == text


def test_what_is_no_text_is_told_as_bytes() -> None:
    assert [(p.offset, p.text, p.data) for p in pieces_of(b"ok\n", b"\xff\x00", b"\xe2\x82", b"\xac", b"\xe2")] == [
        (0, "ok\n", b"ok\n"),
        (3, None, b"\xff\x00"),
        (5, "€", b"\xe2\x82\xac"),
        (8, None, b"\xe2"),
    ]


def test_a_character_of_four_bytes_is_whole_with_its_last() -> None:
    data = "é😀".encode()
    found = pieces_of(data[:3], data[3:5], data[5:])
    assert [(piece.offset, piece.end, piece.text) for piece in found] == [(0, 2, "é"), (2, 6, "😀")]


def test_a_character_that_is_held_back_keeps_its_time() -> None:
    pieces = TextPieces()
    assert list(pieces.take(0, b"\xe2\x82", T1)) == []
    assert [piece.at for piece in pieces.take(2, b"\xacx", T2)] == [T1]


def test_long_output_comes_in_pieces() -> None:
    data = ("€" * PIECE).encode()
    found = pieces_of(data)
    assert max(len(piece.data) for piece in found) <= PIECE + 3
    assert b"".join(piece.data for piece in found) == data
    assert all(piece.text is not None for piece in found)


# ------------------------------------------------------------------------------------------------------------- times


def test_each_line_has_one_time_however_it_came() -> None:
    stamper = Stamper()
    told = [("o", b"one\ntw", T1), ("o", b"o\n", T2), ("o", b"three", T2), ("o", b"", T2), ("o", b"\r\n\n", T2)]
    assert b"".join(stamper.stamp(*one) for one in told).decode() == (f"{T1} one\n{T1} two\n{T2} three\r\n{T2} \n")


def test_a_line_that_another_stream_breaks_has_two() -> None:
    stamper = Stamper()
    told = [("o", b"begin", T1), ("e", b"error\n", T2), ("o", b" end\n", T2), ("e", b"x", T2), ("o", b"y", T2)]
    assert b"".join(stamper.stamp(*one) for one in told).decode() == (
        f"{T1} begin\n{T2} error\n{T2}  end\n{T2} x\n{T2} y"
    )


@given(st.lists(st.binary(max_size=10), max_size=10))
def test_without_the_times_it_is_the_bytes(chunks: list[bytes]) -> None:
    stamper = Stamper()
    stamped = b"".join(stamper.stamp("o", data.replace(b"2", b""), T1) for data in chunks)
    assert stamped.replace(f"{T1} ".encode(), b"") == b"".join(chunks).replace(b"2", b"")
    lines = b"".join(chunks).replace(b"2", b"").split(b"\n")
    assert stamped.count(T1.encode()) == len(lines) - (not lines[-1])


# --------------------------------------------------------------------------------------------------------- positions


@given(st.uuids(), st.integers(0, 2**59), st.integers(0, 2**59), st.booleans())
def test_positions_are_words(execution: object, stdout: int, stderr: int, ended: bool) -> None:
    position = Position(execution_id=str(execution), stdout_offset=stdout, stderr_offset=stderr, ended=ended)
    assert parse_position(str(position)) == position
    # With what stands before it, it has to fit into the reason of a WebSocket's close.
    assert len(f"; from={position}") <= 100


@pytest.mark.parametrize(
    ("word", "position"),
    [
        ("e-1.x:0:12", Position(execution_id="e-1.x", stdout_offset=0, stderr_offset=12)),
        ("e:3:4:end", Position(execution_id="e", stdout_offset=3, stderr_offset=4, ended=True)),
    ],
)
def test_a_position_and_its_word(word: str, position: Position) -> None:
    assert parse_position(word) == position
    assert str(position) == word


@pytest.mark.parametrize(
    "word", ["", "e", "e:1", "e:1:-2", "e:1:2:", "e:1:2:no", "e:1:2:end ", "é:1:2", "e:١:2", "-:1:2"]
)
def test_words_that_are_no_positions(word: str) -> None:
    with pytest.raises(ValueError, match="must be <executionId>"):
        parse_position(word)


def test_each_output_begins_a_line() -> None:
    lines = Lines()
    told = [("a", b"one\ntw"), ("a", b"o"), ("b", b""), ("b", b"three\n"), ("c", b"four")]
    assert b"".join(lines.follow(output, data) for output, data in told) == b"one\ntwo\nthree\nfour"
