"""Where log bytes go: a chunk is taken from the stored end on."""

from dataclasses import dataclass
from enum import Enum

from easyq_store.domain.records import Execution, LogChunk
from easyq_store.domain.states import Stream


class Taken(Enum):
    """How a chunk was taken. Numbers of `easyq_internal.store.v1.AppendResult.Verdict.Kind`."""

    OK = 1
    GAP = 2
    STALE = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """A chunk as an agent sends it."""

    execution_id: str
    epoch: int
    stream: Stream
    offset: int
    data: bytes


def fit(piece: Piece, execution: Execution | None, end: int, *, at: int) -> tuple[Taken, LogChunk | None]:
    """What of the piece is to be stored behind byte `end`: None where all of it is stored, or nothing may be.

    A piece of another epoch is stale, and one of logs that were removed. A late one, after the finish, is good up to
    the final size.
    """
    if execution is None or execution.epoch != piece.epoch or execution.logs_removed_at is not None:
        return Taken.STALE, None
    if piece.offset > end:
        return Taken.GAP, None
    final = final_size(execution, piece.stream)
    data = piece.data[end - piece.offset :]
    if final is not None:
        data = data[: max(0, final - end)]
    if not data:
        return Taken.OK, None
    chunk = LogChunk(execution_id=piece.execution_id, stream=piece.stream, offset=end, data=bytes(data), at=at)
    return Taken.OK, chunk


def final_size(execution: Execution, stream: Stream) -> int | None:
    """Final size of a stream; None while unknown."""
    return execution.stdout_size if stream is Stream.STDOUT else execution.stderr_size


def has_lost(execution: Execution, stream: Stream, read_to: int) -> bool:
    """Whether bytes are gone, if a reader who saw the execution so, and then read all there is, came to this byte."""
    if not execution.logs_complete or execution.logs_removed_at is not None:
        return False
    return read_to < (final_size(execution, stream) or 0)


def from_byte(chunk: LogChunk, offset: int) -> LogChunk:
    """The chunk without what is before byte `offset` of the stream."""
    if chunk.offset >= offset:
        return chunk
    return LogChunk(
        execution_id=chunk.execution_id,
        stream=chunk.stream,
        offset=offset,
        data=chunk.data[offset - chunk.offset :],
        at=chunk.at,
    )
