"""Places in the index against what the store holds: orphaned takes, and differences of any origin."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from easyq_chassis.clock import Clock
from easyq_chassis.errors import EasyQError
from easyq_chassis.logs import get_logger
from easyq_chassis.outages import OUTAGES
from easyq_dispatcher.domain.reconcile import repairs, suspects
from easyq_dispatcher.domain.records import Fenced, HeldExecution, Place, Taking
from easyq_dispatcher.ports import FarmStore, MatchIndex, StaleIndex
from easyq_dispatcher.usecases.keeper import Keeper
from easyq_dispatcher.usecases.ledger import Ledger

log = get_logger()

_PAGE = 2_000
_AT_ONCE = 500


class Settler:
    """Nothing leaves its places but by the store's word, given after a fence (DESIGN part 5, step 9).

    `orphan_after`: seconds after which an unconfirmed take is looked into; `reconcile_interval`: seconds between two
    comparisons of everything.
    """

    def __init__(
        self,
        *,
        index: MatchIndex,
        store: FarmStore,
        keeper: Keeper,
        ledger: Ledger,
        clock: Clock,
        interval: float,
        orphan_after: float,
        reconcile_interval: float,
    ) -> None:
        self._index = index
        self._store = store
        self._keeper = keeper
        self._ledger = ledger
        self._clock = clock
        self._interval = interval
        self._orphan_after = orphan_after
        self._reconcile_interval = reconcile_interval
        self._next_reconcile = clock.monotonic() + reconcile_interval
        self._unanswered: list[Place] = []
        self.wake: Callable[[], None] = lambda: None

    def suspect(self, takings: Iterable[Taking]) -> None:
        """The store did not answer the assigns of these."""
        self._unanswered += (
            Place(execution_id=t.head.execution_id, token=t.token, agent_id=t.agent_id, confirmed=False)
            for t in takings
        )
        self.wake()

    async def run_once(self) -> float | None:
        """Looks into unanswered and orphaned takes, and now and then into everything."""
        generation = self._keeper.generation
        if generation is None:
            # Their places are void; if the same filling comes back, they are found as orphans.
            self._unanswered.clear()
            return self._interval
        try:
            await self._settle(generation)
        except StaleIndex:
            self._keeper.doubt("Redis was emptied, or another dispatcher fills it")
        except OUTAGES:
            # No growing back-off: heads and places wait for this.
            return self._interval
        return self._interval

    async def _settle(self, generation: int) -> None:
        unanswered, self._unanswered = self._unanswered, []
        try:
            orphans = await self._index.overdue(generation, int(self._orphan_after * 1000))
            known = {place.execution_id: place for place in (*unanswered, *orphans)}
            await self._fence(generation, list(known.values()))
        except EasyQError:
            self._unanswered += unanswered
            raise
        if self._clock.monotonic() >= self._next_reconcile:
            self._next_reconcile = self._clock.monotonic() + self._reconcile_interval
            await self._reconcile(generation)

    async def _reconcile(self, generation: int) -> None:
        places = await self._index.places(generation)
        found = suspects(places, await self._all_held())
        if found.extra or found.missing:
            await self._fence(generation, found.extra, found.missing)

    async def _all_held(self) -> list[HeldExecution]:
        held: list[HeldExecution] = []
        while True:
            page = await self._store.list_held(held[-1].execution_id if held else "", _PAGE)
            held += page
            if len(page) < _PAGE:
                return held

    async def _fence(self, generation: int, places: Sequence[Place], missing: Sequence[str] = ()) -> None:
        ids = [*(place.execution_id for place in places), *missing]
        answers: list[Fenced] = []
        for start in range(0, len(ids), _AT_ONCE):
            answers += await self._store.fence(ids[start : start + _AT_ONCE])
        todo = repairs(places, answers)
        self._ledger.confirmed(todo.confirm)
        self._ledger.dropped(todo.drop)
        self._ledger.ready(todo.ready)
        if todo.adopt:
            await self._index.adopt(generation, todo.adopt)
        if todo.drop or todo.adopt:
            log.info("places_repaired", dropped=len(todo.drop), adopted=len(todo.adopt), confirmed=len(todo.confirm))
