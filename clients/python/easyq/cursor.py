"""Where a reader of a job's output is: what to ask for next, and what of an answer is new. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from easyq.v1.log_service_pb2 import LogChunk, LogEnd, LogStream, ReadLogsRequest, ReadLogsResponse


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
    #: Nothing follows any more.
    ended: bool = False
    _current: str = ""
    _offsets: dict[LogStream.Name.ValueType, int] = field(default_factory=dict)
    _done: set[str] = field(default_factory=set)

    def request(self) -> ReadLogsRequest:
        """What to ask for now: the rest of the execution that is being read, else the job."""
        request = ReadLogsRequest(streams=self.streams, follow=self.follow)
        execution = self._current or self.execution_id
        if execution:
            request.execution_id = execution
            request.stdout_offset = self._offsets.get(LogStream.STDOUT, 0)
            request.stderr_offset = self._offsets.get(LogStream.STDERR, 0)
        else:
            request.job_id = self.job_id
        return request

    def accept(self, response: ReadLogsResponse) -> LogChunk | LogEnd | None:
        """The part of `response` that is new, or None. Raises `Gap` where bytes are missing before it."""
        if response.HasField("chunk"):
            return self._accept_chunk(response.chunk)
        if response.HasField("end"):
            return self._accept_end(response.end)
        return None

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
        return LogChunk(execution_id=chunk.execution_id, stream=chunk.stream, offset=expected, data=fresh)

    def _accept_end(self, end: LogEnd) -> LogEnd | None:
        if end.job_ended or end.execution_id == self.execution_id:
            self.ended = True
        if end.execution_id in self._done:
            return None
        self._done.add(end.execution_id)
        self._current, self._offsets = "", {}
        return end
