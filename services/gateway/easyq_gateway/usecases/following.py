"""Output as it comes: of an execution, or of a job attempt after attempt, from where a reader was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from easyq.v1 import log_service_pb2
from easyq_chassis.clock import Clock
from easyq_chassis.errors import Unavailable
from easyq_gateway.domain.log_positions import Position
from easyq_gateway.domain.problems import Problems
from easyq_gateway.ports import LogStore
from easyq_gateway.usecases.checking import Checker

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0


class Following:
    """Follows output. A reader survives a store that restarts: it goes on where it was, for `patience` seconds."""

    def __init__(self, *, checker: Checker, logs: LogStore, clock: Clock, patience: float) -> None:
        self._checker = checker
        self._logs = logs
        self._clock = clock
        self._patience = patience

    def require(self, request: log_service_pb2.FollowLogsRequest) -> None:
        """Raises `InvalidArgument` with everything that is wrong with a request."""
        self._checker.require(request, _check_choice(request))

    async def follow(
        self, request: log_service_pb2.FollowLogsRequest
    ) -> AsyncGenerator[log_service_pb2.FollowLogsResponse]:
        """FollowLogs. Raises `InvalidArgument`, `NotFound`, `Aborted`, `Unavailable`."""
        self.require(request)
        followed = Followed(request)
        pause, failing_since = _FIRST_PAUSE, None
        while True:
            try:
                async with aclosing(self._logs.follow_logs(followed.rest())) as events:
                    async for event in events:
                        pause, failing_since = _FIRST_PAUSE, None
                        new = followed.take(event)
                        if new is not None:
                            yield new
                return
            except Unavailable:
                now = self._clock.monotonic()
                failing_since = now if failing_since is None else failing_since
                if now - failing_since >= self._patience:
                    raise
            await asyncio.sleep(pause)
            pause = min(_LONGEST_PAUSE, pause * 2)


class Followed:
    """How far a reader is, so that a stream which begins anew goes on there and repeats nothing."""

    def __init__(self, request: log_service_pb2.FollowLogsRequest) -> None:
        self._request = request
        self._execution_id = ""
        self._offsets = {log_service_pb2.LogStream.STDOUT: 0, log_service_pb2.LogStream.STDERR: 0}
        self._ended = False

    @property
    def position(self) -> Position | None:
        """Where the reader is; None before anything was told."""
        if not self._execution_id:
            return None
        names = log_service_pb2.LogStream
        return Position(
            execution_id=self._execution_id,
            stdout_offset=self._offsets[names.STDOUT],
            stderr_offset=self._offsets[names.STDERR],
            ended=self._ended,
        )

    def rest(self) -> log_service_pb2.FollowLogsRequest:
        """Returns the request for what was not told yet."""
        rest = log_service_pb2.FollowLogsRequest()
        rest.CopyFrom(self._request)
        position = self.position
        if position is not None:
            rest.position.CopyFrom(position_message(position))
        return rest

    def take(self, event: log_service_pb2.FollowLogsResponse) -> log_service_pb2.FollowLogsResponse | None:
        """Returns what is new in an event, None where nothing is."""
        kind = event.WhichOneof("event")
        if kind == "attempt":
            return self._begin(event)
        if kind == "end":
            # An end that turns out to have been the job's is told again, as that.
            known = self._ended and not event.end.job_ended
            self._ended = True
            return None if known else event
        return self._chunk(event) if kind == "chunk" else None

    def _begin(self, event: log_service_pb2.FollowLogsResponse) -> log_service_pb2.FollowLogsResponse | None:
        attempt, names = event.attempt, log_service_pb2.LogStream
        if attempt.execution_id == self._execution_id:
            return None
        self._execution_id, self._ended = attempt.execution_id, False
        self._offsets = {names.STDOUT: attempt.stdout_offset, names.STDERR: attempt.stderr_offset}
        return event

    def _chunk(self, event: log_service_pb2.FollowLogsResponse) -> log_service_pb2.FollowLogsResponse | None:
        chunk = event.chunk
        had, end = self._offsets[chunk.stream], chunk.offset + len(chunk.data)
        if end <= had:
            return None
        if chunk.offset < had:
            chunk.data = chunk.data[had - chunk.offset :]
            chunk.offset = had
        self._offsets[chunk.stream] = end
        return event


def position_message(position: Position) -> log_service_pb2.LogPosition:
    """Returns a position as its message."""
    return log_service_pb2.LogPosition(
        execution_id=position.execution_id,
        stdout_offset=position.stdout_offset,
        stderr_offset=position.stderr_offset,
        ended=position.ended,
    )


def _check_choice(request: log_service_pb2.FollowLogsRequest) -> Problems:
    problems = Problems()
    if bool(request.job_id) == bool(request.execution_id):
        problems.add("executionId", "either jobId or executionId must be set, and not both")
    elif request.HasField("position") and not request.position.execution_id:
        problems.add("position.executionId", "is required")
    elif (
        request.execution_id and request.HasField("position") and request.position.execution_id != request.execution_id
    ):
        problems.add("position.executionId", "is of another execution than the one that is asked for")
    if request.HasField("since") and request.HasField("since_ago"):
        problems.add("sinceAgo", "only one of since and sinceAgo may be set, not both")
    return problems
