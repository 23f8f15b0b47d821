"""Which filling of the index holds, and making one where none does (DESIGN part 5, step 18)."""

from __future__ import annotations

from collections.abc import Callable

from easyq_chassis.clock import Clock
from easyq_chassis.errors import EasyQError
from easyq_chassis.logs import get_logger
from easyq_chassis.metrics import REGISTRY
from easyq_chassis.outages import OUTAGES
from easyq_dispatcher.ports import FarmStore, Filling, MatchIndex, StaleIndex
from easyq_dispatcher.usecases.rulebook import Rulebook

log = get_logger()

_PAGE = 2_000
# How long others leave it to one dispatcher to fill the index, from its last sign.
_CLAIM = 2.0
_SOON = 0.1
_REBUILDS = REGISTRY.counter(
    "easyq.index.rebuilds", "Fillings of Redis that this dispatcher made from the store.", unit="{rebuild}"
)


class Keeper:
    """Holds the generation that this dispatcher works under; None while there is none, with the reason in words.

    The state machine: no generation → look → adopt the filling that holds (same server run, same rules, same generation
    as the store), or make one: raise the generation in the store, which voids every Assign of an older one; count what
    the store holds; publish. Whoever is refused calls `doubt`, and it begins again.

    New rules take effect here, between two looks, since no filling may be made half under the one and half under the
    other. Of dispatchers with different rules the one whose are newer fills, and the others wait until they have them.
    """

    def __init__(
        self,
        *,
        index: MatchIndex,
        store: FarmStore,
        rules: Rulebook,
        clock: Clock,
        on_adopt: Callable[[], None],
        interval: float,
    ) -> None:
        self._index = index
        self._rules = rules
        self._store = store
        self._clock = clock
        self._on_adopt = on_adopt
        self._interval = interval
        self._adopted_once = False
        self.generation: int | None = None
        self.evicts = False
        self.problem = "the dispatcher has just started"
        self.problem_since_ms = clock.now_ms()
        self.wake: Callable[[], None] = lambda: None

    def doubt(self, problem: str, *, away: bool = False) -> None:
        """The filling was refused or can't be reached: nothing is assigned until one is found to hold.

        `away`: Redis or the store does not answer, which the log tells by itself.
        """
        self._give_up(problem, away=away)
        self.wake()

    async def run_once(self) -> float | None:
        """Looks, and does what is needed. Returns the seconds until the next look."""
        if self._rules.turn_page():
            self._index.use(self._rules.matching, self._rules.version)
            self._give_up("there are new rules")
        try:
            found = await self._index.look()
            self.evicts = found.evicts
            if self.generation is not None and found.ours and found.generation == self.generation:
                return self._interval
            return await self._settle(found)
        except StaleIndex:
            self._give_up("Redis was emptied or restarted while it was filled")
            return _SOON
        except EasyQError as error:
            # No growing back-off: everything waits for this.
            self._give_up(error.message, away=isinstance(error, OUTAGES))
            return self._interval

    async def _settle(self, found: Filling) -> float:
        stored = await self._store.generation()
        if found.generation == stored and found.ours:
            self._adopt(stored)
            return self._interval
        if found.generation == stored and self._has_to_wait(found):
            self._give_up(
                "another dispatcher runs with other pools or limits; give this one the same file of rules, or restart "
                "it with the same settings"
            )
            return self._interval
        self._give_up("Redis is being filled from the store")
        if found.rebuilder or not await self._index.claim_rebuild(_CLAIM):
            return _SOON
        return await self._rebuild(stored)

    def _has_to_wait(self, found: Filling) -> bool:
        """Newer rules win, and a dispatcher has the newest when it starts; two must not undo each other for ever."""
        mine = self._rules.version
        if not found.in_use or mine > found.version:
            return False
        return self._adopted_once or 0 < mine < found.version

    async def _rebuild(self, stored: int) -> float:
        generation, raised = await self._store.raise_generation(stored)
        if not raised:
            return _SOON
        log.info("index_rebuild", generation=generation)
        _REBUILDS.add(1)
        await self._index.begin(generation)
        counted, after = 0, ""
        while True:
            page = await self._store.list_held(after, _PAGE)
            await self._index.load(generation, page)
            counted += len(page)
            if len(page) < _PAGE:
                break
            after = page[-1].execution_id
            await self._index.claim_rebuild(_CLAIM)
        await self._index.publish(generation)
        log.info("index_rebuilt", generation=generation, held=counted)
        self._adopt(generation)
        await self._index.sweep(generation)
        return self._interval

    def _adopt(self, generation: int) -> None:
        if generation != self.generation:
            log.info("index_adopted", generation=generation)
            self.generation = generation
            self.problem = ""
            self._adopted_once = True
            self._on_adopt()

    def _give_up(self, problem: str, *, away: bool = False) -> None:
        if self.generation is not None:
            tell = log.debug if away else log.warning
            tell("index_lost", problem=problem, generation=self.generation)
            self.problem_since_ms = self._clock.now_ms()
        elif problem != self.problem:
            tell = log.debug if away else log.info
            tell("index_missing", problem=problem)
        self.generation = None
        self.problem = problem
