"""Brings the output of one container to the store: complete, in order, and in bounded memory."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack

from easyq_chassis.errors import EasyQError
from easyq_chassis.logs import get_logger
from easyq_chassis.outages import OUTAGES
from easyq_runner.domain.cursor import LogCursor, ends_alike, reread, settle, take
from easyq_runner.domain.monitoring import Backoff
from easyq_runner.domain.records import ExecutionKey, LogTail, Stream, StreamEnd, Verdict
from easyq_runner.errors import EngineError, EngineUnreachable
from easyq_runner.ports import AppendAnswer, ContainerEngine, LogPiece, LogSink
from easyq_runner.usecases.daemon import Daemon
from easyq_runner.usecases.waiting import Changes, first_of

#: Largest chunk that the store takes.
CHUNK = 256 * 1024
#: What may travel with the finish, of both streams together.
TAIL = 64 * 1024
# Bytes of both streams that wait for the store at most; the engine's file keeps the rest. A burst of an attached
# program gets more room, since what does not fit is dear to read back.
_BUFFER = 1024 * 1024
_ATTACHED_BUFFER = 4 * 1024 * 1024
# What is compared with the engine's file in the end: messages there, bytes here.
_COMPARED_MESSAGES = 64
_COMPARED_BYTES = 16 * 1024
# Seconds between tries to reach a store that is away, and between live readings that ended too early.
_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 5.0
_NEXT_READING = 1.0
_MONITOR = Backoff()


class Stale(Exception):
    """The store takes no more from this epoch: the execution is not ours any more."""


class _StreamBuffer:
    """One stream: its offsets, the bytes from `stored` to `taken`, and the last ones that the reading brought."""

    def __init__(self, limit: int) -> None:
        self.cursor = LogCursor(limit=limit)
        self.data = bytearray()
        self.recent = b""

    def take(self, piece: bytes) -> None:
        taken = take(self.cursor, len(piece))
        self.cursor = taken.cursor
        self.data += piece[taken.begin : taken.end]

    def take_attached(self, piece: bytes) -> None:
        self.take(piece)
        self.recent = (self.recent + piece)[-_COMPARED_BYTES:]

    def settle(self, answer: AppendAnswer) -> bool:
        """True where the reading has to begin anew."""
        settled = settle(self.cursor, answer.verdict, answer.stored)
        self.cursor = settled.cursor
        del self.data[: len(self.data) if settled.dropped is None else settled.dropped]
        return settled.reread


class LogPump:
    """One container's output on its way to the store.

    Attached before the start, it gets the output from the program itself, which costs the engine least: reading its
    log back costs it some microseconds a line, and an engine that is busy with that loses lines of others. What the
    attachment can't bring (the agent was restarted, the store was away) is read from the engine's log, live too; and
    `finish` compares, or reads the log from its beginning and takes what is missing. Live readings of
    logs are known to end too early, or never, so they are never trusted to have brought the end.
    """

    def __init__(
        self,
        engine: ContainerEngine,
        daemon: Daemon,
        sink: LogSink,
        *,
        key: ExecutionKey,
        container_id: str,
        limit: int,
        end_patience: float = 2.0,
        monitor: Backoff = _MONITOR,
    ) -> None:
        self._engine = engine
        self._daemon = daemon
        self._sink = sink
        self._key = key
        self._container_id = container_id
        self._limit = limit
        # Seconds that the end of the output may come later than the end of the container, or the other way round.
        self._end_patience = end_patience
        self._monitor = monitor
        self._streams = {stream: _StreamBuffer(limit) for stream in Stream}
        self._changes = Changes()
        self._attached: asyncio.Task[None] | None = None
        self._follower: asyncio.Task[None] | None = None
        self._sender: asyncio.Task[None] | None = None
        self._attachment_over = asyncio.Event()
        # It has brought everything up to the end of the output.
        self._attached_to_end = False
        # This many bytes may stay behind, for the finish to carry: a short run costs the store nothing more.
        self._leave = TAIL
        self._sending = False
        self._rewind = False
        self._stale = False
        self._log = get_logger().bind(execution=key.execution_id)

    async def attach(self) -> None:
        """Takes the output from the program itself; to be called before the start. Raises EngineError."""
        stack = AsyncExitStack()
        pieces = await stack.enter_async_context(self._engine.attach(self._container_id))
        self._attached = asyncio.create_task(self._take_attached(stack, pieces), name=f"attached:{self._key[0]}")

    def go_live(self) -> None:
        """From now on output is brought as it comes; from the engine's log if there is no attachment."""
        self._leave = 0
        self._announce_data()
        if self._attached is None:
            self._follow()

    async def until_stale(self) -> None:
        """Returns if the store says that the execution is not ours any more."""
        while not self._stale:
            await self._changes.wait()

    async def finish(self) -> tuple[LogTail, ...]:
        """Takes the rest of an ended container's output, and returns what is not in the store yet: at most 64 KiB.

        Raises Stale; EngineError where the log can't be read.
        """
        if self._attached is not None:
            await first_of(self._attachment_over.wait(), timeout=self._end_patience)
        await self._stop_reading()
        self._leave = TAIL
        whole = self._satisfied or await self._is_whole()
        if whole:
            await self._until_sent()
        if self._rewind or not whole:
            await self._read_all()
        return self.tail()

    async def drain(self) -> tuple[LogTail, ...]:
        """The same without reading on: for a log that can't be read any more. Raises Stale."""
        await self._stop_reading()
        self._leave = TAIL
        await self._until_sent()
        return self.tail()

    async def repair(self) -> None:
        """Sends the whole log once more: the store misses bytes of it. Raises Stale, EngineError."""
        self._streams = {stream: _StreamBuffer(self._limit) for stream in Stream}
        await self._read_all()
        self._leave = 0
        self._announce_data()
        await self._until_sent()

    async def close(self) -> None:
        """Stops reading and sending."""
        await self._stop_reading()
        sender, self._sender = self._sender, None
        if sender is not None:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)

    def ends(self) -> tuple[StreamEnd, StreamEnd]:
        """Sizes of stdout and stderr, if nothing more comes."""
        return self._streams[Stream.STDOUT].cursor.end, self._streams[Stream.STDERR].cursor.end

    def tail(self) -> tuple[LogTail, ...]:
        """What the store does not have yet."""
        return tuple(
            LogTail(stream=stream, offset=one.cursor.stored, data=bytes(one.data))
            for stream, one in self._streams.items()
            if one.data
        )

    # Attached -----------------------------------------------------------------------------------------------------
    async def _take_attached(self, stack: AsyncExitStack, pieces: AsyncGenerator[LogPiece]) -> None:
        async with stack:
            try:
                self._attached_to_end = await self._attached_brings_all(pieces)
            except EngineUnreachable as error:
                self._log.info("attachment_broken", error=str(error))
            finally:
                await pieces.aclose()
                self._attachment_over.set()
        if self._satisfied:
            return
        if self._attached_to_end:
            # The container's end follows at once, and with it `finish`; unless only the connection has ended.
            await asyncio.sleep(self._end_patience)
            self._attached_to_end = False
        self._follow()

    async def _attached_brings_all(self, pieces: AsyncGenerator[LogPiece]) -> bool:
        async for piece in pieces:
            self._streams[Stream.STDOUT].take_attached(piece.stdout)
            self._streams[Stream.STDERR].take_attached(piece.stderr)
            self._announce_data()
            if self._satisfied:
                return True
            if self._buffered > _ATTACHED_BUFFER or self._rewind or self._stale:
                # The program must not wait for the store: the rest comes from the engine's log.
                return False
        return True

    async def _is_whole(self) -> bool:
        """Whether the attachment has brought all that the engine has kept."""
        if not self._attached_to_end:
            return False
        kept = await self._engine.last_output(self._container_id, _COMPARED_MESSAGES)
        whole = all(
            ends_alike(one.recent, one.cursor.position, data, whole=kept.whole)
            for one, data in zip(self._streams.values(), (kept.stdout, kept.stderr), strict=True)
        )
        if not whole:
            self._log.info("attachment_differs_from_log")
        return whole

    # Reading the log ------------------------------------------------------------------------------------------------
    def _follow(self) -> None:
        if self._follower is None:
            self._follower = asyncio.create_task(self._read_live(), name=f"logs:{self._key[0]}")

    async def _read_live(self) -> None:
        failures = 0
        while True:
            try:
                await self._read(follow=True)
                failures = 0
            except EngineUnreachable as error:
                self._daemon.doubt(error)
            except EngineError as error:
                failures += 1
                self._log.warning("logs_unreadable", error=str(error), failures=failures)
            if self._satisfied or self._stale:
                return
            pause = max(_NEXT_READING, self._monitor.pause(failures)) if failures else _NEXT_READING
            await asyncio.sleep(0 if self._rewind else pause)
            await self._daemon.until_answering()

    async def _stop_reading(self) -> None:
        for task in (self._attached, self._follower):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        self._attached = self._follower = None

    async def _read_all(self) -> None:
        self._rewind = True
        while self._rewind:
            await self._read(follow=False)
            await self._until_sent()

    async def _read(self, *, follow: bool) -> None:
        """One reading from the beginning; ends early where it can bring nothing more, or has to begin anew."""
        self._rewind = False
        for stream in self._streams.values():
            stream.cursor = reread(stream.cursor)
        pieces = self._engine.logs(self._container_id, follow=follow)
        try:
            async for piece in pieces:
                await self._take(piece)
                if self._rewind or self._satisfied:
                    return
                if self._stale:
                    raise Stale
        finally:
            await pieces.aclose()

    async def _take(self, piece: LogPiece) -> None:
        self._streams[Stream.STDOUT].take(piece.stdout)
        self._streams[Stream.STDERR].take(piece.stderr)
        self._announce_data()
        while self._buffered > _BUFFER and not (self._rewind or self._stale):
            await self._changes.wait()

    @property
    def _satisfied(self) -> bool:
        return all(stream.cursor.satisfied for stream in self._streams.values())

    @property
    def _buffered(self) -> int:
        return sum(len(stream.data) for stream in self._streams.values())

    # Sending --------------------------------------------------------------------------------------------------------
    @property
    def _to_send(self) -> bool:
        return self._buffered > self._leave

    def _announce_data(self) -> None:
        if not self._to_send:
            return
        if self._sender is None:
            self._sender = asyncio.create_task(self._send(), name=f"append:{self._key[0]}")
        self._changes.announce()

    async def _until_sent(self) -> None:
        while (self._sending or self._to_send) and not self._rewind:
            if self._stale:
                raise Stale
            await self._changes.wait()

    async def _send(self) -> None:
        pause = _FIRST_PAUSE
        while not self._stale:
            if not self._to_send:
                await self._changes.wait()
                continue
            failed = not await self._try_sending()
            if failed:
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load
            pause = min(_LONGEST_PAUSE, pause * 2) if failed else _FIRST_PAUSE

    async def _try_sending(self) -> bool:
        self._sending = True
        try:
            await self._send_once()
        except EasyQError as error:
            # Of a store that is away its adapter tells.
            tell = self._log.debug if isinstance(error, OUTAGES) else self._log.warning
            tell("append_failed", error=str(error))
            return False
        finally:
            self._sending = False
            self._changes.announce()
        return True

    async def _send_once(self) -> None:
        """A chunk of each stream that has any; both go in one batch."""
        having = [(stream, one) for stream, one in self._streams.items() if one.data]
        answers = await asyncio.gather(
            *(
                self._sink.append(self._key, stream, one.cursor.stored, bytes(one.data[:CHUNK]))
                for stream, one in having
            )
        )
        for (_, one), answer in zip(having, answers, strict=True):
            if answer.verdict is Verdict.STALE:
                self._stale = True
            elif one.settle(answer):
                self._rewind = True
