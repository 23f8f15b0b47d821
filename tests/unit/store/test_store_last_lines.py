"""Where the last lines begin."""

from easyq_store.domain.lines import LastLines
from easyq_store.domain.records import LogChunk
from easyq_store.domain.states import Stream


def chunk(stream: Stream, offset: int, data: bytes) -> LogChunk:
    return LogChunk(execution_id="e", stream=stream, offset=offset, data=data, at=0)


def test_lines_are_counted_over_both_streams_from_their_ends() -> None:
    lines = LastLines(3, {Stream.STDOUT: 8, Stream.STDERR: 4})
    lines.take(chunk(Stream.STDOUT, 4, b"c\nd\n"), begins_line=True)
    assert (lines.starts, lines.enough) == ({Stream.STDOUT: 4, Stream.STDERR: 4}, False)
    lines.take(chunk(Stream.STDERR, 0, b"x\ny\n"), begins_line=True)
    assert (lines.starts, lines.enough) == ({Stream.STDOUT: 4, Stream.STDERR: 2}, True)


def test_where_nothing_more_is_looked_at_only_streams_without_a_line_begin_amid_one() -> None:
    lines = LastLines(3, {Stream.STDOUT: 8, Stream.STDERR: 9})
    lines.take(chunk(Stream.STDERR, 5, b"long"), begins_line=False)
    lines.take(chunk(Stream.STDOUT, 4, b"a\nb\n"), begins_line=False)
    lines.give_up()
    assert (lines.starts, lines.enough) == ({Stream.STDOUT: 6, Stream.STDERR: 5}, False)
