"""Following output over broken streams: every byte once and in order, whatever the server repeats."""

import random
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from easyq.cursor import Gap, LogCursor
from easyq.v1.log_service_pb2 import LogChunk, LogEnd, LogStream, ReadLogsRequest, ReadLogsResponse

STREAMS = (LogStream.STDOUT, LogStream.STDERR)


@dataclass
class Server:
    """Answers like the gateway, in pieces of random sizes and in a random order of streams, and breaks at will."""

    attempts: list[tuple[bytes, bytes]]
    chance: random.Random
    honours_offsets: bool

    def answers(self, request: ReadLogsRequest) -> list[ReadLogsResponse]:
        first = int(request.execution_id.removeprefix("e")) if request.execution_id else 0
        whole: list[ReadLogsResponse] = []
        for index in range(first, first + 1 if request.execution_id else len(self.attempts)):
            offsets = [0, 0]
            if index == first and self.honours_offsets:
                offsets = [request.stdout_offset, request.stderr_offset]
            while any(offsets[n] < len(self.attempts[index][n]) for n in (0, 1)):
                n = self.chance.randrange(2)
                data = self.attempts[index][n][offsets[n] : offsets[n] + self.chance.randint(1, 5)]
                if data:
                    chunk = LogChunk(execution_id=f"e{index}", stream=STREAMS[n], offset=offsets[n], data=data)
                    whole.append(ReadLogsResponse(chunk=chunk))
                    offsets[n] += len(data)
            last = index == len(self.attempts) - 1
            whole.append(ReadLogsResponse(end=LogEnd(execution_id=f"e{index}", job_ended=last)))
        return whole[: self.chance.randint(0, len(whole))] if self.chance.random() < 0.7 else whole


# A busy machine is no reason to fail.
@settings(deadline=None)
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
    assert cursor.accept(ReadLogsResponse(end=LogEnd(execution_id="e0", state="FAILED"))) is not None
    assert cursor.ended


def test_missing_bytes_are_not_passed_over() -> None:
    cursor = LogCursor(job_id="j")
    chunk = LogChunk(execution_id="e0", stream=LogStream.STDOUT, offset=3, data=b"x")
    with pytest.raises(Gap, match="0 to 3"):
        cursor.accept(ReadLogsResponse(chunk=chunk))


def test_an_empty_answer_is_nothing() -> None:
    assert LogCursor(job_id="j").accept(ReadLogsResponse()) is None
