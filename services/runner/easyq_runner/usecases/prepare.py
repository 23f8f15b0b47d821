"""From an assignment to a created container: image, permissions, create."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from easyq_chassis import faults
from easyq_chassis.logs import get_logger
from easyq_runner.domain import starting
from easyq_runner.domain.container import NotAllowed, create_body
from easyq_runner.domain.labels import container_name, is_own, terms_of
from easyq_runner.domain.outcome import Status, start_unknown
from easyq_runner.domain.records import ContainerSpec, FailureReason, Finish, GiveBack, Phase, Terms
from easyq_runner.errors import (
    EngineFailed,
    EngineUnreachable,
    HostExhausted,
    InvalidRequest,
    NameTaken,
    NoSuchContainer,
    NoSuchImage,
)
from easyq_runner.usecases.commands import Commands, NotStarted
from easyq_runner.usecases.tools import Tools


class Preparation:
    """Makes the container of one execution. What stands against it raises NotStarted."""

    def __init__(
        self, tools: Tools, terms: Terms, spec: ContainerSpec, commands: Commands, tell: Callable[[Phase], None]
    ) -> None:
        self._tools = tools
        self._terms = terms
        self._spec = spec
        self._commands = commands
        self._tell = tell
        #: How many seconds the steps took that there were: `pull` (of the last one), `create`.
        self.took: dict[str, float] = {}
        self._log = get_logger()

    async def create(self) -> str:
        """The id of the created container."""
        try:
            body = await self._body()
            async with self._tools.images.cache.wanted(self._spec.image):
                if self._tools.images.needs_look(self._spec):
                    self._tell(Phase.PULLING)
                    with self._step("pull"):
                        _end_with(await self._commands.unless(self._tools.images.prepare(self._spec)))
                container_id = await self._create(body)
            self._tools.images.cache.used(self._spec.image)
            return container_id
        except EngineUnreachable as error:
            self._tools.daemon.doubt(error)
            raise NotStarted(starting.give_back(FailureReason.HOST_FAILED, str(error))) from error
        except HostExhausted as error:
            raise NotStarted(await self._tools.host.word_for(error)) from error
        except EngineFailed as error:
            # A host that answers with failures would get it back at once: this counts, and backs off.
            raise NotStarted(starting.infra_failed(FailureReason.HOST_FAILED, str(error))) from error
        except InvalidRequest as error:
            raise NotStarted(starting.rejected(FailureReason.INVALID_CONTAINER, str(error))) from error
        except NotAllowed as error:
            raise NotStarted(starting.rejected(FailureReason.NOT_ALLOWED, str(error))) from error

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        with self._tools.traces.step(name, self._terms, container__image__name=self._spec.image):
            yield
        self.took[name] = round(time.monotonic() - began, 3)

    async def _body(self) -> dict[str, Any]:
        # The user's own values win.
        envs = {**self._tools.traces.environment(self._terms), **self._spec.envs}
        spec = replace(self._spec, envs=envs)
        arguments = (spec, self._terms, self._tools.rules(), self._tools.realpath)
        if not self._spec.mounts:
            return create_body(*arguments)
        # Paths of a network file system that hangs must not keep the heartbeat waiting.
        return await asyncio.to_thread(create_body, *arguments)

    async def _create(self, body: dict[str, Any]) -> str:
        name = container_name(self._terms.key.execution_id)
        pulled = False
        while True:
            self._commands.check()
            await faults.point("runner.before_create")
            try:
                with self._step("create"):
                    return await self._tools.engine.create(name, body, self._spec.platform)
            except NoSuchImage as error:
                self._tell(Phase.PULLING)
                supply = self._tools.images.supply(self._spec, str(error), pulled=pulled)
                with self._step("pull"):
                    _end_with(await self._commands.unless(supply))
                pulled = True
            except NameTaken:
                claimed = await self._claim(name)
                if claimed:
                    return claimed

    async def _claim(self, name: str) -> str:
        """Somebody has the name: returns the container if it is this execution's, or empty once the name is free."""
        try:
            found = await self._tools.engine.inspect(name)
        except NoSuchContainer:
            return ""
        rules = self._tools.rules()
        if not is_own(found.labels, farm=rules.farm, agent_id=rules.agent_id):
            message = f"the host has a container {name} that is not this agent's"
            raise NotStarted(starting.infra_failed(FailureReason.HOST_FAILED, message))
        terms = terms_of(found.labels)
        same = terms is not None and terms.key == self._terms.key
        if not same or self._tools.janitor.has(found.container_id):
            self._log.info("waits_for_name", execution=self._terms.key.execution_id, container=found.container_id)
            removal = self._tools.janitor.remove(found.container_id, terms.key if terms else self._terms.key)
            await self._commands.unless(_finished(removal))
            return ""
        if found.status is not Status.CREATED:
            # It was started, and not by what this agent remembers.
            raise NotStarted(start_unknown())
        return found.container_id


def _end_with(word: Finish | GiveBack | None) -> None:
    if word is not None:
        raise NotStarted(word)


async def _finished(task: asyncio.Task[None]) -> None:
    await asyncio.wait([task])
