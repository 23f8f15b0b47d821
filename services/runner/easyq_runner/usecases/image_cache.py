"""Keeps the room that pulled images take within bounds: never one that is in use, never one of somebody else's."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from easyq_chassis.logs import get_logger
from easyq_chassis.loops import Loop
from easyq_runner.domain.image_cache import CachedImage, is_foreign, surplus, with_pulled, with_use
from easyq_runner.domain.images import familiar_reference
from easyq_runner.domain.sizes import size_words
from easyq_runner.errors import EngineError, NoSuchImage, NotNow
from easyq_runner.ports import AgentClock, ContainerEngine, ImageNotes
from easyq_runner.usecases.waiting import Changes

# Seconds between two looks: what was in use may not be any more.
_LOOK_EVERY = 30.0


class ImageCache:
    """The images that this agent has pulled; `limit` bytes are theirs (0: as many as they take)."""

    def __init__(
        self,
        engine: ContainerEngine,
        notes: ImageNotes,
        clock: AgentClock,
        *,
        limit: int,
        look_every: float = _LOOK_EVERY,
    ) -> None:
        self._engine = engine
        self._notes = notes
        self._clock = clock
        self._limit = limit
        self._cache = notes.read()
        self._changed = False
        # Names that a container is about to be made of, and those of the image that is being removed.
        self._wanted: Counter[str] = Counter()
        self._removing: frozenset[str] = frozenset()
        self._changes = Changes()
        self._log = get_logger()
        self._loop = Loop("images", self._tidy, look_every)

    def start(self) -> None:
        """Begins to keep the bounds."""
        self._loop.start()

    async def stop(self) -> None:
        """Ends it."""
        await self._loop.stop()
        self._save()

    @asynccontextmanager
    async def wanted(self, image: str) -> AsyncIterator[None]:
        """Inside, what `image` stands for is not removed: until there is a container that says so."""
        name = familiar_reference(image)
        while name in self._removing:
            await self._changes.wait()
        self._wanted[name] += 1
        try:
            yield
        finally:
            self._wanted[name] -= 1
            if not self._wanted[name]:
                del self._wanted[name]

    def used(self, image: str) -> None:
        """A container was made of it."""
        self._cache = with_use(self._cache, familiar_reference(image), now=self._clock.now_ms())
        self._changed = True

    async def before_pull(self) -> frozenset[str]:
        """What the host has; to be asked before a pull. Raises EngineError."""
        return await self._engine.image_ids()

    async def pulled(self, image: str, before: Collection[str]) -> None:
        """It was pulled, onto a host that had the images `before`. Raises EngineError."""
        found = await self._engine.image(image)
        if found is None:
            return
        self._cache = with_pulled(
            self._cache,
            image_id=found.image_id,
            reference=familiar_reference(image),
            size=found.size,
            before=before,
            now=self._clock.now_ms(),
        )
        self._changed = True
        self._save()
        self._loop.wake()

    # Tidying --------------------------------------------------------------------------------------------------------
    async def _tidy(self) -> None:
        try:
            await self._remove_surplus()
        except EngineError as error:
            # Another time: the engine is away, or busy.
            self._log.debug("images_not_tidied", error=str(error))
        self._save()

    async def _remove_surplus(self) -> None:
        if not self._limit or sum(one.size for one in self._cache.values()) <= self._limit:
            return
        in_use = await self._engine.images_in_use()
        for one in surplus(self._cache, limit=self._limit, in_use=in_use | self._wanted_ids()):
            if self._wanted_ids().isdisjoint({one.image_id}):
                await self._remove(one)

    def _wanted_ids(self) -> frozenset[str]:
        names = self._wanted.keys()
        return frozenset(one.image_id for one in self._cache.values() if not one.references.isdisjoint(names))

    async def _remove(self, image: CachedImage) -> None:
        self._removing = image.references
        try:
            if await self._try(image):
                self._cache = {key: one for key, one in self._cache.items() if key != image.image_id}
                self._changed = True
        finally:
            self._removing = frozenset()
            self._changes.announce()

    async def _try(self, image: CachedImage) -> bool:
        """Whether it is not ours to look after any more."""
        found = await self._engine.image(image.image_id)
        if found is None:
            return True
        if is_foreign(image, found.tags):
            self._log.info("image_left_to_others", image=image.image_id, names=found.tags)
            return True
        try:
            for name in found.tags or (image.image_id,):
                await self._engine.remove_image(name)
        except NoSuchImage:
            return True
        except NotNow as error:
            self._log.info("image_in_use", image=image.image_id, error=str(error))
            return False
        self._log.info(
            "image_removed", image=image.image_id, names=sorted(image.references), size=size_words(image.size)
        )
        return True

    def _save(self) -> None:
        if not self._changed:
            return
        try:
            self._notes.write(self._cache)
            self._changed = False
        except OSError as error:
            self._log.warning("images_not_noted", error=str(error))
