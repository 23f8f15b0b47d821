"""Log bytes."""

from easyq.v1.job_pb2 import Execution as ExecutionMessage
from easyq.v1.log_service_pb2 import LogChunk as LogChunkMessage
from easyq.v1.log_service_pb2 import LogEnd, LogStream, ReadLogsRequest, ReadLogsResponse
from easyq_chassis.errors import FieldProblem, InvalidArgument
from easyq_internal.store.v1.log_store_pb2 import AppendResult
from easyq_internal.store.v1.records_pb2 import Chunk
from easyq_store.convert.basics import members
from easyq_store.domain.logs import Piece
from easyq_store.domain.records import LogChunk
from easyq_store.domain.states import Stream
from easyq_store.usecases.append import Appended
from easyq_store.usecases.read_logs import Ended, Wanted


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
    if not request.job_id and not request.execution_id:
        problem = FieldProblem(field="jobId", message="is required unless executionId is given")
        raise InvalidArgument("a job or an execution must be named", fields=[problem])
    return Wanted(
        job_id=request.job_id,
        execution_id=request.execution_id,
        streams=members(Stream, request.streams, "streams"),
        stdout_offset=request.stdout_offset,
        stderr_offset=request.stderr_offset,
        follow=request.follow,
    )


def event(told: LogChunk | Ended) -> ReadLogsResponse:
    """Bytes, or an end."""
    if isinstance(told, LogChunk):
        return ReadLogsResponse(
            chunk=LogChunkMessage(
                execution_id=told.execution_id,
                stream=LogStream.Name.ValueType(told.stream),
                offset=told.offset,
                data=told.data,
            )
        )
    execution = told.execution
    return ReadLogsResponse(
        end=LogEnd(
            execution_id=execution.execution_id,
            state=ExecutionMessage.State.Name(ExecutionMessage.State.ValueType(execution.state)),
            exit_code=execution.exit_code,
            job_ended=told.job_ended,
        )
    )
