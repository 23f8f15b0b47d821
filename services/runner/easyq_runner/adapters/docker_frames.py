"""Docker's framing of a container's two outputs on one connection: 8 bytes of header, then the payload.

The header is one byte of the stream's number, three zero bytes, and the payload's size as a big-endian 32-bit number.
"""

from __future__ import annotations

from struct import Struct

from easyq_runner.ports import LogPiece

_HEADER = Struct(">BxxxI")
_STDERR = 2


class FrameReader:
    """Takes the bytes as they come, cut anywhere, and gives back what they hold of each stream."""

    def __init__(self) -> None:
        self._rest = b""
        # Frames so far; of a log, one is one message.
        self.frames = 0

    def feed(self, data: bytes) -> LogPiece:
        """Returns the payloads that `data` completes; a payload that is not whole yet stays for the next call."""
        data = self._rest + data if self._rest else data
        outputs: tuple[list[bytes], list[bytes]] = ([], [])
        at, size = 0, len(data)
        while size - at >= _HEADER.size:
            stream, length = _HEADER.unpack_from(data, at)
            end = at + _HEADER.size + length
            if end > size:
                break
            outputs[stream == _STDERR].append(data[at + _HEADER.size : end])
            self.frames += 1
            at = end
        self._rest = data[at:]
        return LogPiece(stdout=b"".join(outputs[0]), stderr=b"".join(outputs[1]))

    @property
    def whole(self) -> bool:
        """Whether nothing of a frame is left over: at the end of a connection, that nothing was cut off."""
        return not self._rest
