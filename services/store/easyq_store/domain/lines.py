"""Where the last lines of an execution begin, over both streams, found from their ends."""

from collections.abc import Mapping

from easyq_store.domain.records import LogChunk
from easyq_store.domain.states import Stream

_LINE_END = b"\n"


class LastLines:
    """Takes chunks from the last to the first, and counts the lines that begin in them.

    Bytes are looked at, not text: a line ends with `\\n`, and the one that has no end yet is a line too.
    """

    def __init__(self, count: int, ends: Mapping[Stream, int]) -> None:
        self._left = count
        # First byte of each stream that belongs to the lines found so far.
        self.starts = dict(ends)
        self._lowest = dict(ends)
        self._found: set[Stream] = set()

    @property
    def enough(self) -> bool:
        """Whether all of them are found."""
        return self._left <= 0

    def take(self, chunk: LogChunk, *, begins_line: bool) -> None:
        """Takes the chunk before those taken so far. `begins_line`: nothing is before it, or the end of a line is."""
        self._lowest[chunk.stream] = chunk.offset
        # What follows a chunk's last byte is the first of a chunk that was taken already.
        before = len(chunk.data) - 1
        while self._left and (before := chunk.data.rfind(_LINE_END, 0, max(before, 0))) >= 0:
            self._count(chunk.stream, chunk.offset + before + 1)
        if self._left and begins_line:
            self._count(chunk.stream, chunk.offset)

    def give_up(self) -> None:
        """Nothing more is looked at: a line whose beginning was not found begins amid itself."""
        for stream, lowest in self._lowest.items():
            if stream not in self._found:
                self.starts[stream] = lowest

    def _count(self, stream: Stream, start: int) -> None:
        self.starts[stream] = start
        self._found.add(stream)
        self._left -= 1


def line_start(chunk: LogChunk, before: int) -> int | None:
    """Offset of the first byte of the line that byte `before` would go on with, if that line begins in this chunk."""
    at = chunk.data.rfind(_LINE_END, 0, max(0, before - chunk.offset))
    return None if at < 0 else chunk.offset + at + 1
