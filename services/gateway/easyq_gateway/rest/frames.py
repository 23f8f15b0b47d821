"""A live stream's events as frames, alike for Server-Sent Events and WebSocket.

`attempt` {executionId, attempt, stdoutOffset, stderrOffset} · `log` {executionId, stream, offset, at, text or base64} ·
`end` {executionId, state, exitCode, jobEnded, attempt, complete} · `cut` {code, reason, message}: it can't go on now.
Each with the `position` behind it, from which a reader goes on elsewhere.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from easyq.v1 import log_service_pb2
from easyq_chassis.errors import EasyQError
from easyq_gateway.codec import sse
from easyq_gateway.codec.encode import to_tree
from easyq_gateway.codec.wellknown import show_timestamp
from easyq_gateway.domain.log_positions import Position
from easyq_gateway.domain.output import PIECE, Piece, TextPieces

_NAMES = log_service_pb2.LogStream
_HEAD = struct.Struct(">BQ")


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """One event. `data` is its JSON object; `binary` is not empty where it is bytes instead."""

    event: str
    data: dict[str, Any] = field(default_factory=dict)
    binary: bytes = b""
    # None: nothing was told of any output yet.
    position: Position | None

    def text(self) -> str:
        """Returns the JSON of a WebSocket's text frame."""
        position = None if self.position is None else str(self.position)
        return json.dumps({"type": self.event, **self.data, "position": position}, ensure_ascii=False)

    def sse(self) -> bytes:
        """Returns the event as Server-Sent Events have it."""
        return sse.event(self.event, self.data, "" if self.position is None else str(self.position))


class Framing:
    """Turns events into frames. The position in each is what a reader of that frame has got, not what came.

    `binary`: output as bytes (1 byte stream: 1 stdout, 2 stderr; 8 bytes offset, big-endian; data), not as text.
    """

    def __init__(self, *, binary: bool = False) -> None:
        self._binary = binary
        self._execution_id = ""
        self._offsets = {_NAMES.STDOUT: 0, _NAMES.STDERR: 0}
        self._pieces = {_NAMES.STDOUT: TextPieces(), _NAMES.STDERR: TextPieces()}
        self._ended = False

    @property
    def position(self) -> Position | None:
        """What the reader of all frames so far has got; None before the first."""
        return self._position() if self._execution_id else None

    def cut(self, error: EasyQError) -> Frame:
        """The last frame of a stream that can't go on: why."""
        data = {"code": error.code.name, "reason": error.reason, "message": error.message}
        return Frame(event="cut", data=data, position=self.position)

    def frames(self, event: log_service_pb2.FollowLogsResponse) -> Iterator[Frame]:
        """The frames of one event."""
        kind = event.WhichOneof("event")
        if kind == "attempt":
            yield from self._begin(event.attempt)
        elif kind == "end":
            yield from self._end(event.end)
        elif kind == "chunk":
            yield from self._chunk(event.chunk)

    def _begin(self, attempt: log_service_pb2.LogAttempt) -> Iterator[Frame]:
        yield from self._rest()
        self._execution_id, self._ended = attempt.execution_id, False
        self._offsets = {_NAMES.STDOUT: attempt.stdout_offset, _NAMES.STDERR: attempt.stderr_offset}
        yield Frame(event="attempt", data=to_tree(attempt), position=self._position())

    def _end(self, end: log_service_pb2.LogEnd) -> Iterator[Frame]:
        yield from self._rest()
        self._ended = True
        yield Frame(event="end", data=to_tree(end), position=self._position())

    def _chunk(self, chunk: log_service_pb2.LogChunk) -> Iterator[Frame]:
        if self._binary:
            for begin in range(0, len(chunk.data), PIECE):
                data = chunk.data[begin : begin + PIECE]
                offset = chunk.offset + begin
                self._offsets[chunk.stream] = offset + len(data)
                yield Frame(event="log", binary=_HEAD.pack(chunk.stream, offset) + data, position=self._position())
            return
        at = show_timestamp(chunk.at)
        for piece in self._pieces[chunk.stream].take(chunk.offset, chunk.data, at):
            yield self._log(chunk.stream, piece)

    def _rest(self) -> Iterator[Frame]:
        for stream, pieces in self._pieces.items():
            for piece in pieces.flush():
                yield self._log(stream, piece)

    def _log(self, stream: log_service_pb2.LogStream.Name.ValueType, piece: Piece) -> Frame:
        self._offsets[stream] = piece.end
        data = {
            "executionId": self._execution_id,
            "stream": _NAMES.Name.Name(stream),
            "offset": piece.offset,
            "at": piece.at,
        }
        if piece.text is None:
            data["base64"] = base64.b64encode(piece.data).decode("ascii")
        else:
            data["text"] = piece.text
        return Frame(event="log", data=data, position=self._position())

    def _position(self) -> Position:
        return Position(
            execution_id=self._execution_id,
            stdout_offset=self._offsets[_NAMES.STDOUT],
            stderr_offset=self._offsets[_NAMES.STDERR],
            ended=self._ended,
        )
