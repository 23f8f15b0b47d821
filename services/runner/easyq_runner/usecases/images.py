"""Sees to images: decides whether to pull, and lets executions that want the same image share a pull."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from easyq_chassis.logs import get_logger
from easyq_chassis.metrics import REGISTRY
from easyq_runner.domain.images import parse_reference, resolve_mode
from easyq_runner.domain.pulling import (
    BeforeCreate,
    LocalImage,
    after_looking,
    before_looking,
    when_busy,
    when_missing,
    when_refused,
    when_unreachable,
)
from easyq_runner.domain.records import ContainerSpec, Finish, GiveBack
from easyq_runner.errors import EngineError, ImageRefused, PullFailed, RegistryBusy
from easyq_runner.ports import ContainerEngine, Registries
from easyq_runner.usecases.image_cache import ImageCache

_PULLS = REGISTRY.histogram(
    "easyq.image.pull.duration", "How long pulls of images took, failed ones as well.", labels=("error.type",)
)


class _Pull:
    """One pull and how many wait for it."""

    task: asyncio.Task[None]
    askers = 0


class Images:
    """The images of one host. What an execution can't run with is returned as its last word."""

    def __init__(self, engine: ContainerEngine, registries: Registries, cache: ImageCache, *, fallback: bool) -> None:
        self._engine = engine
        self._registries = registries
        self.cache = cache
        self._fallback = fallback
        # By image and platform: the pull under way, and the one that those share who came since it began.
        self._latest: dict[tuple[str, str], _Pull] = {}
        self._next: dict[tuple[str, str], _Pull] = {}
        self._log = get_logger()

    def needs_look(self, spec: ContainerSpec) -> bool:
        """Whether `prepare` has anything to do."""
        return before_looking(resolve_mode(spec.pull, parse_reference(spec.image))) is not BeforeCreate.NOTHING

    async def prepare(self, spec: ContainerSpec) -> Finish | GiveBack | None:
        """What comes before the create. Raises EngineError but for those of pulls."""
        local = await self._engine.image(spec.image)
        step = after_looking(parse_reference(spec.image), local)
        if step is BeforeCreate.KEEP_LOCAL:
            self._log.info("image_of_no_registry_kept", image=spec.image)
        return await self._pull(spec, local) if step is BeforeCreate.PULL else None

    async def supply(self, spec: ContainerSpec, said: str, *, pulled: bool) -> Finish | GiveBack | None:
        """The create `said` that the image is missing; `pulled` if that was after a pull."""
        mode = resolve_mode(spec.pull, parse_reference(spec.image))
        end = when_missing(mode, spec.image, said, pulled=pulled)
        return end if end is not None else await self._pull(spec, None)

    async def _pull(self, spec: ContainerSpec, local: LocalImage | None) -> Finish | GiveBack | None:
        try:
            await self._shared(spec.image, spec.platform)
        except ImageRefused as error:
            return when_refused(spec.image, str(error))
        except RegistryBusy as error:
            wait = error.retry_after
            self._log.warning("registry_busy", image=spec.image, retry_after=wait, error=str(error))
            return when_busy(spec.image, str(error), local, fallback=self._fallback, retry_after=wait)
        except PullFailed as error:
            end = when_unreachable(spec.image, str(error), local, fallback=self._fallback)
            if end is None:
                self._log.warning("pull_failed_local_image_kept", image=spec.image, error=str(error))
            return end
        return None

    async def _shared(self, image: str, platform: str) -> None:
        """One pull for all that ask at the same time.

        A pull that has begun may have read the tag already, before a newer image was pushed that the asker means. So
        who comes later shares the next one, which has little to do. A pull that nobody waits for any more is ended.
        """
        key = (image, platform)
        pull = self._next.get(key)
        if pull is None:
            pull = self._next[key] = _Pull()
            pull.task = asyncio.create_task(self._run(key, pull, self._latest.get(key)), name=f"pull:{image}")
        pull.askers += 1
        try:
            await asyncio.shield(pull.task)
        finally:
            pull.askers -= 1
            if not pull.askers:
                pull.task.cancel()
                # At once: who asks before it has ended would be cancelled with it.
                if self._next.get(key) is pull:
                    del self._next[key]

    async def _run(self, key: tuple[str, str], pull: _Pull, previous: _Pull | None) -> None:
        try:
            if previous is not None:
                await asyncio.wait([previous.task])
            del self._next[key]
            self._latest[key] = pull
            self._log.info("pulling", image=key[0])
            before = await self.cache.before_pull()
            with _timed():
                await self._pull_once(*key)
            self._log.info("pulled", image=key[0])
            try:
                await self.cache.pulled(key[0], before)
            except EngineError as error:
                self._log.info("pulled_image_not_noted", image=key[0], error=str(error))
        finally:
            for pulls in (self._next, self._latest):
                if pulls.get(key) is pull:
                    del pulls[key]

    async def _pull_once(self, image: str, platform: str) -> None:
        try:
            await self._engine.pull(image, platform)
        except RegistryBusy as error:
            if error.retry_after is not None:
                raise
            # Engines keep the registry's answer to themselves.
            raise RegistryBusy(str(error), await self._registries.retry_after(image)) from error


@contextmanager
def _timed() -> Iterator[None]:
    began, problem = time.perf_counter(), ""
    try:
        yield
    except BaseException as error:
        problem = type(error).__name__
        raise
    finally:
        _PULLS.record(time.perf_counter() - began, problem)
