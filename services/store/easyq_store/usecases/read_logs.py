"""Stored bytes, then those that come, in order per stream, until the execution or the job has ended."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace

from easyq_store.domain.logs import final_size, from_byte, has_lost
from easyq_store.domain.records import Execution, LogChunk
from easyq_store.domain.states import Stream
from easyq_store.ports import Reads
from easyq_store.usecases.context import Context
from easyq_store.usecases.find import execution_of, job_of
from easyq_store.usecases.log_places import last_lines, removed, stored_since

# Most bytes of one answer: each reader that takes nothing holds up some of them, here and in the gateway.
PIECE_BYTES = 64 * 1024
# Most bytes of one read, and of a stored chunk.
_READ_BYTES = 256 * 1024
# Newest executions of a job among which the first is looked for that has output of a time.
_MOST_ATTEMPTS = 1_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """How far an earlier reader was. `ended`: it has seen the end of that execution too."""

    execution_id: str
    stdout_offset: int = 0
    stderr_offset: int = 0
    ended: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What is to be read: an execution's logs, or, without `execution_id`, all attempts of a job."""

    job_id: str = ""
    execution_id: str = ""
    # Empty: both.
    streams: tuple[Stream, ...] = ()
    stdout_offset: int = 0
    stderr_offset: int = 0
    follow: bool = False
    # Where to begin, instead of the offsets: behind a position; else with the last lines (of a job: of its newest
    # execution), or with what was stored since a time (ms).
    position: Position | None = None
    tail: int | None = None
    since: int | None = None
    # A chunk holds only bytes that were stored at one time.
    exact: bool = False
    # `Begun` is told.
    begins: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """How followers wait. Seconds."""

    # Bytes that another process stored are found by looking again this often.
    poll: float = 1.0
    # An ended execution whose agent doesn't bring the rest for this long is told as ended without it.
    patience: float = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Begun:
    """What follows is of this execution, from these bytes on."""

    execution: Execution
    stdout_offset: int
    stderr_offset: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """The execution has ended and its output is complete, or will not become so. `job_ended`: no attempt follows."""

    execution: Execution
    job_ended: bool


async def read_logs(ctx: Context, wanted: Wanted, pace: Pace) -> AsyncIterator[LogChunk | Begun | Ended]:
    """Chunks of at most 64 KiB, then `Ended` for each execution that has ended.

    Logs that were removed are told as none. Errors: NOT_FOUND, ABORTED (they were removed while they were read).
    """
    reads, position = ctx.store.reads, wanted.position
    if wanted.execution_id:
        execution = await execution_of(reads, "", wanted.job_id, wanted.execution_id)
        async for event in _execution(ctx, execution, wanted, pace, position, first=True):
            yield event
        return
    await job_of(reads, "", wanted.job_id)
    attempt, first, last = await _attempt_before(ctx, wanted), True, False
    if position is not None and position.ended:
        # The attempt after it follows; where there is none, the end is told again, for a reader who did not see that
        # the job has ended with it.
        known = await execution_of(reads, "", wanted.job_id, position.execution_id)
        if known.ended and not await _is_last(reads, known):
            attempt = known.attempt
    while not last:
        following = await _attempt_after(ctx, wanted, attempt, pace)
        if following is None:
            return
        of_it = position if position is not None and position.execution_id == following.execution_id else None
        async for event in _execution(ctx, following, wanted, pace, of_it, first=first):
            yield event
            last = isinstance(event, Ended) and event.job_ended
        attempt, first = following.attempt, False


async def _attempt_before(ctx: Context, wanted: Wanted) -> int:
    """The attempt behind which a reader of a job begins. Errors: NOT_FOUND."""
    reads = ctx.store.reads
    if wanted.position is not None:
        execution = await execution_of(reads, "", wanted.job_id, wanted.position.execution_id)
        return execution.attempt - 1
    if wanted.tail is not None:
        newest = await reads.newest_execution(wanted.job_id)
        return newest.attempt - 1 if newest is not None else 0
    if wanted.since is not None:
        executions = await reads.executions_of(wanted.job_id, _MOST_ATTEMPTS)
        later = [e.attempt for e in executions if e.finished_at is None or e.finished_at >= wanted.since]
        newest_attempt = executions[0].attempt if executions else 0
        return min(later, default=newest_attempt) - 1
    return 0


async def _attempt_after(ctx: Context, wanted: Wanted, attempt: int, pace: Pace) -> Execution | None:
    """The job's next attempt; a follower waits for it."""
    with ctx.news.listen(wanted.job_id) as news:
        while True:
            news.look()
            following = await ctx.store.reads.next_attempt(wanted.job_id, attempt)
            if following is not None or not wanted.follow:
                return following
            await job_of(ctx.store.reads, "", wanted.job_id)
            await news.wait(pace.poll)


