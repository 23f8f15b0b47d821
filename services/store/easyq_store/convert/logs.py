"""Log bytes."""

from easyq.v1.job_pb2 import Execution as ExecutionMessage
from easyq.v1.log_service_pb2 import (
    FollowLogsRequest,
    FollowLogsResponse,
    LogAttempt,
    LogEnd,
    LogStream,
    ReadLogsRequest,
    ReadLogsResponse,
)
from easyq.v1.log_service_pb2 import LogChunk as LogChunkMessage
from easyq_chassis.errors import FieldProblem, InvalidArgument
from easyq_internal.store.v1.log_store_pb2 import AppendResult
from easyq_internal.store.v1.records_pb2 import Chunk
from easyq_store.convert.basics import duration_ms, members, timestamp, timestamp_ms
from easyq_store.domain.logs import Piece
from easyq_store.domain.records import LogChunk
from easyq_store.domain.states import Stream
from easyq_store.usecases.append import Appended
from easyq_store.usecases.read_logs import Begun, Ended, Position, Wanted


def piece(chunk: Chunk) -> Piece:
    """A chunk as an agent sends it. Errors: INVALID_ARGUMENT (no stream that this version knows)."""
    if chunk.stream not in Stream._value2member_map_:
        problem = FieldProblem(field="stream", message="must be STDOUT or STDERR")
        raise InvalidArgument("a chunk needs its stream", fields=[problem])
    return Piece(
        execution_id=chunk.execution_id,
        epoch=chunk.epoch,
        stream=Stream(chunk.stream),
        offset=chunk.offset,
        data=chunk.data,
    )


def append_result(appended: Appended) -> AppendResult:
    """How a chunk was taken."""
    verdict = AppendResult.Verdict.Kind.ValueType(appended.taken.value)
    return AppendResult(verdict=verdict, stored=appended.stored)


def wanted(request: ReadLogsRequest) -> Wanted:
    """Which logs are asked for. Errors: INVALID_ARGUMENT (neither a job nor an execution)."""
    _require_name(request)
    return Wanted(
        job_id=request.job_id,
        execution_id=request.execution_id,
        streams=members(Stream, request.streams, "streams"),
        stdout_offset=request.stdout_offset,
        stderr_offset=request.stderr_offset,
        follow=request.follow,
    )


def followed(request: FollowLogsRequest, *, now: int) -> Wanted:
    """Which logs a follower asks for at `now` (ms). Errors: INVALID_ARGUMENT (neither a job nor an execution)."""
    _require_name(request)
    since = timestamp_ms(request.since) if request.HasField("since") else None
    if request.HasField("since_ago"):
        since = now - duration_ms(request.since_ago)
    return Wanted(
        job_id=request.job_id,
        execution_id=request.execution_id,
        streams=members(Stream, request.streams, "streams"),
        follow=not request.stored_only,
        position=_position(request),
        tail=request.tail if request.HasField("tail") else None,
        since=since,
        exact=request.timestamps,
        begins=True,
    )


def _position(request: FollowLogsRequest) -> Position | None:
    if not request.HasField("position"):
        return None
    position = request.position
    return Position(
        execution_id=position.execution_id,
        stdout_offset=position.stdout_offset,
        stderr_offset=position.stderr_offset,
        ended=position.ended,
    )


def _require_name(request: ReadLogsRequest | FollowLogsRequest) -> None:
    if not request.job_id and not request.execution_id:
        problem = FieldProblem(field="jobId", message="is required unless executionId is given")
        raise InvalidArgument("a job or an execution must be named", fields=[problem])


def event(told: LogChunk | Ended) -> ReadLogsResponse:
    """Bytes, or an end."""
    if isinstance(told, LogChunk):
        return ReadLogsResponse(chunk=_chunk(told))
    return ReadLogsResponse(end=_end(told))


def follow_event(told: LogChunk | Begun | Ended) -> FollowLogsResponse:
    """A beginning, bytes, or an end."""
    if isinstance(told, LogChunk):
        return FollowLogsResponse(chunk=_chunk(told))
    if isinstance(told, Ended):
        return FollowLogsResponse(end=_end(told))
    return FollowLogsResponse(
        attempt=LogAttempt(
            execution_id=told.execution.execution_id,
            attempt=told.execution.attempt,
            stdout_offset=told.stdout_offset,
            stderr_offset=told.stderr_offset,
        )
    )


def _chunk(chunk: LogChunk) -> LogChunkMessage:
    return LogChunkMessage(
        execution_id=chunk.execution_id,
        stream=LogStream.Name.ValueType(chunk.stream),
        offset=chunk.offset,
        data=chunk.data,
        at=timestamp(chunk.at),
    )


def _end(ended: Ended) -> LogEnd:
    execution = ended.execution
    return LogEnd(
        execution_id=execution.execution_id,
        state=ExecutionMessage.State.Name(ExecutionMessage.State.ValueType(execution.state)),
        exit_code=execution.exit_code,
        job_ended=ended.job_ended,
        attempt=execution.attempt,
        complete=execution.logs_complete,
    )
