"""Following output over broken streams: every byte once and in order, whatever the server repeats."""

import random
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from easyq.cursor import Gap, LogCursor, since_of
from easyq.v1.log_service_pb2 import (
    FollowLogsRequest,
    FollowLogsResponse,
    LogAttempt,
    LogChunk,
    LogEnd,
    LogPosition,
    LogStream,
)

STREAMS = (LogStream.STDOUT, LogStream.STDERR)


@dataclass
class Server:
    """Answers like the gateway, in pieces of random sizes and in a random order of streams, and breaks at will."""

    attempts: list[tuple[bytes, bytes]]
    chance: random.Random
    honours_offsets: bool

    def answers(self, request: FollowLogsRequest) -> list[FollowLogsResponse]:
        position = request.position
        first = int(position.execution_id.removeprefix("e")) + position.ended if position.execution_id else 0
        first = min(first, len(self.attempts) - 1)
        whole: list[FollowLogsResponse] = []
        for index in range(first, len(self.attempts)):
            offsets = [0, 0]
            if index == first and self.honours_offsets and not position.ended:
                offsets = [position.stdout_offset, position.stderr_offset]
            begun = LogAttempt(execution_id=f"e{index}", stdout_offset=offsets[0], stderr_offset=offsets[1])
            whole.append(FollowLogsResponse(attempt=begun))
            while any(offsets[n] < len(self.attempts[index][n]) for n in (0, 1)):
                n = self.chance.randrange(2)
                data = self.attempts[index][n][offsets[n] : offsets[n] + self.chance.randint(1, 5)]
                if data:
                    chunk = LogChunk(execution_id=f"e{index}", stream=STREAMS[n], offset=offsets[n], data=data)
                    whole.append(FollowLogsResponse(chunk=chunk))
                    offsets[n] += len(data)
            last = index == len(self.attempts) - 1
            whole.append(FollowLogsResponse(end=LogEnd(execution_id=f"e{index}", job_ended=last)))
        return whole[: self.chance.randint(0, len(whole))] if self.chance.random() < 0.7 else whole


@given(
    attempts=st.lists(st.tuples(st.binary(max_size=30), st.binary(max_size=30)), min_size=1, max_size=4),
    seed=st.integers(0, 2**32),
    honours_offsets=st.booleans(),
)
def test_every_byte_once_and_in_order_over_any_breaks(
    attempts: list[tuple[bytes, bytes]], seed: int, honours_offsets: bool
) -> None:
    server = Server(attempts, random.Random(seed), honours_offsets)
    cursor = LogCursor(job_id="j")
    got: dict[tuple[str, int], bytes] = {}
    ends: list[str] = []
    while not cursor.ended:
        for response in server.answers(cursor.request()):
            event = cursor.accept(response)
            if isinstance(event, LogChunk):
                key = (event.execution_id, event.stream)
                assert event.offset == len(got.get(key, b""))
                got[key] = got.get(key, b"") + event.data
            elif event is not None:
                ends.append(event.execution_id)
    for index, (stdout, stderr) in enumerate(attempts):
        assert got.get((f"e{index}", LogStream.STDOUT), b"") == stdout
        assert got.get((f"e{index}", LogStream.STDERR), b"") == stderr
    assert ends == [f"e{index}" for index in range(len(attempts))]


def test_one_execution_ends_with_it() -> None:
    cursor = LogCursor(execution_id="e0")
    assert cursor.request().execution_id == "e0"
    assert cursor.accept(FollowLogsResponse(end=LogEnd(execution_id="e0", state="FAILED"))) is not None
    assert cursor.ended


def test_missing_bytes_are_not_passed_over() -> None:
    cursor = LogCursor(job_id="j")
    chunk = LogChunk(execution_id="e0", stream=LogStream.STDOUT, offset=3, data=b"x")
    with pytest.raises(Gap, match="0 to 3"):
        cursor.accept(FollowLogsResponse(chunk=chunk))


def test_an_empty_answer_is_nothing() -> None:
    assert LogCursor(job_id="j").accept(FollowLogsResponse()) is None


def test_it_begins_where_the_server_says() -> None:
    cursor = LogCursor(job_id="j", tail=2)
    assert cursor.request() == FollowLogsRequest(job_id="j", tail=2)
    attempt = LogAttempt(execution_id="e1", attempt=2, stdout_offset=7)
    assert cursor.accept(FollowLogsResponse(attempt=attempt)) is None
    chunk = LogChunk(execution_id="e1", stream=LogStream.STDOUT, offset=7, data=b"x\n")
    assert cursor.accept(FollowLogsResponse(chunk=chunk)) == chunk
    assert cursor.request().position == LogPosition(execution_id="e1", stdout_offset=9)
    cursor.accept(FollowLogsResponse(end=LogEnd(execution_id="e1")))
    assert cursor.request().position == LogPosition(execution_id="e1", stdout_offset=9, ended=True)


def test_since_is_a_time_or_how_long_ago() -> None:
    time = datetime(2030, 1, 31, 8, tzinfo=timezone(timedelta(hours=2)))
    assert LogCursor(job_id="j", since=since_of(time)).request().since.seconds == 1_896_069_600
    assert LogCursor(job_id="j", since=since_of("10m")).request().since_ago.seconds == 600
    assert LogCursor(job_id="j", since=since_of(timedelta(hours=1))).request().since_ago.seconds == 3600
    assert since_of(None) is None