async def _execution(
    ctx: Context, execution: Execution, wanted: Wanted, pace: Pace, position: Position | None, *, first: bool
) -> AsyncIterator[LogChunk | Begun | Ended]:
    streams = wanted.streams or tuple(Stream)
    offsets = await _offsets(ctx, execution, wanted, position, first=first)
    if wanted.begins:
        yield Begun(execution=execution, stdout_offset=offsets[Stream.STDOUT], stderr_offset=offsets[Stream.STDERR])
    tails = [_Tail(ctx.store.reads, execution.execution_id, stream, offsets[stream]) for stream in streams]
    quiet_since: float | None = None
    with ctx.news.listen(execution.execution_id) as news:
        while True:
            news.look()
            seen = await execution_of(ctx.store.reads, "", execution.job_id, execution.execution_id)
            async for chunk in _merged(tails, exact=wanted.exact):
                quiet_since = None
                yield chunk
            if any(has_lost(seen, tail.stream, tail.offset) for tail in tails):
                raise removed(seen.execution_id)
            if seen.ended:
                quiet_since = quiet_since if quiet_since is not None else ctx.clock.monotonic()
                patient = ctx.clock.monotonic() - quiet_since < pace.patience
                if _all_read(seen, tails) or (wanted.follow and not patient):
                    yield Ended(execution=seen, job_ended=await _is_last(ctx.store.reads, seen))
                    return
            if not wanted.follow:
                return
            await news.wait(pace.poll)


async def _offsets(
    ctx: Context, execution: Execution, wanted: Wanted, position: Position | None, *, first: bool
) -> Mapping[Stream, int]:
    """The first byte of each stream that is wanted of an execution. `first`: nothing was read before it."""
    if position is not None:
        return {Stream.STDOUT: position.stdout_offset, Stream.STDERR: position.stderr_offset}
    offsets = dict.fromkeys(Stream, 0)
    if wanted.execution_id:
        offsets = {Stream.STDOUT: wanted.stdout_offset, Stream.STDERR: wanted.stderr_offset}
    if wanted.position is not None or execution.logs_removed_at is not None:
        return offsets
    reads, streams = ctx.store.reads, wanted.streams or tuple(Stream)
    choices: list[Mapping[Stream, int]] = []
    if wanted.tail is not None and first:
        choices.append(await last_lines(reads, execution.execution_id, streams, wanted.tail))
    if wanted.since is not None and execution.created_at < wanted.since:
        choices.append(await stored_since(reads, execution.execution_id, streams, wanted.since))
    return {stream: max(offsets[stream], *(choice.get(stream, 0) for choice in choices), 0) for stream in Stream}


def _all_read(execution: Execution, tails: Sequence["_Tail"]) -> bool:
    """Whether nothing more of these streams can come: read to their final sizes, or these will never be known."""
    if execution.logs_removed_at is not None:
        return True
    sizes = [final_size(execution, tail.stream) for tail in tails]
    return all(size is None or tail.offset >= size for size, tail in zip(sizes, tails, strict=True))


async def _is_last(reads: Reads, execution: Execution) -> bool:
    if execution.next is not None:
        return False
    return await reads.next_attempt(execution.job_id, execution.attempt) is None


class _Tail:
    """One stream, read on from an offset."""

    def __init__(self, reads: Reads, execution_id: str, stream: Stream, offset: int) -> None:
        self._reads = reads
        self._execution_id = execution_id
        self.stream = stream
        self.offset = offset
        self._ready: list[LogChunk] = []

    @property
    def ready(self) -> bool:
        """Whether `peek` needs no look into the store."""
        return bool(self._ready)

    async def peek(self) -> LogChunk | None:
        """The next stored bytes, if there are any; at most 256 KiB."""
        if not self._ready:
            found = await self._reads.read_chunks(self._execution_id, self.stream, self.offset, _READ_BYTES)
            self._ready = [from_byte(chunk, self.offset) for chunk in found]
            if self._ready and self._ready[0].offset > self.offset:
                # Bytes are stored without gaps.
                raise removed(self._execution_id)
        return self._ready[0] if self._ready else None

    def take(self) -> LogChunk:
        """What `peek` showed."""
        chunk = self._ready.pop(0)
        if len(chunk.data) > PIECE_BYTES:
            self._ready.insert(0, from_byte(chunk, chunk.offset + PIECE_BYTES))
            chunk = replace(chunk, data=chunk.data[:PIECE_BYTES])
        self.offset = chunk.end
        return chunk


async def _merged(tails: Sequence[_Tail], *, exact: bool) -> AsyncIterator[LogChunk]:
    """What is stored now, in the order in which it was stored as far as that is known; small chunks put together."""
    parts: list[LogChunk] = []
    dry: set[_Tail] = set()
    while True:
        heads = [(chunk.at, index) for index, tail in enumerate(tails) if (chunk := await _head(tail, tails, dry))]
        if not heads:
            break
        chunk = tails[min(heads)[1]].take()
        if parts and not _fits(parts, chunk, exact=exact):
            yield _joined(parts)
            parts = []
        parts.append(chunk)
    if parts:
        yield _joined(parts)


async def _head(tail: _Tail, tails: Sequence[_Tail], dry: set[_Tail]) -> LogChunk | None:
    """A stream's next bytes. One that had none is looked at again only after more was read of another."""
    if tail in dry:
        return None
    is_read = not tail.ready
    chunk = await tail.peek()
    if chunk is None:
        dry.add(tail)
    elif is_read:
        dry.difference_update(tails)
    return chunk


def _fits(parts: list[LogChunk], chunk: LogChunk, *, exact: bool) -> bool:
    size = sum(len(part.data) for part in parts)
    alike = parts[0].stream is chunk.stream and (parts[0].at == chunk.at or not exact)
    return alike and size + len(chunk.data) <= PIECE_BYTES


def _joined(parts: list[LogChunk]) -> LogChunk:
    return parts[0] if len(parts) == 1 else replace(parts[0], data=b"".join(part.data for part in parts))
