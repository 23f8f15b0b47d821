"""Output as people and programs get it: text where it is text, and a time before each line where that is asked."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass

#: Most bytes in one piece, so that no frame of a live stream is larger than readers like.
PIECE = 64 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """Consecutive bytes of one stream. `text` is None where they are not UTF-8. `at`: when the first was stored."""

    offset: int
    data: bytes
    text: str | None
    at: str

    @property
    def end(self) -> int:
        """Offset of the byte after its last."""
        return self.offset + len(self.data)


class TextPieces:
    """One stream, cut into pieces that are text wherever they can be: no cut is amid a character."""

    def __init__(self) -> None:
        self._held: Piece | None = None

    def take(self, offset: int, data: bytes, at: str) -> Iterator[Piece]:
        """The pieces of what came; up to three bytes are held back until the rest of their character comes."""
        for begin in range(0, len(data), PIECE):
            yield from self._take(offset + begin, data[begin : begin + PIECE], at)

    def _take(self, offset: int, data: bytes, at: str) -> Iterator[Piece]:
        if self._held is not None:
            offset, data, at = self._held.offset, self._held.data + data, self._held.at
            self._held = None
        whole = _whole_characters(data)
        text = _text(data[:whole])
        if text is None:
            whole = len(data)
        if whole:
            yield Piece(offset=offset, data=data[:whole], text=text, at=at)
        if whole < len(data):
            self._held = Piece(offset=offset + whole, data=data[whole:], text=None, at=at)

    def flush(self) -> Iterator[Piece]:
        """What is held back, as it is: nothing more comes."""
        held, self._held = self._held, None
        if held is not None:
            yield held


def _text(data: bytes) -> str | None:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _whole_characters(data: bytes) -> int:
    """How many bytes there are without the beginning of a character at the end."""
    for back in range(1, min(3, len(data)) + 1):
        byte = data[-back]
        if byte < 0x80:
            break
        if byte >= 0xC2:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4 if byte < 0xF5 else 1
            return len(data) - back if length > back else len(data)
    return len(data)


class Stamper:
    """Puts a time before each line. Where another stream's bytes come amid a line, it is broken in two lines."""

    def __init__(self) -> None:
        self._open: Hashable = None

    def stamp(self, stream: Hashable, data: bytes, at: str) -> bytes:
        """Returns the bytes with `at` and a space before each line that begins in them."""
        if not data:
            return b""
        prefix = f"{at} ".encode()
        begin = b"" if self._open == stream else prefix if self._open is None else b"\n" + prefix
        last = data[-1:]
        self._open = None if last == b"\n" else stream
        return b"".join((begin, data[:-1].replace(b"\n", b"\n" + prefix), last))


class Lines:
    """Outputs after one another: each begins a line, also where the one before it ends amid one."""

    def __init__(self) -> None:
        self._of: Hashable = None
        self._amid = False

    def follow(self, output: Hashable, data: bytes) -> bytes:
        """Returns the next bytes of an output, with a line's end before them where they would continue another's."""
        if not data:
            return b""
        begin = b"\n" if self._amid and output != self._of else b""
        self._of, self._amid = output, not data.endswith(b"\n")
        return begin + data
