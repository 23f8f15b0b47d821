"""One container that was started: its output, its supervision and its end, together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from easyq_chassis import faults
from easyq_chassis.logs import get_logger
from easyq_runner.domain.outcome import Ending
from easyq_runner.domain.records import Finish, Phase, Report, Started, Terms, Verdict
from easyq_runner.errors import EngineError, EngineUnreachable, NoSuchContainer
from easyq_runner.usecases.commands import Commands
from easyq_runner.usecases.conclude import Conclusion, StillRunning
from easyq_runner.usecases.daemon import Watch
from easyq_runner.usecases.logs import LogPump
from easyq_runner.usecases.supervise import Supervision
from easyq_runner.usecases.tools import Tools


class RunningContainer:
    """`watch` looks out for its end; `adopted` if an earlier agent has started it, at `began_at` (CLOCK_BOOTTIME) if
    the journal knows. `sent_at` (likewise) is when this agent sent the start."""

    def __init__(
        self,
        tools: Tools,
        terms: Terms,
        commands: Commands,
        watch: Watch,
        container_id: str,
        *,
        pump: LogPump,
        adopted: bool,
        began_at: float | None,
        sent_at: float | None = None,
        tell: Callable[[Phase], None],
    ) -> None:
        self._tools = tools
        self._terms = terms
        self._commands = commands
        self._watch = watch
        self._container_id = container_id
        self._adopted = adopted
        self._began_at = began_at
        self._sent_at = sent_at
        self._tell = tell
        self._pump = pump
        self._conclusion = Conclusion(tools, terms, watch, container_id, pump)
        self._tasks: list[asyncio.Task[None]] = []
        self._log = get_logger().bind(execution=terms.key.execution_id)

    async def finish(self, ending: Ending | None) -> Finish:
        """Watches it to its end, which is returned; `ending` is what an earlier agent has begun.

        Raises Killed when the execution is not this agent's any more, logs.Stale when the store says so.
        """
        return await self._commands.unless_killed(self._finish(ending))

    async def finish_again(self, known: Finish) -> Finish:
        """The same for an end that is known already: only the rest of its output is missing.

        Its span is written again: whoever noted the end may have been killed before it was sent. It is the same by its
        id, so that nobody sees two.
        """
        if self._began_at is not None and known.ran_for is not None:
            ago = self._tools.clock.boot() - self._began_at
            self._tools.traces.running(self._terms, seconds_ago=ago).write(known, ran_for=known.ran_for)
        return replace(known, tail=await self._commands.unless_killed(self._conclusion.tail()))

    async def close(self) -> None:
        """Stops watching."""
        self._tools.daemon.unwatch(self._container_id)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _finish(self, ending: Ending | None) -> Finish:
        # What has ended before this agent came tells itself how long it ran.
        seen_alive = not self._watch.ended.is_set()
        began = await self._began()
        traced = self._tools.traces.running(
            self._terms, seconds_ago=self._tools.clock.boot() - (self._sent_at or began)
        )
        supervision = Supervision(
            self._tools,
            self._terms,
            self._commands,
            self._watch,
            self._container_id,
            started_at=began,
            ending=ending,
        )
        self._spawn(self._kill_when_stale())
        delay = 0.0 if self._adopted else self._tools.times.short
        while True:
            self._tell(Phase.RUNNING)
            announcing = self._spawn(self._announce(delay))
            await supervision.until_ended()
            announcing.cancel()
            self._tell(Phase.EXITED)
            traced.ended()
            await faults.point("runner.after_exit")
            try:
                finish = await self._conclusion.finish(supervision.ending or self._ended_by_watchdog())
            except StillRunning:
                self._log.warning("still_running", container=self._container_id)
                delay = 0.0
            else:
                if seen_alive:
                    traced.ended_at(self._conclusion.ended_at)
                traced.write(finish, ran_for=None if seen_alive else finish.ran_for)
                return finish

    def _ended_by_watchdog(self) -> Ending | None:
        return Ending.LOST if self._tools.lease.was_ended(self._container_id) else None

    async def _began(self) -> float:
        """By CLOCK_BOOTTIME. What an earlier agent has not noted, the engine tells by the host's wall clock."""
        if self._began_at is not None:
            return self._began_at
        return self._tools.clock.boot() - (await self._age() if self._adopted else 0.0)

    async def _age(self) -> float:
        """Seconds since an earlier agent started it, by the host's wall clock."""
        failures = 0
        while not self._watch.abandoned:
            await self._tools.daemon.until_answering_or(self._watch)
            try:
                started = (await self._tools.engine.inspect(self._container_id)).started_at
            except NoSuchContainer:
                break
            except EngineUnreachable as error:
                self._tools.daemon.doubt(error)
            except EngineError:
                failures += 1
                await asyncio.sleep(self._tools.times.monitor.pause(failures))
            else:
                return 0.0 if started is None else max(0.0, (self._tools.clock.now_ms() - started) / 1000)
        return 0.0

    async def _announce(self, delay: float) -> None:
        """What runs for longer than a moment is reported as started, and read live."""
        await asyncio.sleep(delay)
        self._pump.go_live()
        try:
            image = (await self._tools.engine.inspect(self._container_id)).image_id
        except EngineError:
            image = ""  # it comes with the end
        word = Started(container_id=self._container_id, image_digest=image)
        answer = await self._tools.outbox.deliver(Report(key=self._terms.key, word=word))
        if answer.verdict is Verdict.STALE:
            self._commands.kill()

    async def _kill_when_stale(self) -> None:
        await self._pump.until_stale()
        self._commands.kill()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.append(task)
        return task
