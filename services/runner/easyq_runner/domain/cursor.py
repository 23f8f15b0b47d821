"""Where in one output stream of a container things stand. Offsets count bytes from the stream's beginning.

Docker can only read a log from its beginning, so each reading passes bytes again that are known already; they are
skipped by counting. What is taken goes to a buffer, and leaves it when the store has it:

    0 ──── stored ──── taken ──── limit
           └ buffered ┘
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from easyq_runner.domain.records import StreamEnd, Verdict


@dataclass(frozen=True, kw_only=True, slots=True)
class LogCursor:
    """One stream's offsets."""

    # Bytes kept; what comes after is dropped and marks the stream as truncated.
    limit: int
    # Of the next byte that the reading under way delivers.
    position: int = 0
    # The store has everything before.
    stored: int = 0
    # [stored, taken) is in the buffer.
    taken: int = 0
    truncated: bool = False

    @property
    def satisfied(self) -> bool:
        """Whether reading on can't bring anything new."""
        return self.truncated

    @property
    def end(self) -> StreamEnd:
        """Size and mark of the stream, if it ends here."""
        return StreamEnd(size=self.taken, truncated=self.truncated)


@dataclass(frozen=True, kw_only=True, slots=True)
class Taken:
    """What a reading brought: bytes [begin, end) of the piece go to the buffer."""

    cursor: LogCursor
    begin: int
    end: int


def take(cursor: LogCursor, size: int) -> Taken:
    """The reading delivers a piece of `size` bytes."""
    if cursor.position > cursor.taken:
        # The store has lost what this reading is past already; the next one will bring it.
        return Taken(cursor=replace(cursor, position=cursor.position + size), begin=0, end=0)
    begin = min(size, max(0, cursor.taken - cursor.position))
    end = min(size, begin + max(0, cursor.limit - cursor.taken))
    moved = replace(
        cursor,
        position=cursor.position + size,
        taken=cursor.taken + (end - begin),
        truncated=cursor.truncated or end < size,
    )
    return Taken(cursor=moved, begin=begin, end=end)


def reread(cursor: LogCursor) -> LogCursor:
    """A new reading begins at the stream's beginning."""
    return replace(cursor, position=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Settled:
    """What the store's answer means: drop `dropped` bytes from the buffer's front (all of them if None)."""

    cursor: LogCursor
    dropped: int | None
    # Bytes are needed that the buffer has no more: read again from the beginning.
    reread: bool = False


def settle(cursor: LogCursor, verdict: Verdict, stored: int) -> Settled:
    """The store answered an append with its end of the stream (OK or GAP)."""
    if stored < cursor.stored and verdict is Verdict.GAP:
        return Settled(cursor=replace(cursor, stored=stored, taken=stored), dropped=None, reread=True)
    if stored > cursor.taken:
        # An earlier agent, or this one before a restart, has stored more than was read again so far.
        return Settled(cursor=replace(cursor, stored=stored, taken=stored), dropped=None)
    forward = max(stored, cursor.stored)
    return Settled(cursor=replace(cursor, stored=forward), dropped=forward - cursor.stored)


def ends_alike(seen: bytes, total: int, kept: bytes, *, whole: bool) -> bool:
    """Whether one stream was read to its end.

    `seen` are the last bytes that were read of `total` in all, `kept` the last bytes that the engine has of the stream,
    or all of them if `whole`. More than `kept` shows can't be compared; a reading that was cut off and whose rest
    looks like its own end is not told from a whole one.
    """
    if whole:
        return total == len(kept) and kept.endswith(seen)
    size = min(len(seen), len(kept))
    return total >= len(kept) and seen[len(seen) - size :] == kept[len(kept) - size :]
