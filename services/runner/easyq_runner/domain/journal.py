"""The agent's journal: what it must know after a crash and can't ask anybody. Entries are added, never changed.

An execution's entries, in their order: `StartIntent` is on disk before the start is sent; `SeenRunning` says in which
lifetime of the daemon it was seen alive later; `EndingBegun` why the agent ends it; `Finished` how it ended, before
that is reported; `Settled` that nothing is to be reported any more, so that its container only waits for removal;
`Forgotten` that the container is gone as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from easyq_runner.domain.lifetime import Trace
from easyq_runner.domain.outcome import Ending
from easyq_runner.domain.records import ExecutionKey, Finish


@dataclass(frozen=True, kw_only=True, slots=True)
class StartIntent:
    """The container is about to be started."""

    key: ExecutionKey
    container_id: str
    # Of the daemon.
    lifetime: str
    # By CLOCK_BOOTTIME, which wall clocks that jump don't move, of the kernel's run of that id. None: not noted.
    began_at: float | None = None
    boot_id: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class SeenRunning:
    """The container survived a restart of the daemon."""

    key: ExecutionKey
    lifetime: str


@dataclass(frozen=True, kw_only=True, slots=True)
class EndingBegun:
    """The agent is about to end the container."""

    key: ExecutionKey
    ending: Ending


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """How it ended; without the tail of its logs."""

    key: ExecutionKey
    finish: Finish


@dataclass(frozen=True, kw_only=True, slots=True)
class Settled:
    """Nothing is to be reported any more."""

    key: ExecutionKey


@dataclass(frozen=True, kw_only=True, slots=True)
class Forgotten:
    """No container is left of it."""

    key: ExecutionKey


@dataclass(frozen=True, kw_only=True, slots=True)
class DaemonSeen:
    """The daemon, and the name that the agent has given to its present lifetime."""

    lifetime: str
    trace: Trace
    live_restore: bool


Entry = StartIntent | SeenRunning | EndingBegun | Finished | Settled | Forgotten | DaemonSeen


@dataclass(frozen=True, kw_only=True, slots=True)
class ExecutionRecord:
    """What the journal knows of an execution."""

    key: ExecutionKey
    # Set once a start may have been sent.
    container_id: str = ""
    # Of the daemon, when it was last known to run.
    lifetime: str = ""
    # As the intent has them.
    began_at: float | None = None
    boot_id: str = ""
    ending: Ending | None = None
    finish: Finish | None = None
    settled: bool = False

    @property
    def start_intended(self) -> bool:
        """Whether a start may have been sent."""
        return bool(self.container_id)

    def began_in(self, boot_id: str) -> float | None:
        """When its start was intended, by CLOCK_BOOTTIME; None if that is not known under this run of the kernel."""
        return self.began_at if self.boot_id == boot_id else None


@dataclass(frozen=True, kw_only=True, slots=True)
class JournalState:
    """All that the journal says."""

    executions: dict[ExecutionKey, ExecutionRecord] = field(default_factory=dict)
    daemon: DaemonSeen | None = None


def fold(entries: Iterable[Entry]) -> JournalState:
    """Reads the entries in their order."""
    executions: dict[ExecutionKey, ExecutionRecord] = {}
    daemon: DaemonSeen | None = None
    for entry in entries:
        if isinstance(entry, DaemonSeen):
            daemon = entry
        elif isinstance(entry, Forgotten):
            executions.pop(entry.key, None)
        else:
            executions[entry.key] = _apply(executions.get(entry.key) or ExecutionRecord(key=entry.key), entry)
    return JournalState(executions=executions, daemon=daemon)


def _apply(
    record: ExecutionRecord, entry: StartIntent | SeenRunning | EndingBegun | Finished | Settled
) -> ExecutionRecord:
    if isinstance(entry, StartIntent):
        # A give-back whose answer was lost may be followed by the same assignment once more.
        return ExecutionRecord(
            key=entry.key,
            container_id=entry.container_id,
            lifetime=entry.lifetime,
            began_at=entry.began_at,
            boot_id=entry.boot_id,
        )
    if isinstance(entry, SeenRunning):
        return replace(record, lifetime=entry.lifetime)
    if isinstance(entry, EndingBegun):
        return replace(record, ending=entry.ending)
    if isinstance(entry, Finished):
        return replace(record, finish=entry.finish)
    return replace(record, settled=True)


def unfold(state: JournalState) -> list[Entry]:
    """The fewest entries that say the same: what a compacted journal holds."""
    entries: list[Entry] = [state.daemon] if state.daemon else []
    for record in state.executions.values():
        entries += _entries_of(record)
    return entries


def _entries_of(record: ExecutionRecord) -> list[Entry]:
    entries: list[Entry] = []
    if record.start_intended:
        entries.append(
            StartIntent(
                key=record.key,
                container_id=record.container_id,
                lifetime=record.lifetime,
                began_at=record.began_at,
                boot_id=record.boot_id,
            )
        )
    if record.ending:
        entries.append(EndingBegun(key=record.key, ending=record.ending))
    if record.finish:
        entries.append(Finished(key=record.key, finish=record.finish))
    if record.settled:
        entries.append(Settled(key=record.key))
    return entries
