"""Starts a created container: once, written down before, never again."""

from __future__ import annotations

import asyncio

from easyq_chassis import faults
from easyq_chassis.logs import get_logger
from easyq_runner.domain import starting
from easyq_runner.domain.journal import StartIntent
from easyq_runner.domain.outcome import Snapshot, start_unknown
from easyq_runner.domain.records import FailureReason, Finish, OnLost, Terms
from easyq_runner.errors import (
    EngineError,
    EngineFailed,
    EngineUnreachable,
    HostExhausted,
    InvalidRequest,
    NoSuchContainer,
    NotNow,
)
from easyq_runner.usecases.commands import Commands, NotStarted
from easyq_runner.usecases.daemon import Watch
from easyq_runner.usecases.logs import LogPump
from easyq_runner.usecases.tools import Tools

# Seconds between two looks at a container whose start may be under way.
_LOOK = 0.2


class Launch:
    """The start of one container. What stands against it raises NotStarted."""

    def __init__(self, tools: Tools, terms: Terms, commands: Commands, container_id: str, pump: LogPump) -> None:
        self._tools = tools
        self._terms = terms
        self._commands = commands
        self._container_id = container_id
        self._pump = pump
        #: When the start was sent, by CLOCK_BOOTTIME.
        self.sent_at: float | None = None
        self._log = get_logger()

    async def start(self) -> Watch:
        """Returns once the container was started, or may have been."""
        await self._allowed()
        lifetime = self._tools.daemon.lifetime
        clock = self._tools.clock
        intent = StartIntent(
            key=self._terms.key,
            container_id=self._container_id,
            lifetime=lifetime,
            began_at=clock.boot(),
            boot_id=clock.boot_id,
        )
        await asyncio.gather(self._attach(), self._note(intent))
        await faults.point("runner.after_journal")
        # A slow disk may have taken the lease's time.
        await self._allowed()
        watch = self.watch(lifetime)
        self.sent_at = clock.boot()
        try:
            await self._tools.engine.start(self._container_id)
        except InvalidRequest as error:
            await self._refused(watch, starting.rejected(FailureReason.START_FAILED, str(error)))
        except EngineFailed as error:
            if isinstance(error, HostExhausted):
                await self._tools.host.blame(error)
            await self._refused(watch, starting.infra_failed(FailureReason.HOST_FAILED, str(error)))
        except NoSuchContainer:
            message = "its container was removed by somebody else before it was started"
            raise NotStarted(starting.infra_failed(FailureReason.CONTAINER_VANISHED, message)) from None
        except EngineUnreachable as error:
            self._tools.daemon.doubt(error)
            await self.await_start(watch)
        await faults.point("runner.after_start")
        return watch

    def watch(self, lifetime: str) -> Watch:
        """Begins to look out for the container's end."""
        return self._tools.daemon.watch(
            self._container_id, self._terms.key, lifetime, abandonable=self._terms.on_lost is not OnLost.WAIT
        )

    async def await_start(self, watch: Watch) -> None:
        """A start may be under way: returns if it was; else removes the container and raises NotStarted.

        A start whose client is gone still runs, and a removal without force beside it is clean: either it is refused,
        or the container never ran.
        """
        until = self._tools.clock.boot() + self._tools.times.start_patience
        while True:
            found = await self._look(watch)
            if found is None or not found.never_ran:
                return
            if self._tools.clock.boot() >= until and await self._remove_unstarted():
                self._tools.daemon.unwatch(self._container_id)
                raise NotStarted(start_unknown())
            await asyncio.sleep(_LOOK)

    async def _allowed(self) -> None:
        """Waits for a lease that allows starts; nothing may have come up that forbids this one."""
        while not self._tools.lease.may_start():
            await self._commands.unless(self._tools.lease.changes.wait())
        self._commands.check()
        if not self._tools.daemon.answering:
            raise NotStarted(starting.give_back(FailureReason.HOST_FAILED, self._tools.daemon.problem))

    async def _note(self, intent: StartIntent) -> None:
        """Nothing is started that is not written down before."""
        try:
            await self._tools.journal.append(intent, sync=True)
        except OSError as error:
            raise NotStarted(await self._tools.host.word_for(error)) from error

    async def _attach(self) -> None:
        if not self._tools.attach:
            return
        try:
            await self._pump.attach()
        except EngineUnreachable as error:
            self._tools.daemon.doubt(error)
            raise NotStarted(starting.give_back(FailureReason.HOST_FAILED, str(error))) from error
        except EngineError as error:
            # The log will bring it; whatever is wrong with the container, its start will tell.
            self._log.warning("not_attached", execution=self._terms.key.execution_id, error=str(error))

    async def _refused(self, watch: Watch, word: Finish) -> None:
        """The engine has answered that the start failed; makes sure that it is so."""
        found = await self._look(watch)
        if found is None or not found.never_ran:
            self._log.warning("refused_start_ran", execution=self._terms.key.execution_id, said=word.failure)
            return
        self._tools.daemon.unwatch(self._container_id)
        raise NotStarted(starting.no_program(word, found.exit_code))

    async def _look(self, watch: Watch) -> Snapshot | None:
        """The container as it is; None if that can't be known, or it is gone: the end will tell."""
        failures = 0
        while not watch.abandoned:
            await self._tools.daemon.until_answering_or(watch)
            try:
                return await self._tools.engine.inspect(self._container_id)
            except NoSuchContainer:
                watch.ended.set()
                return None
            except EngineUnreachable as error:
                self._tools.daemon.doubt(error)
            except EngineError:
                failures += 1
                await asyncio.sleep(self._tools.times.monitor.pause(failures))
        return None

    async def _remove_unstarted(self) -> bool:
        try:
            await self._tools.engine.remove(self._container_id, force=False)
        except NoSuchContainer:
            return True
        except NotNow:
            return False  # it has been started
        except EngineUnreachable as error:
            self._tools.daemon.doubt(error)
            return False
        except EngineError:
            return False
        return True
