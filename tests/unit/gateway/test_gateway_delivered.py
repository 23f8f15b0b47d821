"""A reader whose stream begins anew gets nothing twice and misses nothing."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from easyq.v1.log_service_pb2 import LogChunk, LogEnd, LogStream, ReadLogsRequest, ReadLogsResponse
from easyq_gateway.usecases.logs import Delivered


def chunk(data: bytes, offset: int, execution: str = "e", stream: Any = LogStream.STDOUT) -> ReadLogsResponse:
    return ReadLogsResponse(chunk=LogChunk(execution_id=execution, stream=stream, offset=offset, data=data))


def end(execution: str, *, job_ended: bool = False) -> ReadLogsResponse:
    return ReadLogsResponse(end=LogEnd(execution_id=execution, job_ended=job_ended))


def test_what_was_delivered_is_left_out() -> None:
    delivered = Delivered(ReadLogsRequest(job_id="j", follow=True))
    assert delivered.take(chunk(b"abc", 0)) == chunk(b"abc", 0)
    assert delivered.take(chunk(b"ab", 0)) is None
    assert delivered.take(chunk(b"bcde", 1)) == chunk(b"de", 3)
    assert delivered.take(chunk(b"x", 0, stream=LogStream.STDERR)) == chunk(b"x", 0, stream=LogStream.STDERR)
    assert delivered.take(chunk(b"y", 0, execution="f")) == chunk(b"y", 0, execution="f")


def test_each_end_is_told_once() -> None:
    delivered = Delivered(ReadLogsRequest(job_id="j", follow=True))
    assert delivered.take(end("a")) == end("a")
    assert delivered.take(end("a")) is None
    assert delivered.take(end("b")) == end("b")
    # What was not the last attempt when it was told may turn out to have been: only then is it told again.
    assert delivered.take(end("b", job_ended=True)) == end("b", job_ended=True)


def test_an_execution_is_asked_for_from_where_it_was() -> None:
    delivered = Delivered(ReadLogsRequest(execution_id="e", stdout_offset=5, stderr_offset=7, follow=True))
    assert (delivered.rest().stdout_offset, delivered.rest().stderr_offset) == (5, 7)
    delivered.take(chunk(b"abc", 5))
    rest = delivered.rest()
    assert (rest.stdout_offset, rest.stderr_offset, rest.follow) == (8, 7, True)


@given(st.binary(max_size=30), st.lists(st.tuples(st.integers(0, 30), st.integers(1, 30)), max_size=20))
def test_any_repeats_give_the_bytes_once_and_in_order(data: bytes, pieces: list[tuple[int, int]]) -> None:
    """Pieces as a store may give them over several streams: each begins at or before what was delivered."""
    delivered = Delivered(ReadLogsRequest(job_id="j"))
    seen = b""
    for begin, length in [*pieces, (0, len(data) or 1)]:
        first = min(begin, len(seen))
        new = delivered.take(chunk(data[first : first + length], first))
        if new is not None:
            assert new.chunk.offset == len(seen)
            seen += new.chunk.data
    assert seen == data
