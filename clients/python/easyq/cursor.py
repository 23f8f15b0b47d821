"""Where a reader of a job's output is: what to ask for next, and what of an answer is new. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from easyq import _rpc
from easyq.deadline import Deadline
from easyq.spec import DurationLike, to_duration
from easyq.v1.log_service_pb2 import (
    FollowLogsRequest,
    FollowLogsResponse,
    LogAttempt,
    LogChunk,
    LogEnd,
    LogPosition,
    LogStream,
)

#: A time, or how long ago it was.
Since = datetime | DurationLike


class Gap(Exception):
    """The server skipped bytes that were not read yet."""


@dataclass(kw_only=True)
class LogCursor:
    """Follows a job over its attempts, or one execution, over any number of broken streams.

    Each byte is given out once and in order, whatever the server repeats after a reconnect.
    """

    job_id: str = ""
    execution_id: str = ""
    follow: bool = True
    streams: tuple[LogStream.Name.ValueType, ...] = ()
    #: Begin with the last so many lines that are stored; None: with the first.
    tail: int | None = None
    #: Begin with what was stored since then.
    since: Timestamp | Duration | None = None
    #: `at` of a chunk holds for all of its bytes.
    timestamps: bool = False
    #: Nothing follows any more.
    ended: bool = False
    _current: str = ""
    _offsets: dict[LogStream.Name.ValueType, int] = field(default_factory=dict)
    # The execution whose end was told last, as a position.
    _last: LogPosition | None = None
    _done: set[str] = field(default_factory=set)

    def request(self) -> FollowLogsRequest:
        """What to ask for now: the rest of what is being read."""
        request = _rpc.made(
            FollowLogsRequest,
            job_id=self.job_id,
            execution_id=self.execution_id,
            streams=self.streams,
            tail=self.tail,
            timestamps=self.timestamps,
            stored_only=not self.follow,
        )
        if isinstance(self.since, Timestamp):
            request.since.CopyFrom(self.since)
        elif self.since is not None:
            request.since_ago.CopyFrom(self.since)
        if self._current:
            request.position.execution_id = self._current
            request.position.stdout_offset = self._offsets.get(LogStream.STDOUT, 0)
            request.position.stderr_offset = self._offsets.get(LogStream.STDERR, 0)
        elif self._last is not None:
            request.position.CopyFrom(self._last)
        return request

    def too_late(self, deadline: Deadline) -> str:
        """Said where the time is up before the end has come."""
        what = f"execution {self.execution_id}" if self.execution_id else f"job {self.job_id}"
        return f"{what} had not ended after {deadline.seconds:g} s"

    def accept(self, response: FollowLogsResponse) -> LogChunk | LogEnd | None:
        """The part of `response` that is new, or None. Raises `Gap` where bytes are missing before it."""
        if response.HasField("attempt"):
            self._accept_attempt(response.attempt)
        if response.HasField("chunk"):
            return self._accept_chunk(response.chunk)
        if response.HasField("end"):
            return self._accept_end(response.end)
        return None

    def _accept_attempt(self, attempt: LogAttempt) -> None:
        if attempt.execution_id != self._current and attempt.execution_id not in self._done:
            self._current = attempt.execution_id
            self._offsets = {LogStream.STDOUT: attempt.stdout_offset, LogStream.STDERR: attempt.stderr_offset}

    def _accept_chunk(self, chunk: LogChunk) -> LogChunk | None:
        if chunk.execution_id in self._done:
            return None
        if chunk.execution_id != self._current:
            self._current, self._offsets = chunk.execution_id, {}
        expected = self._offsets.get(chunk.stream, 0)
        if chunk.offset > expected:
            raise Gap(f"bytes {expected} to {chunk.offset} of execution {chunk.execution_id} are missing")
        fresh = chunk.data[expected - chunk.offset :]
        if not fresh:
            return None
        self._offsets[chunk.stream] = expected + len(fresh)
        if len(fresh) == len(chunk.data):
            return chunk
        at = chunk.at if chunk.HasField("at") else None
        return LogChunk(execution_id=chunk.execution_id, stream=chunk.stream, offset=expected, data=fresh, at=at)

    def _accept_end(self, end: LogEnd) -> LogEnd | None:
        if end.job_ended or end.execution_id == self.execution_id:
            self.ended = True
        if end.execution_id in self._done:
            return None
        self._last = LogPosition(
            execution_id=end.execution_id,
            stdout_offset=self._offsets.get(LogStream.STDOUT, 0),
            stderr_offset=self._offsets.get(LogStream.STDERR, 0),
            ended=True,
        )
        self._done.add(end.execution_id)
        self._current, self._offsets = "", {}
        return end


def since_of(value: Since | None) -> Timestamp | Duration | None:
    """What people give as `since`, as a message: a time (naive ones are local), or how long ago."""
    if value is None:
        return None
    if isinstance(value, datetime):
        time = Timestamp()
        time.FromDatetime(value.astimezone())
        return time
    return to_duration(value)
