"""Removes containers of which nothing more is wanted, off everybody's critical path."""

from __future__ import annotations

import asyncio

from easyq_chassis.logs import get_logger
from easyq_runner.domain.journal import Forgotten
from easyq_runner.domain.records import ExecutionKey
from easyq_runner.errors import EngineError, EngineUnreachable, NoSuchContainer, NotNow
from easyq_runner.ports import ContainerEngine, Journal
from easyq_runner.usecases.daemon import Daemon

# At once; removals compete with starts for the same daemon and disk.
_WIDTH = 4
# Seconds until another try.
_PAUSE = 1.0


class Janitor:
    """Each removal is tried until the container is gone; after a restart the agent finds what is left by its labels."""

    def __init__(self, engine: ContainerEngine, daemon: Daemon, journal: Journal) -> None:
        self._engine = engine
        self._daemon = daemon
        self._journal = journal
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._room = asyncio.Semaphore(_WIDTH)
        self._log = get_logger()

    def remove(self, container_id: str, key: ExecutionKey) -> asyncio.Task[None]:
        """Begins to remove it, even if it runs. The task ends when it is gone."""
        task = self._tasks.get(container_id)
        if task is None:
            task = asyncio.create_task(self._remove(container_id, key), name=f"remove:{key.execution_id}")
            self._tasks[container_id] = task
        return task

    def forget(self, key: ExecutionKey) -> asyncio.Task[None]:
        """There is no container: only the journal forgets."""
        return asyncio.create_task(self._journal.append(Forgotten(key=key)))

    def has(self, container_id: str) -> bool:
        """Whether it is about to be removed."""
        return container_id in self._tasks

    async def until_idle(self) -> None:
        """Returns when nothing is left to be removed."""
        while self._tasks:
            await asyncio.wait(list(self._tasks.values()))

    async def stop(self) -> None:
        """Leaves the rest for the next start."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _remove(self, container_id: str, key: ExecutionKey) -> None:
        try:
            while not await self._try(container_id, key):  # noqa: ASYNC110 - nobody tells when it may work
                await asyncio.sleep(_PAUSE)
            await self._journal.append(Forgotten(key=key))
        finally:
            del self._tasks[container_id]

    async def _try(self, container_id: str, key: ExecutionKey) -> bool:
        await self._daemon.until_answering()
        try:
            async with self._room:
                await self._engine.remove(container_id, force=True)
        except NoSuchContainer:
            return True
        except NotNow as error:
            # Somebody else removes it.
            self._log.info("removal_refused", execution=key.execution_id, error=str(error))
            return False
        except EngineUnreachable as error:
            self._daemon.doubt(error)
            return False
        except EngineError as error:
            self._log.warning("removal_failed", execution=key.execution_id, error=str(error))
            return False
        return True
