"""A follower whose stream begins anew goes on where it was: nothing twice, nothing missed."""

import random
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from easyq.v1 import log_service_pb2 as api
from easyq.v1.log_service_pb2 import FollowLogsRequest, FollowLogsResponse, LogStream
from easyq_gateway.rest.frames import Framing
from easyq_gateway.usecases.following import Followed

STREAMS = (LogStream.STDOUT, LogStream.STDERR)


def attempt(execution: str, number: int, *offsets: int) -> FollowLogsResponse:
    stdout, stderr = offsets or (0, 0)
    told = api.LogAttempt(execution_id=execution, attempt=number, stdout_offset=stdout, stderr_offset=stderr)
    return FollowLogsResponse(attempt=told)


def chunk(data: bytes, offset: int, execution: str = "e1", stream: int = LogStream.STDOUT) -> FollowLogsResponse:
    told = api.LogChunk(execution_id=execution, stream=LogStream.Name.ValueType(stream), offset=offset, data=data)
    return FollowLogsResponse(chunk=told)


def end(execution: str, *, job_ended: bool = False) -> FollowLogsResponse:
    return FollowLogsResponse(end=api.LogEnd(execution_id=execution, job_ended=job_ended))


def test_before_anything_was_told_the_request_stays_as_it_is() -> None:
    followed = Followed(FollowLogsRequest(job_id="j", tail=5))
    assert followed.position is None
    assert followed.rest() == FollowLogsRequest(job_id="j", tail=5)


def test_it_goes_on_at_the_next_byte() -> None:
    followed = Followed(FollowLogsRequest(job_id="j", tail=5))
    assert followed.take(attempt("e1", 1, 10, 0)) is not None
    assert followed.take(chunk(b"abc", 10)) == chunk(b"abc", 10)
    assert str(followed.position) == "e1:13:0"
    assert followed.rest().position == api.LogPosition(execution_id="e1", stdout_offset=13)
    assert followed.take(attempt("e1", 1, 13, 0)) is None
    assert followed.take(chunk(b"bcd", 11)) == chunk(b"d", 13)
    assert followed.take(chunk(b"d", 13)) is None


def test_each_end_is_told_once() -> None:
    followed = Followed(FollowLogsRequest(job_id="j"))
    followed.take(attempt("e1", 1))
    assert followed.take(end("e1")) == end("e1")
    assert str(followed.position) == "e1:0:0:end"
    assert followed.take(end("e1")) is None
    # What was not the job's last when it was told turned out to be so.
    assert followed.take(end("e1", job_ended=True)) == end("e1", job_ended=True)
    assert followed.take(attempt("e2", 2)) == attempt("e2", 2)
    assert str(followed.position) == "e2:0:0"


class Job:
    """A store that knows attempts as (stdout, stderr), and breaks its streams at random."""

    def __init__(self, attempts: list[tuple[bytes, bytes]], seed: int) -> None:
        self.attempts = attempts
        self.chance = random.Random(seed)

    def events(self, request: FollowLogsRequest) -> Iterator[FollowLogsResponse]:
        position = request.position if request.HasField("position") else None
        for index, output in enumerate(self.attempts):
            name, offsets = f"e{index}", [0, 0]
            if position is not None and index < int(position.execution_id[1:]) + position.ended:
                continue
            if position is not None and position.execution_id == name:
                offsets = [position.stdout_offset, position.stderr_offset]
            if self.chance.random() < 0.1:
                return
            yield attempt(name, index + 1, *offsets)
            while any(offsets[n] < len(output[n]) for n in (0, 1)):
                n = self.chance.randrange(2)
                data = output[n][offsets[n] : offsets[n] + self.chance.randint(1, 5)]
                if self.chance.random() < 0.2:
                    return
                if data:
                    yield chunk(data, offsets[n], name, STREAMS[n])
                    offsets[n] += len(data)
            yield end(name, job_ended=index == len(self.attempts) - 1)


ATTEMPTS = st.lists(st.tuples(st.binary(max_size=30), st.binary(max_size=30)), min_size=1, max_size=4)


@given(ATTEMPTS, st.integers(0, 2**32))
def test_every_byte_once_and_in_order_over_any_breaks(attempts: list[tuple[bytes, bytes]], seed: int) -> None:
    job, followed = Job(attempts, seed), Followed(FollowLogsRequest(job_id="j"))
    got: dict[tuple[str, int], bytes] = {}
    begun: list[str] = []
    ended: list[api.LogEnd] = []
    while not ended or not ended[-1].job_ended:
        for event in job.events(followed.rest()):
            new = followed.take(event)
            if new is None:
                continue
            if new.HasField("attempt"):
                begun.append(new.attempt.execution_id)
            elif new.HasField("end"):
                ended.append(new.end)
            else:
                key = (new.chunk.execution_id, new.chunk.stream)
                assert new.chunk.offset == len(got.get(key, b""))
                got[key] = got.get(key, b"") + new.chunk.data
    assert begun == [one.execution_id for one in ended] == [f"e{n}" for n in range(len(attempts))]
    for number, output in enumerate(attempts):
        assert tuple(got.get((f"e{number}", stream), b"") for stream in STREAMS) == output


@given(ATTEMPTS, st.integers(0, 2**32), st.booleans())
def test_a_reader_of_frames_that_is_cut_anywhere_goes_on_by_its_position(
    attempts: list[tuple[bytes, bytes]], seed: int, binary: bool
) -> None:
    """The position in a frame is what its reader has got: bytes that are held back are not in it."""
    job = Job(attempts, seed)
    got: dict[tuple[str, str], bytes] = {}
    request, last = FollowLogsRequest(job_id="j"), False
    while not last:
        framing, position = Framing(binary=binary), None
        for event in job.events(request):
            for frame in framing.frames(event):
                if job.chance.random() < 0.1:
                    break
                position = frame.position
                if frame.event == "log":
                    stream, offset, data = read_frame(frame)
                    assert position is not None
                    key = (position.execution_id, stream)
                    assert offset == len(got.get(key, b""))
                    got[key] = got.get(key, b"") + data
                last = last or bool(frame.data.get("jobEnded"))
            else:
                continue
            break
        if position is not None:
            request.position.execution_id = position.execution_id
            request.position.stdout_offset = position.stdout_offset
            request.position.stderr_offset = position.stderr_offset
            request.position.ended = position.ended
    for number, output in enumerate(attempts):
        assert (got.get((f"e{number}", "STDOUT"), b""), got.get((f"e{number}", "STDERR"), b"")) == output


def read_frame(frame: object) -> tuple[str, int, bytes]:
    import base64

    from easyq_gateway.rest.frames import Frame

    assert isinstance(frame, Frame)
    if frame.binary:
        name = {1: "STDOUT", 2: "STDERR"}[frame.binary[0]]
        return name, int.from_bytes(frame.binary[1:9], "big"), frame.binary[9:]
    data = frame.data["text"].encode() if "text" in frame.data else base64.b64decode(frame.data["base64"])
    return frame.data["stream"], frame.data["offset"], data
