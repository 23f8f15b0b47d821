"""Offsets of output streams, and Docker's frames."""

from hypothesis import given
from hypothesis import strategies as st

from easyq_runner.adapters.docker_frames import FrameReader
from easyq_runner.domain.cursor import LogCursor, Settled, ends_alike, reread, settle, take
from easyq_runner.domain.records import StreamEnd, Verdict


def test_a_reading_skips_what_is_taken_and_stops_at_the_limit() -> None:
    cursor = LogCursor(limit=10, taken=4, stored=2)
    first = take(cursor, 3)
    assert (first.begin, first.end, first.cursor.position, first.cursor.taken) == (3, 3, 3, 4)
    second = take(first.cursor, 5)
    assert (second.begin, second.end, second.cursor.taken) == (1, 5, 8)
    assert not second.cursor.satisfied
    third = take(second.cursor, 5)
    assert (third.begin, third.end, third.cursor.taken) == (0, 2, 10)
    assert third.cursor.satisfied
    assert third.cursor.end == StreamEnd(size=10, truncated=True)
    assert reread(third.cursor).position == 0


def test_output_of_exactly_the_limit_is_not_cut() -> None:
    taken = take(LogCursor(limit=5), 5)
    assert taken.cursor.end == StreamEnd(size=5, truncated=False)


def test_what_the_store_answers() -> None:
    cursor = LogCursor(limit=100, stored=10, taken=30, position=30)
    moved = settle(cursor, Verdict.OK, 20)
    assert (moved.cursor.stored, moved.dropped, moved.reread) == (20, 10, False)
    assert settle(cursor, Verdict.OK, 5).dropped == 0  # belated
    # An earlier agent had stored more than this one has read.
    ahead = settle(cursor, Verdict.OK, 50)
    assert (ahead.cursor.stored, ahead.cursor.taken, ahead.dropped) == (50, 50, None)
    # The store has lost something: what is needed is not in the buffer any more.
    lost = settle(cursor, Verdict.GAP, 4)
    assert lost == Settled(cursor=LogCursor(limit=100, stored=4, taken=4, position=30), dropped=None, reread=True)
    assert take(lost.cursor, 10).cursor == LogCursor(limit=100, stored=4, taken=4, position=40)
    within = settle(cursor, Verdict.GAP, 15)
    assert (within.cursor.stored, within.dropped, within.reread) == (15, 5, False)


def test_comparing_the_end_with_what_the_engine_has_kept() -> None:
    assert ends_alike(b"abc", 3, b"abc", whole=True)
    assert ends_alike(b"bc", 3, b"abc", whole=True)
    assert not ends_alike(b"ab", 2, b"abc", whole=True)
    assert not ends_alike(b"abd", 3, b"abc", whole=True)
    assert ends_alike(b"", 0, b"", whole=True)
    assert ends_alike(b"xyzabc", 600, b"abc", whole=False)
    assert ends_alike(b"bc", 600, b"xyzabc", whole=False)
    assert not ends_alike(b"xyzab", 599, b"abc", whole=False)
    assert not ends_alike(b"bc", 2, b"xyzabc", whole=False)
    assert ends_alike(b"abc", 3, b"", whole=False)


@given(
    data=st.binary(max_size=200),
    limit=st.integers(0, 220),
    cuts=st.lists(st.integers(1, 40), max_size=30),
    moves=st.lists(st.tuples(st.sampled_from(["read", "restart", "store", "ahead", "lose"]), st.integers(0, 50))),
)
def test_whatever_happens_no_byte_is_lost_or_doubled(
    data: bytes, limit: int, cuts: list[int], moves: list[tuple[str, int]]
) -> None:
    """Pieces of any size, readings that begin anew, a store that is ahead or has lost something."""
    cursor, buffer, store = LogCursor(limit=limit), b"", b""

    def read(size: int) -> None:
        nonlocal cursor, buffer
        piece = data[cursor.position : cursor.position + size]
        taken = take(cursor, len(piece))
        cursor, buffer = taken.cursor, buffer + piece[taken.begin : taken.end]

    def append(size: int) -> None:
        nonlocal cursor, buffer, store
        chunk, offset = buffer[:size], cursor.stored
        gap = offset > len(store)
        if not gap:
            store += chunk[len(store) - offset :]
        settled = settle(cursor, Verdict.GAP if gap else Verdict.OK, len(store))
        cursor = settled.cursor
        buffer = b"" if settled.dropped is None else buffer[settled.dropped :]
        if settled.reread:
            cursor = reread(cursor)

    for move, size in moves:
        if move == "read":
            read(size)
        elif move == "restart":
            cursor = reread(cursor)
        elif move == "store":
            append(size)
        elif move == "ahead":
            store = data[: min(limit, len(data), len(store) + size)]
        else:
            store = store[: max(0, len(store) - size)]
        assert buffer == data[cursor.stored : cursor.taken]
    for _ in range(3):  # one reading more for each loss that is found on the way
        cursor = reread(cursor)
        for cut in [*cuts, len(data)]:
            read(cut)
        append(len(data))
        append(len(data))
    assert store == data[:limit]
    assert cursor.end == StreamEnd(size=min(limit, len(data)), truncated=len(data) > limit)


@given(
    frames=st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=40)), max_size=20),
    cuts=st.lists(st.integers(1, 15), max_size=60),
)
def test_frames_cut_anywhere(frames: list[tuple[int, bytes]], cuts: list[int]) -> None:
    raw = b"".join(bytes([stream, 0, 0, 0]) + len(data).to_bytes(4) + data for stream, data in frames)
    reader, stdout, stderr = FrameReader(), b"", b""
    at = 0
    for cut in [*cuts, len(raw)]:
        piece = reader.feed(raw[at : at + cut])
        at += cut
        stdout, stderr = stdout + piece.stdout, stderr + piece.stderr
    assert stdout == b"".join(data for stream, data in frames if stream == 1)
    assert stderr == b"".join(data for stream, data in frames if stream == 2)
    assert reader.whole
    if raw:
        torn = FrameReader()
        torn.feed(raw[:-1])
        assert not torn.whole
