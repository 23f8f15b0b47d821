"""ReadLogs: stored bytes, then those that come, in order per stream, until the execution or the job has ended."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

from easyq_chassis.errors import Aborted
from easyq_store.domain.logs import final_size, from_byte, has_lost
from easyq_store.domain.records import Execution, LogChunk
from easyq_store.domain.states import Stream
from easyq_store.ports import Reads
from easyq_store.usecases.context import Context
from easyq_store.usecases.find import execution_of, job_of

# Most bytes of one answer, and of one read.
CHUNK_BYTES = 256 * 1024


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """How followers wait. Seconds."""

    # Bytes that another process stored are found by looking again this often.
    poll: float = 1.0
    # An ended execution whose agent doesn't bring the rest for this long is told as ended without it.
    patience: float = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """The execution has ended and its output is complete, or will not become so. `job_ended`: no attempt follows."""

    execution: Execution
    job_ended: bool


async def read_logs(ctx: Context, wanted: Wanted, pace: Pace) -> AsyncIterator[LogChunk | Ended]:
    """Chunks of at most 256 KiB, then `Ended` for each execution that has ended.

    Logs that were removed are told as none. Errors: NOT_FOUND, ABORTED (they were removed while they were read).
    """
    reads = ctx.store.reads
    if wanted.execution_id:
        execution = await execution_of(reads, "", wanted.job_id, wanted.execution_id)
        async for event in _execution(ctx, execution, wanted, pace):
            yield event
        return
    await job_of(reads, "", wanted.job_id)
    attempt, last = 0, False
    while not last:
        following = await _attempt_after(ctx, wanted, attempt, pace)
        if following is None:
            return
        async for event in _execution(ctx, following, wanted, pace):
            yield event
            last = isinstance(event, Ended) and event.job_ended
        attempt = following.attempt


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


async def _execution(ctx: Context, execution: Execution, wanted: Wanted, pace: Pace) -> AsyncIterator[LogChunk | Ended]:
    offsets = {Stream.STDOUT: wanted.stdout_offset, Stream.STDERR: wanted.stderr_offset}
    streams = wanted.streams or tuple(Stream)
    if not wanted.execution_id:
        offsets = dict.fromkeys(Stream, 0)
    tails = [_Tail(ctx.store.reads, execution.execution_id, stream, offsets[stream]) for stream in streams]
    quiet_since: float | None = None
    with ctx.news.listen(execution.execution_id) as news:
        while True:
            news.look()
            seen = await execution_of(ctx.store.reads, "", execution.job_id, execution.execution_id)
            async for chunk in _merged(tails):
                quiet_since = None
                yield chunk
            if any(has_lost(seen, tail.stream, tail.offset) for tail in tails):
                raise _removed(seen.execution_id)
            if seen.ended:
                quiet_since = quiet_since if quiet_since is not None else ctx.clock.monotonic()
                patient = ctx.clock.monotonic() - quiet_since < pace.patience
                if _all_read(seen, tails) or (wanted.follow and not patient):
                    yield Ended(execution=seen, job_ended=await _is_last(ctx.store.reads, seen))
                    return
            if not wanted.follow:
                return
            await news.wait(pace.poll)


def _removed(execution_id: str) -> Aborted:
    return Aborted(f"the output of execution {execution_id} was removed while it was read: it is not kept any longer")


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

    async def peek(self) -> LogChunk | None:
        """The next stored bytes, if there are any; at most 256 KiB."""
        if not self._ready:
            found = await self._reads.read_chunks(self._execution_id, self.stream, self.offset, CHUNK_BYTES)
            self._ready = [from_byte(chunk, self.offset) for chunk in found]
            if self._ready and self._ready[0].offset > self.offset:
                # Bytes are stored without gaps.
                raise _removed(self._execution_id)
        return self._ready[0] if self._ready else None

    def take(self) -> LogChunk:
        """What `peek` showed."""
        chunk = self._ready.pop(0)
        if len(chunk.data) > CHUNK_BYTES:
            self._ready.insert(0, from_byte(chunk, chunk.offset + CHUNK_BYTES))
            chunk = replace(chunk, data=chunk.data[:CHUNK_BYTES])
        self.offset = chunk.end
        return chunk


async def _merged(tails: Sequence[_Tail]) -> AsyncIterator[LogChunk]:
    """What is stored now, in the order in which it was stored as far as that is known; small chunks put together."""
    parts: list[LogChunk] = []
    while True:
        heads = [(chunk.at, index) for index, tail in enumerate(tails) if (chunk := await tail.peek())]
        if not heads:
            break
        chunk = tails[min(heads)[1]].take()
        if parts and not _fits(parts, chunk):
            yield _joined(parts)
            parts = []
        parts.append(chunk)
    if parts:
        yield _joined(parts)


def _fits(parts: list[LogChunk], chunk: LogChunk) -> bool:
    size = sum(len(part.data) for part in parts)
    return parts[0].stream is chunk.stream and size + len(chunk.data) <= CHUNK_BYTES


def _joined(parts: list[LogChunk]) -> LogChunk:
    return parts[0] if len(parts) == 1 else replace(parts[0], data=b"".join(part.data for part in parts))
