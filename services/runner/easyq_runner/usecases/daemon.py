"""Watches the Docker Engine: whether it answers, which lifetime of it answers, and which containers have ended."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from easyq_chassis.logs import get_logger
from easyq_chassis.loops import Loop
from easyq_chassis.outages import Neighbour, watch_over
from easyq_runner.domain.journal import DaemonSeen, Entry, SeenRunning
from easyq_runner.domain.lifetime import Evidence, Trace, is_same, trace_of
from easyq_runner.domain.outcome import Snapshot, Status
from easyq_runner.domain.records import ExecutionKey
from easyq_runner.errors import EngineError
from easyq_runner.ports import AgentClock, ContainerEngine, EngineEvent, EngineInfo, Journal
from easyq_runner.usecases.waiting import Changes

# Events after which the newest one is noted. The engine remembers 256 of them: one of the last 32 is among those until
# strangers have caused 224 more while the agent was away.
_NOTE_EVERY = 32
# Seconds between two tries to reach an engine that is away.
_RETRY = 0.5
_END_ACTIONS = frozenset({"die", "destroy"})
_NOT_TRIED = "not reached yet"
_STREAM_ENDED = "it ended its stream of events"


@dataclass(frozen=True, kw_only=True, slots=True)
class DaemonTimes:
    """Seconds."""

    # Between two pings, and between two comparisons of all containers.
    ping_every: float = 5.0
    compare_every: float = 30.0
    # An engine that stays away for longer takes its executions with it.
    lost_after: float = 30.0


class Watch:
    """One container under watch."""

    def __init__(self, key: ExecutionKey, lifetime: str, *, abandonable: bool) -> None:
        self.key = key
        # Lifetime of the daemon in which it was last known to run.
        self.lifetime = lifetime
        # Whether it is given up when the engine stays away.
        self.abandonable = abandonable
        # It has ended, or is gone: worth a look.
        self.ended = asyncio.Event()
        self.abandoned = False
        self.out_of_memory = False


class Daemon:
    """The agent's view of its engine.

    `answering` says whether the engine takes calls: its stream of events is open, and new connections are answered.
    A stream that was open from before a call until after its answer proves that one lifetime has given both.
    """

    def __init__(
        self,
        engine: ContainerEngine,
        journal: Journal,
        clock: AgentClock,
        *,
        farm: str,
        agent_id: str,
        times: DaemonTimes,
    ) -> None:
        self._engine = engine
        self._own = (farm, agent_id)
        self._journal = journal
        self._clock = clock
        self.times = times
        self._seen: DaemonSeen | None = None
        self._trace = Trace()
        self._unnoted = 0
        self._stream_open = False
        self._pinged = False
        self._away_since: float | None = clock.boot()
        self._watches: dict[str, Watch] = {}
        self._stopping = False
        self._log = get_logger()
        self._neighbour = Neighbour("engine", began="engine_away", ended="engine_answers", settled=0.0, starting=0.0)
        watch_over(self._neighbour)
        self.info: EngineInfo | None = None
        # The last restart left containers alone (live-restore, before as well as after it).
        self.kept_containers = False
        # Why it is not answering, in the adapter's words.
        self.problem = _NOT_TRIED
        self.changes = Changes()
        # Told what the engine says of itself, each time that it was reached.
        self.on_reached: Callable[[EngineInfo], None] | None = None
        # Told all of the agent's containers at each comparison.
        self.on_listing: Callable[[Sequence[Snapshot]], Awaitable[None]] | None = None
        self._loops = (
            Loop("engine-events", self._follow_events, _RETRY),
            Loop("engine-ping", self._ping, times.ping_every),
            Loop("engine-compare", self._compare_regularly, times.compare_every),
        )

    # State ------------------------------------------------------------------------------------------------------
    @property
    def answering(self) -> bool:
        """Whether calls are likely to succeed now."""
        return self._stream_open and self._pinged

    @property
    def away_since(self) -> float | None:
        """Since when it does not answer, by CLOCK_BOOTTIME; None: it does."""
        return self._away_since

    @property
    def lifetime(self) -> str:
        """Names the daemon's present (or last seen) lifetime."""
        return self._seen.lifetime if self._seen else ""

    def resume(self, seen: DaemonSeen | None) -> None:
        """Takes over what an earlier run of the agent knew."""
        self._seen = seen
        self._trace = seen.trace if seen else Trace()

    def start(self) -> None:
        """Begins to watch."""
        for loop in self._loops:
            loop.start()

    async def stop(self) -> None:
        """Ends it."""
        self._stopping = True
        await asyncio.gather(*(loop.stop() for loop in self._loops))

    async def until_answering(self) -> None:
        """Waits for the engine, however long."""
        while not self.answering:
            await self.changes.wait()

    async def until_answering_or(self, watch: Watch) -> None:
        """Waits for the engine, or until the container is given up."""
        while not self.answering and not watch.abandoned:
            await self.changes.wait()

    async def still(self, lifetime: str) -> bool:
        """Whether the answer that was just given came from that lifetime."""
        # Lets a stream that has ended meanwhile say so first.
        await asyncio.sleep(0.001)
        return self._stream_open and self.lifetime == lifetime

    def doubt(self, problem: EngineError) -> None:
        """A call found the engine unreachable: it is taken for away until a ping succeeds."""
        self._set(pinged=False, problem=str(problem))
        self._loops[1].wake()

    def watch(self, container_id: str, key: ExecutionKey, lifetime: str, *, abandonable: bool) -> Watch:
        """Begins to look out for the container's end. Before its start, so that none is missed."""
        watch = self._watches[container_id] = Watch(key, lifetime, abandonable=abandonable)
        return watch

    def unwatch(self, container_id: str) -> None:
        """Ends it."""
        self._watches.pop(container_id, None)

    # Loops ------------------------------------------------------------------------------------------------------
    async def _follow_events(self) -> float:
        try:
            info = await self._engine.info()
            async with self._engine.events() as events:
                await self._recognize(info, await self._engine.evidence())
                self._set(stream=True, pinged=True)
                await self._compare()
                async for event in events:
                    await self._on_event(event)
        except EngineError as error:
            self._set(stream=False, problem=str(error))
        finally:
            # Where the agent stops, this says nothing of the engine.
            self._set(stream=False, problem=_STREAM_ENDED if self._stream_open else "")
        return _RETRY

    async def _ping(self) -> float:
        try:
            await self._engine.ping()
        except EngineError as error:
            self._set(pinged=False, problem=str(error))
        else:
            self._set(pinged=True)
        self._give_up_if_away()
        return self.times.ping_every if self.answering else _RETRY

    async def _compare_regularly(self) -> None:
        if self.answering:
            with suppress(EngineError):  # the ping will say so
                await self._compare()

    # Steps ------------------------------------------------------------------------------------------------------
    async def _recognize(self, info: EngineInfo, evidence: Evidence) -> None:
        """Decides whether the engine was restarted since it was last seen, and notes the answer."""
        same = self._seen is not None and is_same(self._trace, evidence)
        lifetime = self.lifetime if same else uuid.uuid4().hex[:12]
        if not same:
            self.kept_containers = info.live_restore and self._seen is not None and self._seen.live_restore
        self._log.info("engine_reached", version=info.version, lifetime=lifetime, restarted=not same)
        self.info = info
        if self.on_reached is not None:
            self.on_reached(info)
        self._trace = trace_of(evidence)
        self._seen = DaemonSeen(lifetime=lifetime, trace=self._trace, live_restore=info.live_restore)
        self._unnoted = 0
        await self._note(self._seen)

    async def _on_event(self, event: EngineEvent) -> None:
        watch = self._watches.get(event.container_id)
        if watch is not None and event.action in _END_ACTIONS:
            watch.ended.set()
        if watch is not None and event.action == "oom":
            watch.out_of_memory = True
        first = not self._trace.newest_event
        self._trace = Trace(process=self._trace.process, bridge=self._trace.bridge, newest_event=event.time)
        self._unnoted += 1
        if (first or self._unnoted >= _NOTE_EVERY) and self._seen is not None:
            self._unnoted = 0
            seen = DaemonSeen(lifetime=self._seen.lifetime, trace=self._trace, live_restore=self._seen.live_restore)
            await self._note(seen)

    async def _compare(self) -> None:
        """Looks at all of the agent's containers: what the stream of events did not tell, this does."""
        lifetime = self.lifetime
        watched = dict(self._watches)
        listing = await self._engine.list_own(*self._own)
        states = {one.container_id: one.status for one in listing}
        for container_id, watch in watched.items():
            status = states.get(container_id)
            if status is Status.CREATED:
                continue  # its start may be under way
            if status is None or not status.alive:
                watch.ended.set()
            elif watch.lifetime != lifetime:
                watch.lifetime = lifetime
                await self._note(SeenRunning(key=watch.key, lifetime=lifetime))
        if self.on_listing is not None:
            await self.on_listing(listing)

    async def _note(self, entry: Entry) -> None:
        try:
            await self._journal.append(entry)
        except OSError as error:
            # What is not known after a restart is taken for a restart of the engine.
            self._log.error("journal_failed", error=str(error))

    def _give_up_if_away(self) -> None:
        if self.answering or self._away_since is None:
            return
        if self._clock.boot() - self._away_since < self.times.lost_after:
            return
        for watch in self._watches.values():
            if watch.abandonable and not watch.abandoned:
                watch.abandoned = True
                watch.ended.set()
        self.changes.announce()

    def _set(self, *, stream: bool | None = None, pinged: bool | None = None, problem: str = "") -> None:
        before = self.answering
        if self._stopping and not stream and not pinged:
            self._stream_open = self._pinged = False
            self.changes.announce()
            return
        self._stream_open = self._stream_open if stream is None else stream
        self._pinged = self._pinged if pinged is None else pinged
        if self.answering == before:
            first = self.problem == _NOT_TRIED and problem not in {"", _NOT_TRIED}
            self.problem = problem or self.problem
            if not self.answering and problem:
                self._neighbour.failed(problem)
            if first:
                # What was said of it so far did not say what is wrong.
                self.changes.announce()
            return
        self.problem = problem
        self._away_since = None if self.answering else self._clock.boot()
        if self.answering:
            self._neighbour.answered()
        else:
            self._neighbour.failed(problem)
        self.changes.announce()
