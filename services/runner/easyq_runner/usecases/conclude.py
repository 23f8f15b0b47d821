"""Finds out how a container ended, and brings the rest of its output in."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from easyq_chassis.logs import get_logger
from easyq_runner.domain.outcome import (
    Ending,
    Snapshot,
    away_too_long,
    classify,
    is_trusted,
    silent_too_long,
)
from easyq_runner.domain.records import Finish, LogTail, Terms
from easyq_runner.errors import EngineError, EngineSilent, EngineUnreachable, NoSuchContainer
from easyq_runner.usecases.daemon import Watch
from easyq_runner.usecases.logs import LogPump
from easyq_runner.usecases.tools import Tools

_SIGKILL_EXIT = 137
# Tries to read a log that the engine fails to give.
_TRIES = 3


class StillRunning(Exception):
    """The container did not end: somebody has restarted it, or the news was wrong."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Facts:
    """What is known of the end."""

    snapshot: Snapshot | None
    trusted: bool
    # The engine stayed away for too long.
    away: bool = False
    # It is there, and stuck with this container.
    silent: bool = False


class Conclusion:
    """The end of one container."""

    def __init__(self, tools: Tools, terms: Terms, watch: Watch, container_id: str, pump: LogPump) -> None:
        self._tools = tools
        self._terms = terms
        self._watch = watch
        self._container_id = container_id
        self._pump = pump
        self._log = get_logger()
        #: When it ended, by the daemon's clock (ms since the epoch); None while that is not known.
        self.ended_at: float | None = None

    async def finish(self, ending: Ending | None) -> Finish:
        """How it ended, with the sizes of its output. Raises StillRunning, logs.Stale."""
        reading = asyncio.create_task(self.tail(), name=f"rest-of-logs:{self._terms.key.execution_id}")
        try:
            facts = await self._facts(ending)
            # An engine that is stuck with the container would never give the rest.
            tail = await self._pump.drain() if facts.silent and not reading.done() else await reading
        finally:
            reading.cancel()
        self.ended_at = facts.snapshot.finished_at if facts.snapshot is not None else None
        if facts.silent:
            finish = replace(silent_too_long(self._tools.daemon.times.lost_after), container_id=self._container_id)
        elif facts.away:
            finish = replace(away_too_long(self._tools.daemon.times.lost_after), container_id=self._container_id)
        else:
            finish = classify(facts.snapshot, trusted=facts.trusted, ending=ending, limit=self._terms.timeout)
        stdout, stderr = self._pump.ends()
        return replace(finish, stdout=stdout, stderr=stderr, tail=tail)

    async def _facts(self, ending: Ending | None) -> _Facts:
        """Asks until an answer is certain to come from a daemon that was not going down when the container ended.

        A daemon that goes down stops taking connections before it ends its containers, and its open stream of events
        goes on. So an answer on a new connection, with the stream still open behind it, vouches for the time before.
        """
        daemon, clock = self._tools.daemon, self._tools.clock
        failures = 0
        silent_since: float | None = None
        while True:
            await daemon.until_answering_or(self._watch)
            if not daemon.answering:
                return _Facts(snapshot=None, trusted=False, away=True)
            lifetime = daemon.lifetime
            asked_at = clock.boot()
            if silent_since is not None and asked_at - silent_since >= daemon.times.lost_after:
                self._log.error("engine_stuck", container=self._container_id, silence=round(asked_at - silent_since))
                return _Facts(snapshot=None, trusted=False, silent=True)
            try:
                snapshot = await self._tools.engine.inspect(self._container_id)
            except NoSuchContainer:
                return _Facts(snapshot=None, trusted=False)
            except EngineSilent as error:
                # What waits for its host, waits for its engine too.
                silent_since = silent_since or asked_at if self._watch.abandonable else None
                daemon.doubt(error)
                continue
            except EngineUnreachable as error:
                daemon.doubt(error)
                silent_since = None
                continue
            except EngineError as error:
                failures += 1
                silent_since = None
                self._log.warning(
                    "inspect_failed", execution=self._terms.key.execution_id, error=str(error), failures=failures
                )
                await asyncio.sleep(self._tools.times.monitor.pause(failures))
                continue
            if not await daemon.still(lifetime):
                continue
            if snapshot.status.alive:
                self._watch.ended.clear()
                raise StillRunning
            return await self._judge(snapshot, lifetime, ending)

    async def _judge(self, snapshot: Snapshot, lifetime: str, ending: Ending | None) -> _Facts:
        trusted = is_trusted(
            same_lifetime=self._watch.lifetime == lifetime,
            live_restore=self._tools.daemon.kept_containers,
            exit_code=snapshot.exit_code,
        )
        killed = snapshot.exit_code == _SIGKILL_EXIT and ending is None
        if killed and self._terms.memory_limited and not snapshot.oom_killed:
            # On cgroup v2 the kernel's word on memory may come after the exit, and only as an event.
            snapshot = await self._ask_for_memory(snapshot)
        return _Facts(snapshot=snapshot, trusted=trusted)

    async def _ask_for_memory(self, snapshot: Snapshot) -> Snapshot:
        await asyncio.sleep(self._tools.times.oom_patience)
        if not self._watch.out_of_memory:
            try:
                return await self._tools.engine.inspect(self._container_id)
            except EngineError:
                return snapshot
        return replace(snapshot, oom_killed=True)

    async def tail(self) -> tuple[LogTail, ...]:
        """The rest of the output; less than all of it only where the engine can't give it. Raises logs.Stale."""
        failures = 0
        while failures < _TRIES:
            await self._tools.daemon.until_answering_or(self._watch)
            if not self._tools.daemon.answering:
                break
            try:
                return await self._pump.finish()
            except NoSuchContainer:
                break
            except EngineUnreachable as error:
                self._tools.daemon.doubt(error)
            except EngineError as error:
                failures += 1
                self._log.warning("logs_unreadable", execution=self._terms.key.execution_id, error=str(error))
                await asyncio.sleep(self._tools.times.monitor.pause(failures))
        self._log.warning("logs_incomplete", execution=self._terms.key.execution_id)
        return await self._pump.drain()
