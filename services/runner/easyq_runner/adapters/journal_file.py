"""`Journal` as a file that only grows, and is written anew when most of it is history."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from easyq_chassis.logs import get_logger
from easyq_runner.adapters import journal_codec
from easyq_runner.domain.journal import Entry, JournalState, fold, unfold

# Entries after which it is written anew. A job leaves three or four.
_COMPACT_AFTER = 20_000

T = TypeVar("T")


class JournalDamaged(Exception):
    """The file holds what no agent has written. Without it the agent can't know what it has started."""


class FileJournal:
    """A journal at `path`. One thread writes; entries that come while it syncs share the next sync."""

    def __init__(self, path: Path, *, compact_after: int = _COMPACT_AFTER) -> None:
        self._path = path
        self._compact_after = compact_after
        self._file = -1
        self._length = 0
        self._pending: list[tuple[bytes, bool, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")
        self._log = get_logger()

    async def load(self) -> JournalState:
        """All that was appended and not forgotten. Raises JournalDamaged, OSError."""
        return await self._in_thread(self._load)

    async def append(self, entry: Entry, *, sync: bool = False) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append((journal_codec.encode(entry), sync, done))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_pending(), name="journal")
        # A caller that is cancelled meanwhile takes nothing back: the entry is written all the same.
        await asyncio.shield(done)

    async def close(self) -> None:
        if self._writer is not None:
            await self._writer
        await self._in_thread(self._close)
        self._thread.shutdown()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _write_pending(self) -> None:
        while self._pending:
            taken, self._pending = self._pending, []
            lines = b"".join(line for line, _, _ in taken)
            sync = any(wants for _, wants, _ in taken)
            try:
                await self._in_thread(lambda lines=lines, sync=sync: self._write(lines, sync))  # type: ignore[misc]
            except OSError as error:
                for _, _, done in taken:
                    done.set_exception(error)
                continue
            for _, _, done in taken:
                done.set_result(None)

    # In the thread ----------------------------------------------------------------------------------------------
    def _load(self) -> JournalState:
        entries = self._read()
        state = fold(entries)
        self._rewrite(state)
        return state

    def _read(self) -> list[Entry]:
        try:
            whole, _, torn = self._path.read_bytes().rpartition(b"\n")
        except FileNotFoundError:
            return []
        if torn:
            self._log.warning("journal_torn_entry_dropped", bytes=len(torn))
        entries = []
        for number, line in enumerate(whole.split(b"\n") if whole else (), 1):
            try:
                entries.append(journal_codec.decode(line))
            except (ValueError, KeyError, TypeError) as error:
                raise JournalDamaged(f"{self._path}, line {number}: {error}") from error
        return entries

    def _rewrite(self, state: JournalState) -> None:
        entries = unfold(state)
        fresh = self._path.with_suffix(".new")
        file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        _write_all(file, b"".join(map(journal_codec.encode, entries)))
        os.fsync(file)
        fresh.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
        self._close()
        self._file, self._length = file, len(entries)

    def _write(self, lines: bytes, sync: bool) -> None:
        end = os.fstat(self._file).st_size
        try:
            _write_all(self._file, lines)
        except OSError:
            # Half an entry would spoil the next one, which joins it.
            os.ftruncate(self._file, end)
            raise
        if sync:
            os.fdatasync(self._file)
        self._length += lines.count(b"\n")
        if self._length > self._compact_after:
            state = fold(self._read())
            self._rewrite(state)
            # What is still of use must not make every later write a rewrite.
            self._length = 0

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _write_all(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]
