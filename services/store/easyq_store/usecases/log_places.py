"""From which byte of each stream to read, where the last lines are wanted, or what was stored since a time."""

from collections.abc import Mapping, Sequence

from easyq_chassis.errors import Aborted
from easyq_store.domain.lines import LastLines, line_start
from easyq_store.domain.records import LogChunk
from easyq_store.domain.states import Stream
from easyq_store.ports import Reads

#: Bytes that are looked through for the last lines of an execution.
MOST_LOOKED_THROUGH = 8 * 1024 * 1024
# Bytes before a time's first byte that are looked through for the beginning of its line.
_LINE_LOOKED_THROUGH = 256 * 1024
_FIRST_WINDOW = 64 * 1024
_LARGEST_WINDOW = 1024 * 1024


def removed(execution_id: str) -> Aborted:
    """What a reader is told whose next bytes are gone: a short answer would look like the whole."""
    return Aborted(f"the output of execution {execution_id} was removed while it was read: it is not kept any longer")


async def last_lines(reads: Reads, execution_id: str, streams: Sequence[Stream], count: int) -> Mapping[Stream, int]:
    """Where the last `count` lines begin, of these streams together, in the order in which they were stored.

    Errors: ABORTED.
    """
    ends = await _ends(reads, execution_id, streams)
    lines = LastLines(count, ends)
    sides = [_Backwards(reads, execution_id, stream, ends[stream]) for stream in streams]
    looked = 0
    while not lines.enough and looked < MOST_LOOKED_THROUGH:
        heads = [(chunk.at, chunk.stream, side) for side in sides if (chunk := await side.peek()) is not None]
        if not heads:
            return lines.starts
        side = max(heads, key=lambda head: head[:2])[2]
        chunk = side.take()
        before = await side.peek()
        lines.take(chunk, begins_line=before is None or before.data.endswith(b"\n"))
        looked += len(chunk.data)
    if not lines.enough:
        lines.give_up()
    return lines.starts


async def stored_since(reads: Reads, execution_id: str, streams: Sequence[Stream], since: int) -> Mapping[Stream, int]:
    """Where the line begins in which each stream's first byte stored at `since` or later stands; else its end.

    Errors: ABORTED.
    """
    ends = await _ends(reads, execution_id, streams)
    return {stream: await _since(reads, execution_id, stream, ends[stream], since) for stream in streams}


async def _since(reads: Reads, execution_id: str, stream: Stream, end: int, since: int) -> int:
    low, high = 0, end  # what ends at or before `low` is older; what begins at or after `high` is not
    while low < high:
        found = await reads.read_chunks(execution_id, stream, (low + high) // 2, 1)
        if not found:
            raise removed(execution_id)
        if found[0].at < since:
            low = found[0].end
        else:
            high = min(high, found[0].offset)
    if low in {0, end}:
        return low
    return await _line_of(_Backwards(reads, execution_id, stream, low), low)


async def _line_of(side: "_Backwards", place: int) -> int:
    while (chunk := await side.peek()) is not None:
        side.take()
        start = line_start(chunk, place)
        if start is not None:
            return start
        if place - chunk.offset >= _LINE_LOOKED_THROUGH:
            return place
    return 0


async def _ends(reads: Reads, execution_id: str, streams: Sequence[Stream]) -> dict[Stream, int]:
    stdout, stderr = (await reads.log_ends([execution_id])).get(execution_id, (0, 0))
    ends = {Stream.STDOUT: stdout, Stream.STDERR: stderr}
    return {stream: ends[stream] for stream in streams}


class _Backwards:
    """One stream, chunk by chunk from byte `end` to its beginning."""

    def __init__(self, reads: Reads, execution_id: str, stream: Stream, end: int) -> None:
        self._reads = reads
        self._execution_id = execution_id
        self._stream = stream
        self._read_from = end
        self._ready: list[LogChunk] = []
        self._window = _FIRST_WINDOW

    async def peek(self) -> LogChunk | None:
        """The chunk before those taken so far."""
        if not self._ready and self._read_from > 0:
            await self._read()
        return self._ready[-1] if self._ready else None

    def take(self) -> LogChunk:
        """What `peek` showed."""
        return self._ready.pop()

    async def _read(self) -> None:
        at = max(0, self._read_from - self._window)
        while at < self._read_from:
            found = await self._reads.read_chunks(self._execution_id, self._stream, at, self._read_from - at)
            if not found or found[0].offset > at:
                raise removed(self._execution_id)
            self._ready += [chunk for chunk in found if chunk.offset < self._read_from]
            at = found[-1].end
        self._read_from = self._ready[0].offset
        self._window = min(_LARGEST_WINDOW, self._window * 2)
