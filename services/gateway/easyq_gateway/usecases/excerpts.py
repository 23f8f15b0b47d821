"""Parts of stored output as lines, for people: the last ones, or those that contain something."""

from __future__ import annotations

import codecs
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field

from easyq.v1 import log_service_pb2
from easyq_gateway.usecases.following import Following
from easyq_gateway.usecases.logs import Logs

_STDERR = log_service_pb2.LogStream.STDERR
# Bytes of the last lines that are read at most, and that a search looks through.
_MOST_SHOWN = 512 * 1024
_MOST_SEARCHED = 64 * 1024 * 1024
_MOST_FOUND = 500
# Characters of a line that are kept: a line may be as long as all of the output.
_MOST_OF_LINE = 8_000


@dataclass(frozen=True, slots=True)
class Line:
    """One line. `number` counts from 1 in its stream, 0 where it is not known; `dropped` characters are left out."""

    text: str
    stderr: bool
    number: int = 0
    dropped: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Excerpt:
    """Lines in the order in which they ended. `cut`: there is more than was looked at."""

    lines: list[Line] = field(default_factory=list)
    cut: bool = False


class Lines:
    """Puts lines together from bytes of both streams, bounded in memory whatever comes."""

    def __init__(self) -> None:
        self._decoders = {at: codecs.getincrementaldecoder("utf-8")("replace") for at in (False, True)}
        self._open = {False: "", True: ""}
        self._dropped = {False: 0, True: 0}
        self._numbers = {False: 0, True: 0}

    def take(self, data: bytes, *, stderr: bool) -> Iterator[Line]:
        """Yields the lines that end in these bytes."""
        parts = self._decoders[stderr].decode(data).split("\n")
        for at, part in enumerate(parts):
            self._add(part, stderr)
            if at < len(parts) - 1:
                yield self._end(stderr)

    def rest(self) -> Iterator[Line]:
        """Yields what has no end yet."""
        for stderr in (False, True):
            self._add(self._decoders[stderr].decode(b"", final=True), stderr)
            if self._open[stderr]:
                yield self._end(stderr)

    def _add(self, part: str, stderr: bool) -> None:
        room = _MOST_OF_LINE - len(self._open[stderr])
        self._open[stderr] += part[:room]
        self._dropped[stderr] += max(0, len(part) - room)

    def _end(self, stderr: bool) -> Line:
        self._numbers[stderr] += 1
        line = Line(self._open[stderr], stderr, self._numbers[stderr], self._dropped[stderr])
        self._open[stderr], self._dropped[stderr] = "", 0
        return line


class Excerpts:
    """Reads them. Unknown ids raise `NotFound`."""

    def __init__(self, *, logs: Logs, following: Following) -> None:
        self._logs = logs
        self._following = following

    async def last(self, execution_id: str, lines: int) -> Excerpt:
        """Returns the last lines of an execution's output, without numbers."""
        request = log_service_pb2.FollowLogsRequest(execution_id=execution_id, tail=lines, stored_only=True)
        found, taken, cut = Lines(), 0, False
        excerpt: list[Line] = []
        async with aclosing(self._following.follow(request)) as events:
            async for event in events:
                kind = event.WhichOneof("event")
                if kind == "attempt":
                    cut = bool(event.attempt.stdout_offset or event.attempt.stderr_offset)
                elif kind == "chunk":
                    taken += len(event.chunk.data)
                    excerpt += found.take(event.chunk.data, stderr=event.chunk.stream == _STDERR)
        excerpt += found.rest()
        kept, size = [], 0
        for line in reversed(excerpt):
            size += len(line.text)
            if size > _MOST_SHOWN:
                cut = True
                break
            kept.append(Line(line.text, line.stderr, 0, line.dropped))
        return Excerpt(lines=kept[::-1], cut=cut)

    async def search(self, execution_id: str, wanted: str) -> Excerpt:
        """Returns lines that contain `wanted`, in whatever case, each with its number in its stream."""
        needle = wanted.casefold()
        found: list[Line] = []
        async for line in self._all(execution_id):
            if line is None or len(found) >= _MOST_FOUND:
                return Excerpt(lines=found, cut=True)
            if needle in line.text.casefold():
                found.append(line)
        return Excerpt(lines=found)

    async def _all(self, execution_id: str) -> AsyncIterator[Line | None]:
        """All lines; None at last where not all of the output was looked through."""
        request = log_service_pb2.ReadLogsRequest(execution_id=execution_id)
        lines, taken = Lines(), 0
        async for event in self._logs.read(request):
            if not event.HasField("chunk"):
                continue
            for line in lines.take(event.chunk.data, stderr=event.chunk.stream == _STDERR):
                yield line
            taken += len(event.chunk.data)
            if taken > _MOST_SEARCHED:
                yield None
                return
        for line in lines.rest():
            yield line
